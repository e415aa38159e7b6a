"""Batch actors: a consumer that hands an actor many messages as one call.

The call gets up to ``size`` messages, or those that came within a short linger after the first. They are
acknowledged together after it has returned; a crash before that leaves all of them in the queue. When a call
fails, the batch is halved until the message that is to blame stands alone; that one climbs its own ladder
or dies, and the others are done.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import dramatiq
from dramatiq import MessageProxy

from actors.broker import Broker, Delivered, QueueConsumer
from actors.retries import Retries
from actors.table import Batch
from schema.errors import DatabaseUnavailable, NotPublished


class DeliveredBatch(Delivered):
    """Messages of one actor that are handed over together; its tag is the last one's."""

    def __init__(self, actor_name: str, messages: list[Delivered]) -> None:
        last = messages[-1]
        envelope = dramatiq.Message[Any](
            queue_name=last.queue_name, actor_name=actor_name, args=(), kwargs={}, options={}
        )
        super().__init__(envelope, last.consumer, last.tag)
        self.messages = messages


class BatchConsumer(QueueConsumer):
    """Collects the messages of one queue into batches.

    Several batches may be under way at once. They are settled in the order in which they were received, so
    that one acknowledgement covers all that came before it.
    """

    def __init__(
        self, broker: Broker, queue_name: str, prefetch: int, timeout: int, *, actor_name: str, batch: Batch
    ) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)
        self._actor_name = actor_name
        self._batch = batch
        self._under_way: deque[DeliveredBatch] = deque()
        self._finished: set[int] = set()

    def __next__(self) -> MessageProxy | None:
        """The next batch; None when nothing came for a while."""
        if not self._arrived:
            self._wait(self._timeout_s)
        if not self._arrived:
            return None
        deadline = time.monotonic() + self._batch.linger_ms / 1000
        while len(self._arrived) < self._batch.size and (left := deadline - time.monotonic()) > 0:
            self._wait(left)
        taken = [self._take() for _ in range(min(len(self._arrived), self._batch.size))]
        messages = [message for message in taken if message]
        if not messages:
            return None
        batch = DeliveredBatch(self._actor_name, messages)
        self._under_way.append(batch)
        return batch

    def ack(self, message: MessageProxy) -> None:
        """Settle a batch, and those after it that only waited for this one."""
        if not isinstance(message, DeliveredBatch) or message.consumer is not self:
            return
        if message.requeue:
            for each in message.messages:
                each.requeue = not each.done
        self._later(partial(self._settle_in_order, message))

    def _settle_in_order(self, finished: DeliveredBatch) -> None:
        """Runs in the connection's own thread."""
        self._finished.add(finished.tag)
        while self._under_way and self._under_way[0].tag in self._finished:
            batch = self._under_way.popleft()
            self._finished.discard(batch.tag)
            put_back = [each.tag for each in batch.messages if each.requeue]
            for tag in put_back:
                self._channel.basic_nack(tag, requeue=True)
            done = [each.tag for each in batch.messages if not each.requeue]
            if done and not put_back:
                self._channel.basic_ack(done[-1], multiple=True)
            else:
                for tag in done:
                    self._channel.basic_ack(tag)
            self._unsettled.difference_update(each.tag for each in batch.messages)


def handle(
    broker: Broker,
    retries: Retries,
    batch: DeliveredBatch,
    parse: Callable[[dict[str, Any]], Any],
    call: Callable[[Sequence[Any]], None],
) -> None:
    """Run one batch through its handler.

    Args:
        broker: The broker that it came from.
        retries: What becomes of a message that is to blame.
        batch: The messages.
        parse: Makes the handler's message from a message's arguments; raises for wrong ones.
        call: The handler.

    Raises:
        DatabaseUnavailable, NotPublished: Nobody is to blame; the whole batch goes back to its queue.
    """
    good: list[tuple[Delivered, Any]] = []
    for message in batch.messages:
        message.started = time.time()
        try:
            good.append((message, parse(message.kwargs)))
        except Exception as error:  # noqa: BLE001  one message's fault must not become its neighbours'
            retries.failed(broker, message, error)
            message.done = not message.requeue
    _halve(broker, retries, good, call)


def _halve(
    broker: Broker,
    retries: Retries,
    messages: list[tuple[Delivered, Any]],
    call: Callable[[Sequence[Any]], None],
) -> None:
    if not messages:
        return
    try:
        call([parsed for _, parsed in messages])
    except (DatabaseUnavailable, NotPublished):
        raise
    except Exception as error:  # noqa: BLE001  the message to blame is found below
        if len(messages) == 1:
            message = messages[0][0]
            retries.failed(broker, message, error)
            message.done = not message.requeue
            return
        middle = len(messages) // 2
        _halve(broker, retries, messages[:middle], call)
        _halve(broker, retries, messages[middle:], call)
    else:
        for message, _ in messages:
            message.done = True
