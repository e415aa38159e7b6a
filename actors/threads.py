"""Whether a worker's threads do their work: what its health is told by."""

import time

import dramatiq

from actors.broker import Broker, QueueConsumer
from actors.meter import Meter

#: Seconds within which each consumer turns, even with nothing to do or with RabbitMQ away.
CONSUMER_TURN_S = 60.0
#: Seconds after which a handler will not return any more; RabbitMQ takes its message back by then.
HANDLER_S = 1800.0


class Threads:
    """The threads of one worker.

    Args:
        broker: Its broker.
        worker: Dramatiq's worker, started.
        meter: Knows what it is at.
    """

    def __init__(self, broker: Broker, worker: dramatiq.Worker, meter: Meter) -> None:
        self._broker = broker
        self._worker = worker
        self._meter = meter
        self._began = time.monotonic()

    def trouble(self) -> str:
        """Which threads have ended or stand still; empty when none."""
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
            troubles.append(f"{actor} has been at one message for {seconds:.0f} s")
        return "; ".join(troubles)

    def consumers_trouble(self) -> str:
        """Which queues are not consumed at this moment; empty when all are."""
        closed = [
            queue
            for queue, thread in self._worker.consumers.items()
            if not (isinstance(thread.consumer, QueueConsumer) and thread.consumer.is_open)
        ]
        return f"no open consumer of {', '.join(closed)}" if closed else ""
