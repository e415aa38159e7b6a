"""Processes that are killed in the middle of their work."""

import asyncio
from datetime import datetime
from zoneinfo import ZoneInfo

import asyncpg

from ops.sandbox import Sandbox
from schema.messages import GenerateDay
from schema.signs import Sign
from tests.acceptance.conftest import GENERATING, heading, reader_of, until_written
from tests.dead import Dead
from tests.faults.conftest import SOON
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import until_sql, until_views


def today() -> datetime:
    return datetime.now(ZoneInfo("Europe/Moscow"))


async def test_a_worker_killed_while_the_model_writes_is_taken_over_and_the_reader_answered_once(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    first, second = await processes.workers(2)
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    before = len(sandbox.model.calls_for("leo"))
    hang = sandbox.model.faults.add("hang", sign="leo")
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await sandbox.model.wait_for_calls(before + 1, sign="leo")
    for worker in (first, second):
        worker.kill()
        await worker.ended()
    sandbox.model.faults.remove(hang.id)
    await processes.workers(1)
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)

    assert [version.text for version in reader.last.versions] == [GENERATING, reader.last.text]
    assert sandbox.model.max_in_flight_of["leo", today().date().isoformat()] == 1
    await until_views(sql, 1)


async def test_a_bot_killed_after_the_waiter_is_recorded_goes_on_when_the_update_comes_again(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.workers()
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    sandbox.telegram.faults.add("hang", method="sendMessage", times=1)
    bot = await processes.bot(constants=SOON)
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await until_sql(sql, "SELECT count(*) FROM waiters", 1)
    await sandbox.telegram.wait_for_calls("sendMessage")
    bot.kill()
    await bot.ended()
    await processes.bot(constants=SOON)
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert len(reader.received) == 1
    await until_views(sql, 1)


async def test_a_worker_killed_in_the_night_passes_the_turn_on(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, dead: Dead
) -> None:
    sandbox.model.latency = 0.1
    workers = await processes.workers(2)
    for worker in workers[:1]:
        await sandbox.model.wait_for_calls(4)
        worker.kill()
    await processes.workers(1)
    await until_written(sql)
    # What the killed worker was writing was asked for once more, nothing else.
    assert len(sandbox.model.calls) <= 25
    assert await dead.count() == 0


async def test_workers_killed_at_random_count_every_view_once(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    workers = await processes.workers(2)
    await until_written(sql)
    await processes.bot()
    readers = [await reader_of(sql, sandbox, 100 + number, Sign.LEO) for number in range(40)]
    for round_number in range(5):
        updates = [await reader.say("/today") for reader in readers]
        await sandbox.telegram.repeat(updates[0])
        if round_number % 2 == 0:
            workers.pop(0).kill()
            workers += await processes.workers(1)
    for reader in readers:
        await reader.wait_for(
            lambda messages: len([m for m in messages if heading("Лев") in m.text]) >= 5, within=30
        )
    await queues.drained("views")
    await until_views(sql, 200)


async def test_a_stopping_worker_finishes_what_is_under_way(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    (worker,) = await processes.workers()
    await until_written(sql)
    await queues.drained("generation", "delivery", "ticks")
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    sandbox.model.latency = 1.0
    calls = len(sandbox.model.calls)
    queues.publish(GenerateDay(today().date()))
    await sandbox.model.wait_for_calls(calls + 1)
    assert await worker.stop() == 0
    assert (
        await sql.fetchval(
            "SELECT count(*) FROM horoscope_cache WHERE zodiac_sign = 'leo' AND horoscope_date = $1",
            today().date(),
        )
        == 1
    )


async def test_a_stopping_bot_finishes_what_it_has_fetched(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.workers()
    await until_written(sql)
    bot = await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    sandbox.telegram.latency["sendmessage"] = 0.5
    await reader.say("/today")
    await sandbox.telegram.wait_for_calls("sendMessage")
    assert await bot.stop() == 0
    assert heading("Лев") in reader.last.text
    sandbox.telegram.latency.clear()
    await processes.bot()
    await reader.say("/help")
    await reader.wait_for(lambda messages: "/timezone" in messages[-1].text)
    assert len(reader.received) == 2, "the update was confirmed: it did not come again"
    await until_views(sql, 1)
    await asyncio.sleep(0)
