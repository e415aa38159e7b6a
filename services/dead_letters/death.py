"""The death of a message, as a header of its dead letter carries it to the archive."""

import hashlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Self
from uuid import UUID, uuid4, uuid5

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from schema.errors import PermanentError
from services.process import descriptions
from services.process.heartbeats import HOST, RELEASE

#: Characters of a traceback that are kept: its end says most.
TRACEBACK_LIMIT = 8000
#: Characters of an error that are kept.
ERROR_LIMIT = 2000
_REASON_LIMIT = 500

#: The packages whose frames of a traceback make up a fingerprint.
_OWN = ("schema", "services", "actors", "ops")

LADDER_EXHAUSTED = "ladder exhausted"
#: Causes of messages that RabbitMQ gave up, by the reason that it names in ``x-death``.
CAUSES_OF_RABBITMQ = {
    "rejected": "rejected",
    "expired": "too old",
    "maxlen": "queue full",
    "delivery_limit": "killed its worker",
}
#: Every cause of death.
CAUSES = (
    LADDER_EXHAUSTED,
    *sorted({PermanentError.cause, *(kind.cause for kind in PermanentError.__subclasses__())}),
    "rejected",
    "queue full",
)


@dataclass(frozen=True, slots=True)
class Death:
    """The death of one message."""

    id: UUID  #: The same for every copy of the dead letter
    at: AwareDatetime
    queue: str  #: The queue that the message came from
    cause: str  #: One of CAUSES
    error_type: str = ""  #: The exception's class; empty: nothing was raised
    error: str = ""  #: In one line
    frames: tuple[str, ...] = ()  #: Our own functions that the exception came through, outermost first
    release: str = ""  #: Of the code that gave the message up
    host: str = ""
    masked: bool = False  #: The message held a secret, which is not kept

    @classmethod
    def of(cls, error: BaseException, queue: str, mask: Callable[[str], str], *, replay: UUID | None) -> Self:
        """The death of a message that an error ends now; all copies of a replay share one death."""
        return cls(
            id=uuid5(replay, "death") if replay else uuid4(),
            at=datetime.now(UTC),
            queue=queue,
            cause=error.cause if isinstance(error, PermanentError) else LADDER_EXHAUSTED,
            error_type=type(error).__name__,
            error=described(error, mask),
            frames=own_frames(error),
            release=RELEASE,
            host=HOST,
        )

    def headers(self) -> dict[str, Any]:
        """The headers of the dead letter: ``death`` is for the archive, the others are for people."""
        return {
            "cause": self.cause,
            "reason": self.error[:_REASON_LIMIT],
            "queue": self.queue,
            "death": _deaths.dump_json(self).decode(),
        }

    @classmethod
    def read(cls, headers: Mapping[str, Any]) -> "Death | None":
        """The death that :meth:`headers` wrote; None: there is none."""
        try:
            death = _deaths.validate_json(headers.get("death") or "")
            return replace(death, at=death.at.astimezone(UTC))
        except (ValidationError, TypeError, OverflowError):
            return None


_deaths = TypeAdapter(Death)


def described(error: BaseException, mask: Callable[[str], str]) -> str:
    """The error in one line, without secrets and without anything personal."""
    return mask(descriptions.described(error))[:ERROR_LIMIT]


def traced(error: BaseException, mask: Callable[[str], str]) -> str:
    """The end of the error's traceback, without secrets and without anything personal."""
    return descriptions.traced(error, mask, TRACEBACK_LIMIT)


def own_frames(error: BaseException) -> tuple[str, ...]:
    """Our own functions that an error came through, outermost first; a recursive one is listed once."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    named = (
        f"{module}:{frame.f_code.co_qualname}"
        for frame in frames
        if (module := str(frame.f_globals.get("__name__"))).partition(".")[0] in _OWN
    )
    return tuple(name for name, _ in groupby(named))


def fingerprint(death: Death, actor: str | None) -> str:
    """A digest that failures of one kind share: cause, exception and our own functions, without lines and values.

    Without a function of ours, the queue and the actor take the functions' place.
    """
    kind = (death.cause, death.error_type, *(death.frames or (death.queue, actor or "")))
    return hashlib.sha256("\0".join(kind).encode(errors="replace")).hexdigest()[:16]
