"""Publishing: confirmed, parked, sent later."""

import asyncio
import itertools
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import yarl
from prometheus_client import REGISTRY

from actors import topology
from schema.errors import DatabaseUnavailable, NotPublished
from schema.messages import REQUESTS, GenerateDay, HoroscopeRequested
from schema.signs import Sign
from services.app import App
from services.database.pool import Database
from services.horoscopes import serving
from services.messaging.bus import CLOSING_S, PARKING_PATIENCE_S, PARKING_S, PATIENCE_S, Bus
from services.messaging.publisher import Publisher, Queue
from services.process.logs import Mask, configure
from services.process.settings import Settings
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S, until_sql

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
        await publisher.wait_ready(DEADLINE_S)
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
        await publisher.wait_ready(DEADLINE_S)
        await publisher.send("here", b"1")


async def test_a_broken_connection_is_opened_anew(rabbitmq_url: str) -> None:
    async with Cable(rabbitmq_url) as cable, Publisher(cable.url, [Queue("here")]) as publisher:
        for _ in range(3):
            await publisher.wait_ready(DEADLINE_S)
            await publisher.send("here", b"1")
            waiting = asyncio.create_task(publisher.send("here", b"2"))
            await asyncio.sleep(0)  # it is on its way, unconfirmed
            cable.cut()
            with suppress(NotPublished):
                await waiting
            with suppress(NotPublished):
                while True:
                    await publisher.send("here", b"3")
        await publisher.wait_ready(DEADLINE_S)
        await publisher.send("here", b"4")


@pytest.mark.parametrize("heard", [b"", b"AMQP\0\0\x09\x01"], ids=["reached", "greeted"])
async def test_a_publisher_that_ends_while_it_connects_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, heard: bytes
) -> None:
    monkeypatch.setattr("services.messaging.publisher.CONFIRM_TIMEOUT_S", 60)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(heard)) == heard
        begun.set()
        await reader.read()
        ended.set()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server, asyncio.timeout(DEADLINE_S):
        port = server.sockets[0].getsockname()[1]
        async with Publisher(f"amqp://guest:guest@127.0.0.1:{port}/", []):
            await begun.wait()
        await ended.wait()
    assert "Traceback" not in caplog.text


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
        await publisher.wait_ready(DEADLINE_S)
        bus = Bus(publisher, database)
        assert await bus.send_parked() == 5
        assert await bus.send_parked() == 0
    letters = [queues.take("views") for _ in range(5)]
    assert [UUID(letter.message["kwargs"]["request_id"]).int for letter in letters if letter] == [*range(5)]
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 0


async def test_messages_are_parked_in_their_order_while_postgresql_is_slow(
    database: Database, sql: asyncpg.Connection, free_port: int
) -> None:
    async with (
        Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher,
        Bus(publisher, database) as bus,
    ):
        async with sql.transaction():
            await sql.execute("LOCK TABLE parked_messages IN ACCESS EXCLUSIVE MODE")
            for number in range(3):
                await bus.publish(view(number))  # none is parked within its patience
        for number in range(3, 5):
            await bus.publish(view(number))
        await bus.send_parked()
    kept = await sql.fetch("SELECT body FROM parked_messages ORDER BY id")
    assert [UUID(json.loads(row[0])["kwargs"]["request_id"]).int for row in kept] == [*range(5)]


async def test_no_reason_keeps_a_message_from_being_parked(
    app: App, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send(*_: Any, **__: Any) -> None:
        raise NotPublished("reset by \0 \udcff")

    monkeypatch.setattr(app.publisher, "send", send)
    await app.bus.publish(GenerateDay(DAY))
    assert await sql.fetchval("SELECT reason FROM parked_messages") == "reset by  ?"


async def test_while_both_servers_are_away_messages_are_held_in_memory(
    database: Database, sql: asyncpg.Connection, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = str(yarl.URL(os.environ["TEST_POSTGRES"]).with_port(free_port))
    monkeypatch.setattr("services.messaging.bus.HELD_AT_MOST", 3)
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


async def test_what_overflows_is_counted_and_said(
    free_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("json", Mask([]), process="test")
    monkeypatch.setattr("services.messaging.bus.HELD_AT_MOST", 30)
    nowhere = f"127.0.0.1:{free_port}"
    lost_before = REGISTRY.get_sample_value("horoscope_lost_messages_total", {"queue": "views"}) or 0
    async with (
        Publisher(f"amqp://{nowhere}", []) as publisher,
        Database(f"postgresql://{nowhere}/x") as database,
    ):
        async with Bus(publisher, database) as bus:
            await asyncio.gather(*(bus.publish(view(number)) for number in range(100)))
            with suppress(DatabaseUnavailable):
                await bus.send_parked()
            lost = said(capsys, "message.lost")
            assert sum(line["count"] for line in lost) == 70
            assert len(lost) <= 2  # not a line for each
            assert REGISTRY.get_sample_value("horoscope_held_messages") == 30
        assert sum(line["count"] for line in said(capsys, "message.lost")) == 30
    told = REGISTRY.get_sample_value("horoscope_lost_messages_total", {"queue": "views"}) or 0
    assert told - lost_before == 100


def said(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    """What was logged since last looked at."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in lines if line["event"] == event]


async def test_a_process_that_ends_parks_what_it_holds(
    database: Database, sql: asyncpg.Connection, free_port: int
) -> None:
    async with (
        Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher,
        Bus(publisher, database) as bus,
    ):
        bus._unparked[0] = {"queue": "views", "body": b"{}", "reason": "both are away"}
        bus._hold(0)
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 1


async def test_only_one_at_a_time_waits_for_a_broker_that_has_fallen_silent(
    app: App, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answer = 0, asyncio.Event()

    async def silent(*_: Any, **__: Any) -> None:
        nonlocal asked
        asked += 1
        await answer.wait()
        app.publisher._silent_since = 1.0
        raise NotPublished("the broker did not confirm in time")

    with monkeypatch.context() as patched:
        patched.setattr(app.publisher, "send", silent)
        first = [asyncio.create_task(app.bus.publish(view(number))) for number in range(3)]
        while asked < 3:
            await asyncio.sleep(0)
        answer.set()  # it is known now
        await asyncio.gather(*first)
        answer.clear()
        prober = asyncio.create_task(app.bus.publish(view(3)))
        await asyncio.gather(*(app.bus.publish(view(number)) for number in range(4, 20)))
        assert asked == 4
        answer.set()
        await prober
    await until_sql(sql, "SELECT count(*) FROM parked_messages", 20)
    await app.bus.publish(view(20))  # it is back
    await app.bus.publish(view(21))
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 20


async def test_two_who_send_what_is_parked_keep_its_order(
    app: App, settings: Settings, database: Database, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise NotPublished("away")

    with monkeypatch.context() as patched:
        patched.setattr(app.publisher, "send", away)
        for number in range(40):
            await app.bus.publish(view(number))
    monkeypatch.setattr("services.messaging.bus._UNPARK_AT_ONCE", 7)
    assert settings.rabbitmq_url
    async with Publisher(settings.rabbitmq_url.get_secret_value(), []) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        other = Bus(publisher, database)
        sent = 0
        while sent < 40:
            sent += sum(await asyncio.gather(app.bus.send_parked(), other.send_parked()))
    letters = [queues.take("views") for _ in range(40)]
    assert [UUID(letter.message["kwargs"]["request_id"]).int for letter in letters if letter] == [*range(40)]


async def test_what_a_database_refuses_is_held_and_parked_when_it_can_be(
    database: Database, database_url: str, sql: asyncpg.Connection, free_port: int
) -> None:
    async with (
        Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher,
        Database(f"{database_url}?default_transaction_read_only=on") as read_only,
        Bus(publisher, read_only) as bus,
    ):
        for number in range(3):
            await bus.publish(view(number))
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            await bus.send_parked()
        await bus.publish(view(3))
        bus._database = database
        await bus.send_parked()
    kept = await sql.fetch("SELECT body FROM parked_messages ORDER BY id")
    assert [UUID(json.loads(row[0])["kwargs"]["request_id"]).int for row in kept] == [0, 1, 2, 3]


async def test_only_what_postgresql_did_not_take_is_held_and_may_be_lost(
    database: Database, sql: asyncpg.Connection, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.messaging.bus.HELD_AT_MOST", 3)
    async with (
        Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher,
        Bus(publisher, database) as bus,
    ):
        await asyncio.gather(*(bus.publish(GenerateDay(DAY + timedelta(days=each))) for each in range(20)))
        assert not bus._held
        assert not bus._unparked
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 20


async def test_what_is_parked_has_its_turn_while_more_comes_all_the_time(
    database: Database, sql: asyncpg.Connection, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = Bus._insert

    async def insert_slowly(self: Bus, rows: Sequence[Any]) -> None:
        await asyncio.sleep(0.02)
        await insert(self, rows)

    async def go_on(pause: float) -> None:
        for number in itertools.count():
            await bus.publish(view(number))
            await asyncio.sleep(pause)

    async with (
        Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher,
        Bus(publisher, database) as bus,
    ):
        monkeypatch.setattr(Bus, "_insert", insert_slowly)
        busy = [asyncio.create_task(go_on(number / 1000)) for number in range(1, 40)]
        await until_sql(sql, "SELECT count(*) > 50 FROM parked_messages", True)
        async with asyncio.timeout(DEADLINE_S):
            await bus.send_parked()
        for each in busy:
            each.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def test_a_process_that_ends_waits_for_what_is_being_parked_and_parks_the_rest(
    database: Database, sql: asyncpg.Connection, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert, begun, go_on = Bus._insert, asyncio.Event(), asyncio.Event()

    async def insert_late(self: Bus, rows: Sequence[Any]) -> None:
        begun.set()
        await go_on.wait()
        await insert(self, rows)

    monkeypatch.setattr(Bus, "_insert", insert_late)
    async with Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher:
        bus = Bus(publisher, database)
        first = asyncio.create_task(bus.publish(view(1)))
        await begun.wait()
        await asyncio.gather(first, bus.publish(view(2)))
        ending = asyncio.create_task(bus.__aexit__())
        await asyncio.sleep(0)
        go_on.set()
        await ending
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 2
    assert CLOSING_S > 2 * PARKING_S, "time for both"


def test_a_reply_of_which_every_server_is_silent_is_given_within_half_a_second() -> None:
    assert serving.PATIENCE_S + PATIENCE_S + PARKING_PATIENCE_S < 0.5


async def test_a_reply_does_not_wait_for_a_database_that_hangs(
    database: Database, sql: asyncpg.Connection, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.messaging.bus.PARKING_S", 60)
    async with (
        Publisher(f"amqp://127.0.0.1:{free_port}", []) as publisher,
        Bus(publisher, database) as bus,
    ):
        async with sql.transaction():
            await sql.execute("LOCK TABLE parked_messages IN ACCESS EXCLUSIVE MODE")
            async with asyncio.timeout(20):  # less than a statement's own
                await asyncio.gather(*(bus.publish(view(number)) for number in range(50)))
            # Nothing else is kept of them, however long it hangs.
            assert len(bus._held) == 50
            assert not bus._parking._gathered
        await bus.send_parked()
        assert not bus._held
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 50
    assert await sql.fetchval("SELECT count(DISTINCT body) FROM parked_messages") == 50


async def test_a_queue_that_somebody_deleted_is_there_for_the_next_message(
    app: App, queues: Queues, sql: asyncpg.Connection
) -> None:
    queues._channel.queue_delete("views")
    assert not await app.bus.publish(view(1))
    assert await app.bus.publish(view(2))  # one missing queue is no silent broker
    assert await app.bus.send_parked() == 1
    assert queues.count("views") == 2
    assert await sql.fetchval("SELECT count(*) FROM parked_messages") == 0


async def test_what_no_queue_takes_does_not_hold_up_what_is_parked_behind_it(
    app: App, sql: asyncpg.Connection, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.messaging.bus._UNPARK_AT_ONCE", 1)
    for queue in ("nowhere", "views", "nowhere", "views"):
        await sql.execute(
            "INSERT INTO parked_messages (queue, body, reason) VALUES ($1, $2, 'away')", queue, b'{"a": 1}'
        )
    assert await app.bus.send_parked() == 2
    assert queues.count("views") == 2
    assert await sql.fetchval("SELECT count(*) FROM parked_messages WHERE queue = 'nowhere'") == 2


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
