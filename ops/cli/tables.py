"""Dead letters as people read them on a terminal, and as scripts do."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from ops.cli.console import clock_time
from services.days import iso_instant
from services.dead_letters.preflight import Verdict
from services.dead_letters.records import Edit, Group, Letter, Listed, Replayed
from services.dead_letters.replays import Run
from services.dead_letters.transfer import body_as_json
from services.process.logs import Mask

#: Columns of a table that nobody looks at on a terminal.
_WIDTH = 160
#: Characters of a body that is no message.
_BODY_SHOWN = 2000


class Screen:
    """Where a command says what it found.

    Args:
        mask: Takes secrets out of all of it.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        console = Console(highlight=False)
        if not console.is_terminal and "COLUMNS" not in os.environ:
            console = Console(highlight=False, width=_WIDTH)
        self._console = console

    def say(self, words: str = "", style: str = "") -> None:
        """A line or several, none of them cut."""
        self._console.print(self._text(words), style=style, soft_wrap=True)

    def table(
        self, names: Sequence[str], prose: Sequence[str], rows: Iterable[Sequence[Any]], *, cut: bool = False
    ) -> None:
        """A table.

        Args:
            names: The columns whose cells are never broken: numbers, times, what is copied.
            prose: The columns after them, whose cells go on in the next line.
            rows: Of the table.
            cut: What would go on in the next line ends in an ellipsis.
        """
        table = Table(*(Column(name, no_wrap=True) for name in names), *prose, box=None)
        for row in rows:
            cells = [self._cell(value) for value in row]
            for cell in cells[len(names) :]:
                cell.no_wrap, cell.overflow = cut, "ellipsis" if cut else "fold"
            table.add_row(*cells)
        self._console.print(table)

    def json(self, value: Any) -> None:
        """The same for scripts."""
        told = self._mask.in_json(plain(value))
        print(json.dumps(told, ensure_ascii=False, indent=2))

    def _cell(self, value: Any) -> Text:
        shown = clock_time(value) if isinstance(value, datetime) else "" if value is None else str(value)
        return self._text(" ".join(shown.split()))

    def _text(self, words: str) -> Text:
        """Nothing that came in a message may move the terminal's cursor."""
        return Text("".join(_visible(character) for character in self._mask(words)))


def _visible(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


def plain(value: Any) -> Any:
    """A value as JSON has them: times in ISO form, a body as text or in Base64."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        told: dict[str, Any] = {}
        for name, inner in value.items():
            told |= body_as_json(inner) if isinstance(inner, bytes) else {name: plain(inner)}
        return told
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, date):  # datetime is one, too
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def show_list(screen: Screen, letters: Sequence[Listed], *, several_states: bool) -> None:
    """Letters, one a line."""
    states = [[_words(each.state)] if several_states else [] for each in letters]
    rows = [
        (each.id, each.died_at, *state, what(each), each.cause, each.error)
        for each, state in zip(letters, states, strict=True)
    ]
    screen.table(
        ["id", "died", *(["state"] if several_states else []), "what"], ["cause", "error"], rows, cut=True
    )


def show_groups(screen: Screen, groups: Sequence[Group]) -> None:
    """Kinds of failures, each with its last error and what was noted."""
    for each in groups:
        screen.say(f"{each.fingerprint}  {each.dead} dead of {each.letters}", "bold")
        seen = f"{clock_time(each.first_seen)} to {clock_time(each.last_seen)}"
        screen.say(f"    {seen}, release {', '.join(each.releases)}")
        screen.say(f"    {each.cause}: {' '.join(each.error.split())}")
        if each.note:
            screen.say(f"    note: {each.note}")


def show_letter(screen: Screen, letter: Letter, verdict: Verdict | None) -> None:
    """Everything about a letter, and what to do next."""
    screen.say(
        f"Dead letter {letter.id}: {_words(letter.state)} since {clock_time(letter.state_since)}", "bold"
    )
    facts = {
        "what": what(letter),
        "actor": letter.actor,
        "queue": letter.queue,
        "message": letter.message_id,
        "published": letter.published_at and clock_time(letter.published_at),
        "died": f"{clock_time(letter.died_at)} on {letter.host or '?'}, release {letter.release or '?'}",
        "cause": letter.cause,
        "error": letter.error,
        "group": letter.group + (f"   note: {letter.note}" if letter.note else ""),
        "replayed": f"{letter.replays} times before it died" if letter.replays else None,
        "came of": letter.parent and f"the replay of dead letter {letter.parent}",
        "imported": letter.imported_at and clock_time(letter.imported_at),
        "dropped": letter.dropped_by and f"by {letter.dropped_by}: {letter.dropped_why}",
        "death": letter.death,
        "masked": "a secret was taken out of it" if letter.masked else None,
    }
    for name, value in facts.items():
        if value:
            screen.say(f"  {name:<10} {value}")
    _show_contents(screen, letter)
    _show_attempts(screen, letter)
    _show_edits(screen, letter)
    if letter.history:
        screen.say("\nReplays", "bold")
        names = ["run", "asked", "by", "what became of it"]
        screen.table(names, ["why"], [_replayed(each) for each in letter.history])
    screen.say("\nNow", "bold")
    if verdict:
        screen.say(f"  {verdict.judgement}" + (f": {verdict.reason}" if verdict.reason else ""))
    for advice in _advice(letter, verdict):
        screen.say(f"  {advice}")


def _show_contents(screen: Screen, letter: Letter) -> None:
    if letter.arguments is None:
        told = body_as_json(letter.body)
        for name, content in told.items():
            cut = f" … ({len(letter.body)} bytes)" if len(content) > _BODY_SHOWN else ""
            screen.say(f"\n{'Body' if name == 'body' else 'Body in Base64'}", "bold")
            screen.say(f"  {content[:_BODY_SHOWN]}{cut}")
    else:
        screen.say("\nArguments", "bold")
        screen.say(_indented(json.dumps(letter.arguments, ensure_ascii=False, indent=2)))


def _show_attempts(screen: Screen, letter: Letter) -> None:
    if letter.tries:
        screen.say("\nAttempts", "bold")
        names = ["seconds", "host", "release", "error"]
        rows = [
            (iso_instant(each.get("at")) or each.get("at"), *(each.get(name) for name in names))
            for each in letter.tries
        ]
        screen.table(["at", *names[:-1]], names[-1:], rows)
    if letter.trace:
        screen.say("\nLast traceback", "bold")
        screen.say(_indented(letter.trace.rstrip()))


def _show_edits(screen: Screen, letter: Letter) -> None:
    if not letter.edits:
        return
    screen.say("\nEdits", "bold")
    actor, arguments = letter.actor, letter.arguments
    for edit in letter.edits:
        screen.say(f"  {clock_time(edit.edited_at)} by {edit.edited_by}")
        for line in difference(actor, arguments, edit):
            screen.say(f"    {line}")
        actor, arguments = edit.actor, edit.arguments


def difference(actor: str | None, arguments: Mapping[str, Any] | None, edit: Edit) -> list[str]:
    """What an edit changed, as lines with a sign before each."""
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
    became = _words(replay.state) + (f" as {replay.died_as}" if replay.died_as else "")
    if replay.edit is not None:
        became += ", edited"
    return replay.run, replay.asked_at, replay.asked_by, became, replay.why


def _advice(letter: Letter, verdict: Verdict | None) -> list[str]:
    """What to do next."""
    replay, drop = f"horoscope dead replay {letter.id}", f"horoscope dead drop {letter.id} --why …"
    edit, debug = f"horoscope dead edit {letter.id}", f"horoscope dead debug {letter.id}"
    if letter.state == "waiting" and letter.history:
        return [f"Follow its replay: horoscope dead run {letter.history[-1].run} --wait"]
    if letter.state == "died_again":
        later = [each.died_as for each in letter.history if each.died_as]
        return [f"See the letter that came of it: horoscope dead show {number}" for number in later[-1:]]
    if letter.state == "dropped":
        return [f"Take it back: horoscope dead restore {letter.id}"]
    if verdict is None or letter.state != "dead":
        return []
    return {
        "ready": [f"Once its cause is mended: {replay}", f"Find the cause: {debug}"],
        "unfit": [f"Mend it: {edit} …", f"Or give it up: {drop}"],
        "done": [f"Give it up: {drop}", f"Or insist: {replay} --force"],
        "capped": [f"Find the cause: {debug}", f"Then insist: {replay} --force"],
    }.get(verdict.judgement, [])


def show_verdicts(screen: Screen, verdicts: Sequence[Verdict]) -> None:
    """What a replay of each letter would come to."""
    rows = [
        (each.id, each.judgement, each.actor, each.replays, "yes" if each.edit else "", each.reason)
        for each in verdicts
    ]
    screen.table(["id", "verdict", "goes to", "replays", "edited"], ["reason"], rows)


def show_runs(screen: Screen, runs: Sequence[Run]) -> None:
    """Runs: who, when, why, what, and how far they are."""
    rows = [
        (each.id, each.started_at, each.started_by, each.state, progress(each), each.what, each.why)
        for each in runs
    ]
    screen.table(["run", "started", "by", "state"], ["letters", "what", "why"], rows)


def show_run(screen: Screen, run: Run) -> None:
    """A run, and how far it is."""
    screen.say(f"Run {run.id}: {run.state}", "bold")
    facts = {
        "started": f"{clock_time(run.started_at)} by {run.started_by}",
        "what": run.what,
        "why": run.why,
        "rate": f"{run.rate} a second at the most, into {', '.join(run.queues)}",
        "carried out": "by nobody at this moment" if run.abandoned and not run.is_over else run.holder,
        "cancelled": run.cancelled_by and f"by {run.cancelled_by}",
        "letters": progress(run),
    }
    for name, value in facts.items():
        if value:
            screen.say(f"  {name:<11} {value}")


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


def _indented(words: str) -> str:
    return "\n".join(f"  {line}" for line in words.splitlines())
