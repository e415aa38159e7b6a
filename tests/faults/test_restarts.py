"""RabbitMQ and PostgreSQL themselves go away in the middle of a night and of a request, and come back."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from ops.stack.postgres import Postgres
from ops.stack.rabbitmq import RabbitMQ
from schema.messages import DEAD_LETTERS, GenerateDay
from services.database import Database
from services.migrations import migrate
from tests.faults.conftest import SOON, WORK, Scene
from tests.waiting import until_sql

WRITTEN = "SELECT count(*) FROM horoscope_cache WHERE horoscope_date = $1"


async def begun(scene: Scene) -> None:
    """Two workers are in the middle of a night and of a request."""
    await scene.sql.execute(
        "DELETE FROM horoscope_cache WHERE horoscope_date = $1", scene.today + timedelta(days=1)
    )
    scene.sandbox.model.latency = 0.5
    await scene.processes.workers(2, queues=WORK, constants=SOON)
    scene.queues.publish(GenerateDay(scene.today + timedelta(days=1)))
    await scene.sandbox.model.wait_for_calls(3)
    await scene.ask()
    await scene.sandbox.model.wait_for_calls(1, "leo", scene.today.isoformat())


async def ended_well(scene: Scene) -> None:
    """The night is written, the readers are answered, and nothing was done twice at once."""
    await scene.written_once()
    await until_sql(scene.sql, WRITTEN, 12, scene.today + timedelta(days=1), within=60)
    await scene.answered_once(within=60)
    assert scene.queues.count(DEAD_LETTERS) == 0
    # Only what was under way when the server went was asked for once more.
    assert len(scene.sandbox.model.calls) <= 13 + 2


class TestRabbitMQ:
    @pytest.fixture
    def rabbitmq(self, tmp_path: Path) -> Iterator[RabbitMQ]:
        """A server that the test may stop."""
        with RabbitMQ(tmp_path / "rabbitmq") as server:
            yield server

    @pytest.fixture
    def rabbitmq_url(self, rabbitmq: RabbitMQ) -> str:
        """Its address, in the place of the shared one's."""
        return rabbitmq.url

    async def test_nothing_is_lost_when_rabbitmq_is_killed_and_comes_back(
        self, scene: Scene, rabbitmq: RabbitMQ
    ) -> None:
        await begun(scene)
        scene.queues.close()
        rabbitmq.kill()
        await scene.ask()
        rabbitmq.launch()
        await asyncio.to_thread(rabbitmq.wait_until_ready)
        scene.queues.connect()
        # Beside the workers, whoever parked a message sends it.
        await scene.app.bus.send_parked()
        await ended_well(scene)


class TestPostgreSQL:
    @pytest.fixture
    def postgres(self, tmp_path: Path) -> Iterator[Postgres]:
        """A server that the test may stop."""
        with Postgres(tmp_path / "postgres") as server:
            yield server

    @pytest.fixture
    async def database_url(self, postgres: Postgres) -> str:
        """Its address, in the place of the shared one's."""
        async with Database(postgres.url) as database:
            await migrate(database)
        return postgres.url

    async def test_nothing_is_lost_when_postgresql_is_killed_and_comes_back(
        self, scene: Scene, postgres: Postgres
    ) -> None:
        await begun(scene)
        postgres.kill()
        postgres.launch()
        await asyncio.to_thread(postgres.wait_until_ready)
        scene.sql = await asyncpg.connect(postgres.url)
        try:
            await ended_well(scene)
        finally:
            await scene.sql.close()
