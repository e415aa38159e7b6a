"""How a message died, as it is told beside the dead letter on its way to the archive."""

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
from services.process.heartbeats import HOST, RELEASE

#: The end of a traceback tells most; this many characters of it are kept.
TRACEBACK_LIMIT = 8000
_ERROR_LIMIT = 2000
_REASON_LIMIT = 500

#: Of an exception's traceback, the frames that are ours.
_OWN = ("schema", "services", "actors", "ops")

LADDER_EXHAUSTED = "ladder exhausted"
#: The causes that no exception names: of RabbitMQ's own, by the reason that it gives in ``x-death``.
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
    """One death.

    Args:
        id: The same for every copy of it.
        at: When.
        queue: Where the message came from.
        cause: One of :data:`CAUSES`.
        error_type: The exception's class; empty: there was none.
        error: The error in one line.
        frames: Those of our own functions that the exception came through, outermost first.
        release: Of the code that gave the message up.
        host: Where it ran.
        masked: The message held a secret, which is not kept.
    """

    id: UUID
    at: AwareDatetime
    queue: str
    cause: str
    error_type: str = ""
    error: str = ""
    frames: tuple[str, ...] = ()
    release: str = ""
    host: str = ""
    masked: bool = False

    @classmethod
    def of(cls, error: BaseException, queue: str, mask: Callable[[str], str], *, replay: UUID | None) -> Self:
        """The death that an error means, at this moment.

        Args:
            error: Why the message will not be tried again.
            queue: Where it came from.
            mask: Takes secrets out.
            replay: The replay that it came by: one replay dies once, however many copies of it there were.
        """
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
        """What stands beside the letter in its queue; ``death`` for the archive, the rest for eyes."""
        return {
            "cause": self.cause,
            "reason": self.error[:_REASON_LIMIT],
            "queue": self.queue,
            "death": _deaths.dump_json(self).decode(),
        }

    @classmethod
    def read(cls, headers: Mapping[str, Any]) -> "Death | None":
        """What :meth:`headers` were made from; None when they tell nothing of the kind."""
        try:
            death = _deaths.validate_json(headers.get("death") or "")
            return replace(death, at=death.at.astimezone(UTC))
        except (ValidationError, TypeError, OverflowError):
            return None


_deaths = TypeAdapter(Death)


def described(error: BaseException, mask: Callable[[str], str]) -> str:
    """The error in one line, without secrets."""
    return mask(f"{type(error).__name__}: {error}")[:_ERROR_LIMIT]


def traced(error: BaseException, mask: Callable[[str], str]) -> str:
    """The end of the error's traceback, without secrets."""
    return mask("".join(traceback.format_exception(error)))[-TRACEBACK_LIMIT:]


def own_frames(error: BaseException) -> tuple[str, ...]:
    """The functions of ours that an error came through, outermost first; one that calls itself stands once."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    named = (
        f"{module}:{frame.f_code.co_qualname}"
        for frame in frames
        if (module := str(frame.f_globals.get("__name__"))).partition(".")[0] in _OWN
    )
    return tuple(name for name, _ in groupby(named))


def fingerprint(death: Death, actor: str | None) -> str:
    """The same for failures of one kind: cause, exception and our own functions, without lines and values.

    What died before any function of ours was called is told apart by its actor and its queue.
    """
    kind = (death.cause, death.error_type, *(death.frames or (death.queue, actor or "")))
    return hashlib.sha256("\0".join(kind).encode(errors="replace")).hexdigest()[:16]
