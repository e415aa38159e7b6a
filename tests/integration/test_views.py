"""Views: each once."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg

from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.database import Database
from services.views import Views

DAY = date(2026, 11, 22)


def view(number: int, sign: Sign = Sign.LEO, day: date = DAY) -> HoroscopeRequested:
    return HoroscopeRequested(UUID(int=number), sign, day, answered=True, at=datetime.now(UTC))


async def counts(sql: asyncpg.Connection) -> dict[tuple[str, date], int]:
    rows = await sql.fetch("SELECT zodiac_sign, view_date, view_count FROM horoscope_views")
    return {(row[0], row[1]): row[2] for row in rows}


async def test_a_batch_is_summed_by_sign_and_day(database: Database, sql: asyncpg.Connection) -> None:
    views = Views(database)
    tomorrow = DAY + timedelta(days=1)
    await views.count([view(1), view(2), view(3, Sign.VIRGO), view(4, Sign.LEO, tomorrow)])
    await views.count([view(5)])
    assert await counts(sql) == {("leo", DAY): 3, ("virgo", DAY): 1, ("leo", tomorrow): 1}


async def test_a_view_counts_once_in_its_batch_and_ever_after(
    database: Database, sql: asyncpg.Connection
) -> None:
    views = Views(database)
    await views.count([view(1), view(1), view(2)])
    await views.count([view(2), view(1), view(1)])
    assert await counts(sql) == {("leo", DAY): 2}


async def test_batches_with_the_same_rows_in_any_order_do_not_block_each_other(
    database: Database, sql: asyncpg.Connection
) -> None:
    views = Views(database)
    signs = list(Sign)
    batches = [
        [view(batch * 1000 + number, signs[(number * step) % 12]) for number in range(240)]
        for batch, step in enumerate([1, -1, 5, -5, 7, -7, 11, -11] * 3)
    ]
    doubled = [batch[::-1] for batch in batches]
    await asyncio.gather(*(views.count(batch) for batch in batches + doubled))
    assert sum((await counts(sql)).values()) == 24 * 240


async def test_receipts_are_pruned_long_after_any_copy_could_come_back(
    database: Database, sql: asyncpg.Connection
) -> None:
    views = Views(database)
    await views.count([view(1, day=DAY - timedelta(days=61)), view(2, day=DAY - timedelta(days=60)), view(3)])
    await views.prune(DAY)
    assert await sql.fetchval("SELECT count(*) FROM view_receipts") == 2
