"""What a row of the table of budgets came to: on the screen, and as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True, slots=True)
class Line:
    """One budget.

    Args:
        what: What is measured.
        budget: What it should be.
        measured: What it was.
        kept: Whether that is within the budget.
    """

    what: str
    budget: str
    measured: str
    kept: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What a row's module hands back.

    Args:
        name: The row, as it is asked for on the command line.
        title: The row, in words.
        lines: Its budgets.
        details: A table of what lies behind them: the heads of its columns, then the rows.
        notes: What to know when reading them.
        samples: Every figure of every round, as JSON values.
    """

    name: str
    title: str
    lines: Sequence[Line]
    details: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    samples: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missed(self) -> int:
        """How many budgets were not kept."""
        return sum(not line.kept for line in self.lines)


def show(result: Result, console: Console) -> None:
    """Print a result."""
    table = Table(
        "what", "budget", "measured: median (least–most)", "", title=result.title, title_justify="left"
    )
    for line in result.lines:
        verdict = Text("ok", "green") if line.kept else Text("MISSED", "bold red")
        table.add_row(line.what, line.budget, line.measured, verdict)
    console.print(table)
    if result.details:
        heads, *rows = result.details
        details = Table(*heads, box=None)
        for column in details.columns[1:]:
            column.justify = "right"
        for row in rows:
            details.add_row(*row)
        console.print(details)
    for note in result.notes:
        console.print(f"· {note}", style="dim", markup=False)


def write(result: Result, machine: Mapping[str, str], file: Path) -> None:
    """Write a result as JSON; the file's folder is made when missing."""
    document = {
        "row": result.name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": dict(machine),
        "budgets": [asdict(line) for line in result.lines],
        "notes": list(result.notes),
        **result.samples,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
