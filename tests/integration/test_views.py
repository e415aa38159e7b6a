"""Views: each once."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import asyncpg
import pytest

from schema.errors import InvalidMessage, TooOld
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.days import system_clock
from services.readers.views import OLDEST, Views

DAY = datetime.now(UTC).date()


def view(number: int, sign: Sign = Sign.LEO, day: date = DAY) -> HoroscopeRequested:
    return HoroscopeRequested(UUID(int=number), sign, day, answered=True, at=datetime.now(UTC))


async def counts(sql: asyncpg.Connection) -> dict[tuple[str, date], int]:
    rows = await sql.fetch("SELECT zodiac_sign, view_date, view_count FROM horoscope_views")
    return {(row[0], row[1]): row[2] for row in rows}


async def test_a_batch_is_summed_by_sign_and_day(database: Database, sql: asyncpg.Connection) -> None:
    views = Views(database, system_clock)
    yesterday = DAY - timedelta(days=1)
    await views.count([view(1), view(2), view(3, Sign.VIRGO), view(4, Sign.LEO, yesterday)])
    await views.count([view(5)])
    assert await counts(sql) == {("leo", DAY): 3, ("virgo", DAY): 1, ("leo", yesterday): 1}


async def test_a_view_counts_once_in_its_batch_and_ever_after(
    database: Database, sql: asyncpg.Connection
) -> None:
    views = Views(database, system_clock)
    await views.count([view(1), view(1), view(2)])
    await views.count([view(2), view(1), view(1)])
    assert await counts(sql) == {("leo", DAY): 2}


async def test_batches_with_the_same_rows_in_any_order_do_not_block_each_other(
    database: Database, sql: asyncpg.Connection
) -> None:
    views = Views(database, system_clock)
    signs = list(Sign)
    batches = [
        [view(batch * 1000 + number, signs[(number * step) % 12]) for number in range(240)]
        for batch, step in enumerate([1, -1, 5, -5, 7, -7, 11, -11] * 3)
    ]
    doubled = [batch[::-1] for batch in batches]
    await asyncio.gather(*(views.count(batch) for batch in batches + doubled))
    assert sum((await counts(sql)).values()) == 24 * 240


def clock_at(day: date) -> Callable[[], datetime]:
    return lambda: datetime.combine(day, time(12), UTC)


async def test_receipts_are_kept_for_longer_than_any_copy_is_counted(
    database: Database, sql: asyncpg.Connection
) -> None:
    await Views(database, clock_at(DAY)).count([view(1)])
    last = DAY + OLDEST
    views = Views(database, clock_at(last))
    await views.prune()
    # A copy of the same update, handled a day later where the reader lives.
    await views.count([view(1), view(1, day=DAY + timedelta(days=1))])
    assert sum((await counts(sql)).values()) == 1

    views = Views(database, clock_at(last + timedelta(days=4)))
    await views.prune()
    assert await sql.fetchval("SELECT count(*) FROM view_receipts") == 0
    with pytest.raises(TooOld, match=f"a view of {DAY} cannot be counted exactly once"):
        await views.count([view(1)])
    assert sum((await counts(sql)).values()) == 1


async def test_receipts_are_pruned_in_parts(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.readers.views._PRUNED_AT_ONCE", 10)
    await Views(database, clock_at(DAY)).count([view(number) for number in range(35)])
    views = Views(database, clock_at(DAY + timedelta(days=60)))
    await views.count([view(100, day=DAY + timedelta(days=60))])
    await views.prune()
    assert await sql.fetchval("SELECT count(*) FROM view_receipts") == 1


async def test_a_view_of_a_day_that_nobody_lives_in_yet_is_refused(
    database: Database, sql: asyncpg.Connection
) -> None:
    with pytest.raises(InvalidMessage):
        await Views(database, clock_at(DAY)).count([view(1), view(2, day=DAY + timedelta(days=2))])
    assert await counts(sql) == {}


async def test_views_are_told_apart_by_five_minutes_whatever_their_clock_says(
    database: Database, sql: asyncpg.Connection
) -> None:
    noon = datetime.combine(DAY, time(12), UTC)
    times = [
        noon - timedelta(seconds=1),
        noon - timedelta(minutes=5),
        noon - timedelta(minutes=6),
        datetime(9999, 12, 31, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
    ]
    events = [
        HoroscopeRequested(UUID(int=number), Sign.LEO, DAY, answered=True, at=at)
        for number, at in enumerate(times)
    ]
    await Views(database, lambda: noon).count(events)
    rows = await sql.fetch("SELECT at, view_count FROM view_times WHERE view_date = $1 ORDER BY at", DAY)
    assert [(row[0], row[1]) for row in rows[1:]] == [
        (noon - timedelta(minutes=10), 1),
        (noon - timedelta(minutes=5), 2),
        (noon, 1),
    ]
    assert await counts(sql) == {("leo", DAY): 5}
