"""The archive of dead letters, on PostgreSQL alone."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest

from actors import TABLE
from schema.errors import InvalidEnvelope, ModelUnavailable
from schema.messages import DeadLetter, GenerateHoroscope, Message
from schema.signs import Sign
from services.database import Database
from services.days import system_clock
from services.dead_letters.archive import Archive
from services.dead_letters.death import Death
from services.dead_letters.desk import Desk, make_desk
from services.dead_letters.records import Filter
from services.envelope import decode, encode
from services.logs import Mask

SECRET = 'sk-a-"secret"-ключ'
MASK = Mask([SECRET])
TODAY = datetime.now(UTC).date()


def letter_of(
    message: Message | bytes,
    error: BaseException | None = None,
    *,
    replay: UUID | None = None,
    attempts: int = 1,
    **about: Any,
) -> DeadLetter:
    """A message as a worker buries it."""
    error = error or ModelUnavailable("the model is away")
    if isinstance(message, bytes):
        return DeadLetter(
            message, Death.of(InvalidEnvelope("no JSON"), "views", MASK, replay=None).headers(), **about
        )
    parts = decode(encode(message))
    tries = [{"at": datetime.now(UTC).isoformat(), "error": str(error)}] * attempts
    parts["options"] = {"attempts": tries, "traceback": "the last one"} | (
        {"replay": str(replay)} if replay else {}
    )
    return DeadLetter(
        orjson.dumps(parts), Death.of(error, message.queue, MASK, replay=replay).headers(), **about
    )


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database, MASK)


@pytest.fixture
def desk(database: Database) -> Desk:
    return make_desk(database, {actor.name: actor.message for actor in TABLE}, system_clock)


async def test_a_letter_is_kept_with_the_whole_truth(archive: Archive, desk: Desk) -> None:
    message = GenerateHoroscope(Sign.LEO, TODAY)
    await archive.keep([letter_of(message, attempts=4)])
    (listed,) = await desk.records.listed(Filter())
    letter = await desk.records.whole(listed.id)
    assert (letter.actor, letter.queue, letter.state) == (
        "generation.GenerateHoroscope",
        "generation",
        "dead",
    )
    assert letter.arguments == {"sign": "leo", "day": TODAY.isoformat()}
    assert (letter.cause, letter.error_type) == ("ladder exhausted", "ModelUnavailable")
    assert letter.error == "ModelUnavailable: the model is away"
    assert letter.trace == "the last one"
    assert len(letter.tries) == letter.attempts == 4
    assert decode(letter.body)["options"] == {}, "what is replayed is the message as it was asked for"
    assert letter.release
    assert letter.host
