"""The serving path, asked directly."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from schema.errors import DatabaseUnavailable
from schema.signs import Sign
from services.database.pool import Database
from services.days import day_in
from services.horoscopes.serving import Horoscopes, Today
from tests.proxy import Cable
from tests.waiting import DEADLINE_S

NOW = datetime(2026, 11, 22, 22, 30, tzinfo=UTC)
ZONES = ("Europe/Moscow", "America/New_York", None)
HOME = ZoneInfo("Europe/Moscow")


@pytest.fixture
async def cable(database_url: str) -> AsyncIterator[Cable]:
    async with Cable(database_url) as cable:
        yield cable


@pytest.fixture
async def horoscopes(cable: Cable, sql: asyncpg.Connection) -> AsyncIterator[Horoscopes]:
    """With a text for every sign, and a reader for every sign in every zone: ids from 0 on."""
    for sign in Sign:
        for zone in ("Europe/Moscow", "America/New_York"):
            await sql.execute(
                "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ($1, $2, $3)",
                sign, day_in(ZoneInfo(zone), NOW), f"{sign} {zone}",
            )  # fmt: skip
    for number in range(36):
        await sql.execute(
            "INSERT INTO readers (telegram_id, zodiac_sign, time_zone, language) VALUES ($1, $2, $3, 'ru')",
            number, sign_of(number), ZONES[number // 12],
        )  # fmt: skip
    async with Database(cable.url) as database:
        yield Horoscopes(database, HOME, lambda: NOW)


def sign_of(reader: int) -> Sign:
    return list(Sign)[reader % 12]


def text_of(reader: int) -> str:
    return f"{sign_of(reader)} {ZONES[reader // 12] or 'Europe/Moscow'}"


async def test_of_many_who_ask_at_once_everybody_gets_the_text_of_their_own_sign_and_day(
    horoscopes: Horoscopes, sql: asyncpg.Connection
) -> None:
    asked_before = uuid4()
    await sql.execute(
        "INSERT INTO waiters (request_id, chat_id, zodiac_sign, horoscope_date, language) "
        "VALUES ($1, 5, 'leo', '2026-11-22', 'ru')",
        asked_before,
    )
    readers = [*reversed(range(36)), 99, 5, 5]
    requests = [*(uuid4() for _ in readers[:-1]), asked_before]
    answers = await asyncio.gather(*map(horoscopes.today, readers, requests))
    for reader, request, today in zip(readers, requests, answers, strict=True):
        if reader == 99:
            assert today is None
            continue
        day = day_in(ZoneInfo(ZONES[reader // 12] or "Europe/Moscow"), NOW)
        assert today == Today(sign_of(reader), day, text_of(reader), asked_before=request == asked_before)


async def test_a_reader_whose_zone_postgresql_does_not_know_fails_alone(
    horoscopes: Horoscopes, sql: asyncpg.Connection
) -> None:
    await sql.execute("UPDATE readers SET time_zone = 'Mars/Phobos' WHERE telegram_id = 1")
    answers = await asyncio.gather(
        *(horoscopes.today(reader, uuid4()) for reader in range(3)), return_exceptions=True
    )
    assert [getattr(answer, "text", None) for answer in answers] == [text_of(0), None, text_of(2)]
    assert isinstance(answers[1], asyncpg.InvalidParameterValueError)


async def test_a_connection_that_was_lost_is_replaced(horoscopes: Horoscopes, cable: Cable) -> None:
    for reader in (1, 2, 3):
        today = None
        while today is None:
            with suppress(DatabaseUnavailable):
                today = await horoscopes.today(reader, uuid4())
        assert today.text == text_of(reader)
        cable.cut()


async def test_a_query_that_hangs_holds_up_nobody_who_was_seen(
    horoscopes: Horoscopes, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.horoscopes.serving.LONG_PATIENCE_S", 0.6)
    await horoscopes.today(1, uuid4())
    async with sql.transaction():
        await sql.execute("LOCK TABLE readers")
        stranger = asyncio.create_task(horoscopes.today(2, uuid4()))
        await asyncio.sleep(0)
        seen = await horoscopes.today(1, uuid4())
        assert seen
        assert seen.text == text_of(1)
        with pytest.raises(DatabaseUnavailable):
            await stranger
    today = await horoscopes.today(2, uuid4())
    assert today
    assert today.text == text_of(2)


async def test_while_postgresql_is_away_those_seen_are_answered_and_others_told(
    horoscopes: Horoscopes, cable: Cable
) -> None:
    await horoscopes.today(1, uuid4())
    cable.unplug()
    answers = await asyncio.gather(
        *(horoscopes.today(reader, uuid4()) for reader in (1, 2, 1)), return_exceptions=True
    )
    assert [getattr(answer, "text", None) for answer in answers] == [text_of(1), None, text_of(1)]
    assert isinstance(answers[1], DatabaseUnavailable)
    cable.plug()
    today = None
    while today is None:
        with suppress(DatabaseUnavailable):
            today = await horoscopes.today(2, uuid4())
    assert today.text == text_of(2)


async def test_no_reader_waits_while_texts_are_read_into_memory(horoscopes: Horoscopes) -> None:
    async with horoscopes._database.reads._is_free, asyncio.timeout(DEADLINE_S):
        await horoscopes.refresh()
    assert len(horoscopes._texts) == 24
