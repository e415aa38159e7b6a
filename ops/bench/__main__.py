"""``python -m ops.bench [ROW …]``: measure the budgets, beside simpler designs on the same machine.

Exits with 1 when a measurement failed. A missed budget is marked and does not change the exit code.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from ops.bench import dead_letters, flood, machine, night, report, serving, stampede, views
from ops.bench.report import Result
from ops.bench.stage import ROOT, BenchError, Stage
from ops.stack.programs import BENCH, ProgramsMissing, ensure_installed
from ops.stack.server import ServerError

#: Each takes the number of rounds, and the seconds of a step, which matter where a round has no end of its own.
ROWS = {
    "serving": serving.measure,
    "flood": flood.measure,
    "stampede": stampede.measure,
    "night": night.measure,
    "views": views.measure,
    "dead_letters": dead_letters.measure,
}


@click.command(help=__doc__)
@click.argument("rows", nargs=-1, type=click.Choice(list(ROWS)))
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of each system.")
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Seconds of each step of `serving`.",
)
@click.option("--quick", is_flag=True, help="Two rounds of three seconds, to see that it works.")
@click.option(
    "--json",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / ".local" / "bench",
    help="Folder for ROW.json with the figures of each row; .local/bench by default.",
)
def main(rows: tuple[str, ...], rounds: int, seconds: int, quick: bool, folder: Path) -> None:
    """Measure the named rows, or all."""
    if quick:
        rounds, seconds = 2, 3
    try:
        ensure_installed(*BENCH)
    except ProgramsMissing as error:
        raise click.ClickException(str(error)) from None
    facts = machine.facts()
    console = Console(highlight=False)
    missed = 0
    for row in rows or ROWS:
        try:
            result = asyncio.run(_measure(row, rounds, seconds))
        except (BenchError, ServerError) as error:
            notes = getattr(error, "__notes__", ())
            click.echo("\n".join([f"{row} could not be measured: {error}", *notes]), err=True)
            sys.exit(1)
        report.show(result, console)
        report.write(row, result, facts, folder)
        missed += sum(not line.kept for line in result.lines)
    console.print(f"· {', '.join(f'{name} {value}' for name, value in facts.items())}", style="dim")
    console.print(f"Figures of every round: {folder}", style="dim")
    if missed:
        console.print(f"Missed budgets: {missed}.", style="bold red")


async def _measure(row: str, rounds: int, seconds: int) -> Result:
    async with Stage().opened() as stage:
        result = await ROWS[row](stage, rounds, seconds)
        notes = [*result.notes]
        if logged := stage.complaints:
            notes.append(f"The processes logged {len(logged)} warnings and errors; the first: {logged[0]}")
        samples = {"rounds": rounds, "complaints": logged, **result.samples}
        return replace(result, notes=notes, samples=samples)


if __name__ == "__main__":
    main()
