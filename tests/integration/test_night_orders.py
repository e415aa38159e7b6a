"""Which texts are ordered, and by how many."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from schema.messages import GENERATION, GenerateDay
from schema.signs import Sign
from services.app import App
from services.days import day_in
from tests.queues import Queues


async def put_generation(
    sql: asyncpg.Connection, app: App, state: str, more: str = "NULL, NULL, NULL"
) -> None:
    await sql.execute(
        "INSERT INTO generations"
        " (zodiac_sign, horoscope_date, token, ladder, state, expires_at, retry_at, refused_by)"
        f" VALUES ('leo', $1, 1, 'night', '{state}', {more})",
        day_in(app.settings.home_timezone, app.clock()),
    )


async def ordered(app: App, queues: Queues) -> int:
    """How many of 24 texts the reconcile tick orders."""
    await app.night.reconcile()
    count = queues.count(GENERATION)
    while queues.take(GENERATION):
        pass
    return count


async def test_many_who_compare_at_once_order_each_text_once(app: App, queues: Queues) -> None:
    await asyncio.gather(*(app.night.reconcile() for _ in range(5)))
    orders = [queues.take(GENERATION) for _ in range(24)]
    assert queues.count(GENERATION) == 0
    days = [order.message["kwargs"]["day"] for order in orders if order]
    assert days == sorted(days), "today's gaps first"


async def test_an_order_that_was_lost_is_repeated_by_the_next_tick(
    app: App, queues: Queues, sql: asyncpg.Connection
) -> None:
    assert await ordered(app, queues) == 24
    assert await ordered(app, queues) == 0
    await sql.execute("UPDATE generations SET since = since - interval '5 minutes'")
    assert await ordered(app, queues) == 24


@pytest.mark.parametrize(
    ("state", "more", "missing"),
    [
        ("writing", "now() + interval '9 s', NULL, NULL", 23),
        ("writing", "now() - interval '1 s', NULL, NULL", 24),
        ("retrying", "NULL, now() + interval '9 min', NULL", 23),
        ("retrying", "NULL, now() - interval '2 min', NULL", 24),
        ("given_up", "NULL, NULL, NULL", 23),
        ("given_up", "NULL, NULL, 'another-endpoint'", 24),
        ("written", "NULL, NULL, NULL", 24),
    ],
    ids=[
        "written now",
        "its writer died",
        "on a ladder",
        "off its ladder",
        "given up",
        "refused before",
        "deleted",
    ],
)
async def test_what_somebody_deals_with_is_left_to_them(
    app: App, queues: Queues, sql: asyncpg.Connection, state: str, more: str, missing: int
) -> None:
    await put_generation(sql, app, state, more)
    assert await ordered(app, queues) == missing


async def test_what_the_model_refuses_us_is_not_ordered_again_with_the_same_settings(
    app: App, queues: Queues, sql: asyncpg.Connection
) -> None:
    await put_generation(sql, app, "given_up", f"NULL, NULL, '{app.outages.endpoint}'")
    assert await ordered(app, queues) == 23


async def test_a_person_orders_what_was_given_up_but_not_what_is_being_written(
    app: App, queues: Queues, sql: asyncpg.Connection
) -> None:
    today = day_in(app.settings.home_timezone, app.clock())
    await put_generation(sql, app, "given_up")
    await app.night.order(today)
    assert queues.count(GENERATION) == 11
    await app.night.order(today, anew=True)
    assert queues.count(GENERATION) == 23
    await sql.execute(
        "UPDATE generations SET state = 'writing', expires_at = now() + interval '9 s' WHERE zodiac_sign = 'leo'"
    )
    await app.night.order(today, anew=True)
    assert queues.count(GENERATION) == 34


async def test_a_day_that_is_over_is_not_ordered(app: App, queues: Queues) -> None:
    await app.night.order(day_in(app.settings.home_timezone, app.clock()) - timedelta(days=3))
    assert queues.count(GENERATION) == 0


async def test_a_tick_tells_what_it_did(app: App, queues: Queues, sql: asyncpg.Connection) -> None:
    await app.night.begin()
    await app.night.reconcile()
    did = dict(await sql.fetch("SELECT name, did FROM ticks"))
    today = day_in(app.settings.home_timezone, app.clock())
    assert did["midnight"].startswith(f"ordered {today}")
    assert did["reconcile"].startswith("ordered 24 missing texts")
    await app.night.reconcile()
    assert await sql.fetchval("SELECT did FROM ticks WHERE name = 'reconcile'") == "nothing was missing"
    first = queues.take(GENERATION)
    assert first
    assert first.message["actor_name"] == GenerateDay(today).actor
    assert {sign.value for sign in Sign} == {
        row[0] for row in await sql.fetch("SELECT zodiac_sign FROM generations WHERE state = 'pending'")
    }
