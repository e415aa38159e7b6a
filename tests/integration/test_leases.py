"""Leases: one at a time, taken over, fenced."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from schema.errors import DatabaseUnavailable, LeaseLost
from schema.signs import Sign
from services.database.pool import Database
from services.horoscopes import leases as module
from services.horoscopes.leases import Lease, Leases, Order, Refusal
from services.messaging.attempts import Attempt, Ladder
from tests.waiting import DEADLINE_S

DAY = date(2026, 11, 22)
FIRST = Attempt("first", datetime.now(UTC), retry_in=5)
ORDER = Order(FIRST, Ladder.REQUEST)
REDELIVERED = Order(replace(FIRST, again=True, redelivered=True), Ladder.REQUEST)
OTHER = Order(replace(FIRST, message_id="second"), Ladder.REQUEST)
NIGHT = Order(replace(FIRST, message_id="night"), Ladder.NIGHT)


@pytest.fixture
def leases(database: Database) -> Leases:
    return Leases(database)


async def taken(leases: Leases, order: Order = ORDER) -> Lease:
    lease = await leases.acquire(Sign.LEO, DAY, order)
    assert isinstance(lease, Lease), lease
    return lease


async def expire(sql: asyncpg.Connection) -> None:
    await sql.execute("UPDATE generations SET expires_at = now() - interval '1 second'")


async def test_of_many_who_ask_at_once_one_is_given_the_lease(leases: Leases) -> None:
    asked = await asyncio.gather(
        *(
            leases.acquire(Sign.LEO, DAY, Order(replace(FIRST, message_id=f"{number}"), Ladder.REQUEST))
            for number in range(50)
        )
    )
    assert sum(isinstance(lease, Lease) for lease in asked) == 1
    assert asked.count(Refusal.HELD) == 49


async def test_signs_and_days_do_not_stand_in_each_others_way(leases: Leases) -> None:
    await taken(leases)
    assert isinstance(await leases.acquire(Sign.VIRGO, DAY, OTHER), Lease)
    assert isinstance(await leases.acquire(Sign.LEO, DAY + timedelta(days=1), OTHER), Lease)


async def test_the_message_that_holds_a_lease_reenters_it_at_once_with_a_higher_token(leases: Leases) -> None:
    first = await taken(leases)
    assert await leases.acquire(Sign.LEO, DAY, ORDER) is Refusal.HELD, (
        "a copy of the message is not the message"
    )
    assert (await taken(leases, REDELIVERED)).token == first.token + 1


async def test_a_lease_that_ran_out_is_taken_over_and_its_late_holder_is_refused(
    leases: Leases, database: Database, sql: asyncpg.Connection
) -> None:
    late = await taken(leases)
    await expire(sql)
    lease = await taken(leases, OTHER)
    with pytest.raises(LeaseLost):
        async with database.transaction() as connection:
            await leases.finish(connection, late)
    assert await leases.fail(late, "too late", None) is None
    async with database.transaction() as connection:
        await leases.finish(connection, lease)
    assert await sql.fetchval("SELECT state FROM generations") == "written"


async def test_a_text_that_exists_needs_no_lease(leases: Leases, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ('leo', $1, 'x')", DAY
    )
    assert await leases.acquire(Sign.LEO, DAY, ORDER) is Refusal.WRITTEN


async def test_a_text_that_was_deleted_may_be_written_anew(leases: Leases, database: Database) -> None:
    async with database.transaction() as connection:
        await leases.finish(connection, await taken(leases))
    assert isinstance(await leases.acquire(Sign.LEO, DAY, OTHER), Lease)


async def test_a_request_joins_the_ladder_of_another_request_but_not_the_nights(leases: Leases) -> None:
    await leases.fail(await taken(leases), "trouble", 5)
    assert await leases.acquire(Sign.LEO, DAY, OTHER) is Refusal.ON_A_LADDER
    second_try = await taken(leases, Order(replace(FIRST, number=2, again=True), Ladder.REQUEST))
    await leases.fail(second_try, "trouble", None)
    assert isinstance(await leases.acquire(Sign.LEO, DAY, OTHER), Lease), "given up: a new request tries anew"

    night = await leases.acquire(Sign.VIRGO, DAY, NIGHT)
    assert isinstance(night, Lease)
    await leases.fail(night, "trouble", 300)
    assert isinstance(await leases.acquire(Sign.VIRGO, DAY, OTHER), Lease)


async def test_a_request_does_not_wait_for_a_ladder_whose_message_was_lost(
    leases: Leases, sql: asyncpg.Connection
) -> None:
    await leases.fail(await taken(leases), "trouble", 5)
    await sql.execute("UPDATE generations SET retry_at = now() - interval '1 minute'")
    assert isinstance(await leases.acquire(Sign.LEO, DAY, OTHER), Lease)


async def test_copies_of_a_nights_order_do_not_become_ladders_of_their_own(leases: Leases) -> None:
    earlier = replace(NIGHT.attempt, published_at=datetime.now(UTC) - timedelta(minutes=1))
    await leases.fail(await taken(leases, Order(earlier, Ladder.NIGHT)), "trouble", 300)
    copy = Order(replace(earlier, message_id="copy"), Ladder.NIGHT)
    assert await leases.acquire(Sign.LEO, DAY, copy) is Refusal.ON_A_LADDER
    later = Attempt("by hand", published_at=datetime.now(UTC) + timedelta(seconds=1))
    assert isinstance(await leases.acquire(Sign.LEO, DAY, Order(later, Ladder.NIGHT)), Lease)


async def test_a_kept_lease_outlives_its_term(
    leases: Leases, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_EVERY_S", 0.02)
    lease = await taken(leases)
    async with leases.kept(lease):
        await expire(sql)
        async with asyncio.timeout(DEADLINE_S):
            while not await sql.fetchval("SELECT expires_at > now() FROM generations"):
                await asyncio.sleep(0.01)
    assert await leases.acquire(Sign.LEO, DAY, OTHER) is Refusal.HELD


async def test_whoever_loses_a_lease_stops_writing(
    leases: Leases, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_EVERY_S", 0.02)
    lease = await taken(leases)

    async def write_for_ever() -> None:
        async with leases.kept(lease):
            await expire(sql)
            await taken(leases, OTHER)
            await asyncio.Event().wait()

    with pytest.raises(LeaseLost):
        await asyncio.wait_for(write_for_ever(), DEADLINE_S)


async def test_whoever_cannot_renew_a_lease_stops_before_somebody_else_may_have_it(
    leases: Leases, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is put forward by what is slept, so that a busy machine's own time means nothing beside it."""
    loop = asyncio.get_running_loop()
    time, sleep, slept = loop.time, asyncio.sleep, 0.0

    async def put_forward(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        await sleep(0)

    monkeypatch.setattr(loop, "time", lambda: time() + slept)
    monkeypatch.setattr(asyncio, "sleep", put_forward)
    taken_at = loop.time()
    lease = await taken(leases)
    nowhere = Database("postgresql://nobody@127.0.0.1:1/nothing")

    async def write_for_ever() -> None:
        async with leases.kept(lease):
            monkeypatch.setattr(leases, "_database", nowhere)
            await asyncio.Event().wait()

    with pytest.raises(DatabaseUnavailable, match="the lease ran out"):
        await asyncio.wait_for(write_for_ever(), 1000)
    assert loop.time() - taken_at < module.LEASE_S, "it is still ours"
    assert slept > module.RENEW_EVERY_S, "one failure was not the end"


async def test_a_text_is_replaced_if_it_is_the_one_that_was_seen(
    leases: Leases, database: Database, sql: asyncpg.Connection
) -> None:
    first = await taken(leases)
    async with database.transaction() as connection:
        await leases.finish(connection, first)
    seen = await sql.fetchval(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ('leo', $1, 'x')"
        " RETURNING generated_at",
        DAY,
    )
    again = Order(replace(NIGHT.attempt, message_id="again"), Ladder.NIGHT, replaces=seen)
    assert await leases.acquire(Sign.LEO, DAY, NIGHT) is Refusal.WRITTEN
    lease = await leases.acquire(Sign.LEO, DAY, again)
    assert isinstance(lease, Lease)
    async with database.transaction() as connection:
        await leases.finish(connection, lease)
    await sql.execute("UPDATE horoscope_cache SET generated_at = now()")
    assert await leases.acquire(Sign.LEO, DAY, again) is Refusal.WRITTEN, "replaced once, not twice"


async def test_people_see_who_writes_and_since_when(leases: Leases, sql: asyncpg.Connection) -> None:
    await taken(leases)
    row = await sql.fetchrow("SELECT state, writer, attempts, now() - since AS age FROM generations")
    assert row
    assert (row["state"], row["writer"], row["attempts"]) == ("writing", module.WRITER, 1)
    assert row["age"] < timedelta(minutes=1)
