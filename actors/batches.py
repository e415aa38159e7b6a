"""Batch actors: an actor that receives many messages in one call.

An actor declared with ``batch=Batch(...)`` is called with a sequence of messages, the oldest first: up to ``size``
messages, or those that arrived within ``linger_ms`` after the first. They are acknowledged together after the
call has returned; a crash before that leaves all of them in the queue. When a call fails, the batch is halved
until the failing message stands alone. That message climbs its own ladder or dies; the others are done.

A queue may have several batch actors, and plain ones beside them. Messages are gathered per actor.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import dramatiq
import structlog
from dramatiq import MessageProxy

from actors.broker import Broker, Delivered, QueueConsumer
from actors.poison import PoisonGuard, check
from actors.table import Batch
from schema.errors import DatabaseUnavailable, DeliveryLost, InvalidMessage, NotPublished
from services.process import metrics

log = structlog.get_logger(__name__)

#: Seconds that a stopping worker gives the batches that it has begun to gather.
FLUSH_S = 10.0


class Batches(dramatiq.Middleware):
    """Declares the option ``batch``, and flushes gathered batches before the worker stops."""

    @property
    def actor_options(self) -> set[str]:
        """``batch``: a :class:`actors.table.Batch`."""
        return {"batch"}

    def before_worker_shutdown(self, _: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """Flush the gathered batches while the threads that handle them still run."""
        deadline = time.monotonic() + FLUSH_S
        gathering = [
            thread.consumer
            for thread in worker.consumers.values()
            if isinstance(thread.consumer, BatchConsumer) and thread.consumer.is_open
        ]
        for consumer in gathering:
            consumer.stop_taking()
        for consumer in gathering:
            if not consumer.flushed.wait(max(0.0, deadline - time.monotonic())):
                log.warning("batch.not_flushed", queue=consumer.queue_name)


class DeliveredBatch(Delivered):
    """Messages of one actor that are handled and settled together."""

    def __init__(self, messages: list[Delivered]) -> None:
        first = messages[0]
        call = dramatiq.Message[Any](
            queue_name=first.queue_name,
            actor_name=first.actor_name,
            args=(messages,),
            kwargs={},
            options={},
            message_timestamp=min(message.message_timestamp for message in messages),
        )
        super().__init__(call, first.consumer, messages[-1].tag)
        self.messages = messages  #: Empty once they are settled
        self.handed_over = time.monotonic()  #: When they were handed to a thread

    def __str__(self) -> str:
        return f"{self.actor_name}({len(self.messages)} messages)"


@dataclass(slots=True)
class _Gathered:
    """Messages of one actor that wait for more, until ``due`` on the monotonic clock."""

    due: float
    messages: list[Delivered] = field(default_factory=list)


class BatchConsumer(QueueConsumer):
    """Consumes one queue: gathers the messages of batch actors, and passes the others on at once.

    Args:
        prefetch: The most messages to hold, unless the batch actors ask for more.
        timeout: Milliseconds after which ``__next__`` returns without a message.

    Attributes:
        flushed: Set after :meth:`stop_taking`, once no batch is gathered or handled any more.
    """

    def __init__(self, broker: Broker, queue_name: str, prefetch: int, timeout: int) -> None:
        self._batches: dict[str, Batch] = {
            name: actor.options["batch"]
            for name, actor in broker.actors.items()
            if actor.queue_name == queue_name and "batch" in actor.options
        }
        self._gathered: dict[str, _Gathered] = {}
        self._under_way = 0
        self._taking = True
        self._lock = threading.Lock()
        self.flushed = threading.Event()
        self._sizes = metrics.BATCH_MESSAGES.labels(queue_name)
        self._seconds = metrics.BATCH_SECONDS.labels(queue_name)
        self._ages = metrics.BATCH_AGE_SECONDS.labels(queue_name)
        wanted = sum(batch.prefetch for batch in self._batches.values())
        super().__init__(broker, queue_name, max(prefetch, wanted), timeout)

    def __next__(self) -> MessageProxy | None:
        """The next batch, or the next message of a plain actor; None after the timeout."""
        self._apply_pause()
        idle_at = time.monotonic() + self._timeout_s
        while True:
            if self._arrived and self._taking:
                message = self._take()
                if message is None:
                    continue
                batch = self._batches.get(message.actor_name)
                if batch is None:
                    return message
                gathered = self._gathered.get(message.actor_name)
                if gathered is None:
                    due = time.monotonic() + batch.linger_ms / 1000
                    gathered = self._gathered[message.actor_name] = _Gathered(due)
                gathered.messages.append(message)
                if len(gathered.messages) >= batch.size:
                    return self._hand_over(message.actor_name)
                continue
            now = time.monotonic()
            for name, gathered in self._gathered.items():
                if gathered.due <= now or not self._taking:
                    return self._hand_over(name)
            if now >= idle_at:
                return None
            self._wait(min([idle_at, *(gathered.due for gathered in self._gathered.values())]) - now)

    def _let_go(self) -> list[int]:
        """Let go of gathered messages too: they have not been started."""
        tags = [message.tag for gathered in self._gathered.values() for message in gathered.messages]
        self._gathered.clear()
        self._check_flushed()
        return [*tags, *super()._let_go()]

    def _hand_over(self, actor_name: str) -> DeliveredBatch:
        with self._lock:
            self._under_way += 1
            return DeliveredBatch(self._gathered.pop(actor_name).messages)

    def stop_taking(self) -> None:
        """Take no more messages and hand over the gathered ones at once. Thread-safe."""
        with self._lock:
            self._taking = False
        self._later(self._check_flushed)

    def _check_flushed(self) -> None:
        """Runs in the connection's own thread, the only one that gathers."""
        with self._lock:
            if not self._taking and not self._gathered and not self._under_way:
                self.flushed.set()

    def ack(self, message: MessageProxy) -> None:
        """Settle a batch, or a message of a plain actor."""
        if not isinstance(message, DeliveredBatch):
            super().ack(message)
            return
        if message.requeue:
            for each in message.messages:
                each.requeue = not each.done
        put_back = [each.tag for each in message.messages if each.requeue]
        done = [each.tag for each in message.messages if not each.requeue]
        self._sizes.observe(len(message.messages))
        self._seconds.observe(time.monotonic() - message.handed_over)
        self._ages.observe(max(0.0, time.time() - message.message_timestamp / 1000))
        # Dramatiq's threads keep a reference to their last batch.
        message.messages.clear()
        # Dramatiq settles with its newest consumer; only the batch's own consumer knows these delivery tags.
        assert isinstance(message.consumer, BatchConsumer)
        message.consumer.settle(done, put_back)

    def settle(self, done: Sequence[int], put_back: Sequence[int]) -> None:
        """Settle the messages of a finished batch. Thread-safe."""
        with self._lock:
            self._under_way -= 1
        self._later(partial(self._settle_batch, done, put_back))
        self._later(self._check_flushed)

    def _settle_batch(self, done: Sequence[int], put_back: Sequence[int]) -> None:
        """Runs in the connection's own thread."""
        self._unsettled.difference_update(done, put_back)
        for tag in put_back:
            self._channel.basic_nack(tag, requeue=True)
        if done and min(self._unsettled, default=done[-1]) >= done[-1]:
            self._channel.basic_ack(done[-1], multiple=True)
        else:  # earlier messages are still being handled, and "multiple" would acknowledge them too
            for tag in done:
                self._channel.basic_ack(tag)


#: A message as it was delivered, and the parsed message for its handler.
Parsed = tuple[Delivered, Any]


def handle(
    poison: PoisonGuard,
    messages: Sequence[Delivered],
    parse: Callable[[dict[str, Any]], Any],
    call: Callable[[Sequence[Parsed]], None],
) -> None:
    """Run one batch through its handler. Each message ends as ``done``, or with the ``error`` that it failed with.

    Raises:
        DatabaseUnavailable, NotPublished, DeliveryLost: No message is to blame; those not done go back to the queue.
    """
    together: list[Parsed] = []
    alone: list[Parsed] = []
    lost = poison.lost(messages)
    started = time.time()
    for message in messages:
        message.started = started
        try:
            if message.args:
                raise InvalidMessage(f"it takes named arguments only, not {message.args!r}")  # noqa: TRY301
            tries = lost.get(message.message_id, ())
            check(message, tries)
            (alone if tries else together).append((message, parse(message.kwargs)))
        except DatabaseUnavailable:
            raise
        except Exception as error:  # noqa: BLE001  one message's error must not fail its neighbours
            message.error = error
    with poison.watching([message for message, _ in together]):
        _halve(together, call)
    for each in alone:
        with poison.alone, poison.watching([each[0]]):
            _halve([each], call)


def _halve(messages: list[Parsed], call: Callable[[Sequence[Parsed]], None]) -> None:
    if not messages:
        return
    try:
        call(messages)
    except (DatabaseUnavailable, NotPublished, DeliveryLost):
        raise
    except Exception as error:  # noqa: BLE001  the failing message is found below
        if len(messages) == 1:
            messages[0][0].error = error
            return
        middle = len(messages) // 2
        _halve(messages[:middle], call)
        _halve(messages[middle:], call)
    else:
        for message, _ in messages:
            message.done = True
