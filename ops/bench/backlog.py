"""A backlog: messages that stand in a queue before anybody's clock starts."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Self
from uuid import uuid4

import pika
from pika import frame, spec

from ops.bench.stage import HOME
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.days import ONE_DAY, day_in, system_clock
from services.messaging import envelope

PERSISTENT = 2
#: One message in so many is published a second time.
TWICE = 10

# Messages that one write takes.
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Wire:
    """A message as it goes over the wire."""

    body: bytes
    properties: pika.BasicProperties


@dataclass(frozen=True, slots=True)
class Backlog:
    """Views, a tenth of them twice.

    Args:
        events: In the order of the queue, copies and all; the last one is there once, so that whoever has
            counted all views has dealt with all copies.
        views: How many they are, each counted once.
    """

    events: Sequence[HoroscopeRequested]
    views: int

    @classmethod
    def of(cls, views: int, seed: int) -> Self:
        """So many views of all signs and of the three days that are lived in; copies lie anywhere."""
        at = datetime.now(UTC)
        today = day_in(HOME, system_clock())
        signs, days = tuple(Sign), [today + ONE_DAY * ahead for ahead in (-1, 0, 1)]
        events = [
            HoroscopeRequested(uuid4(), signs[number % 12], days[number // 12 % 3], answered=True, at=at)
            for number in range(views)
        ]
        last = events.pop()
        events += events[::TWICE]
        random.Random(seed).shuffle(events)
        return cls([*events, last], views)

    def distinct(self, first: int) -> int:
        """How many views there are among so many messages at the head of the queue."""
        return len({event.request_id for event in self.events[:first]})


def wire(event: HoroscopeRequested) -> Wire:
    """A view as the bot publishes it."""
    return Wire(envelope.encode(event), pika.BasicProperties(delivery_mode=PERSISTENT))


def fill(url: str, queue: str, messages: Sequence[Wire]) -> None:
    """Publish messages to a queue that exists, and return when the broker has taken all of them.

    pika publishes a message in a third of a millisecond; here many go out by one write. Nothing confirms
    them one by one: whether all arrived is seen by what comes out.

    Args:
        url: Of the broker.
        queue: Where to.
        messages: In the order of the queue.
    """
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        number = channel.channel_number
        publish = frame.Method(number, spec.Basic.Publish(exchange="", routing_key=queue)).marshal()
        for start in range(0, len(messages), _AT_ONCE):
            frames = chain.from_iterable(
                (
                    publish,
                    frame.Header(number, len(message.body), message.properties).marshal(),
                    frame.Body(number, message.body).marshal(),
                )
                for message in messages[start : start + _AT_ONCE]
            )
            connection._impl._output_marshaled_frames([b"".join(frames)])  # noqa: SLF001
            connection.process_data_events(time_limit=0)
        channel.queue_declare(queue, passive=True)  # answered after all that went before it on the channel
