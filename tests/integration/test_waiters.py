"""Who waits, who may answer, who is overdue."""

import asyncio
from datetime import date, datetime
from uuid import uuid4

import asyncpg
import pytest

from ops.sandbox import Sandbox
from schema.signs import Language, Sign
from services.app import App
from services.bot.typing import Typing
from services.database.pool import Database
from services.horoscopes.waiters import Waiter, Waiters

DAY = date(2026, 11, 22)


@pytest.fixture
def waiters(database: Database) -> Waiters:
    return Waiters(database)


async def added(waiters: Waiters, *, named: int | None = 1, replaces: int | None = None) -> Waiter:
    request_id = uuid4()
    waiter = await waiters.add(
        request_id, chat_id=7, sign=Sign.LEO, day=DAY, language=Language.RU, replaces=replaces
    )
    if named:
        await waiters.name(request_id, named)
    return waiter


async def age(sql: asyncpg.Connection, seconds: int) -> None:
    await sql.execute(
        "UPDATE waiters SET created_at = created_at - make_interval(secs => $1), nudged_at = NULL", seconds
    )


async def test_of_the_copies_of_one_update_one_may_send_the_progress_message(
    waiters: Waiters, sql: asyncpg.Connection
) -> None:
    request_id = uuid4()
    several = await asyncio.gather(
        *(waiters.add(request_id, chat_id=7, sign=Sign.LEO, day=DAY, language=Language.RU) for _ in range(10))
    )
    assert sum(waiter.ours for waiter in several) == 1
    await sql.execute("UPDATE waiters SET claimed_until = now() - interval '1 second'")
    later = await waiters.add(request_id, chat_id=7, sign=Sign.LEO, day=DAY, language=Language.RU)
    assert later.ours, "whoever was to send it is gone"


async def test_a_button_that_is_pressed_twice_makes_one_waiter(waiters: Waiters) -> None:
    first = await added(waiters, replaces=5, named=None)
    second = await added(waiters, replaces=5, named=None)
    assert second.request_id == first.request_id
    assert not second.ours
    await waiters.settle([first.request_id])
    assert (await added(waiters, replaces=5, named=None)).request_id != first.request_id


async def test_a_waiter_without_a_progress_message_is_left_to_whoever_sends_it(
    waiters: Waiters, sql: asyncpg.Connection
) -> None:
    await added(waiters, named=None)
    assert await waiters.claim(Sign.LEO, DAY, limit=9) == []
    await sql.execute("UPDATE waiters SET claimed_until = NULL")
    assert await waiters.claim(Sign.LEO, DAY, limit=9) == [], "it may still be on its way to the screen"
    await sql.execute("UPDATE waiters SET created_at = now() - interval '61 seconds', claimed_until = NULL")
    assert len(await waiters.claim(Sign.LEO, DAY, limit=9)) == 1


async def test_only_those_are_claimed_who_began_to_wait_in_time(
    waiters: Waiters, sql: asyncpg.Connection
) -> None:
    early = await added(waiters)
    bound: datetime = await sql.fetchval("SELECT clock_timestamp()")
    late = await added(waiters)
    newcomers = await waiters.claim(Sign.LEO, DAY, limit=9, after=bound)
    assert [waiter.request_id for waiter in newcomers] == [late.request_id]
    by_then = await waiters.claim(Sign.LEO, DAY, limit=9, before=bound)
    assert [waiter.request_id for waiter in by_then] == [early.request_id]


async def test_whoever_is_overdue_is_given_to_one_of_those_who_look(
    waiters: Waiters, sql: asyncpg.Connection
) -> None:
    await added(waiters)
    await added(waiters)
    assert await waiters.overdue() == []
    await age(sql, 31)
    looks = await asyncio.gather(*(waiters.overdue() for _ in range(5)))
    assert sum(len(look) for look in looks) == 1
    assert await waiters.overdue() == []
    await sql.execute(
        "UPDATE waiters SET nudged_at = now() - interval '31 seconds' WHERE nudged_at IS NOT NULL"
    )
    ((waiter, bound),) = await waiters.overdue()
    assert waiter.sign is Sign.LEO
    assert waiter.created_at > bound
    await age(sql, 900)
    ((waiter, bound),) = await waiters.overdue()
    assert waiter.created_at < bound
    assert len(await waiters.claim(Sign.LEO, DAY, limit=9, before=bound)) == 2, "all who are out of time"


async def test_nobody_is_overdue_while_somebody_writes_or_is_about_to(
    waiters: Waiters, sql: asyncpg.Connection
) -> None:
    await added(waiters)
    await age(sql, 31)
    await sql.execute(
        "INSERT INTO generations (zodiac_sign, horoscope_date, state, token, ladder, expires_at)"
        " VALUES ('leo', $1, 'writing', 1, 'request', now() + interval '9 seconds')",
        DAY,
    )
    assert await waiters.overdue() == []
    await sql.execute("UPDATE generations SET state = 'retrying', retry_at = now() + interval '9 seconds'")
    assert await waiters.overdue() == []
    await age(sql, 900)
    ((waiter, bound),) = await waiters.overdue()
    assert waiter.created_at < bound, "a ladder without an end is not waited for"
    await sql.execute("UPDATE waiters SET nudged_at = NULL, created_at = now() - interval '31 seconds'")
    await sql.execute("UPDATE generations SET ladder = 'night'")
    assert len(await waiters.overdue()) == 1, "the night's ladder is too slow for readers"


async def test_whoever_could_not_be_told_for_a_day_is_given_up(
    waiters: Waiters, sql: asyncpg.Connection
) -> None:
    waiter = await added(waiters)
    assert await waiters.abandon() == []
    await age(sql, 86_401)
    assert [each.request_id for each in await waiters.abandon()] == [waiter.request_id]
    assert await waiters.still_waiting([waiter.request_id]) == set()


async def test_a_text_is_being_written_while_a_worker_has_its_lease_and_the_model_is_up(
    waiters: Waiters, sql: asyncpg.Connection
) -> None:
    assert not await waiters.is_being_written(Sign.LEO, DAY)
    await sql.execute(
        "INSERT INTO generations (zodiac_sign, horoscope_date, state, token, ladder, expires_at)"
        " VALUES ('leo', $1, 'writing', 1, 'request', now() + interval '9 seconds')",
        DAY,
    )
    several = await asyncio.gather(
        *(waiters.is_being_written(sign, DAY) for sign in (Sign.LEO, Sign.VIRGO, Sign.LEO))
    )
    assert several == [True, False, True]
    await sql.execute(
        "INSERT INTO model_outages (endpoint, failures, repeats, refused, kind, reason, known_at)"
        " VALUES ('x', 3, 0, FALSE, 'unavailable', 'no answer', now())"
    )
    assert not await waiters.is_being_written(Sign.LEO, DAY)
    await sql.execute("DELETE FROM model_outages")
    await sql.execute("UPDATE generations SET expires_at = now() - interval '1 second'")
    assert not await waiters.is_being_written(Sign.LEO, DAY)


async def test_typing_shows_as_long_as_somebody_waits(app: App, sandbox: Sandbox) -> None:
    sandbox.telegram.reader(7, name="Аня", language="ru")
    waiter = await added(app.waiters)
    typing = Typing(app.bot, app.waiters)
    typing.begin(waiter.request_id, waiter.chat_id)
    await sandbox.telegram.wait_for_calls("sendChatAction")
    await typing.show()
    assert len(sandbox.telegram.calls_of("sendChatAction", 7)) == 2
    await app.waiters.settle([waiter.request_id])
    await typing.show()
    assert len(sandbox.telegram.calls_of("sendChatAction", 7)) == 2
