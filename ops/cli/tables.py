"""What commands print for people, in tables and blocks that fit the terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ops.cli.console import Screen, clock_time
from ops.cli.options import PAGE, counted

if TYPE_CHECKING:
    from services.dead_letters.preflight import Verdict
    from services.dead_letters.records import Edit, Group, Letter, Listed, Replayed
    from services.dead_letters.replays import Plan, Run
    from services.messaging.pauses import Pause
    from services.messaging.queues import QueuedMessage, QueueStatus
    from services.status import Alarm, DayStatus, Status

#: Characters that are shown of a body that is no message, and of a queued message's arguments; --json shows all.
_BODY_SHOWN = 2000
#: Characters that are shown of a letter's arguments.
_CONTENT_SHOWN = 20_000
_ARGUMENTS_SHOWN = 300

_MARKS = {"written": "●", "writing": "✎", "pending": "○", "retrying": "↻", "given_up": "✗", "missing": "·"}


def show_status(screen: Screen, status: Status) -> None:
    """The whole service at a glance."""
    from schema.signs import Sign

    symbols = " ".join(sign.symbol.removesuffix("\ufe0f") for sign in Sign)
    days = [
        (day.day, "  ".join(_MARKS[day.states[sign.value]] for sign in Sign), f"{day.written} of {len(Sign)}")
        for day in status.days
    ]
    screen.table(["day", symbols, "ready"], days)
    screen.items((f"{mark} {_words(state)}" for state, mark in _MARKS.items()), dim=True)
    for day in status.days:
        for became, signs in _unfinished(day).items():
            screen.say(f"{day.day} {', '.join(signs)}: {became}", first="  ")
    ticks = [(tick.name, clock_time(tick.at), clock_time(tick.due), tick.did) for tick in status.ticks]
    screen.table(["tick", "last", "next", "did"], ticks)
    shown = [queue for queue in status.queues if queue.kind != "waiting" or queue.messages]
    queues = [
        (queue.name, queue.messages, None if queue.kind == "waiting" else queue.consumers) for queue in shown
    ]
    screen.table(["queue", "messages", "consumers"], queues, numbers=["messages", "consumers"])
    for pause in status.pauses:
        screen.say(f"{pause.queue} is {pause}", first="  ")
    cost = "" if status.cost_today_usd is None else f" (${status.cost_today_usd:.4f})"
    screen.items(
        [
            f"horoscopes today {status.horoscopes_today}",
            f"readers {status.readers}",
            f"waiting {status.waiters}",
            f"parked {status.parked}",
            f"dead letters {status.dead_letters}",
            f"tokens today {status.tokens_today}{cost}",
        ]
    )
    screen.items(f"{kind}s {count}" for kind, count in status.running.items())


def show_alarms(screen: Screen, alarms: Sequence[Alarm | str], notes: Sequence[str] = ()) -> None:
    """What needs a person, or that all is well; and what a person may see to at leisure."""
    for alarm in alarms:
        screen.say(str(alarm), first="! ", fg="red", bold=True)
    if not alarms:
        screen.say("All is well.", fg="green")
    for note in notes:
        screen.say(note, dim=True)


def _unfinished(day: DayStatus) -> dict[str, list[str]]:
    """What became of the texts that were begun and are not finished, each with its signs."""
    told: dict[str, list[str]] = {}
    for sign in day.unfinished:
        said = f"rewrite {_words(sign.anew)}" if sign.anew else _words(sign.state)
        said += f" since {clock_time(sign.since)}"
        if sign.retry_at:
            said += f", tries again {clock_time(sign.retry_at)}"
        if sign.attempts:
            said += f"; attempts {sign.attempts}, the last by {sign.writer}"
        told.setdefault(said + (f"; last error: {sign.error}" if sign.error else ""), []).append(sign.sign)
    return told


def show_queues(
    screen: Screen, queues: Sequence[QueueStatus], unmanaged: str | None, pauses: Iterable[Pause]
) -> None:
    """Queues; and why RabbitMQ's management API does not tell how they move, if it does not."""
    rows = []
    for queue in queues:
        flow = queue.flow
        moves = (
            (flow.unacknowledged, f"{flow.rate_in:.1f}", f"{flow.rate_out:.1f}") if flow else ("?", "?", "?")
        )
        oldest = _age(flow.oldest_at) if flow and flow.oldest_at and queue.messages else None
        consumers = None if queue.kind == "waiting" else queue.consumers
        rows.append((queue.name, queue.messages, *moves, consumers, oldest))
    numbers = ["ready", "at work", "in/s", "out/s", "consumers", "oldest"]
    screen.table(["queue", *numbers], rows, numbers=numbers)
    for pause in pauses:
        screen.say(f"{pause.queue} is {pause}", bold=True)
    if not queues:
        screen.say("RabbitMQ has no queues: no process has been started.")
    if unmanaged:
        screen.say(
            f"Rates and ages are unknown: RabbitMQ's management API does not answer ({unmanaged}); check "
            "RABBITMQ_MANAGEMENT_URL."
        )


def _age(since: datetime) -> str:
    """How long ago that was, in its largest unit."""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def show_messages(screen: Screen, messages: Sequence[QueuedMessage], waiting: int) -> None:
    """Messages as they lie in a queue, of so many."""
    for place, each in enumerate(messages, 1):
        again = ", redelivered" if each.redelivered else ""
        if each.garbage is not None:
            screen.say(f"{place}  no message{again}")
            screen.say(each.garbage, first="   ")
            continue
        screen.say(f"{place}  {each.actor}  {each.message_id}")
        screen.say(
            f"published {clock_time(each.published_at)}, failed attempts {each.attempts}{again}", first="   "
        )
        screen.say(each.shown(_ARGUMENTS_SHOWN), first="   ")
    screen.say(f"{len(messages)} of {counted(waiting, 'message')}; all stay in their place.")


def show_list(screen: Screen, letters: Sequence[Listed], *, several_states: bool) -> None:
    """Letters, one a row."""
    names = ["id", "died", *(["state"] if several_states else []), "what", "cause"]
    rows = [
        (
            each.id,
            each.died_at,
            *([_words(each.state)] if several_states else []),
            what(each),
            f"{each.cause}: {each.error}",
        )
        for each in letters
    ]
    screen.table(names, rows)


def show_groups(screen: Screen, groups: Sequence[Group]) -> None:
    """Kinds of failures, each with its last error and its note."""
    for each in groups:
        screen.say(f"{each.fingerprint}  {each.dead} dead of {each.letters}", bold=True)
        seen = f"{clock_time(each.first_seen)} to {clock_time(each.last_seen)}"
        screen.say(f"{seen}, release {', '.join(each.releases)}", first="    ")
        screen.say(f"{each.cause}: {' '.join(each.error.split())}", first="    ")
        if each.note:
            screen.say(each.note, first="    note: ")


def show_letter(screen: Screen, letter: Letter, verdict: Verdict | None) -> None:
    """Everything about a letter, and what to do next."""
    screen.say(
        f"Dead letter {letter.id}: {_words(letter.state)} since {clock_time(letter.state_since)}", bold=True
    )
    screen.facts(
        {
            "what": what(letter),
            "actor": letter.actor,
            "queue": letter.queue,
            "message": letter.message_id,
            "published": letter.published_at,
            "died": f"{clock_time(letter.died_at)} on {letter.host or '?'}, release {letter.release or '?'}",
            "cause": letter.cause,
            "error": letter.error,
            "group": letter.group,
            "note": letter.note,
            "replayed": f"{letter.replays} times before it died" if letter.replays else None,
            "parent": letter.parent and f"it died in the replay of dead letter {letter.parent}",
            "imported": letter.imported_at,
            "dropped": letter.dropped_by and f"by {letter.dropped_by}: {letter.dropped_why}",
            "death": letter.death,
            "masked": "a secret was taken out of it" if letter.masked else None,
        }
    )
    _show_contents(screen, letter)
    _show_attempts(screen, letter)
    _show_edits(screen, letter)
    if letter.history:
        screen.say("\nReplays", bold=True)
        names = ["run", "asked", "outcome", "by", "why"]
        screen.table(names, [_replayed(each) for each in letter.history])
    screen.say("\nNow", bold=True)
    if verdict:
        screen.say(verdict.judgement + (f": {verdict.reason}" if verdict.reason else ""), first="  ")
    for advice in _advice(letter, verdict):
        screen.say(advice, first="  ")


def _show_contents(screen: Screen, letter: Letter) -> None:
    if letter.arguments is not None:
        screen.say("\nArguments", bold=True)
        shown = json.dumps(letter.arguments, ensure_ascii=False, indent=2)
        more = f" … ({len(shown)} characters; --json shows all)" if len(shown) > _CONTENT_SHOWN else ""
        screen.quote(f"{shown[:_CONTENT_SHOWN]}{more}")
        return
    from services.dead_letters.transfer import body_as_json

    for name, content in body_as_json(letter.body).items():
        cut = f" … ({letter.size} bytes)" if len(content) > _BODY_SHOWN else ""
        screen.say(f"\n{'Body' if name == 'body' else 'Body in Base64'}", bold=True)
        screen.quote(f"{content[:_BODY_SHOWN]}{cut}")


def _show_attempts(screen: Screen, letter: Letter) -> None:
    from services.days import iso_instant

    if letter.tries:
        screen.say("\nAttempts", bold=True)
        names = ["seconds", "host", "release", "error"]
        rows = [
            (iso_instant(each.get("at")) or each.get("at"), *(each.get(name) for name in names))
            for each in letter.tries
        ]
        screen.table(["at", *names], rows, numbers=["seconds"])
    if letter.trace:
        screen.say("\nLast traceback", bold=True)
        screen.quote(letter.trace.rstrip())


def _show_edits(screen: Screen, letter: Letter) -> None:
    if not letter.edits:
        return
    screen.say("\nEdits", bold=True)
    actor, arguments = letter.actor, letter.arguments
    for edit in letter.edits:
        screen.say(f"{clock_time(edit.edited_at)} by {edit.edited_by}", first="  ")
        for line in difference(actor, arguments, edit):
            screen.say(line, first="    ")
        actor, arguments = edit.actor, edit.arguments


def difference(actor: str | None, arguments: Mapping[str, Any] | None, edit: Edit) -> list[str]:
    """What an edit changed, as lines with a minus or a plus before each."""
    before = {"(actor)": actor, **(arguments or {})}
    after = {"(actor)": edit.actor, **edit.arguments}
    lines = []
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) == after.get(name) and (name in before) == (name in after):
            continue
        for sign, side in (("-", before), ("+", after)):
            if side.get(name) is not None or (name in side and name != "(actor)"):
                lines.append(f"{sign} {name}: {json.dumps(side[name], ensure_ascii=False)}")
    return lines or ["nothing is different"]


def _replayed(replay: Replayed) -> tuple[Any, ...]:
    outcome = _words(replay.state) + (f" as {replay.died_as}" if replay.died_as else "")
    if replay.edit is not None:
        outcome += ", edited"
    return replay.run, replay.asked_at, outcome, replay.asked_by, replay.why


def _advice(letter: Letter, verdict: Verdict | None) -> list[str]:
    """What to do next."""
    replay = f'horoscope dead replay {letter.id} --why "…"'
    drop = f'horoscope dead drop {letter.id} --why "…"'
    debug = f"horoscope dead debug {letter.id}"
    edit = f"horoscope dead edit {letter.id}{'' if letter.actor else ' --actor ACTOR'} --set NAME=VALUE"
    if letter.state == "waiting" and letter.history:
        return [f"Follow its replay: horoscope dead run {letter.history[-1].run} --wait"]
    if letter.state == "died_again":
        later = [each.died_as for each in letter.history if each.died_as]
        return [f"See its new letter: horoscope dead show {number}" for number in later[-1:]]
    if letter.state == "dropped":
        return [f"Take it back: horoscope dead restore {letter.id}"]
    if verdict is None or letter.state != "dead":
        return []
    return {
        "ready": [f"Once its cause is mended: {replay}", f"Find the cause: {debug}"],
        "unfit": [f"Mend it: {edit}", f"Or give it up: {drop}"],
        "done": [f"Give it up: {drop}", f"Or insist: {replay} --force"],
        "capped": [f"Find the cause: {debug}", f"Then insist: {replay} --force"],
    }.get(verdict.judgement, [])


def show_plan(screen: Screen, plan: Plan, path: str | None) -> None:
    """What a replay of each letter would do."""
    rows = [
        (each.id, each.judgement, each.actor, each.replays, "yes" if each.edit else None, each.reason)
        for each in plan.letters[:PAGE]
    ]
    screen.table(["id", "verdict", "goes to", "replays", "edited", "reason"], rows, numbers=["replays"])
    if len(plan.letters) > PAGE:
        screen.say(f"… and {len(plan.letters) - PAGE} more, which --json and --save-plan list")
    counts = Counter(each.judgement for each in plan.letters)
    screen.say(", ".join(f"{count} {judgement}" for judgement, count in sorted(counts.items())))
    if path:
        screen.say(f'Carry out this plan and nothing else: horoscope dead replay --plan {path} --why "…"')


def show_summary(screen: Screen, verdicts: Sequence[Verdict], taken: Sequence[str]) -> None:
    """The letters that a replay would publish and those that it would leave out, by verdict and actor."""
    counts = Counter((each.judgement, each.actor) for each in verdicts)
    reasons: dict[tuple[str, str | None], str] = {}
    for each in verdicts:
        reasons.setdefault((each.judgement, each.actor), each.reason)
    rows = []
    for (judgement, actor), count in sorted(
        counts.items(), key=lambda item: (item[0][0] not in taken, -item[1])
    ):
        reason = reasons[judgement, actor]
        more = ", among others" if count > 1 and reason else ""
        left_out = None if judgement in taken else "left out"
        rows.append((count, judgement, actor or "nobody", left_out, f"{reason}{more}"))
    screen.table(["letters", "verdict", "goes to", "", "reason"], rows, numbers=["letters"])


def show_runs(screen: Screen, runs: Sequence[Run]) -> None:
    """Runs: who, when, why, which letters, and the outcomes."""
    rows = [
        (each.id, each.started_at, each.state, progress(each), each.started_by, each.why, each.what)
        for each in runs
    ]
    screen.table(["run", "started", "state", "letters", "by", "why", "what"], rows)


def show_run(screen: Screen, run: Run, advice: Sequence[str] = ()) -> None:
    """A run, its progress, and what to do next."""
    screen.say(f"Run {run.id}: {run.state}", bold=True)
    screen.facts(
        {
            "started": f"{clock_time(run.started_at)} by {run.started_by}",
            "what": run.what,
            "why": run.why,
            "rate": f"at most {run.rate} a second, into {', '.join(run.queues)}",
            "carried out": "by no process at this moment" if run.abandoned else run.holder,
            "cancelled": run.cancelled_by and f"by {run.cancelled_by}",
            "letters": progress(run),
        }
    )
    for each in advice:
        screen.say(each)


def progress(run: Run) -> str:
    """How far a run is, in words."""
    counts = {
        "not published yet": run.planned,
        "waiting for their outcome": run.waiting,
        "did it": run.did_it,
        "nothing to do any more": run.nothing_to_do,
        "died again": run.died_again,
        "cancelled": run.cancelled,
        "superseded": run.superseded,
    }
    return f"{run.letters}: " + ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def what(letter: Listed) -> str:
    """What a message asks for, in a few words."""
    if letter.actor is None:
        return "no message"
    message = letter.actor.rpartition(".")[2]
    arguments = letter.arguments or {}
    return " ".join(map(str, (message, *(arguments[name] for name in ("sign", "day") if name in arguments))))


def _words(state: str) -> str:
    return state.replace("_", " ")
