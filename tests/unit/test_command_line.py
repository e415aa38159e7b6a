"""The command line by itself: its help, its hints, and how it fits what it prints into a terminal."""

import json
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from ops.cli import main, options, replays, status
from ops.cli.console import Screen
from ops.cli.queues import MOST_SHOWN
from services.dead_letters import records
from services.dead_letters import replays as runs
from services.messaging import queues
from services.process.logs import Mask

#: What takes long to import, and what a help text has no use for.
HEAVY = {
    "aiogram", "aiohttp", "apscheduler", "asyncio", "asyncpg", "dramatiq", "jinja2", "openai", "pika", "pydantic",
    "rich", "sqlalchemy", "starlette", "structlog", "uvloop", "actors",
}  # fmt: skip


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    """The path of every command."""
    yield path
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name)


COMMANDS = [*commands(main)]


def test_every_help_is_shown_without_importing_anything_heavy() -> None:
    shown = f"""
import contextlib, io, json, sys
from ops.cli import main
for path in {COMMANDS!r}:
    with contextlib.redirect_stdout(io.StringIO()) as output:
        main([*path, "--help"], standalone_mode=False)
    assert output.getvalue().startswith("Usage: "), path
print(json.dumps(sorted(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in json.loads(done.stdout)} & HEAVY == set()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_fits_80_columns_and_begins_with_a_whole_sentence(path: tuple[str, ...]) -> None:
    told = CliRunner().invoke(main, [*path, "--help"], prog_name="horoscope", env={"COLUMNS": "80"})
    assert told.exit_code == 0
    assert all(len(line) <= 80 for line in told.stdout.splitlines())
    assert "..." not in told.stdout.partition("\n")[2], "a first sentence is too long for its list"


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("stauts", "Did you mean 'status'?"),
        ("dead lst", "Did you mean 'list'?"),
        ("dead list --verdct done", "Did you mean '--verdict'?"),
        ("dead list --state ded", "Did you mean dead?"),
        ("dead list --verdict redy", "Did you mean ready?"),
        ("dead list --sign leoo", "Did you mean leo?"),
        ("dead list --sign ТЕЛЕЦ", "'ТЕЛЕЦ' is not one of aries, taurus"),
        ("dead list --actor generation.GenerateHoroscop", "Did you mean generation.GenerateHoroscope?"),
        ("dead list --queue vews", "No queue of this release is called 'vews'. Did you mean views?"),
        ("dead list --cause ladder-exausted", "Did you mean ladder-exhausted?"),
        ("dead edit 1 --actor DELIVERY.deliver", "Did you mean delivery.DeliverHoroscope?"),
        ("generate --sign Ares", "Did you mean aries?"),
        ("worker --queues views,request", "'request' is not one of dead_letters"),
        ("worker --queues views,request", "Did you mean requests?"),
    ],
)  # fmt: skip
def test_a_name_that_is_nearly_right_is_asked_about(command: str, hint: str) -> None:
    told = CliRunner().invoke(main, command.split())
    assert hint in told.stderr
    assert told.exit_code == (78 if "of this release" in told.stderr else 2)


def test_a_name_of_another_release_is_looked_for_without_a_word_when_none_is_near() -> None:
    told = CliRunner().invoke(main, ["dead", "list", "--actor", "old.Actor"])
    assert "old.Actor" not in told.output


def test_the_limits_are_those_of_the_services() -> None:
    assert options.PAGE == records.PAGE
    assert MOST_SHOWN == queues.MOST_SHOWN
    assert (replays.RATE, replays.FASTEST) == (runs.RATE, runs.FASTEST)


def lines_of(width: int | None, names: list[str], rows: list[list[object]]) -> list[str]:
    lines: list[str] = []
    Screen(Mask([]), width, lambda line: lines.append(click.unstyle(line))).table(names, rows, numbers=["n"])
    return lines


ROWS: list[list[object]] = [
    [1, "generation.GenerateHoroscope", "a short reason", 5],
    [200, "views", "a reason that goes on and on, with many a word in it, until no line can hold it", None],
]
NAMES = ["id", "actor", "reason", "n"]


@pytest.mark.parametrize("width", range(40, 130, 7))
def test_a_table_breaks_no_word_and_loses_none_at_any_width(width: int) -> None:
    lines = lines_of(width, NAMES, ROWS)
    assert all(len(line) <= width for line in lines)
    told = [word for line in lines for word in line.split()]
    for row in ROWS:
        for cell in row:
            assert cell is None or all(word in told for word in str(cell).split())


def test_a_table_in_a_pipe_has_a_line_for_each_row() -> None:
    assert lines_of(None, NAMES, ROWS) == [
        "id   actor                         reason                                                                           n",
        "1    generation.GenerateHoroscope  a short reason                                                                   5",
        "200  views                         a reason that goes on and on, with many a word in it, until no line can hold it",
    ]


def test_what_does_not_fit_stands_below_its_row() -> None:
    assert lines_of(40, NAMES, ROWS) == [
        "id   actor",
        "1    generation.GenerateHoroscope",
        "     reason  a short reason",
        "     n       5",
        "200  views",
        "     reason  a reason that goes on and",
        "             on, with many a word in it,",
        "             until no line can hold it",
    ]


def test_nothing_moves_the_cursor_and_no_secret_is_shown() -> None:
    lines: list[str] = []
    screen = Screen(Mask(["a-secret"]), 80, lines.append)
    screen.say("\x1b[2J a-secret \x9b5A")
    screen.table(["x"], [["a-secret\n\x07"]])
    screen.facts({"name": "a-secret\x1b"})
    screen.quote("a-secret\x1b")
    screen.json({"a-secret": "\x9b5A a-secret"})
    told = click.unstyle("\n".join(lines))
    assert "a-secret" not in told
    assert all(each.isprintable() or each == "\n" for each in told)


def test_a_watched_status_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    few, many = status._page(["a", "b"]), status._page([f"line {number}" for number in range(40)])
    assert few == "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J"
    assert many.count("\n") == 23, "the cursor is in the last line"
    assert "line 21\x1b[K\n… 18 more lines: the terminal is too small\x1b[K\n\x1b[J" in many
