"""The metrics of the whole service: what no process knows of itself.

The admin process tells them. It is there to look at the whole; no reader waits for it, and nothing that it
watches depends on it. That one process tells them keeps them from being counted twice; should several do so,
each rule and panel in ``ops/`` takes the greatest. When nobody tells them, an alarm says so.
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

#: Seconds after which what a server told last is not told any more.
STALE_S = 60.0

#: Kinds of processes that are told also when none of them runs.
KINDS = ("bot", "worker", "scheduler", "admin")

_Part = TypeVar("_Part")


class ClusterMetrics:
    """Tells the whole service's state when somebody asks for it.

    What is not known, since its server is away, is not told: ``horoscope_cluster_read_success`` says so.

    Args:
        snapshots: Take the pictures that it is told from.
        clock: The time.
    """

    def __init__(self, snapshots: Snapshots, clock: Clock) -> None:
        self._snapshots = snapshots
        self._clock = clock
        self._failed = False

    async def refresh(self) -> None:
        """Have a snapshot taken."""
        try:
            await self._snapshots.now()
        except Exception:  # whatever it is, it must not take the other metrics along
            self._failed = True
            log.exception("cluster.not_read")
        else:
            self._failed = False

    def collect(self) -> list[Metric]:
        """What was read last, as Prometheus asks for it."""
        success = _gauge(
            "horoscope_cluster_read_success",
            "1 if the server answered the last time that it was asked for the state of the whole service, else 0.",
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
        told: list[Metric] = [success, age]
        if service := self._lately(POSTGRESQL, lambda snapshot: snapshot.service):
            told += self._of_service(service)
        if queues := self._lately(RABBITMQ, lambda snapshot: snapshot.queues):
            told += _of_queues(queues)
        return told

    def _lately(self, server: str, part: Callable[[Snapshot], _Part]) -> _Part | None:
        """What a server told last, unless it is too old."""
        age_s, snapshot = self._snapshots.told(server)
        return part(snapshot) if snapshot and age_s <= STALE_S else None

    def _of_service(self, service: Service) -> list[Metric]:
        records = service.records
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
            "horoscope_tick_age_seconds", "Seconds since a tick last came; +Inf: it never did.", "tick"
        )
        for tick in records.ticks:
            ticks.add_metric([tick.name], (now - tick.at).total_seconds() if tick.at else math.inf)
        living = _gauge("horoscope_processes", "Processes that say that they live, by kind.", "kind")
        for kind in KINDS:
            living.add_metric([kind], sum(each.kind == kind and not each.lost for each in records.processes))
        paused = _gauge("horoscope_queue_paused", "1 while somebody has paused a queue, else 0.", "queue")
        for queue in sorted({*QUEUES, DEAD_LETTERS}):
            paused.add_metric([queue], queue in records.pauses)
        counts = records.counts
        return [
            written,
            begins,
            ticks,
            living,
            paused,
            _single("horoscope_views_today", "Views counted of today at home.", counts.views),
            _single("horoscope_waiting_readers", "Readers who are owed an answer.", counts.waiters),
            _single(
                "horoscope_overdue_readers",
                "Readers who have been owed an answer for more than two minutes.",
                counts.overdue,
            ),
            _single("horoscope_parked_messages", "Messages parked in PostgreSQL.", counts.parked),
            _single(
                "horoscope_dead_letters", "Dead letters that wait for a person.", service.status.dead_letters
            ),
            _single(
                "horoscope_oldest_parked_seconds",
                "Seconds for which the oldest parked message has been parked; 0: none is.",
                counts.oldest_parked_s,
            ),
        ]


def _of_queues(queues: list[QueueStatus]) -> list[Metric]:
    messages = _gauge(
        "horoscope_queue_messages",
        "Messages that wait in a queue; those handed out are not counted.",
        "queue",
    )
    consumers = _gauge("horoscope_queue_consumers", "Consumers of a queue.", "queue")
    for queue in queues:
        messages.add_metric([queue.name], queue.messages)
        consumers.add_metric([queue.name], queue.consumers)
    return [messages, consumers]


def _gauge(name: str, documentation: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=[label])


def _single(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=value)
