"""The columns of the table of actors."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from schema.messages import Message, actor_name
from services.messaging.attempts import Ladder


@dataclass(frozen=True, slots=True)
class Batch:
    """How many messages a batch actor receives in one call."""

    size: int  #: The most messages in one call
    linger_ms: int = 50  #: Milliseconds to wait for more messages after the first one
    #: The most messages that a worker holds. With twice the size, the next batch is gathered while one is handled.
    prefetch: int = 2000


@dataclass(frozen=True, slots=True)
class Actor:
    """One row: which handler answers a message, from which queue, and on which ladder it is retried.

    A plain handler is called with (worker_app, message, attempt) and returns whether it had an effect; a batch
    handler is called with (worker_app, messages) and returns the same of each message, in their order.
    """

    message: type[Message]
    queue: str
    handler: Callable[..., Coroutine[Any, Any, Any]]
    ladder: Ladder
    batch: Batch | None = None

    @property
    def name(self) -> str:
        """The actor's name on the wire."""
        return actor_name(self.queue, self.message)
