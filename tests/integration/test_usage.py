"""What the model costs, counted on a real PostgreSQL."""

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from schema.errors import Answer
from schema.signs import Sign
from services.database.pool import Database
from services.horoscopes.usage import Usage

DAY = date(2026, 11, 23)
HOME = ZoneInfo("Europe/Moscow")
PRICES = (Decimal("0.15"), Decimal("0.60"))
ANSWER = Answer("gpt-4o-mini", 400, 200, 1234)
COST = Decimal("0.000180")
UNKNOWN = Answer("gpt-4o-mini", None, None, 5)

Opened = Callable[..., Usage]


@pytest.fixture
async def usage(database: Database, sql: asyncpg.Connection) -> Opened:
    """Opens the counters; a text is being written."""
    await sql.execute(
        "INSERT INTO generations (zodiac_sign, horoscope_date, state, token, ladder) "
        "VALUES ('leo', $1, 'writing', 1, 'night'), ('virgo', $1, 'writing', 1, 'night')",
        DAY,
    )

    def opened(
        prices: tuple[Decimal, ...] = PRICES, limit: int = 0, now: str = "2026-11-22T12:00+00:00"
    ) -> Usage:
        return Usage(database, HOME, lambda: datetime.fromisoformat(now), prices, limit)

    return opened


async def of_the_text(sql: asyncpg.Connection) -> tuple[object, ...]:
    row = await sql.fetchrow(
        "SELECT calls, prompt_tokens, completion_tokens, cost_usd FROM generations WHERE zodiac_sign = 'leo'"
    )
    return tuple(row)


async def of_the_days(sql: asyncpg.Connection) -> list[tuple[object, ...]]:
    rows = await sql.fetch(
        "SELECT spent_on, model, calls, prompt_tokens, completion_tokens, cost_usd FROM model_usage ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def test_every_answer_is_added_to_its_text_and_to_the_day(
    usage: Opened, sql: asyncpg.Connection
) -> None:
    await usage().add(Sign.LEO, DAY, ANSWER)
    await usage().add(Sign.LEO, DAY, Answer("gpt-4o-mini", 1000, 300, 77))
    await usage().add(Sign.VIRGO, DAY, ANSWER)
    assert await of_the_text(sql) == (2, 1400, 500, Decimal("0.000510"))
    assert await of_the_days(sql) == [(date(2026, 11, 22), "gpt-4o-mini", 3, 1800, 700, Decimal("0.000690"))]
    assert await sql.fetchval("SELECT latency_ms FROM generations WHERE zodiac_sign = 'leo'") == 77


async def test_the_day_ends_at_home_and_models_are_told_apart(usage: Opened, sql: asyncpg.Connection) -> None:
    await usage(now="2026-11-22T20:59+00:00").add(Sign.LEO, DAY, ANSWER)
    await usage(now="2026-11-22T21:00+00:00").add(Sign.LEO, DAY, ANSWER)
    await usage(now="2026-11-22T21:00+00:00").add(Sign.LEO, DAY, Answer("other", 1, 2, 3))
    assert [row[:3] for row in await of_the_days(sql)] == [
        (date(2026, 11, 22), "gpt-4o-mini", 1),
        (date(2026, 11, 23), "gpt-4o-mini", 1),
        (date(2026, 11, 23), "other", 1),
    ]
    assert await usage(now="2026-11-22T20:59+00:00").spent_today() == 600
    assert await usage(now="2026-11-22T21:00+00:00").spent_today() == 603
    assert await usage(now="2026-11-23T21:00+00:00").spent_today() == 0


async def test_what_is_not_known_adds_nothing(usage: Opened, sql: asyncpg.Connection) -> None:
    await usage().add(Sign.LEO, DAY, UNKNOWN)
    assert await of_the_text(sql) == (1, None, None, None)
    assert await of_the_days(sql) == [(date(2026, 11, 22), "gpt-4o-mini", 1, 0, 0, None)]
    await usage().add(Sign.LEO, DAY, ANSWER)
    await usage().add(Sign.LEO, DAY, UNKNOWN)
    await usage(prices=()).add(Sign.LEO, DAY, ANSWER)
    assert await of_the_text(sql) == (4, 800, 400, COST)
    assert await of_the_days(sql) == [(date(2026, 11, 22), "gpt-4o-mini", 4, 800, 400, COST)]


async def test_without_prices_no_cost_is_known(usage: Opened, sql: asyncpg.Connection) -> None:
    await usage(prices=()).add(Sign.LEO, DAY, ANSWER)
    assert await of_the_text(sql) == (1, 400, 200, None)
    assert (await of_the_days(sql))[0][-1] is None


async def test_an_answer_for_a_text_that_nobody_writes_costs_all_the_same(
    usage: Opened, sql: asyncpg.Connection
) -> None:
    await sql.execute("DELETE FROM generations")
    await usage().add(Sign.LEO, DAY, ANSWER)
    assert await usage().spent_today() == 600


async def test_answers_that_come_at_once_are_all_counted(usage: Opened, sql: asyncpg.Connection) -> None:
    signs = [Sign.LEO, Sign.VIRGO] * 10
    await asyncio.gather(*(usage().add(sign, DAY, ANSWER) for sign in signs))
    assert await usage().spent_today() == 20 * 600
    assert (await of_the_text(sql))[0] == 10


async def test_a_server_that_makes_numbers_up_breaks_nothing(usage: Opened, sql: asyncpg.Connection) -> None:
    most = (1 << 31) - 1
    for _ in range(3):
        await usage(prices=(Decimal(9999), Decimal(9999))).add(Sign.LEO, DAY, Answer("m", most, most, 5))
    assert await of_the_text(sql) == (3, most, most, Decimal(999999))
    assert (await of_the_days(sql))[0][3:] == (3 * most, 3 * most, Decimal(999999))


async def test_the_daily_limit_is_reached_by_the_tokens_of_the_day(usage: Opened) -> None:
    limited = usage(limit=1200)
    assert await limited.exhausted() is None
    await limited.add(Sign.LEO, DAY, ANSWER)
    assert await limited.exhausted() is None
    await limited.add(Sign.LEO, DAY, ANSWER)
    assert await limited.exhausted() == "the daily limit of 1200 tokens is reached: 1200 were used today"
    assert await usage(limit=0).exhausted() is None, "no limit"
    tomorrow = usage(limit=1200, now=datetime(2026, 11, 23, 12, tzinfo=UTC).isoformat())
    assert await tomorrow.exhausted() is None
