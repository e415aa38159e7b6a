"""``horoscope dead replay`` and what follows it: runs of replays, as they are ordered and watched."""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, BinaryIO

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ops.cli import tables
from ops.cli.console import EXIT_NEEDS_A_PERSON, by_option, confirm
from ops.cli.dead_work import Here, carry_out, chosen, counted, json_option, yes_option
from ops.cli.options import NUMBER, Words, named_or_filtered
from ops.cli.tables import Screen
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector
from services.dead_letters.preflight import FORCED, Verdict
from services.dead_letters.records import PAGE
from services.dead_letters.replays import FASTEST, RATE, Plan, Run

#: What a shell says of a command that Ctrl-C has ended.
EXIT_INTERRUPTED = 130
#: Letters that died again, named at the end of a run at the most.
DIED_SHOWN = 10
#: Seconds between two looks at a run.
LOOK_S = 0.5
#: Seconds after which a run that nobody carries out is worth a word.
ABANDONED_S = 5.0

wait_option = click.option("--wait", is_flag=True, help="Wait until it is known what became of each.")
timeout_option = click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this."
)


@click.command()
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

    async def order(here: Here) -> Run | None:
        if plan_file:
            plan = Plan.read(plan_file.read())
            verdicts = await here.inspector.replays.verdicts([each.id for each in plan.letters])
            plan.demand_unchanged(verdicts)
        else:
            verdicts = await here.inspector.replays.verdicts(await chosen(here.inspector, wanted))
            plan = Plan(datetime.now(UTC), by, wanted.words, force, tuple(verdicts))
        if dry_run:
            _tell_plan(here.screen, plan, save_plan, as_json=as_json)
            return None
        taken = [each for each in verdicts if each.judgement in _taken(force=plan.force)]
        if not as_json:
            _sum_up(here.screen, verdicts, force=plan.force)
        if taken:
            confirm(f"Replay {counted(len(taken))}, {rate} a second at the most?", yes=yes)
        return await here.inspector.replays.start(
            verdicts, what=plan.what, by=by, why=why, rate=rate, force=plan.force
        )

    run = carry_out(order)
    if run:
        _tell_run(run.id, wait=wait, timeout=timeout, as_json=as_json)


def _taken(*, force: bool) -> Sequence[str]:
    return FORCED if force else ("ready",)


def _tell_plan(screen: Screen, plan: Plan, path: str | None, *, as_json: bool) -> None:
    if path:
        with click.open_file(path, "wb") as file:
            file.write(plan.to_json() + b"\n")
    if as_json:
        screen.json(plan)
        return
    tables.show_verdicts(screen, plan.letters[:PAGE])
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


@click.command()
@click.option(
    "--limit", type=click.IntRange(1, PAGE), default=20, show_default=True, help="So many at the most."
)
@json_option
def runs(limit: int, as_json: bool) -> None:
    """List the latest runs of replays: who, when, why, what, and what came of them."""

    async def work(here: Here) -> None:
        found = await here.inspector.replays.runs(limit)
        if as_json:
            here.screen.json({"runs": found})
        elif found:
            tables.show_runs(here.screen, found)
            here.screen.say("The letters of one: horoscope dead list --state any --run RUN")
        else:
            here.screen.say("Nothing has been replayed yet.")

    carry_out(work)


@click.command("run")
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
        _show_run(lambda here: here.inspector.replays.run(number), as_json=as_json)


@click.command()
@click.argument("number", type=NUMBER, metavar="RUN")
@by_option
@json_option
def cancel(number: int, by: str, as_json: bool) -> None:
    """Publish no more of a run; what is published already stays so."""
    _show_run(lambda here: here.inspector.replays.cancel(number, by=by), as_json=as_json)


@click.command()
@click.argument("number", type=NUMBER, metavar="RUN")
@by_option
@json_option
def resume(number: int, by: str, as_json: bool) -> None:
    """Go on with a run that was cancelled."""
    _show_run(lambda here: here.inspector.replays.resume(number, by=by), as_json=as_json)


def _show_run(found: Callable[[Here], Coroutine[Any, Any, Run]], *, as_json: bool) -> None:
    async def work(here: Here) -> None:
        run = await found(here)
        if as_json:
            here.screen.json(run)
        else:
            tables.show_run(here.screen, run)

    carry_out(work)


def _tell_run(number: int, *, wait: bool, timeout: float | None, as_json: bool) -> None:
    """Show a run that was ordered; or what became of it, and leave with 1 if that is not well."""
    if not wait:
        _show_run(lambda here: here.inspector.replays.run(number), as_json=as_json)
        if not as_json:
            click.echo(f"Watch it: horoscope dead run {number} --wait")
        return

    async def work(here: Here) -> Run:
        run = await _settled(here.inspector, number, timeout)
        if as_json:
            here.screen.json(run)
        else:
            tables.show_run(here.screen, run)
            for letter, died_as in await here.inspector.records.died_again(number, limit=DIED_SHOWN):
                here.screen.say(f"{letter} died again as {died_as}: horoscope dead show {died_as}")
            if run.died_again > DIED_SHOWN:
                here.screen.say(f"All of them: horoscope dead list --state died_again --run {number}")
            if not run.is_settled:
                here.screen.say(f"It is not over yet. Watch on: horoscope dead run {number} --wait")
        return run

    try:
        run = carry_out(work)
    except KeyboardInterrupt:
        click.echo(
            f"\nRun {number} goes on without you. Watch it: horoscope dead run {number} --wait\n"
            f"Publish no more of it: horoscope dead cancel {number}",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    if run.died_again or run.cancelled or not run.is_settled:
        sys.exit(EXIT_NEEDS_A_PERSON)


async def _settled(inspector: Inspector, number: int, timeout: float | None) -> Run:
    """The run once it is known what became of each message, or the time is over; until then, how far it is."""
    clock = asyncio.get_running_loop().time
    started = carried_out_at = clock()
    warned = False
    for pause in await inspector.replays.pauses(await inspector.replays.run(number)):
        click.echo(f"{pause.queue} is {pause}: what is published waits there.", err=True)
    with _watching() as watch:
        while True:
            run = await inspector.replays.run(number)
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
            bar.update(task, total=run.letters, completed=settled, description=tables.progress(run))
        elif said != (said := tables.progress(run)):
            click.echo(said, err=True)

    with bar or nullcontext():
        yield watch


COMMANDS = (replay, runs, run_, cancel, resume)
