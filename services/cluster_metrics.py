"""The metrics of the whole service: what no process knows of itself.

The admin process tells them. It is there to look at the whole; no reader waits for it, and nothing that it
watches depends on it. That one process tells them keeps them from being counted twice; should several do so,
each rule and panel in ``ops/`` takes the greatest. When nobody tells them, an alarm says so.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import text

from schema.messages import DEAD_LETTERS
from services.database import Database
from services.days import Clock, begins_first
from services.processes import ProcessStatus
from services.publisher import Queue
from services.status import QueueStatus, Records, read_queues, read_records
from services.usage import Usage

log = structlog.get_logger(__name__)

#: Seconds for which what was read is told again, without reading anew.
FRESH_S = 5.0
#: Seconds that whoever asks waits for a server; what it says later is told the next time.
PATIENCE_S = 2.0
#: Seconds after which what was read last is not told any more.
STALE_S = 60.0

#: Kinds of processes that are told also when none of them runs.
KINDS = ("bot", "worker", "scheduler", "admin")

_OLDEST_PARKED = text(
    "SELECT COALESCE(extract(epoch FROM now() - min(parked_at)), 0)::float FROM parked_messages"
)

_T = TypeVar("_T")


class _Source(Generic[_T]):
    """A server's answer, kept for a while."""

    def __init__(self, server: str, read: Callable[[], Awaitable[_T]]) -> None:
        self._server = server
        self._read = read
        self._reading: asyncio.Task[None] | None = None
        self._began = -math.inf
        self._value: _T | None = None
        self._value_at = -math.inf
        #: The last try brought an answer.
        self.well = False

    async def refresh(self) -> None:
        """Ask anew if the answer is old; wait for it, but not for long."""
        if self._reading is None and time.monotonic() - self._began >= FRESH_S:
            self._began = time.monotonic()
            self._reading = asyncio.create_task(self._try(), name="cluster metrics")
        if self._reading:
            await asyncio.wait({self._reading}, timeout=PATIENCE_S)
            self.well = self.well and self._reading is None

    async def _try(self) -> None:
        try:
            self._value = await self._read()
        except Exception as error:  # noqa: BLE001  whatever it is, it must not take the other metrics along
            self.well = False
            log.warning("cluster.not_read", server=self._server, reason=str(error))
        else:
            self._value_at = time.monotonic()
            self.well = True
        finally:
            self._reading = None

    @property
    def age_s(self) -> float:
        """Seconds since the last answer; infinite: there was none yet."""
        return time.monotonic() - self._value_at

    @property
    def value(self) -> _T | None:
        """The last answer, unless it is too old."""
        return self._value if self.age_s <= STALE_S else None


class ClusterMetrics:
    """Reads the whole service's state when somebody asks for it.

    What is not known, since its server is away, is not told: ``horoscope_cluster_read_success`` says so.

    Args:
        database: PostgreSQL.
        usage: What the model cost.
        rabbitmq_url: One or several AMQP addresses with ``;`` between.
        queues: The queues to look at.
        clock: The time.
        home: The zone of the night.
    """

    def __init__(
        self,
        database: Database,
        usage: Usage,
        rabbitmq_url: str,
        queues: Sequence[Queue],
        clock: Clock,
        home: ZoneInfo,
    ) -> None:
        self._clock = clock

        async def records() -> tuple[Records, list[ProcessStatus], float]:
            read = await read_records(database, usage, clock, home)
            async with database.transaction() as connection:
                oldest: float = (await connection.execute(_OLDEST_PARKED)).scalar_one()
            return read, read.processes, oldest

        async def depths() -> list[QueueStatus]:
            return await asyncio.to_thread(read_queues, rabbitmq_url, queues)

        self._records = _Source("postgresql", records)
        self._depths = _Source("rabbitmq", depths)

    async def refresh(self) -> None:
        """Ask PostgreSQL and RabbitMQ, at most every few seconds."""
        await asyncio.gather(self._records.refresh(), self._depths.refresh())

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
        for server, source in (("postgresql", self._records), ("rabbitmq", self._depths)):
            success.add_metric([server], source.well)
            age.add_metric([server], source.age_s)
        told: list[Metric] = [success, age]
        if (read := self._records.value) is not None:
            told += self._of_records(*read)
        if (depths := self._depths.value) is not None:
            told += _of_queues(depths)
        return told

    def _of_records(self, records: Records, processes: list[ProcessStatus], oldest: float) -> list[Metric]:
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
            living.add_metric([kind], sum(each.kind == kind and not each.lost for each in processes))
        counts = records.counts
        return [
            written,
            begins,
            ticks,
            living,
            _single("horoscope_views_today", "Views counted of today at home.", counts.views),
            _single("horoscope_waiting_readers", "Readers who are owed an answer.", counts.waiters),
            _single(
                "horoscope_overdue_readers",
                "Readers who have been owed an answer for more than two minutes.",
                counts.overdue,
            ),
            _single("horoscope_parked_messages", "Messages parked in PostgreSQL.", counts.parked),
            _single(
                "horoscope_oldest_parked_seconds",
                "Seconds for which the oldest parked message has been parked; 0: none is.",
                oldest,
            ),
        ]


def _of_queues(depths: list[QueueStatus]) -> list[Metric]:
    messages = _gauge(
        "horoscope_queue_messages",
        "Messages that wait in a queue; those handed out are not counted.",
        "queue",
    )
    consumers = _gauge("horoscope_queue_consumers", "Consumers of a queue.", "queue")
    for queue in depths:
        messages.add_metric([queue.name], queue.messages)
        consumers.add_metric([queue.name], queue.consumers)
    dead = sum(queue.messages for queue in depths if queue.name == DEAD_LETTERS)
    return [messages, consumers, _single("horoscope_dead_letters", "Dead letters.", dead)]


def _gauge(name: str, documentation: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, labels=[label])


def _single(name: str, documentation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, documentation, value=value)
