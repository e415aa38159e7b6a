"""Takes a message out of its queue when it kills every worker that answers it.

RabbitMQ redelivers a message whose worker was lost, for ever, and marks it as redelivered. Only redelivered messages
are watched, so a first delivery costs nothing; the first loss is therefore not on record. A message that was lost
again is answered alone, so that it takes no other messages down.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import structlog

from actors.broker import Delivered, run_on
from schema.errors import DatabaseUnavailable, DeliveryLost, WorkerKilled
from services.messaging import poison
from services.messaging.poison import Try

log = structlog.get_logger(__name__)

#: How many workers a message may kill. The first of them is not on record.
KILLS_AT_MOST = 3


class PoisonGuard:
    """Records attempts of redelivered messages; raises DatabaseUnavailable while PostgreSQL is away."""

    def __init__(self, records: poison.PoisonMessages, loop: asyncio.AbstractEventLoop) -> None:
        self._records = records
        self._loop = loop
        self._not_ended: deque[tuple[str, list[str], Try]] = deque()
        self._ending = threading.Lock()
        #: Held while a message is answered that has killed a worker before.
        self.alone = threading.Lock()

    def lost(self, messages: Sequence[Delivered]) -> Mapping[str, list[Try]]:
        """The attempts that ended with the death of their worker, by message id. All messages are of one queue."""
        ids = [message.message_id for message in messages if message.redelivered]
        if not ids:
            return {}
        with self._ending:
            while self._not_ended:
                run_on(self._loop, self._records.withdraw(*self._not_ended[0]))
                self._not_ended.popleft()
        return run_on(self._loop, self._records.lost(messages[0].queue_name, ids))

    @contextmanager
    def watching(self, messages: Sequence[Delivered]) -> Iterator[None]:
        """Record that messages of one queue are being answered while the block runs."""
        ids = [message.message_id for message in messages if message.redelivered]
        if not ids:
            yield
            return
        queue = messages[0].queue_name
        begun = run_on(self._loop, self._records.begin(queue, ids, alone=len(messages) == 1))
        ended = True
        try:
            yield
        except DeliveryLost:
            ended = False  # another worker may have begun: keep its record
            raise
        finally:
            try:
                end = self._records.end(queue, ids) if ended else self._records.withdraw(queue, ids, begun)
                run_on(self._loop, end)
            except DatabaseUnavailable:
                # Withdrawn later; otherwise the record would say that this process was killed.
                self._not_ended.append((queue, ids, begun))


def check(message: Delivered, lost: Sequence[Try]) -> None:
    """Raise WorkerKilled if a message has killed too many workers; its ``attempts`` then include the lost ones."""
    # Attempts in a batch do not count: at most one of the batch's messages is to blame.
    if sum(each["alone"] for each in lost) < KILLS_AT_MOST - 1:
        return
    attempts = [
        {name: value for name, value in each.items() if name != "alone"} | {"error": "its worker was killed"}
        for each in lost
    ]
    message.options["attempts"] = [*message.options.get("attempts", ()), *attempts]
    last = lost[-1]
    raise WorkerKilled(
        f"{len(lost) + 1} workers were killed while answering it, the last one {last['host']} {last['pid']}"
    )
