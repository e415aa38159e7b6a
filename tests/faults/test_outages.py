"""Servers that go away and come back."""

import asyncpg
import pytest

from ops.sandbox import Sandbox
from schema.signs import Sign
from tests.acceptance.conftest import FAILED, heading, reader_of, until_written
from tests.dead import Dead
from tests.processes import Processes
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import until_sql, until_views


async def test_while_postgresql_is_away_a_reader_seen_lately_is_answered_from_memory(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    async with Cable(processes.environment["DATABASE_URL"]) as cable:
        await processes.workers()
        await until_written(sql)
        bot = await processes.bot({"DATABASE_URL": cable.url})
        reader = await reader_of(sql, sandbox, 7, Sign.LEO)
        stranger = await reader_of(sql, sandbox, 8, Sign.VIRGO)
        await reader.say("/today")
        await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)

        cable.unplug()
        await reader.say("/today")
        await reader.wait_for(lambda messages: len([m for m in messages if heading("Лев") in m.text]) == 2)
        await stranger.say("/today")
        await stranger.wait_for(lambda messages: FAILED in messages[-1].text)
        await until_views(sql, 2)

        cable.plug()
        await stranger.press("again")
        await stranger.wait_for(lambda messages: heading("Дева") in messages[-1].text)
        assert len(stranger.received) == 1
        await until_views(sql, 3)
        assert await bot.stop() == 0


async def test_while_rabbitmq_is_away_replies_go_on_and_their_views_are_counted_later(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    async with Cable(processes.environment["RABBITMQ_URL"]) as cable:
        (worker,) = await processes.workers()
        await until_written(sql)
        await worker.stop()  # it would send what the bot parks
        bot = await processes.bot({"RABBITMQ_URL": cable.url})
        reader = await reader_of(sql, sandbox, 7, Sign.LEO)
        cable.unplug()
        for number in range(1, 4):
            await reader.say("/today")
            await reader.wait_for(lambda messages: len([m for m in messages if m.from_bot]) == number)  # noqa: B023
        await until_sql(sql, "SELECT count(*) FROM parked_messages", 3)
        bot.kill()  # what is parked outlives the process
        await bot.ended()
        cable.plug()
        await processes.bot({"RABBITMQ_URL": cable.url})
        await processes.workers()
        await until_views(sql, 3)
        await until_sql(sql, "SELECT count(*) FROM parked_messages", 0)


async def test_a_worker_that_loses_its_servers_for_a_while_goes_on(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, dead: Dead
) -> None:
    async with (
        Cable(processes.environment["DATABASE_URL"]) as database,
        Cable(processes.environment["RABBITMQ_URL"]) as broker,
    ):
        sandbox.model.latency = 0.05
        (worker,) = await processes.workers(1, {"DATABASE_URL": database.url, "RABBITMQ_URL": broker.url})
        await sandbox.model.wait_for_calls(5)
        database.unplug()
        await worker.said("message.put_back")
        database.plug()
        await sandbox.model.wait_for_calls(12)
        broker.cut()
        await until_written(sql)
        assert await dead.count() == 0
        assert await worker.stop() == 0


@pytest.mark.parametrize("command", ["bot", "worker"])
async def test_a_process_that_cannot_reach_its_database_refuses_to_start(
    processes: Processes, free_port: int, command: str
) -> None:
    code, said = await processes.run(
        command, environment={"DATABASE_URL": f"postgresql://user:password@127.0.0.1:{free_port}/x"}
    )
    assert code == 69
    assert "PostgreSQL cannot be reached" in said
    assert "DATABASE_URL" in said


async def test_a_process_says_that_the_database_was_never_migrated(
    processes: Processes, empty_database_url: str
) -> None:
    code, said = await processes.run("worker", environment={"DATABASE_URL": empty_database_url})
    assert code == 69
    assert "run: horoscope migrate" in said
