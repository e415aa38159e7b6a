"""The archive of dead letters, on PostgreSQL alone."""

import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from actors import TABLE
from schema.errors import InvalidEnvelope, ModelUnavailable, WorkerKilled
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
from services.suspects import Suspects

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


async def test_what_was_dealt_with_long_ago_is_thrown_away_and_never_what_is_dead(
    archive: Archive, sql: asyncpg.Connection
) -> None:
    await archive.keep([letter_of(GenerateHoroscope(sign, TODAY)) for sign in Sign])
    ages = {
        "dead": 1000, "waiting": 1000, "dropped": 31, "succeeded": 91, "died_again": 91,
    }  # fmt: skip
    for place, (state, days) in enumerate(ages.items()):
        for sign, age in zip(list(Sign)[2 * place :][:2], (days, days - 2), strict=True):
            await sql.execute(
                "UPDATE dead_letters SET state = $1, state_since = now() - make_interval(days => $2)"
                " WHERE zodiac_sign = $3",
                state,
                age,
                sign.value,
            )
    await archive.prune()
    kept = await sql.fetch("SELECT state, count(*) FROM dead_letters GROUP BY state")
    assert dict(kept) == {"dead": 4, "waiting": 2, "dropped": 1, "succeeded": 1, "died_again": 1}


async def test_whatever_somebody_publishes_is_kept(archive: Archive, desk: Desk) -> None:
    """What PostgreSQL refuses would be put back for ever, and all that lies behind it."""
    long = "".join(chr(random.Random(place).randrange(0x4E00, 0x9FFF)) for place in range(5000))
    parts = decode(encode(GenerateHoroscope(Sign.LEO, TODAY)))
    told = Death.of(ModelUnavailable("away"), "generation", MASK, replay=None)
    odd = [
        DeadLetter(orjson.dumps(parts | {"actor_name": long, "queue_name": long}), {}),
        DeadLetter(orjson.dumps(parts | {"kwargs": {long: long, "sign": long, "day": long}}), {}),
        DeadLetter(orjson.dumps(parts | {"kwargs": {"nul": "\0", "\0": 1e300}}), {}),
        DeadLetter(
            orjson.dumps(parts | {"options": {"death": {"release": long, "host": long, "cause": long}}}), {}
        ),
        DeadLetter(b"", {"cause": b"\xff", "queue": 7, "reason": long, "death": "{}", "x-death": [long]}),
        DeadLetter(b"\xff" * 10_000, {"x-death": [{"reason": long, "queue": long}]}),
        DeadLetter(
            b"{}", replace(told, release=long, host=long, cause=long, error_type=long, error=long).headers()
        ),
    ]
    await archive.keep(odd)
    assert await desk.records.count(Filter()) == len(odd)


async def test_a_message_that_killed_its_workers_begins_anew_when_it_is_replayed(
    archive: Archive, database: Database
) -> None:
    """It keeps its id: what is on record of its workers must not count against the worker that it meets then."""
    letter = letter_of(GenerateHoroscope(Sign.LEO, TODAY), WorkerKilled("three workers"))
    identity = decode(letter.body)["message_id"]
    suspects = Suspects(database)
    for _ in range(2):
        await suspects.begin("generation", [identity, "another"], alone=False)
    await archive.keep([letter])
    assert (await suspects.lost("generation", [identity, "another"])).keys() == {"another"}
