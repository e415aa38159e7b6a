"""Every handled message is counted and timed."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import dramatiq

from actors.batches import DeliveredBatch
from actors.broker import Delivered
from actors.table import Actor
from services.process import metrics

_OUTCOMES = ("done", "retried", "put_back", "dead", "dropped")


class Meter(dramatiq.Middleware):
    """Tells what became of messages, and how long their handlers took.

    It looks at a message when :class:`actors.retries.Retries` has decided, so it stands before it in the list:
    Dramatiq goes through its middleware backwards after a message.

    Args:
        table: The actors whose messages are counted.
    """

    def __init__(self, table: Sequence[Actor]) -> None:
        # Found beforehand, which also makes each series begin with 0.
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
        """A handler is about to be called."""
        self._under_way[id(message)] = message.actor_name, time.monotonic()

    def after_process_message(
        self,
        _: dramatiq.Broker,
        message: Any,
        *,
        result: Any = None,  # noqa: ARG002  Dramatiq's signature
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """It has returned or raised, and the message's fate is decided."""
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
        """The actor that has been at one message for the longest, and for how many seconds."""
        under_way = self._under_way.copy()
        if not under_way:
            return "", 0.0
        name, began = min(under_way.values(), key=lambda each: each[1])
        return name, time.monotonic() - began
