"""The consumer of the dead letters: whatever lies in their queue is for the archive."""

from datetime import UTC, datetime
from typing import Any

import dramatiq

from actors.batches import BatchConsumer
from actors.broker import Delivered
from schema.messages import DEAD_LETTERS, DeadLetter, actor_name

_ARCHIVE = actor_name(DEAD_LETTERS, DeadLetter)


class LetterConsumer(BatchConsumer):
    """Hands on every body as it is, with what stands beside it: here nothing is undecodable, and nobody a suspect."""

    def _take(self) -> Delivered | None:
        letter = super()._take()
        assert letter
        letter.redelivered = (
            False  # its archive is told so by the letter itself; its id here is made anew each time
        )
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
    """Whoever else publishes may have put anything there."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None
