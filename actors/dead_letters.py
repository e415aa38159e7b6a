"""What finally failed is kept, with the whole truth about it."""

import os
import traceback
from datetime import UTC, datetime
from typing import Any

import structlog

from actors.broker import Broker, Delivered
from schema.messages import DEAD_LETTERS
from services.logs import Mask
from services.processes import HOST, RELEASE

log = structlog.get_logger(__name__)

#: The end of a traceback tells most; this many characters of it are kept.
TRACEBACK_LIMIT = 8000


class DeadLetters:
    """Publishes a dead letter in the place of the message that died.

    A decoded message keeps its form and gains the options ``attempts``, ``traceback`` and ``death``. Bytes
    that are no message are kept as they came. Either way the headers ``cause``, ``reason`` and ``queue``
    tell an operator who looks at the queue what happened.

    Args:
        broker: Where the dead letters go.
        mask: Applied to reasons and tracebacks.
    """

    def __init__(self, broker: Broker, mask: Mask) -> None:
        self._broker = broker
        self._mask = mask

    def bury(self, message: Delivered, cause: str, error: BaseException) -> None:
        """Keep a message that will not be tried again.

        Raises:
            NotPublished: RabbitMQ did not confirm the dead letter; the message must not be acknowledged.
        """
        reason = self.describe(error)
        death = {"at": _now(), "cause": cause, "reason": reason, "release": RELEASE, "host": HOST}
        letter = message.copy(options={"traceback": self.trace(error), "death": death})
        headers = {"cause": cause, "reason": reason[:500], "queue": message.queue_name}
        self._broker.publish(DEAD_LETTERS, letter.encode(), headers)
        log.error(
            "message.dead",
            actor=message.actor_name,
            message_id=message.message_id,
            cause=cause,
            reason=reason,
            attempts=len(message.options.get("attempts", ())),
        )

    def bury_bytes(self, queue: str, body: bytes, error: BaseException) -> None:
        """Keep bytes that are no message.

        Raises:
            NotPublished: As :meth:`bury`.
        """
        headers = {"cause": "undecodable", "reason": self.describe(error)[:500], "queue": queue}
        self._broker.publish(DEAD_LETTERS, body, headers)
        log.error("message.undecodable", queue=queue, size=len(body), reason=headers["reason"])

    def describe(self, error: BaseException) -> str:
        """The error in one line, without secrets."""
        return self._mask(f"{type(error).__name__}: {error}")[:2000]

    def trace(self, error: BaseException) -> str:
        """The end of the error's traceback, without secrets."""
        return self._mask("".join(traceback.format_exception(error)))[-TRACEBACK_LIMIT:]

    def attempt(self, started: float, ended: float, error: BaseException) -> dict[str, Any]:
        """One failed try as it is kept with the message; times in seconds since the epoch."""
        return {
            "at": datetime.fromtimestamp(started, UTC).isoformat(),
            "seconds": round(ended - started, 3),
            "host": HOST,
            "pid": os.getpid(),
            "release": RELEASE,
            "error": self.describe(error),
        }


def _now() -> str:
    """The time in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat()
