"""The columns of the table of actors."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from schema.messages import Message, actor_name
from services.process.settings import Settings


class Ladder(Enum):
    """Which list of retry delays a failed message climbs."""

    NIGHT = "night"
    REQUEST = "request"
    NONE = "none"
    FOREVER = "forever"

    def delays(self, settings: Settings) -> tuple[int, ...]:
        """Seconds before each further try; none where there is none, or where nothing but the queue is waited in."""
        return {Ladder.NIGHT: settings.night_retries, Ladder.REQUEST: settings.request_retries}.get(self, ())


@dataclass(frozen=True, slots=True)
class Batch:
    """How many messages a batch actor is handed as one call.

    Args:
        size: The most messages in one call.
        linger_ms: Milliseconds to wait for more after the first has come.
        prefetch: Messages that a worker holds at most: with twice the size, one batch gathers while another is
            under way.
    """

    size: int
    linger_ms: int = 50
    prefetch: int = 2000


@dataclass(frozen=True, slots=True)
class Attempt:
    """Which try of a message this is.

    Args:
        message_id: The same in every try, and after a redelivery.
        number: 1 for the first.
        again: It has been here before: it failed, had to wait for somebody else, or its worker was lost.
        redelivered: Its worker was lost.
        published_at: When the message was first published.
        retry_in: Seconds until the next try, should this one fail; None when it is the last.
    """

    message_id: str
    number: int
    again: bool
    redelivered: bool
    published_at: datetime
    retry_in: int | None


@dataclass(frozen=True, slots=True)
class Actor:
    """One row: which handler answers a message, from which queue, and what happens when it fails.

    A plain handler is called with (worker_app, message, attempt); a batch handler with (worker_app, messages).
    """

    message: type[Message]
    queue: str
    handler: Callable[..., Coroutine[Any, Any, None]]
    ladder: Ladder
    batch: Batch | None = None

    @property
    def name(self) -> str:
        """The actor's name on the wire."""
        return actor_name(self.queue, self.message)
