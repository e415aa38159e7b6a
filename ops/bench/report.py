"""The result of a row: a table on the screen, and a JSON file."""

import operator
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.bench.figures import Spread

#: Share of one core above which a row reports the load from other programs.
BUSY = 0.25

_COMPARISONS = {"<": operator.lt, "≤": operator.le, "≥": operator.ge}


@dataclass(frozen=True, slots=True)
class Line:
    """One budget, its measurement, and whether it was kept."""

    what: str
    budget: str
    measured: str
    kept: bool

    @classmethod
    def of(
        cls, what: str, budget: str, samples: Iterable[float], form: str = ".2f", *, worst: bool = False
    ) -> Self:
        """Compare the median with a budget such as ``< 50 ms``; with ``worst``, the largest sample."""
        comparison, limit, *unit = budget.split()
        spread = Spread.of(samples)
        value = spread.most if worst else spread.median
        kept = _COMPARISONS[comparison](value, float(limit.replace(",", "")))
        return cls(what, budget, spread.show(form, *unit or [""]), kept)

    @classmethod
    def memory(cls, part: str, peaks_mib: Iterable[float]) -> Self:
        """The budget for the resident memory of every process."""
        return cls.of(f"memory, {part}", "< 150 MiB", peaks_mib, ".0f", worst=True)


@dataclass(frozen=True, slots=True)
class Result:
    """The measurement of one row."""

    title: str
    lines: Sequence[Line]
    #: Tables with the details: each row gives the cells by their column heads.
    tables: Sequence[Sequence[Mapping[str, str]]]
    notes: Sequence[str]
    #: The figures of every round, as JSON values and dataclasses.
    samples: Mapping[str, Any]


def progress(number: int, rounds: int, figures: str) -> None:
    """Print the figures of one round, numbered from 0, to standard error."""
    print(f"round {number + 1} of {rounds}: {figures}", file=sys.stderr)


def busy(others: Iterable[float]) -> list[str]:
    """A note about the load from other programs, in shares of one core; none for a quiet machine."""
    share = Spread.of(others)
    if share.median <= BUSY:
        return []
    return [f"Other programs took {share.show('.0%', '')} of one core: trust the ratios, not the times."]


def show(result: Result, console: Console) -> None:
    """Print a result."""
    table = Table(
        "what", "budget", "measured: median (least–most)", "", title=result.title, title_justify="left"
    )
    for line in result.lines:
        verdict = Text("ok", "green") if line.kept else Text("MISSED", "bold red")
        table.add_row(line.what, line.budget, line.measured, verdict)
    console.print(table)
    for rows in result.tables:
        details = Table(*rows[0], box=None)
        for column in details.columns[1:]:
            column.justify = "right"
        for row in rows:
            details.add_row(*row.values())
        console.print(details)
    for note in result.notes:
        console.print(f"· {note}", style="dim", markup=False)


def write(row: str, result: Result, machine: Mapping[str, str], folder: Path) -> None:
    """Write a result as ``ROW.json``; creates the folder."""
    document = {
        "row": row,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "budgets": result.lines,
        "notes": result.notes,
        **result.samples,
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    (folder / f"{row}.json").write_bytes(text)
