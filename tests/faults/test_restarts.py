"""RabbitMQ and PostgreSQL themselves go away in the middle of a night and of a request, and come back."""

import asyncio
from datetime import timedelta

import asyncpg

from ops.stack.postgres import Postgres
from ops.stack.rabbitmq import RabbitMQ
from schema.messages import GenerateDay
from tests.faults.conftest import SOON, WORK, Scene
from tests.faults.servers import OwnPostgreSQL, OwnRabbitMQ
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
    await until_sql(scene.sql, WRITTEN, 12, scene.today + timedelta(days=1))
    await scene.answered_once()
    assert await scene.dead.count() == 0
    # Only what was under way when the server went was asked for once more.
    assert len(scene.sandbox.model.calls) <= 13 + 2


class TestRabbitMQ(OwnRabbitMQ):
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


class TestPostgreSQL(OwnPostgreSQL):
    async def test_nothing_is_lost_when_postgresql_is_killed_and_comes_back(
        self, scene: Scene, postgres: Postgres
    ) -> None:
        await begun(scene)
        postgres.kill()
        postgres.launch()
        await asyncio.to_thread(postgres.wait_until_ready)
        scene.sql = scene.dead.sql = await asyncpg.connect(postgres.url)
        try:
            await ended_well(scene)
        finally:
            await scene.sql.close()
