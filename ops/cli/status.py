"""``horoscope status``: is today ready, is anything stuck."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from ops.cli import tables
from ops.cli.console import (
    EXIT_NEEDS_A_PERSON,
    EXIT_UNAVAILABLE,
    Answer,
    Here,
    Screen,
    clock_time,
    connected,
    terminal_width,
)
from schema.errors import DatabaseUnavailable, NotPublished
from services.days import system_clock

if TYPE_CHECKING:
    from services.status import Status

#: Seconds between two looks of ``--watch``.
LOOK_S = 2.0

# Control sequences of a terminal (ECMA-48).
_TO_THE_TOP, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


@click.command()
@click.option(
    "--watch",
    is_flag=True,
    help="Refresh every two seconds until Ctrl-C. In a pipe, print again after each change.",
)
@connected("database_url", "rabbitmq_url")
async def status(here: Here, watch: bool) -> Answer:
    """Say whether today is ready and whether anything is stuck. Exits with 1 if something needs a person."""
    if watch and here.as_json:
        raise click.UsageError("--watch goes without --json")
    if watch:
        return Answer(None, lambda _: None, await _watch(here))
    seen = await _read(here)

    def show(screen: Screen) -> None:
        tables.show_status(screen, seen)
        tables.show_alarms(screen, seen.alarms, seen.notes)

    told = asdict(seen) | {"alarms": [str(alarm) for alarm in seen.alarms]}
    return Answer(told, show, _code(seen))


async def _read(here: Here) -> Status:
    import asyncio

    from actors import topology
    from services import status as statuses
    from services.horoscopes.usage import Usage
    from services.messaging.queues import read_queues

    settings, home = here.settings, here.settings.home_timezone
    assert settings.rabbitmq_url
    usage = Usage(here.database, home, system_clock, settings.token_prices, settings.daily_token_limit)
    records = await statuses.read_records(here.database, usage, system_clock, home)
    urls = settings.rabbitmq_url.get_secret_value()
    return statuses.judge(records, await asyncio.to_thread(read_queues, urls, topology.queues(settings)))


def _code(seen: Status) -> int:
    return EXIT_NEEDS_A_PERSON if seen.alarms else 0


async def _watch(here: Here) -> int:
    """Show the status again and again until Ctrl-C; the last exit code."""
    import asyncio

    code, before = 0, [""]
    try:
        while True:
            lines, code = await _look(here)
            now = f"{clock_time(system_clock())}   every {LOOK_S:.0f} s, Ctrl-C ends it"
            if terminal_width() is not None:
                click.echo(_page([now, *lines]), nl=False)
            elif lines != before:
                click.echo("\n".join([now, *lines, ""]))
            before = lines
            await asyncio.sleep(LOOK_S)
    except asyncio.CancelledError:
        return code


async def _look(here: Here) -> tuple[list[str], int]:
    """The lines of the status, its alarms first, and the exit code that goes with it."""
    lines: list[str] = []
    screen = Screen(here.mask, terminal_width(), lines.append)
    try:
        seen = await _read(here)
    except (DatabaseUnavailable, NotPublished) as error:
        tables.show_alarms(screen, [str(error)])
        return lines, EXIT_UNAVAILABLE
    tables.show_alarms(screen, seen.alarms, seen.notes)
    tables.show_status(screen, seen)
    return lines, _code(seen)


def _page(lines: list[str]) -> str:
    """What overwrites a terminal's page with these lines; the last ones are left out where it is too small."""
    room = shutil.get_terminal_size().lines - 1
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} more lines: the terminal is too small"]
    return _TO_THE_TOP + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW
