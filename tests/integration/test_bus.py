"""Publishing: confirmed, parked, sent later."""

import asyncio
import json
import os
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import yarl

from actors import topology
from schema.errors import NotPublished
from schema.messages import REQUESTS, GenerateDay, HoroscopeRequested
from schema.signs import Sign
from services.app import App
from services.bus import Bus
from services.database import Database
from services.publisher import Publisher, Queue
from services.settings import Settings
from tests.proxy import Cable
from tests.queues import Queues

DAY = date(2026, 11, 22)


def view(number: int) -> HoroscopeRequested:
    return HoroscopeRequested(UUID(int=number), Sign.LEO, DAY, answered=True, at=datetime.now(UTC))


async def test_a_message_is_in_its_queue_when_publish_returns(app: App, queues: Queues) -> None:
    await app.bus.publish(GenerateDay(DAY))
    letter = queues.take("generation")
    assert letter
    assert letter.message["kwargs"] == {"day": "2026-11-22"}
    assert letter.message["actor_name"] == "generation.GenerateDay"


async def test_what_no_queue_takes_is_refused(rabbitmq_url: str) -> None:
    async with Publisher(rabbitmq_url, [Queue("here")]) as publisher:
        await publisher.wait_ready(10)
        await publisher.send("here", b"1")
        with pytest.raises(NotPublished, match="no queue 'nowhere'"):
            await publisher.send("nowhere", b"2")
        await publisher.send("here", b"3")


async def test_a_broker_that_cannot_be_reached_is_named(free_port: int) -> None:
    async with Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher:
        with pytest.raises(NotPublished, match="check RABBITMQ_URL"):
            await publisher.wait_ready(0.5)


async def test_of_several_addresses_the_one_that_answers_is_used(rabbitmq_url: str, free_port: int) -> None:
    urls = f"amqp://127.0.0.1:{free_port};{rabbitmq_url}"
    async with Publisher(urls, [Queue("here")]) as publisher:
        await publisher.wait_ready(10)
        await publisher.send("here", b"1")


async def test_a_broken_connection_is_opened_anew(rabbitmq_url: str) -> None:
    async with Cable(rabbitmq_url) as cable, Publisher(cable.url, [Queue("here")]) as publisher:
        for _ in range(3):
            await publisher.wait_ready(10)
            await publisher.send("here", b"1")
            waiting = asyncio.create_task(publisher.send("here", b"2"))
            await asyncio.sleep(0)  # it is on its way, unconfirmed
            cable.cut()
            with suppress(NotPublished):
                await waiting
            with suppress(NotPublished):
                while True:
                    await publisher.send("here", b"3")
        await publisher.wait_ready(10)
        await publisher.send("here", b"4")


async def test_what_could_not_be_published_is_parked_and_sent_in_order_once(
    database: Database, sql: asyncpg.Connection, settings: Settings, queues: Queues, free_port: int
) -> None:
    nowhere = f"amqp://127.0.0.1:{free_port}"
    async with Publisher(nowhere, topology.queues(settings)) as publisher:
        bus = Bus(publisher, database)
        for number in range(5):
            await bus.publish(view(number))
        assert await bus.send_parked() == 0
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 5

    assert settings.rabbitmq_url
    async with Publisher(settings.rabbitmq_url.get_secret_value(), topology.queues(settings)) as publisher:
        await publisher.wait_ready(10)
        bus = Bus(publisher, database)
        assert await bus.send_parked() == 5
        assert await bus.send_parked() == 0
    letters = [queues.take("views") for _ in range(5)]
    assert [UUID(letter.message["kwargs"]["request_id"]).int for letter in letters if letter] == [*range(5)]
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 0


async def test_while_both_servers_are_away_messages_are_held_in_memory(
    database: Database, sql: asyncpg.Connection, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = str(yarl.URL(os.environ["TEST_POSTGRES"]).with_port(free_port))
    monkeypatch.setattr("services.bus.HELD_AT_MOST", 3)
    async with (
        Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher,
        Database(away) as nowhere,
    ):
        bus = Bus(publisher, nowhere)
        for number in range(5):
            await bus.publish(view(number))
        bus._database = database  # PostgreSQL is back
        await bus.send_parked()
    kept = [
        json.loads(row[0])["kwargs"]
        for row in await sql.fetch("SELECT body FROM parked_messages ORDER BY id")
    ]
    assert [UUID(kwargs["request_id"]).int for kwargs in kept] == [2, 3, 4]


async def test_a_request_goes_where_its_writer_is(app: App, queues: Queues) -> None:
    await app.bus.publish(HoroscopeRequested(uuid4(), Sign.LEO, DAY, answered=False, at=datetime.now(UTC)))
    assert queues.count(REQUESTS) == 1


async def test_of_many_that_are_not_confirmed_each_is_parked_once(
    app: App, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: Any, **__: Any) -> None:
        await asyncio.sleep(0.01)
        raise NotPublished("the broker did not confirm in time")

    monkeypatch.setattr(app.publisher, "send", late)
    await asyncio.gather(*(app.bus.publish(GenerateDay(DAY + timedelta(days=each))) for each in range(20)))
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 20


async def test_a_parked_copy_is_not_taken_for_the_message_itself(
    app: App, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = app.publisher.send

    async def unheard(*message: Any, **options: Any) -> None:
        await send(*message, **options)
        raise NotPublished("the broker did not confirm in time")

    with monkeypatch.context() as patched:
        patched.setattr(app.publisher, "send", unheard)
        await app.bus.publish(GenerateDay(DAY))
    assert await app.bus.send_parked() == 1
    first, second = queues.take("generation"), queues.take("generation")
    assert first
    assert second
    assert first.message["kwargs"] == second.message["kwargs"]
    assert first.message["message_id"] != second.message["message_id"]
