"""A look for one reader in all tables, whichever there are."""

import asyncio
import re

import asyncpg

from tests.waiting import DEADLINE_S

_TABLES = """
    SELECT table_name FROM information_schema.tables
    WHERE table_schema = 'public' AND table_type = 'BASE TABLE' ORDER BY table_name
"""


async def rows_naming(sql: asyncpg.Connection, number: int) -> dict[str, int]:
    """How many rows of each table name a number in any column, also within texts, JSON and bytes."""
    found = {}
    for (name,) in await sql.fetch(_TABLES):
        rows = await sql.fetch(f'SELECT CAST(one AS text) FROM "{name}" AS one')
        if count := sum(_names(row[0], number) for row in rows):
            found[name] = count
    return found


async def until_named(sql: asyncpg.Connection, number: int, expected: dict[str, int]) -> None:
    """Wait until exactly so many rows name a number: an update under way may be on record for a moment."""
    found = await rows_naming(sql, number)
    try:
        async with asyncio.timeout(DEADLINE_S):
            while found != expected:
                await asyncio.sleep(0.05)
                found = await rows_naming(sql, number)
    except TimeoutError:
        raise AssertionError(f"{number} is named in {found}, not in {expected}") from None


def _names(row: str, number: int) -> bool:
    """A row as PostgreSQL writes it, with bytes in hexadecimal."""
    in_bytes = any(str(number) in _decoded(found) for found in re.findall(r"\\x([0-9a-f]+)", row))
    return in_bytes or bool(re.search(rf"(?<!\d){number}(?!\d)", row))


def _decoded(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal[: len(hexadecimal) // 2 * 2]).decode("latin-1")
