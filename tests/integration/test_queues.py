"""What operators see of queues and do with them."""

import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import dramatiq
import pytest
import structlog

from schema.errors import Refused, UnknownQueue
from schema.messages import DEAD_LETTERS
from services.messaging import queues as services
from services.messaging.management import ManagementApi
from services.messaging.publisher import Queue
from services.messaging.queues import Queues as QueueService
from services.process.logs import Mask
from tests.queues import Queues

WORK, QUORUM, RUNG = "work", "quorum", "work.retry.60s"
DECLARED = [
    Queue(DEAD_LETTERS),
    Queue(WORK, {"x-single-active-consumer": True}),
    Queue(QUORUM, {"x-queue-type": "quorum"}),
    Queue(RUNG, {"x-message-ttl": 60_000}),
]
NOWHERE = "http://127.0.0.1:1"


@pytest.fixture
async def service(rabbitmq_url: str, queues: Queues) -> AsyncIterator[QueueService]:
    for queue in DECLARED:
        queues._channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
    async with ManagementApi(rabbitmq_url, NOWHERE) as api:
        yield QueueService(rabbitmq_url, DECLARED, api, Mask(["a-secret", "тайна"]))


def message(number: int, **options: Any) -> bytes:
    at = int(datetime(2026, 11, 22, 6, 35, tzinfo=UTC).timestamp() * 1000)
    kwargs = {"number": number, "said": ["it is a-secret"]}
    return dramatiq.Message[Any](WORK, "act", (), kwargs, options, f"id-{number}", at).encode()


@pytest.mark.parametrize("queue", [WORK, RUNG, DEAD_LETTERS])
async def test_peeking_leaves_every_message_in_its_place(
    service: QueueService, queues: Queues, queue: str
) -> None:
    bodies = [message(number) for number in range(300)]
    for body in bodies:
        queues.put(queue, body)
    first = await service.peek(queue, 40)
    assert [each.message_id for each in first] == [f"id-{number}" for number in range(40)]
    assert not any(each.redelivered for each in first)
    again = await service.peek(queue, 10_000)
    assert [each.message_id for each in again] == [f"id-{number}" for number in range(services.MOST_SHOWN)]
    assert [each.redelivered for each in again] == [True] * 40 + [False] * (services.MOST_SHOWN - 40)
    assert [letter.body for letter in iter(lambda: queues.take(queue), None) if letter] == bodies


async def test_what_is_shown_holds_no_secret_and_no_bytes_make_it_stumble(
    service: QueueService, queues: Queues
) -> None:
    queues.put(WORK, message(1, attempts=[{"error": "one"}, {"error": "two"}]))
    sound = json.loads(message(2))
    garbage = [
        b"", b"\xff\x00a-secret" + b"x" * 1000, b"[]", b"null", b"[" * 5000,
        b'{"kwargs":' + b'{"a":' * 900 + b"1" + b"}" * 901, "и тайна".encode(),
        *(
            json.dumps(sound | odd).encode()
            for odd in (
                {"message_timestamp": 1e300}, {"message_timestamp": 253402300799999}, {"message_timestamp": "x"}, {"kwargs": 5}, {"kwargs": [[1, 2]]},
                {"options": None}, {"options": {"attempts": 7}},
            )
        ),
    ]  # fmt: skip
    for body in garbage:
        queues.put(WORK, body)
    first, *others = await service.peek(WORK, 100)
    assert first == services.QueuedMessage(
        message_id="id-1",
        actor="act",
        published_at=datetime(2026, 11, 22, 6, 35, tzinfo=UTC),
        arguments={"number": 1, "said": ["it is ***"]},
        attempts=2,
        redelivered=False,
    )
    assert len(others) == len(garbage)
    assert all(each.garbage is not None and each.message_id is None for each in others)
    assert others[1].garbage is not None
    assert others[1].garbage.startswith(r"b'\xff\x00***xxx")
    assert len(others[1].garbage) < 300
    assert "a-secret" not in repr(others)
    assert others[6].garbage == repr("и ***".encode())


async def test_peeking_is_refused_where_it_would_disturb(service: QueueService, queues: Queues) -> None:
    queues.put(QUORUM, b"{}")
    with pytest.raises(Refused, match="quorum is a quorum queue: before RabbitMQ"):
        await service.peek(QUORUM, 1)
    method, properties, _ = queues._channel.basic_get(QUORUM)
    assert (method.redelivered, properties.headers["x-delivery-count"]) == (False, 0)
    tag = queues._channel.basic_consume(WORK, lambda *_: None)
    with pytest.raises(Refused, match="work has 1 consumers"):
        await service.peek(WORK, 1)
    queues._channel.basic_cancel(tag)
    assert await service.peek(WORK, 1) == []


async def test_a_queue_that_is_quorum_against_its_declaration_is_known_by_the_management_api(
    rabbitmq_url: str, queues: Queues
) -> None:
    queues._channel.queue_declare(WORK, durable=True, arguments={"x-queue-type": "quorum"})
    async with ManagementApi(rabbitmq_url, os.environ["TEST_RABBITMQ_WATCHING"]) as api:
        with pytest.raises(Refused, match="work is a quorum queue"):
            await QueueService(rabbitmq_url, [Queue(WORK)], api, Mask([])).peek(WORK, 1)


async def test_a_purge_deletes_no_more_than_somebody_was_told_of_and_says_who(
    service: QueueService, queues: Queues
) -> None:
    for number in range(3):
        queues.put(WORK, message(number))
    queues.put(DEAD_LETTERS, b"stays")
    with pytest.raises(Refused, match="work holds 3 messages by now, not 2; nothing was deleted"):
        await service.purge(WORK, at_most=2, by="ann")
    assert queues.count(WORK) == 3
    with structlog.testing.capture_logs() as logged:
        assert await service.purge(WORK, at_most=3, by="ann") == 3
    assert logged == [
        {"event": "queue.purged", "log_level": "warning", "queue": WORK, "count": 3, "by": "ann"}
    ]
    assert (queues.count(WORK), queues.count(DEAD_LETTERS)) == (0, 1)


async def test_only_queues_of_ours_are_found_also_those_that_somebody_made_for_a_pause(
    service: QueueService, queues: Queues
) -> None:
    queues._channel.queue_declare("foreign", durable=True)
    queues._channel.queue_declare("foreign.pause.7s", durable=True)
    queues._channel.queue_declare("work.pause.47s", durable=True)
    assert (await service.find("work.pause.47s")).kind == "waiting"
    for name in ("foreign", "foreign.pause.7s", "work.pause.48s", ""):
        with pytest.raises(UnknownQueue, match=r"there are dead_letters, work, quorum, work\.retry\.60s"):
            await service.find(name)
    with pytest.raises(
        UnknownQueue, match="its messages go back by themselves; there are dead_letters, work"
    ):
        service.check_pausable(RUNG)
    service.check_pausable(WORK)
