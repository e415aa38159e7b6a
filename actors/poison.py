"""A message that kills every worker that answers it is taken out of its queue.

RabbitMQ hands a message whose worker was lost to the next one, for ever. It marks it as delivered again, so only such
messages are watched: what is delivered for the first time costs nothing. The first loss is not on record, the
later ones are; a message that was lost once more is answered alone, so that it takes no others along.
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

#: Workers that a message may kill, the first of which is not on record.
KILLS_AT_MOST = 3


class PoisonGuard:
    """Watches the messages that one process answers.

    Args:
        records: Where tries are on record.
        loop: Where those are reached.

    Attributes:
        alone: Held while a message is answered that has killed a worker before.
    """

    def __init__(self, records: poison.PoisonMessages, loop: asyncio.AbstractEventLoop) -> None:
        self._records = records
        self._loop = loop
        self._not_ended: deque[tuple[str, list[str], Try]] = deque()
        self._ending = threading.Lock()
        self.alone = threading.Lock()

    def lost(self, messages: Sequence[Delivered]) -> Mapping[str, list[Try]]:
        """The tries of messages of one queue that ended with their workers, by the messages' ids.

        Raises:
            DatabaseUnavailable: Nobody knows now.
        """
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
        """Have it on record while messages of one queue are answered.

        Raises:
            DatabaseUnavailable: That cannot be done now; nothing was begun.
        """
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
            ended = False  # somebody else may have begun by now, and that must not be forgotten
            raise
        finally:
            try:
                end = self._records.end(queue, ids) if ended else self._records.withdraw(queue, ids, begun)
                run_on(self._loop, end)
            except DatabaseUnavailable:
                # Or it would look as if this process had been killed.
                self._not_ended.append((queue, ids, begun))


def check(message: Delivered, lost: Sequence[Try]) -> None:
    """Let a message pass; or put its lost tries among its attempts and give it up.

    Raises:
        WorkerKilled: It has killed as many workers as a message may.
    """
    # Of a batch one message has killed the worker at the most; and it may have been a person.
    if sum(each["alone"] for each in lost) < KILLS_AT_MOST - 1:
        return
    attempts = [
        {name: value for name, value in each.items() if name != "alone"} | {"error": "its worker was killed"}
        for each in lost
    ]
    message.options["attempts"] = [*message.options.get("attempts", ()), *attempts]
    last = lost[-1]
    raise WorkerKilled(
        f"{len(lost) + 1} workers were killed while they answered it, the last one {last['host']} {last['pid']}"
    )
