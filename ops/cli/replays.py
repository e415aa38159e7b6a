"""``horoscope dead replay`` and what follows it: runs of replays, as they are ordered and watched."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ops.cli import console, options, tables
from ops.cli.console import Answer, Here, Later, Screen, connected, terminal_width, yes_option
from ops.cli.options import NUMBER, chosen, counted, limit_option, selecting
from services.dead_letters.filters import Filter, numbers
from services.process.escaping import visible

if TYPE_CHECKING:
    from services.dead_letters.replays import Run

#: The exit code that a shell gives a command which Ctrl-C has ended.
EXIT_INTERRUPTED = 130
#: Messages a second without ``--rate``, and with it at most.
RATE = 100
FASTEST = 100_000
#: Letters that died again, named at the end of a run at most.
DIED_SHOWN = 10
#: Seconds between two looks at a run.
LOOK_S = 0.5

_RATES = click.IntRange(1, FASTEST)
_PATH = click.Path(dir_okay=False)

run_argument = click.argument("number", type=NUMBER, metavar="RUN")
wait_option = click.option("--wait", is_flag=True, help="Wait until the outcome of each message is known.")
timeout_option = click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this."
)


def _check_wait(*, wait: bool, timeout: float | None, **_: Any) -> None:
    if timeout is not None and not wait:
        raise click.UsageError("--timeout goes with --wait")


def _check_replay(
    *,
    wanted: Filter,
    dry_run: bool,
    save_plan: str | None,
    plan_file: BinaryIO | None,
    why: str | None,
    force: bool,
    **others: Any,
) -> None:
    _check_wait(**others)
    if save_plan and not dry_run:
        raise click.UsageError("--save-plan goes with --dry-run")
    if plan_file and (wanted.asked.keys() - {"state"} or force or dry_run):
        raise click.UsageError(
            "--plan says which letters; it goes without numbers, filters, --force and --dry-run"
        )
    if why is None and not dry_run:
        raise click.UsageError("Missing option '--why': give the reason, for the record")


@click.command()
@selecting(state="dead", named=True, demanded=True)
@click.option("--dry-run", is_flag=True, help="Only say what a replay of each letter would do.")
@click.option("--save-plan", type=_PATH, metavar="FILE", help="With --dry-run: write the verdicts as a plan.")
@click.option("--plan", "plan_file", type=click.File("rb"), metavar="FILE", help="Replay this plan only.")
@click.option("--rate", type=_RATES, default=RATE, show_default=True, help="At most this many a second.")
@click.option("--why", type=options.reason, help="The reason, for the record; only a dry run needs none.")
@click.option("--force", is_flag=True, help="Also letters that are done, capped or waiting.")
@yes_option
@wait_option
@timeout_option
@connected(check=_check_replay, act="dead.replay", unless="dry_run")
async def replay(
    here: Here,
    wanted: Filter,
    dry_run: bool,
    save_plan: str | None,
    plan_file: BinaryIO | None,
    rate: int,
    why: str | None,
    force: bool,
    yes: bool,
    wait: bool,
    timeout: float | None,
    by: str,
) -> Answer | Later:
    """Publish letters again, and follow the outcomes.

    Shows what it will replay, and asks. Letters that have nothing left to do, that fit no actor, or that died again
    too often are left out.
    """
    from services.dead_letters.preflight import FORCED
    from services.dead_letters.replays import Plan, ordered

    verdicts_of = here.inspector.replays.verdicts
    if plan_file:
        plan = Plan.read(plan_file.read())
        verdicts = await verdicts_of([each.id for each in plan.letters])
        plan.demand_unchanged(verdicts)
    else:
        verdicts = await verdicts_of(await chosen(here, wanted))
        plan = Plan(datetime.now(UTC), by, wanted.words, force, tuple(verdicts))
    if dry_run:
        if save_plan:
            with click.open_file(save_plan, "wb") as file:
                file.write(plan.to_json() + b"\n")
        return Answer(plan, lambda screen: tables.show_plan(screen, plan, save_plan))
    here.entry.subject = numbers([each.id for each in verdicts])
    taken = FORCED if plan.force else ("ready",)
    tables.show_summary(here.screen, verdicts, taken)
    if count := sum(each.judgement in taken for each in verdicts):
        console.confirm(f"Replay {counted(count)}, at most {rate} a second?", yes=yes)
    run = await here.inspector.replays.start(
        verdicts, what=plan.what, by=by, why=why or "", rate=rate, force=plan.force
    )
    here.entry.after = ordered(run)
    if wait:
        return functools.partial(_waited, here, run.id, timeout)
    return _shown(run, f"Watch it: horoscope dead run {run.id} --wait")


@click.command()
@limit_option(20)
@connected()
async def runs(here: Here, limit: int) -> Answer:
    """List the latest runs of replays and their outcomes."""
    found = await here.inspector.replays.runs(limit)

    def show(screen: Screen) -> None:
        if found:
            tables.show_runs(screen, found)
            screen.say("The letters of one: horoscope dead list --state any --run RUN")
        else:
            screen.say("Nothing has been replayed yet.")

    return Answer({"runs": found}, show)


@click.command("run")
@run_argument
@wait_option
@timeout_option
@connected(check=_check_wait)
async def run_(here: Here, number: int, wait: bool, timeout: float | None) -> Answer:
    """Show a run of replays and its outcomes.

    With --wait, exits with 1 if a message died again.
    """
    return await _waited(here, number, timeout) if wait else _shown(await here.inspector.replays.run(number))


@click.command()
@run_argument
@connected(act="run.cancel")
async def cancel(here: Here, number: int, by: str) -> Answer:
    """Stop a run; messages already published are answered."""
    here.entry.subject = str(number)
    run = await here.inspector.replays.cancel(number, by=by)
    here.entry.after = {"state": run.state}
    return _shown(run)


@click.command()
@run_argument
@connected(act="run.resume")
async def resume(here: Here, number: int, by: str) -> Answer:
    """Go on with a run that was cancelled."""
    here.entry.subject = str(number)
    run = await here.inspector.replays.resume(number, by=by)
    here.entry.after = {"state": run.state}
    return _shown(run)


def _shown(run: Run, *advice: str, code: int = 0) -> Answer:
    return Answer(run, lambda screen: tables.show_run(screen, run, advice), code)


async def _waited(here: Here, number: int, timeout: float | None) -> Answer:
    """Wait for a run's outcomes; the exit code is 1 unless all is well."""
    import asyncio

    try:
        run = await _settled(here, number, timeout)
    except (asyncio.CancelledError, KeyboardInterrupt):
        click.echo(
            f"\nRun {number} goes on without you. Watch it: horoscope dead run {number} --wait\n"
            f"Publish no more of it: horoscope dead cancel {number}",
            err=True,
        )
        sys.exit(EXIT_INTERRUPTED)
    advice = [
        f"{letter} died again as {died_as}: horoscope dead show {died_as}"
        for letter, died_as in await here.inspector.records.died_again(number, limit=DIED_SHOWN)
    ]
    if run.died_again > DIED_SHOWN:
        advice.append(f"All of them: horoscope dead list --state died_again --run {number}")
    if not run.is_settled:
        advice.append(f"It is not over yet. Watch on: horoscope dead run {number} --wait")
    is_well = run.is_settled and not (run.died_again or run.cancelled)
    return _shown(run, *advice, code=0 if is_well else console.EXIT_NEEDS_A_PERSON)


async def _settled(here: Here, number: int, timeout: float | None) -> Run:
    """The run once all outcomes are known, or the time is over; meanwhile its progress goes to the standard error.

    On a terminal the progress is one line that is rewritten, in a pipe a line for each change.
    """
    import asyncio

    replays = here.inspector.replays
    clock = asyncio.get_running_loop().time
    started, said, warned = clock(), "", False
    anew, width = ("\r\x1b[K", terminal_width()) if sys.stderr.isatty() else ("", None)
    for pause in await replays.pauses(await replays.run(number)):
        paused = f"{pause.queue} is {pause}. Its messages wait until it is resumed."
        click.echo(visible(here.mask(paused), keep=""), err=True)
    while True:
        run = await replays.run(number)
        if said != (said := tables.progress(run)):
            click.echo(anew + said[:width], nl=not anew, err=True)
        if run.is_settled or (timeout is not None and clock() - started >= timeout):
            click.echo(anew, nl=False, err=True)
            return run
        if run.abandoned and not warned:
            click.echo(f"{anew}No process carries this run out: is a worker running?", err=True)
            said, warned = "" if anew else said, True
        await asyncio.sleep(LOOK_S)


COMMANDS: Sequence[click.Command] = (replay, runs, run_, cancel, resume)
