"""Every view once, whatever is killed meanwhile."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Self

import asyncpg
from sqlalchemy import text

from ops.sandbox import Sandbox
from ops.stack.postgres import Postgres
from ops.stack.rabbitmq import RabbitMQ
from schema.errors import DatabaseUnavailable
from schema.messages import DEAD_LETTERS, VIEWS
from schema.signs import Sign
from services.database.pool import Database
from tests.acceptance.conftest import heading, reader_of
from tests.faults.conftest import Scene
from tests.faults.servers import OwnPostgreSQL, OwnRabbitMQ
from tests.processes import Process, Processes
from tests.queues import open_queues
from tests.waiting import until_sql, until_views

ALL = 100_002  # for three publishers
PUBLISHERS = 3
PARKED = "SELECT count(*) FROM parked_messages"
COUNTED = "SELECT COALESCE(sum(view_count), 0)::int FROM horoscope_views"
ROOT = Path(__file__).parents[2]


class TestBothServers(OwnRabbitMQ, OwnPostgreSQL):
    async def test_a_hundred_thousand_views_are_counted_once_each_through_kills_and_restarts(
        self, processes: Processes, postgres: Postgres, rabbitmq: RabbitMQ
    ) -> None:
        """A tenth of them is published twice."""
        workers = Workers(processes, await processes.workers(3, queues=[VIEWS]))
        publishers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.faults.publishing", str(first), str(ALL // PUBLISHERS),
                env={**os.environ, **processes.environment}, cwd=ROOT,
            )
            for first in range(0, ALL, ALL // PUBLISHERS)
        ]  # fmt: skip
        async with asyncio.timeout(150), Count(postgres.url) as count, workers.killed_at_random(count):
            await count.reaches(0.2)
            rabbitmq.kill()
            rabbitmq.launch()
            await asyncio.to_thread(rabbitmq.wait_until_ready)
            await count.reaches(0.5)
            postgres.kill()
            postgres.launch()
            await asyncio.to_thread(postgres.wait_until_ready)
            assert [await each.wait() for each in publishers] == [0] * PUBLISHERS
            await count.reaches(1)
        sql = await asyncpg.connect(postgres.url)
        async with open_queues(rabbitmq.url) as queues:
            # What is still under way are copies.
            await until_sql(sql, "SELECT count(*) FROM parked_messages", 0)
            await workers.stop()
            while queues.count(VIEWS):  # a worker that stops puts back what it has not begun
                (worker,) = await processes.workers(1, queues=[VIEWS])
                await queues.drained(VIEWS)
                assert await worker.stop() == 0
            assert queues.count(DEAD_LETTERS) == 0
        by_sign = await sql.fetch("SELECT zodiac_sign, view_count FROM horoscope_views")
        assert {row[0]: row[1] for row in by_sign} == {
            sign.value: len(range(place, ALL, len(Sign))) for place, sign in enumerate(Sign)
        }
        assert await sql.fetchval("SELECT count(*) FROM view_receipts") == ALL
        assert await sql.fetchval("SELECT sum(view_count)::int FROM view_times") == ALL
        await sql.close()


class Count:
    """How many views are counted, looked at again and again."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._views = 0

    async def __aenter__(self) -> Self:
        self._looking = asyncio.create_task(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._looking.cancel()

    async def _look(self) -> None:
        async with Database(self._url) as database:
            while True:
                with suppress(DatabaseUnavailable):
                    async with database.transaction() as connection:
                        self._views = (await connection.execute(text(COUNTED))).scalar_one()
                await asyncio.sleep(0.1)

    async def reaches(self, share: float) -> None:
        """Wait until this share of all is counted."""
        while self._views < share * ALL:
            await asyncio.sleep(0.05)


class Workers:
    """Workers of which every now and then one is killed, and replaced."""

    def __init__(self, processes: Processes, workers: list[Process]) -> None:
        self._processes = processes
        self._workers = workers

    @asynccontextmanager
    async def killed_at_random(self, count: Count) -> AsyncIterator[None]:
        """Kill one after each tenth of the views, and start a new one for whoever has ended."""
        tasks = [asyncio.create_task(self._kill(count)), asyncio.create_task(self._replace())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    async def _kill(self, count: Count) -> None:
        dice = random.Random(ALL)
        for tenth in range(1, 10):
            await count.reaches(tenth / 10)
            dice.choice(self._workers).kill()

    async def _replace(self) -> None:
        while True:
            for place, worker in enumerate(self._workers):
                if worker.code is not None:  # killed; or started while PostgreSQL was away
                    self._workers[place] = await self._processes.start("worker", "--queues", VIEWS)
            await asyncio.sleep(0.3)

    async def stop(self) -> None:
        """Stop those that are there."""
        codes = await asyncio.gather(*(worker.stop() for worker in self._workers if worker.code is None))
        assert set(codes) == {0}


class TestRabbitMQ(OwnRabbitMQ):
    async def test_a_bot_that_is_killed_while_rabbitmq_is_away_loses_nothing_that_was_parked(
        self, scene: Scene, sandbox: Sandbox, processes: Processes, rabbitmq: RabbitMQ
    ) -> None:
        readers = [await reader_of(scene.sql, sandbox, number, Sign.VIRGO) for number in range(1, 61)]
        bot = await processes.bot()
        scene.queues.close()
        rabbitmq.kill()
        for reader in readers[:30]:
            await reader.say("/today")
        for reader in readers[:30]:  # replies go on
            await reader.wait_for(lambda messages: heading("Дева") in messages[-1].text)
        await until_sql(scene.sql, PARKED, 30)
        for reader in readers[30:]:
            await reader.say("/today")
        await readers[45].wait_for(lambda messages: heading("Дева") in messages[-1].text)
        bot.kill()
        parked = await scene.sql.fetchval("SELECT count(*) FROM parked_messages")
        assert parked >= 30
        rabbitmq.launch()
        await asyncio.to_thread(rabbitmq.wait_until_ready)
        await processes.bot()
        await processes.workers(queues=[VIEWS])
        for reader in readers:
            await reader.wait_for(lambda messages: heading("Дева") in messages[-1].text)
        await until_views(scene.sql, 60)
        await until_sql(scene.sql, "SELECT count(*) FROM parked_messages", 0)
        scene.queues.connect()
        await scene.queues.drained(VIEWS)
        await processes.stop("worker")
        await until_views(scene.sql, 60)
