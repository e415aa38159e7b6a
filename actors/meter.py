"""Counts and times every message, and detects threads that stand still."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import dramatiq

from actors.batches import DeliveredBatch
from actors.broker import Broker, Delivered, QueueConsumer
from actors.table import Actor
from services.process import metrics

#: Seconds within which each consumer makes a turn, even when idle or while RabbitMQ is away.
CONSUMER_TURN_S = 60.0
#: Seconds after which a handler counts as hung; by then RabbitMQ takes its message back.
HANDLER_S = 1800.0

_OUTCOMES = ("done", "retried", "put_back", "dead", "dropped")


class Meter(dramatiq.Middleware):
    """Counts messages by outcome, and times their handlers.

    It reads the outcome after :class:`actors.retries.Retries` has set it. Dramatiq calls middleware in reverse
    order after a message, so the meter stands before the retries in the list.
    """

    def __init__(self, table: Sequence[Actor]) -> None:
        # Made beforehand, so that each series begins at 0.
        self._counted = {
            (actor.name, outcome): metrics.MESSAGES.labels(actor.queue, actor.message.__name__, outcome)
            for actor in table
            for outcome in _OUTCOMES
        }
        self._timed = {
            actor.name: metrics.MESSAGE_SECONDS.labels(actor.queue, actor.message.__name__) for actor in table
        }
        for actor in table:
            if actor.batch:
                for histogram in (metrics.BATCH_MESSAGES, metrics.BATCH_AGE_SECONDS, metrics.BATCH_SECONDS):
                    histogram.labels(actor.queue)
        self._under_way: dict[int, tuple[str, float]] = {}

    def before_process_message(self, _: dramatiq.Broker, message: Any) -> None:
        """Note when the handler begins."""
        self._under_way[id(message)] = message.actor_name, time.monotonic()

    def after_process_message(
        self,
        _: dramatiq.Broker,
        message: Any,
        *,
        result: Any = None,  # noqa: ARG002  Dramatiq's signature
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """Count the outcome, and the handler's time."""
        name, began = self._under_way.pop(id(message))
        self._timed[name].observe(time.monotonic() - began)
        if isinstance(message, DeliveredBatch):
            outcomes = Counter(each.outcome if each.done else "put_back" for each in message.messages)
        else:
            assert isinstance(message, Delivered)
            outcomes = Counter(["put_back" if message.requeue else message.outcome])
        for outcome, count in outcomes.items():
            self._counted[name, outcome].inc(count)

    def longest(self) -> tuple[str, float]:
        """The actor whose handler has run longest, and for how many seconds; ("", 0.0) when none runs."""
        under_way = self._under_way.copy()
        if not under_way:
            return "", 0.0
        name, began = min(under_way.values(), key=lambda each: each[1])
        return name, time.monotonic() - began


class Threads:
    """Reports threads of one worker that have ended or stand still."""

    def __init__(self, broker: Broker, worker: dramatiq.Worker, meter: Meter) -> None:
        self._broker = broker
        self._worker = worker
        self._meter = meter
        self._began = time.monotonic()

    def trouble(self) -> str:
        """Threads that have ended or stand still; empty when there are none."""
        now = time.monotonic()
        troubles = []
        for queue, consumer in self._worker.consumers.items():
            still = now - self._broker.turned.get(queue, self._began)
            if not consumer.is_alive():
                troubles.append(f"the consumer of {queue} has ended")
            elif still > CONSUMER_TURN_S:
                troubles.append(f"the consumer of {queue} has stood still for {still:.0f} s")
        if ended := sum(not thread.is_alive() for thread in self._worker.workers):
            troubles.append(f"{ended} of {len(self._worker.workers)} worker threads have ended")
        actor, seconds = self._meter.longest()
        if seconds > HANDLER_S:
            troubles.append(f"{actor} has been handling one message for {seconds:.0f} s")
        return "; ".join(troubles)

    def consumers_trouble(self) -> str:
        """Queues without an open consumer at this moment; empty when there are none."""
        closed = [
            queue
            for queue, thread in self._worker.consumers.items()
            if not (isinstance(thread.consumer, QueueConsumer) and thread.consumer.is_open)
        ]
        return f"no open consumer of {', '.join(closed)}" if closed else ""
