"""A backlog of messages, published before the clock of a measurement starts."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Self
from uuid import uuid4

import pika
from pika import frame, spec

from ops.bench.stage import HOME, Stage
from schema.messages import HoroscopeRequested, Message
from schema.signs import Sign
from services.days import ONE_DAY, day_in, system_clock
from services.messaging import envelope

PERSISTENT = 2
#: Every consumer of views prints this when it is ready, as our worker does.
READY = "worker.ready"
#: One message in so many is published twice.
TWICE = 10

# Messages in one write.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Wire:
    """A message in AMQP's terms."""

    body: bytes
    properties: pika.BasicProperties


@dataclass(frozen=True, slots=True)
class Backlog:
    """Views, a tenth of them twice."""

    #: In the order of the queue, with the duplicates. The last has none, so that whoever has counted all views has seen
    #: all duplicates.
    events: Sequence[HoroscopeRequested]
    #: The number of distinct views.
    views: int

    @classmethod
    def of(cls, views: int, seed: int) -> Self:
        """So many views of all signs and of the last three days; duplicates at random places."""
        at = datetime.now(UTC)
        today = day_in(HOME, system_clock())
        signs, days = tuple(Sign), [today + ONE_DAY * ahead for ahead in (-2, -1, 0)]
        events = [
            HoroscopeRequested(uuid4(), signs[number % 12], days[number // 12 % 3], answered=True, at=at)
            for number in range(views)
        ]
        last = events.pop()
        events += events[::TWICE]
        random.Random(seed).shuffle(events)
        return cls([*events, last], views)

    def distinct(self, first: int) -> int:
        """The number of distinct views in the first messages of the queue."""
        return len({event.request_id for event in self.events[:first]})


def wire(message: Message) -> Wire:
    """A message as the service publishes it."""
    return Wire(envelope.encode(message), pika.BasicProperties(delivery_mode=PERSISTENT))


async def publish(stage: Stage, queue: str, messages: Sequence[Wire]) -> None:
    """Publish messages to an existing queue, and return when the broker has received all.

    pika needs a third of a millisecond to publish a message; here one write carries many. They are not confirmed: a
    lost message would show in the counts.
    """
    await asyncio.to_thread(_publish, stage.rabbitmq_url, queue, messages)


def _publish(url: str, queue: str, messages: Sequence[Wire]) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        number = channel.channel_number
        method = frame.Method(number, spec.Basic.Publish(exchange="", routing_key=queue)).marshal()
        for start in range(0, len(messages), _AT_ONCE):
            frames = chain.from_iterable(
                (
                    method,
                    frame.Header(number, len(message.body), message.properties).marshal(),
                    frame.Body(number, message.body).marshal(),
                )
                for message in messages[start : start + _AT_ONCE]
            )
            connection._impl._output_marshaled_frames([b"".join(frames)])  # noqa: SLF001
            connection.process_data_events(time_limit=0)
        channel.queue_declare(queue, passive=True)  # the broker answers after all earlier frames
