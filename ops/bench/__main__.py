"""``python -m ops.bench [ROW …]``: measure the table of budgets, side by side in one run.

Exits with 0 also when a budget is missed, which is marked; with 1 when the measurement itself failed.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ops.bench import dead_letters, machine, night, receipts, report, serving, stampede, views
from ops.bench.report import Result
from ops.bench.stage import ROOT, BenchError
from ops.stack.programs import BENCH, ProgramsMissing, ensure_installed
from ops.stack.server import ServerError

#: Each row's module has one such function; a new row is a module and a line here.
ROWS: dict[str, Callable[[int, int], Coroutine[Any, Any, Result]]] = {
    "serving": serving.measure,
    "stampede": stampede.measure,
    "night": night.measure,
    "views": views.measure,
    "receipts": receipts.measure,
    "dead_letters": dead_letters.measure,
}


@click.command(help=__doc__)
@click.argument("rows", nargs=-1, type=click.Choice(list(ROWS)))
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Turns of each system.")
@click.option(
    "--seconds", type=click.IntRange(1), default=8, show_default=True, help="Of each step of a turn."
)
@click.option("--quick", is_flag=True, help="Two rounds of three seconds: to see that it works.")
@click.option(
    "--json",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / ".local" / "bench",
    help="Where each row's figures go, as ROW.json; .local/bench by default.",
)
def main(rows: tuple[str, ...], rounds: int, seconds: int, quick: bool, folder: Path) -> None:
    """Measure the rows asked for, or all."""
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
            result = asyncio.run(ROWS[row](rounds, seconds))
        except (BenchError, ServerError) as error:
            notes = getattr(error, "__notes__", ())
            click.echo("\n".join([f"{row} could not be measured: {error}", *notes]), err=True)
            sys.exit(1)
        report.show(result, console)
        report.write(result, facts, folder / f"{row}.json")
        missed += result.missed
    console.print(f"· {', '.join(f'{name} {value}' for name, value in facts.items())}", style="dim")
    console.print(f"Figures of every round: {folder}", style="dim")
    if missed:
        console.print(f"{missed} of the budgets missed.", style="bold red")


if __name__ == "__main__":
    main()
