"""``horoscope dead``: dead letters as people find, mend and replay them."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from actors import REPLAYABLE
from ops import dead_screen
from ops.commands import EXIT_NEEDS_A_PERSON, asking, by_option, quiet, told, with_database
from ops.dead_options import NUMBER, Said, Words, filtered, named_or_filtered
from ops.dead_screen import Screen, plain
from schema.errors import InvalidMessage, Refused
from services.database import Database
from services.days import system_clock
from services.dead_letters.desk import Desk, make_desk
from services.dead_letters.plan import Plan
from services.dead_letters.records import PAGE, Filter, Letter
from services.dead_letters.replays import FASTEST, RATE, Run
from services.dead_letters.transfer import Transfer
from services.dead_letters.verdicts import FORCED, Verdict
from services.logs import Mask, configure
from services.settings import Settings

#: What a shell says of a command that Ctrl-C has ended.
EXIT_INTERRUPTED = 130
#: Letters that died again, named at the end of a run at the most.
DIED_SHOWN = 10
#: Seconds between two looks at a run.
LOOK_S = 0.5
#: Seconds after which a run that nobody carries out is worth a word.
ABANDONED_S = 5.0

EPILOG = """
Filters narrow a list down; all that are given must be true. Numbers name
letters one by one. Times are this machine's; --since and --until take a
date, a time or an age (15m, 2h, 3d).
"""

_Found = TypeVar("_Found")

json_option = click.option("--json", "as_json", is_flag=True, help="For scripts.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
wait_option = click.option("--wait", is_flag=True, help="Wait until it is known what became of each.")
timeout_option = click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this."
)


@dataclass(frozen=True, slots=True)
class _Here:
    """What a command works with."""

    database: Database
    desk: Desk
    mask: Mask
    screen: Screen


@click.group(epilog=EPILOG)
def dead() -> None:
    """Dead letters: find, understand, mend and replay what finally failed.

    `dead groups` says what kinds of failures there are, `dead list --group …` and `dead show` what is behind
    one, `dead replay --dry-run` what a replay would come to. Workers and the operators' page carry
    replays out.
    """


@dead.command("list")
@filtered(state="dead")
@click.option(
    "--limit", type=click.IntRange(1, PAGE), default=50, show_default=True, help="So many at the most."
)
@click.option("--before", type=NUMBER, metavar="ID", help="Only those with a smaller number: the next page.")
@json_option
def list_(wanted: Filter, limit: int, before: int | None, as_json: bool) -> None:
    """List letters, latest first; those that are dead unless --state says otherwise."""

    async def work(here: _Here) -> None:
        letters = await here.desk.records.listed(wanted, limit=limit, before=before)
        total = await here.desk.records.count(wanted)
        if as_json:
            here.screen.json({"total": total, "letters": letters})
            return
        if letters:
            dead_screen.show_list(here.screen, letters, several_states=wanted.state is None)
        here.screen.say(f"{len(letters)} of {total} dead letters ({wanted.words})")
        if len(letters) == limit < total:
            here.screen.say(f"The next page: the same with --before {letters[-1].id}")
        elif letters:
            here.screen.say("One in full: horoscope dead show ID")

    _work(work)


@dead.command()
@filtered(state=None)
@json_option
def groups(wanted: Filter, as_json: bool) -> None:
    """List kinds of failures; those with dead letters unless --state says otherwise."""
    asked = click.get_current_context().params["state"]

    async def work(here: _Here) -> None:
        found = await here.desk.records.groups(wanted)
        kinds = [each for each in found if each.dead or asked]
        if as_json:
            here.screen.json({"groups": kinds})
            return
        if kinds:
            dead_screen.show_groups(here.screen, kinds)
        dead_letters = sum(each.dead for each in kinds)
        here.screen.say(
            f"{len(kinds)} kind{'s' * (len(kinds) != 1)} of failures, {_letters(dead_letters)} ({wanted.words})"
        )
        if kinds:
            here.screen.say("The letters of one: horoscope dead list --group GROUP")

    _work(work)


@dead.command()
@click.argument("group", type=Words())
@click.argument("text", type=Words())
@by_option
@json_option
def note(group: str, text: str, by: str, as_json: bool) -> None:
    """Note something of a GROUP of letters; an empty TEXT ("") deletes the note."""

    async def work(here: _Here) -> None:
        await here.desk.mending.note(group, text, by=by)
        if as_json:
            here.screen.json({"group": group, "note": text or None})
        else:
            here.screen.say(f"Noted of {group}: {text}" if text else f"Nothing is noted of {group}.")

    _work(work)


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@json_option
def show(number: int, as_json: bool) -> None:
    """Show everything about a letter, and what to do next."""

    async def work(here: _Here) -> None:
        letter = await here.desk.records.whole(number)
        verdict = next(iter(await here.desk.replays.verdicts([number])), None)
        if as_json:
            here.screen.json(plain(letter) | {"verdict": verdict})
        else:
            dead_screen.show_letter(here.screen, letter, verdict)

    _work(work)


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@click.option(
    "--set", "changed", multiple=True, metavar="NAME=VALUE", help="JSON, or else text; may be repeated."
)
@click.option("--unset", multiple=True, metavar="NAME", help="Leave an argument out; may be repeated.")
@click.option("--arguments", "whole_arguments", metavar="JSON", help="All arguments, as a JSON object.")
@click.option("--actor", type=Words(sorted(REPLAYABLE)), help="Who is to answer it.")
@by_option
@json_option
def edit(
    number: int,
    changed: tuple[str, ...],
    unset: tuple[str, ...],
    whole_arguments: str | None,
    actor: str | None,
    by: str,
    as_json: bool,
) -> None:
    """Say what is replayed in the place of a message; the message as it died is kept.

    Without options the arguments open in $EDITOR.
    """
    changes = [_assigned(each) for each in changed]
    given = None if whole_arguments is None else _arguments(whole_arguments, "--arguments")
    by_hand = not (changes or unset or actor or given is not None)
    if by_hand and not is_terminal():
        raise click.UsageError(
            "what? Give --set, --unset, --arguments or --actor: there is no terminal to edit on"
        )

    async def work(here: _Here) -> None:
        before = await here.desk.records.whole(number)
        now = before.edit or before
        arguments = dict((now.arguments or {}) if given is None else given)
        if missing := [name for name in unset if name not in arguments]:
            raise Refused(f"dead letter {number} has no argument {missing[0]!r}")
        arguments = {name: value for name, value in arguments.items() if name not in unset} | dict(changes)
        if by_hand:
            after = await _edited_by_hand(here, before, arguments, by)
        else:
            after = await here.desk.mending.edit(number, by=by, arguments=arguments, actor=actor)
        if as_json:
            here.screen.json(after)
        elif after is before or after.edit is None:
            here.screen.say("Nothing was changed.")
        else:
            for line in dead_screen.difference(now.actor, now.arguments, after.edit):
                here.screen.say(line)
            here.screen.say(f"Dead letter {number} is edited. Next: horoscope dead replay {number} --dry-run")

    _work(work)


async def _edited_by_hand(here: _Here, letter: Letter, arguments: dict[str, Any], by: str) -> Letter:
    """The letter after its arguments were changed in an editor, until they fit or the editor gives up."""
    text: str | None = json.dumps(here.mask.in_json(arguments), ensure_ascii=False, indent=2) + "\n"
    while True:
        with asking():
            text = click.edit(text, extension=".json")
        if text is None:
            return letter
        try:
            return await here.desk.mending.edit(letter.id, by=by, arguments=_arguments(text, "the file"))
        except (InvalidMessage, click.BadParameter) as error:
            click.echo(
                here.mask(error.message if isinstance(error, click.BadParameter) else str(error)), err=True
            )
            with asking():
                click.confirm("Edit it again?", default=True, abort=True, err=True)


def _assigned(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is no NAME=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, Words().convert(value, None, None)


def _arguments(text: str, hint: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"that is no JSON: {error}", param_hint=hint) from None
    if not isinstance(arguments, dict):
        raise click.BadParameter("expected a JSON object, name by name", param_hint=hint)
    return arguments


@dead.command()
@named_or_filtered(demanded=True)
@click.option("--dry-run", is_flag=True, help="Only say what a replay of each would come to.")
@click.option(
    "--save-plan",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="With --dry-run: write what was said as a plan.",
)
@click.option(
    "--plan",
    "plan_file",
    type=click.File("rb"),
    metavar="FILE",
    help="Carry out such a plan and nothing else.",
)
@click.option(
    "--rate",
    type=click.IntRange(1, FASTEST),
    default=RATE,
    show_default=True,
    help="Messages a second at the most.",
)
@click.option("--why", type=Words(), default="", help="Why, for the record.")
@click.option(
    "--force", is_flag=True, help="Also what is done, was replayed too often, or is being replayed."
)
@yes_option
@wait_option
@timeout_option
@by_option
@json_option
def replay(
    wanted: Filter,
    dry_run: bool,
    save_plan: str | None,
    plan_file: BinaryIO | None,
    rate: int,
    why: str,
    force: bool,
    yes: bool,
    wait: bool,
    timeout: float | None,
    by: str,
    as_json: bool,
) -> None:
    """Publish letters again, through the workers, and tell what became of each.

    Names what it will touch and asks. What has nothing left to do, fits no actor, or died again too often is
    left out.
    """
    if save_plan and not dry_run:
        raise click.UsageError("--save-plan goes with --dry-run")
    if plan_file and (wanted.asked.keys() - {"state"} or force or dry_run):
        raise click.UsageError(
            "--plan says which letters; it goes without numbers, filters, --force and --dry-run"
        )
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")

    async def order(here: _Here) -> Run | None:
        if plan_file:
            plan = Plan.read(plan_file.read())
            verdicts = await here.desk.replays.verdicts([each.id for each in plan.letters])
            plan.demand_unchanged(verdicts)
        else:
            verdicts = await here.desk.replays.verdicts(await _chosen(here.desk, wanted))
            plan = Plan(datetime.now(UTC), by, wanted.words, force, tuple(verdicts))
        if dry_run:
            _tell_plan(here.screen, plan, save_plan, as_json=as_json)
            return None
        taken = [each for each in verdicts if each.judgement in _taken(force=plan.force)]
        if not as_json:
            _sum_up(here.screen, verdicts, force=plan.force)
        if taken:
            _confirm(f"Replay {_letters(len(taken))}, {rate} a second at the most?", yes=yes)
        return await here.desk.replays.start(
            verdicts, what=plan.what, by=by, why=why, rate=rate, force=plan.force
        )

    run = _work(order)
    if run:
        _tell_run(run.id, wait=wait, timeout=timeout, as_json=as_json)


async def _chosen(desk: Desk, wanted: Filter) -> list[int]:
    """The numbers of the letters that are asked for; every one that was called by number must be there."""
    found = await desk.records.ids(wanted)
    if missing := set(wanted.ids) - set(found):
        there = await desk.records.ids(Filter(ids=tuple(missing), state=None))
        if gone := sorted(missing - set(there)):
            raise Refused(f"there is no dead letter {', '.join(map(str, gone))}")
    if not found:
        raise Refused(f"no dead letter is asked for by that: {wanted.words}")
    return found


def _taken(*, force: bool) -> Sequence[str]:
    return FORCED if force else ("ready",)


def _tell_plan(screen: Screen, plan: Plan, path: str | None, *, as_json: bool) -> None:
    if path:
        with click.open_file(path, "wb") as file:
            file.write(plan.to_json() + b"\n")
    if as_json:
        screen.json(plan)
        return
    dead_screen.show_verdicts(screen, plan.letters[:PAGE])
    if len(plan.letters) > PAGE:
        screen.say(f"… and {len(plan.letters) - PAGE} more, which --json and --save-plan name, too")
    counts = Counter(each.judgement for each in plan.letters)
    screen.say(", ".join(f"{count} {judgement}" for judgement, count in sorted(counts.items())))
    if path:
        screen.say(f"Carry this out and nothing else: horoscope dead replay --plan {path}")


def _sum_up(screen: Screen, verdicts: Sequence[Verdict], *, force: bool) -> None:
    """What a replay will touch, and what it leaves out."""
    counts = Counter((each.judgement, each.actor) for each in verdicts)
    reasons: dict[tuple[str, str | None], str] = {}
    for each in verdicts:
        reasons.setdefault((each.judgement, each.actor), each.reason)
    taken = _taken(force=force)
    rows = [
        (
            count, judgement, actor or "nobody", "" if judgement in taken else "left out",
            reasons[judgement, actor] + (", among others" if count > 1 and reasons[judgement, actor] else ""),
        )
        for (judgement, actor), count in sorted(counts.items(), key=lambda each: (each[0][0] not in taken, -each[1]))
    ]  # fmt: skip
    screen.table(["letters", "verdict", "goes to", ""], ["reason"], rows)


def is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not is_terminal():
        raise Refused(f"{question} Nobody is there to be asked; add --yes")
    with asking():
        click.confirm(question, abort=True, err=True)


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


@dead.command()
@click.option(
    "--limit", type=click.IntRange(1, PAGE), default=20, show_default=True, help="So many at the most."
)
@json_option
def runs(limit: int, as_json: bool) -> None:
    """List the latest runs of replays: who, when, why, what, and what came of them."""

    async def work(here: _Here) -> None:
        found = await here.desk.replays.runs(limit)
        if as_json:
            here.screen.json({"runs": found})
        elif found:
            dead_screen.show_runs(here.screen, found)
            here.screen.say("The letters of one: horoscope dead list --state any --run RUN")
        else:
            here.screen.say("Nothing has been replayed yet.")

    _work(work)


@dead.command("run")
@click.argument("number", type=NUMBER, metavar="RUN")
@wait_option
@timeout_option
@json_option
def run_(number: int, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Show a run of replays, and how far it is. With --wait, exits with 1 if a message died again."""
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")
    if wait:
        _tell_run(number, wait=True, timeout=timeout, as_json=as_json)
    else:
        _show_run(lambda here: here.desk.replays.run(number), as_json=as_json)


@dead.command()
@click.argument("number", type=NUMBER, metavar="RUN")
@by_option
@json_option
def cancel(number: int, by: str, as_json: bool) -> None:
    """Publish no more of a run; what is published already stays so."""
    _show_run(lambda here: here.desk.replays.cancel(number, by=by), as_json=as_json)


@dead.command()
@click.argument("number", type=NUMBER, metavar="RUN")
@by_option
@json_option
def resume(number: int, by: str, as_json: bool) -> None:
    """Go on with a run that was cancelled."""
    _show_run(lambda here: here.desk.replays.resume(number, by=by), as_json=as_json)


def _show_run(found: Callable[[_Here], Coroutine[Any, Any, Run]], *, as_json: bool) -> None:
    async def work(here: _Here) -> None:
        run = await found(here)
        if as_json:
            here.screen.json(run)
        else:
            dead_screen.show_run(here.screen, run)

    _work(work)


def _tell_run(number: int, *, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Show a run that was ordered; or what became of it, and leave with 1 if that is not well."""
    if not wait:
        _show_run(lambda here: here.desk.replays.run(number), as_json=as_json)
        if not as_json:
            click.echo(f"Watch it: horoscope dead run {number} --wait")
        return

    async def work(here: _Here) -> Run:
        run = await _settled(here.desk, number, timeout)
        if as_json:
            here.screen.json(run)
        else:
            dead_screen.show_run(here.screen, run)
            for letter, died_as in await here.desk.records.died_again(number, limit=DIED_SHOWN):
                here.screen.say(f"{letter} died again as {died_as}: horoscope dead show {died_as}")
            if run.died_again > DIED_SHOWN:
                here.screen.say(f"All of them: horoscope dead list --state died_again --run {number}")
            if not run.is_settled:
                here.screen.say(f"It is not over yet. Watch on: horoscope dead run {number} --wait")
        return run

    try:
        run = _work(work)
    except KeyboardInterrupt:
        click.echo(
            f"\nRun {number} goes on without you. Watch it: horoscope dead run {number} --wait\n"
            f"Publish no more of it: horoscope dead cancel {number}",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    if run.died_again or run.cancelled or not run.is_settled:
        sys.exit(EXIT_NEEDS_A_PERSON)


async def _settled(desk: Desk, number: int, timeout: float | None) -> Run:
    """The run once it is known what became of each message, or the time is over; until then, how far it is."""
    clock = asyncio.get_running_loop().time
    started = carried_out_at = clock()
    warned = False
    for pause in await desk.replays.pauses(await desk.replays.run(number)):
        click.echo(f"{pause.queue} is {pause}: what is published waits there.", err=True)
    with _watching() as watch:
        while True:
            run = await desk.replays.run(number)
            watch(run)
            if run.is_settled or (timeout is not None and clock() - started >= timeout):
                return run
            if run.is_over or not run.abandoned:
                carried_out_at = clock()
            elif not warned and clock() - carried_out_at > ABANDONED_S:
                click.echo("No process carries this run out: is a worker running?", err=True)
                warned = True
            await asyncio.sleep(LOOK_S)


@contextmanager
def _watching() -> Iterator[Callable[[Run], None]]:
    """How far a run is, on the standard error: as a bar on a terminal, or else a line whenever it has changed."""
    console = Console(stderr=True, highlight=False)
    said = ""
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
    task = bar.add_task("") if bar else None

    def watch(run: Run) -> None:
        nonlocal said
        if bar and task is not None:
            settled = run.letters - run.planned - run.waiting
            bar.update(task, total=run.letters, completed=settled, description=dead_screen.progress(run))
        elif said != (said := dead_screen.progress(run)):
            click.echo(said, err=True)

    with bar or nullcontext():
        yield watch


@dead.command()
@named_or_filtered(demanded=True)
@click.option("--why", required=True, type=Said(), help="Why, for the record.")
@yes_option
@by_option
@json_option
def drop(wanted: Filter, why: str, yes: bool, by: str, as_json: bool) -> None:
    """Give letters up. They can be restored for 30 days."""

    async def work(here: _Here) -> None:
        ids = await _chosen(here.desk, wanted)
        _confirm(f"Drop {_letters(len(ids))} ({wanted.words})?", yes=yes)
        dropped = await here.desk.mending.drop(ids, by=by, why=why)
        _tell_count(
            here.screen, "dropped", dropped, len(ids), "are not dead, or are being replayed", as_json=as_json
        )

    _work(work)


@dead.command()
@click.argument("ids", nargs=-1, required=True, type=NUMBER, metavar="ID...")
@by_option
@json_option
def restore(ids: tuple[int, ...], by: str, as_json: bool) -> None:
    """Take dropped letters back."""

    async def work(here: _Here) -> None:
        asked = await _chosen(here.desk, Filter(ids=ids, state=None))
        restored = await here.desk.mending.restore(asked, by=by)
        _tell_count(here.screen, "restored", restored, len(asked), "were not dropped", as_json=as_json)

    _work(work)


def _tell_count(screen: Screen, done: str, count: int, asked: int, why_not: str, *, as_json: bool) -> None:
    if not count:
        raise Refused(f"nothing was {done}: these letters {why_not}")
    if as_json:
        screen.json({done: count, "left": asked - count})
    else:
        left = f"; {asked - count} {why_not}" if count < asked else ""
        screen.say(f"{done.capitalize()} {_letters(count)}{left}.")


@dead.command()
@named_or_filtered(demanded=False)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    default="-",
    metavar="FILE",
    help="Where to; the standard output by default.",
)
def export(wanted: Filter, output: str) -> None:
    """Write letters as JSON, one a line, each with everything about it; all that are dead unless told otherwise."""

    async def work(here: _Here) -> None:
        if wanted.ids:
            await _chosen(here.desk, wanted)
        count = 0
        with click.open_file(output, "wb") as file:
            async for line in Transfer(here.database, here.mask).taken_out(wanted):
                file.write(line)
                count += 1
        click.echo(f"Exported {_letters(count)}.", err=True)

    _work(work)


@dead.command("import")
@click.argument("file", type=click.File("rb"))
@json_option
def import_(file: BinaryIO, as_json: bool) -> None:
    """Bring in the letters of a FILE that `dead export` wrote, also on another deployment; - is the standard input.

    A letter that is here already is left as it is. If a line is at fault, nothing is imported.
    """

    async def work(here: _Here) -> None:
        brought = await Transfer(here.database, here.mask).bring_in(file)
        if as_json:
            here.screen.json(brought)
        else:
            here.screen.say(f"Imported {_letters(brought.new)}; {brought.known} were here already.")
            here.screen.say("They have numbers of this place: horoscope dead list")

    _work(work)


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@click.option("--post-mortem", is_flag=True, help="Stop only where it raises.")
@click.option("--no-model", is_flag=True, help="Do not call the model: it is as if it were away.")
def debug(number: int, post_mortem: bool, no_model: bool) -> None:
    """Run a letter's message, as edited, in this process under Python's debugger.

    Stops where its handler begins. Nothing comes of it: what would be published or sent to Telegram is told
    instead, and what is written to the database is taken back at the end. Until then it may hold locks that
    others wait for. The model is called, if the message wants it. Exits with 1 if the handler raises.
    """
    from ops import debugger  # noqa: PLC0415  only this command pays for the model and Telegram

    with told():
        settings = Settings.read("database_url")
        configure("console", Mask(settings.secrets), process="debugger")
        raised = debugger.run(settings, number, post_mortem=post_mortem, no_model=no_model)
    sys.exit(EXIT_NEEDS_A_PERSON if raised else 0)


def _work(work: Callable[[_Here], Coroutine[Any, Any, _Found]]) -> _Found:
    """Run a command's work on the database, or leave with a clear message."""

    async def on(database: Database) -> _Found:
        await database.check()
        mask = Mask(settings.secrets)
        return await work(_Here(database, make_desk(database, REPLAYABLE, system_clock), mask, Screen(mask)))

    with told(), quiet():
        settings = Settings.read("database_url")
        found: _Found = asyncio.run(with_database(settings, on))
    return found
