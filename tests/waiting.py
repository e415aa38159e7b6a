"""Waiting for conditions in the database, with a deadline."""

import asyncio
from typing import Any

import asyncpg

#: Seconds until a wait is given up. A busy machine may take long; a broken promise takes for ever.
DEADLINE_S = 60.0


async def until_sql(
    sql: asyncpg.Connection, query: str, expected: Any, *arguments: Any, within: float = DEADLINE_S
) -> None:
    """Wait until a query's first value is what is expected."""
    value = None
    try:
        async with asyncio.timeout(within):
            while (value := await sql.fetchval(query, *arguments)) != expected:
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"{query} gave {value!r}, not {expected!r}, for {within} s") from None


async def until_views(sql: asyncpg.Connection, count: int) -> None:
    """Wait until so many views are counted, in all."""
    await until_sql(sql, "SELECT COALESCE(sum(view_count), 0)::int FROM horoscope_views", count)
