"""The metrics of the whole service, which no single process knows.

The admin process serves them: it looks at the whole service anyway, and nothing depends on it. If several serve them,
every rule and panel in ``ops/`` takes the greatest value. If none does, an alarm says so.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from schema.messages import DEAD_LETTERS
from services.admin.snapshots import POSTGRESQL, RABBITMQ, Service, Snapshot, Snapshots
from services.days import Clock, begins_first
from services.messaging.queues import QueueStatus
from services.process.metrics import QUEUES

log = structlog.get_logger(__name__)

#: Seconds after which the last figures of a server that is away are left out.
STALE_S = 60.0

#: The kinds of processes, each of which has a metric even if none runs.
KINDS = ("bot", "worker", "scheduler", "admin")

_Part = TypeVar("_Part")


class ClusterMetrics:
    """The state of the whole service as metrics.

    The figures of a server that is away are left out; then ``horoscope_cluster_read_success`` is 0.
    """

    def __init__(self, snapshots: Snapshots, clock: Clock) -> None:
        self._snapshots = snapshots
        self._clock = clock
        self._failed = False

    async def refresh(self) -> None:
        """Take a snapshot."""
        try:
            await self._snapshots.now()
        except Exception:  # no failure here may hide the process's other metrics
            self._failed = True
            log.exception("cluster.not_read")
        else:
            self._failed = False

    def collect(self) -> list[Metric]:
        """The metrics of the last snapshot, as Prometheus's client asks for them."""
        success = _gauge(
            "horoscope_cluster_read_success",
            "1 if the server answered when it was last asked for the state of the whole service, else 0.",
            "server",
        )
        age = _gauge(
            "horoscope_cluster_read_age_seconds",
            "Seconds since the server last told the state of the whole service; +Inf: it never did.",
            "server",
        )
        for server in (POSTGRESQL, RABBITMQ):
            success.add_metric([server.lower()], self._snapshots.answers(server) and not self._failed)
            age.add_metric([server.lower()], self._snapshots.told(server)[0])
        metrics: list[Metric] = [success, age]
        if service := self._lately(POSTGRESQL, lambda snapshot: snapshot.service):
            metrics += self._of_service(service)
        if queues := self._lately(RABBITMQ, lambda snapshot: snapshot.queues):
            metrics += _of_queues(queues)
        return metrics

    def _lately(self, server: str, part: Callable[[Snapshot], _Part]) -> _Part | None:
        age_s, snapshot = self._snapshots.told(server)
        return part(snapshot) if snapshot and age_s <= STALE_S else None

    def _of_service(self, service: Service) -> list[Metric]:
        records, counts = service.records, service.records.counts
        now = self._clock()
        written = _gauge("horoscope_texts_written", "Texts of a day that must exist, of twelve.", "day")
        begins = _gauge(
            "horoscope_day_begins_in_seconds",
            "Seconds until the day begins in the easternmost time zone; negative: it has begun.",
            "day",
        )
        for day in records.days:
            written.add_metric([str(day.day)], day.written)
            begins.add_metric([str(day.day)], (begins_first(day.day) - now).total_seconds())
        ticks = _gauge(
            "horoscope_tick_age_seconds", "Seconds since the last tick; +Inf: there was none.", "tick"
        )
        for tick in records.ticks:
            ticks.add_metric([tick.name], (now - tick.at).total_seconds() if tick.at else math.inf)
        alive = _gauge("horoscope_processes", "Processes that report that they run, by kind.", "kind")
        for kind in KINDS:
            alive.add_metric([kind], sum(each.kind == kind and not each.lost for each in records.processes))
        paused = _gauge("horoscope_queue_paused", "1 while a queue is paused, else 0.", "queue")
        for queue in sorted({*QUEUES, DEAD_LETTERS}):
            paused.add_metric([queue], queue in records.pauses)
        single = {
            ("horoscope_views_today", "Views counted today, in the home time zone."): counts.views,
            ("horoscope_waiting_readers", "Readers who are owed an answer."): counts.waiters,
            (
                "horoscope_overdue_readers",
                "Readers who have been owed an answer for over two minutes.",
            ): counts.overdue,
            ("horoscope_parked_messages", "Messages parked in PostgreSQL."): counts.parked,
            ("horoscope_dead_letters", "Dead letters that wait for a person."): service.status.dead_letters,
            (
                "horoscope_oldest_parked_seconds",
                "Age of the oldest parked message; 0: none.",
            ): counts.oldest_parked_s,
        }
        gauges = [
            GaugeMetricFamily(name, documentation, value=value)
            for (name, documentation), value in single.items()
        ]
        return [written, begins, ticks, alive, paused, *gauges]


def _of_queues(queues: list[QueueStatus]) -> list[Metric]:
    messages = _gauge(
        "horoscope_queue_messages", "Messages waiting in a queue, without those at work.", "queue"
    )
    consumers = _gauge("horoscope_queue_consumers", "Consumers of a queue.", "queue")
    for queue in queues:
        messages.add_metric([queue.name], queue.messages)
        consumers.add_metric([queue.name], queue.consumers)
    return [messages, consumers]


def _gauge(name: str, documentation: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=[label])
