"""Messages and their form on the wire."""

from datetime import UTC, date, datetime
from uuid import UUID

import dramatiq
import pytest

from actors import TABLE
from schema.errors import InvalidEnvelope, InvalidMessage
from schema.messages import (
    DeliverHoroscope,
    GenerateDay,
    GenerateHoroscope,
    HoroscopeRequested,
    Message,
    MidnightTick,
    ReconcileTick,
)
from schema.signs import Sign
from services.messaging.envelope import decode, encode

DAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, 30, 1, 123456, tzinfo=UTC)
ID = UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")

EVERY: list[Message] = [
    HoroscopeRequested(ID, Sign.LEO, DAY, answered=True, at=NOW),
    HoroscopeRequested(ID, Sign.LEO, DAY, answered=False, at=NOW),
    GenerateDay(DAY),
    GenerateHoroscope(Sign.PISCES, DAY),
    DeliverHoroscope(Sign.LEO, DAY),
    DeliverHoroscope(Sign.LEO, DAY, given_up_at=NOW),
    MidnightTick(),
    ReconcileTick(),
]


@pytest.mark.parametrize("message", EVERY, ids=lambda message: message.actor)
def test_a_message_comes_back_from_the_wire_as_it_was(message: Message) -> None:
    received = dramatiq.Message.decode(encode(message))
    assert (received.queue_name, received.actor_name) == (message.queue, message.actor)
    assert type(message).parse(received.kwargs) == message


@pytest.mark.parametrize("message", EVERY, ids=lambda message: message.actor)
def test_every_message_has_one_actor_on_its_queue(message: Message) -> None:
    assert [actor.message for actor in TABLE if actor.name == message.actor] == [type(message)]
    assert [actor.queue for actor in TABLE if actor.name == message.actor] == [message.queue]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "sign"),
        ({"sign": "leo"}, "day"),
        ({"sign": "ophiuchus", "day": "2026-11-22"}, "sign"),
        ({"sign": "leo", "day": "tomorrow"}, "day"),
        ({"sign": "leo", "day": "2026-11-22", "extra": 1}, "extra"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidMessage, match=named):
        GenerateHoroscope.parse(arguments)


@pytest.mark.parametrize(
    ("body", "reason"), [(b"\xff\xfe", "it is not UTF-8$"), (b'{"a": ', "it is not JSON: unexpected end")]
)
def test_bytes_that_are_no_message_are_refused_in_plain_words(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidEnvelope, match=reason):
        decode(body)
