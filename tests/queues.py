"""A look into RabbitMQ, and a hand to put anything into it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pika
from pika.exceptions import ChannelClosedByBroker

from schema.messages import Message
from services.messaging.envelope import encode
from tests.waiting import DEADLINE_S


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as it lay in a queue."""

    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> dict[str, Any]:
        """The Dramatiq message in it."""
        message: dict[str, Any] = json.loads(self.body)
        return message

    @property
    def options(self) -> dict[str, Any]:
        """What Dramatiq and we noted beside the arguments."""
        options: dict[str, Any] = self.message["options"]
        return options


class Queues:
    """One connection for a test's own needs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: pika.BlockingConnection | None = None
        self.connect()

    def connect(self) -> None:
        """Connect, also anew."""
        self.close()
        self._connection = pika.BlockingConnection(pika.URLParameters(self._url))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def put(self, queue: str, body: bytes) -> None:
        """Publish bytes, whatever they are."""
        self._channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)

    def publish(self, message: Message) -> None:
        """Publish a message as the service itself would."""
        self.put(message.queue, encode(message))

    def take(self, queue: str) -> Letter | None:
        """Take the oldest message out of a queue."""
        method, properties, body = self._channel.basic_get(queue, auto_ack=True)
        return Letter(body, properties.headers or {}) if method else None

    def reject(self, queue: str) -> None:
        """Take the oldest message out of a queue as a consumer does that wants no such message."""
        method, _, _ = self._channel.basic_get(queue)
        assert method, f"nothing waits in {queue}"
        self._channel.basic_reject(method.delivery_tag, requeue=False)

    def lose(self, queue: str, count: int) -> None:
        """Receive messages and put them back, as if whoever had received them had been lost."""
        tags = [self._channel.basic_get(queue)[0].delivery_tag for _ in range(count)]
        self._channel.basic_nack(tags[-1], multiple=True, requeue=True)

    def count(self, queue: str) -> int:
        """Messages that wait in a queue."""
        count: int = self._channel.queue_declare(queue, passive=True).method.message_count
        return count

    async def next(self, queue: str, within: float = DEADLINE_S) -> Letter:
        """Wait for a message in a queue and take it."""
        async with asyncio.timeout(within):
            while (letter := self.take(queue)) is None:
                await asyncio.sleep(0.03)
        return letter

    async def filled(self, queue: str, within: float = DEADLINE_S) -> None:
        """Wait until something waits in a queue."""
        async with asyncio.timeout(within):
            while True:
                try:
                    if self.count(queue):
                        return
                except ChannelClosedByBroker:  # it is not there yet
                    self.connect()
                await asyncio.sleep(0.03)

    async def drained(self, *queues: str, within: float = DEADLINE_S) -> None:
        """Wait until nothing waits in these queues."""
        try:
            async with asyncio.timeout(within):
                while any(self.count(queue) for queue in queues):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            left = {queue: self.count(queue) for queue in queues}
            raise AssertionError(f"messages are left: {left}") from None

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._connection is not None and self._connection.is_open:
            self._connection.close()


@asynccontextmanager
async def open_queues(url: str) -> AsyncIterator[Queues]:
    """A connection that is closed at the end of the block."""
    queues = Queues(url)
    try:
        yield queues
    finally:
        queues.close()
