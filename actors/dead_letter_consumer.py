"""The consumer of the queue ``dead_letters``, which feeds the archive."""

from datetime import UTC, datetime
from typing import Any

import dramatiq

from actors.batches import BatchConsumer
from actors.broker import Delivered
from schema.messages import DEAD_LETTERS, DeadLetter, actor_name

_ARCHIVE = actor_name(DEAD_LETTERS, DeadLetter)


class LetterConsumer(BatchConsumer):
    """Passes on every body as it is, with its headers. No body is undecodable here, and none is poison."""

    def _take(self) -> Delivered | None:
        letter = super()._take()
        assert letter
        # The letter carries the flag in its arguments. Its id is new at each delivery, so the poison guard
        # could not recognise it.
        letter.redelivered = False
        return letter

    def _read(self, method: Any, properties: Any, body: bytes) -> dramatiq.Message[Any]:
        return dramatiq.Message[Any](
            queue_name=self.queue_name,
            actor_name=_ARCHIVE,
            args=(),
            kwargs={
                "body": body,
                "headers": properties.headers or {},
                "redelivered": method.redelivered,
                "published_at": _instant(properties.timestamp),
            },
            options={},
        )


def _instant(seconds: Any) -> datetime | None:
    """The AMQP timestamp, if it is one: a foreign publisher may have sent any value."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
