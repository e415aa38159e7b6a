"""What the commands about dead letters share: what they work with, which letters they are about."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from actors import REPLAYABLE
from ops.cli.console import exit_on_error, quiet, with_database
from ops.cli.tables import Screen
from schema.errors import Refused
from services.database.pool import Database
from services.days import system_clock
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector, make_inspector
from services.process.logs import Mask
from services.process.settings import Settings

Found = TypeVar("Found")

json_option = click.option("--json", "as_json", is_flag=True, help="For scripts.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


@dataclass(frozen=True, slots=True)
class Here:
    """What a command works with."""

    database: Database
    inspector: Inspector
    mask: Mask
    screen: Screen


def carry_out(work: Callable[[Here], Coroutine[Any, Any, Found]]) -> Found:
    """Run a command's work on the database, or leave with a clear message."""

    async def on(database: Database) -> Found:
        await database.check()
        mask = Mask(settings.secrets)
        return await work(
            Here(database, make_inspector(database, REPLAYABLE, system_clock), mask, Screen(mask))
        )

    with exit_on_error(), quiet():
        settings = Settings.read("database_url")
        found: Found = asyncio.run(with_database(settings, on))
    return found


async def chosen(inspector: Inspector, wanted: Filter) -> list[int]:
    """The numbers of the letters that are asked for; every one that was called by number must be there."""
    found = await inspector.records.ids(wanted)
    if missing := set(wanted.ids) - set(found):
        there = await inspector.records.ids(Filter(ids=tuple(missing), state=None))
        if gone := sorted(missing - set(there)):
            raise Refused(f"there is no dead letter {', '.join(map(str, gone))}")
    if not found:
        raise Refused(f"no dead letter is asked for by that: {wanted.words}")
    return found


def counted(count: int) -> str:
    """Letters, with the number of them."""
    return f"{count} dead letter{'' if count == 1 else 's'}"
