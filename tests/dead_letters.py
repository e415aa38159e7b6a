"""Dead letters as workers bury them, without a worker."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from actors import REPLAYABLE
from schema.errors import InvalidEnvelope, ModelUnavailable
from schema.messages import DeadLetter, Message
from services.database.pool import Database
from services.days import system_clock
from services.dead_letters.death import Death
from services.dead_letters.inspector import Inspector, make_inspector
from services.messaging.envelope import decode, encode
from services.process.logs import Mask

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
    """A message that died of an error after so many attempts; ``about`` as for :class:`DeadLetter`."""
    if isinstance(message, bytes):
        death = Death.of(InvalidEnvelope("that is no JSON"), "views", MASK, replay=None)
        return DeadLetter(message, death.headers(), **about)
    error = error or ModelUnavailable("the model is away")
    parts = decode(encode(message))
    tries = [{"at": datetime.now(UTC).isoformat(), "error": str(error)}] * attempts
    parts["options"] = {"attempts": tries, "traceback": "the last one"}
    if replay:
        parts["options"]["replay"] = str(replay)
    return DeadLetter(
        orjson.dumps(parts), Death.of(error, message.queue, MASK, replay=replay).headers(), **about
    )


def inspector_on(database: Database) -> Inspector:
    """What people work with, knowing every actor whose messages they may replay."""
    return make_inspector(database, REPLAYABLE, system_clock)
