"""Is today ready, is anything stuck: what an operator asks first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pika
from pika.exceptions import AMQPError, ChannelClosedByBroker
from sqlalchemy import text

from schema.errors import NotPublished
from schema.messages import DEAD_LETTERS, GENERATION
from schema.signs import Sign
from services.database import Database
from services.days import Clock, day_in, days_to_write
from services.publisher import Queue, connection_parameters

_DAYS = text("""
    SELECT sign.name AS sign, CASE WHEN cache.id IS NOT NULL THEN 'written'
                                   WHEN generation.state = 'written' THEN 'missing'  -- deleted since
                                   WHEN generation.expires_at < now() THEN 'missing'  -- its writer died
                                   ELSE COALESCE(generation.state, 'missing') END AS state,
           generation.error
    FROM unnest(CAST(:signs AS text[])) AS sign (name)
    LEFT JOIN horoscope_cache AS cache ON cache.zodiac_sign = sign.name AND cache.horoscope_date = :day
    LEFT JOIN generations AS generation
        ON generation.zodiac_sign = sign.name AND generation.horoscope_date = :day
""")
_COUNTS = text("""
    SELECT (SELECT COALESCE(sum(view_count), 0) FROM horoscope_views WHERE view_date = :today) AS views,
           (SELECT count(*) FROM waiters WHERE answered_at IS NULL) AS waiters,
           (SELECT count(*) FROM waiters
            WHERE answered_at IS NULL AND created_at < now() - interval '2 minutes') AS overdue,
           (SELECT count(*) FROM parked_messages) AS parked,
           (SELECT count(*) FROM readers WHERE zodiac_sign IS NOT NULL AND blocked_at IS NULL) AS readers
""")


STATES = ("written", "writing", "retrying", "given_up", "missing")


@dataclass(frozen=True, slots=True)
class DayStatus:
    """The twelve signs of one day: each sign's state, and the error of those that failed."""

    day: date
    states: dict[str, str]
    errors: dict[str, str]

    @property
    def written(self) -> int:
        """How many of the twelve can be shown."""
        return sum(state == "written" for state in self.states.values())


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """A queue's messages that wait, and who consumes it."""

    name: str
    messages: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Status:
    """The whole service at a glance; ``alarms`` is what needs a person, in words."""

    days: list[DayStatus]
    queues: list[QueueStatus]
    horoscopes_today: int
    readers: int
    waiters: int
    parked: int
    alarms: list[str] = field(default_factory=list)


async def read_days(database: Database, clock: Clock, home: ZoneInfo) -> tuple[list[DayStatus], Any]:
    """The days that must exist and the counters.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    now = clock()
    days = []
    async with database.transaction() as connection:
        for day in days_to_write(now, home):
            rows = list(await connection.execute(_DAYS, {"signs": [sign.value for sign in Sign], "day": day}))
            days.append(
                DayStatus(
                    day,
                    {row.sign: row.state for row in rows},
                    {row.sign: row.error for row in rows if row.error and row.state != "written"},
                )
            )
        counts = (await connection.execute(_COUNTS, {"today": day_in(home, now)})).one()
    return days, counts


def read_queues(urls: str, queues: Sequence[Queue]) -> list[QueueStatus]:
    """What waits in each queue; a queue that was never declared is left out. Blocks.

    Raises:
        NotPublished: RabbitMQ cannot be reached.
    """
    found = []
    try:
        connection = pika.BlockingConnection(connection_parameters(urls))
        for queue in queues:
            channel = connection.channel()
            try:
                state = channel.queue_declare(queue.name, passive=True).method
            except ChannelClosedByBroker:
                continue
            found.append(QueueStatus(queue.name, state.message_count, state.consumer_count))
            channel.close()
        connection.close()
    except (AMQPError, OSError) as error:
        raise NotPublished(f"RabbitMQ cannot be reached: {error!r}; check RABBITMQ_URL") from error
    return found


def judge(days: list[DayStatus], counts: Any, queues: list[QueueStatus]) -> Status:
    """Put the parts together and say what needs a person."""
    alarms = _queue_alarms(queues)
    ordered = sum(queue.messages for queue in queues if queue.name == GENERATION)
    for day in days:
        by_state = {state: [sign for sign in day.states if day.states[sign] == state] for state in STATES}
        if lost := by_state["given_up"]:
            alarms.append(
                f"{day.day}: given up: {', '.join(lost)}; see why, then: horoscope generate --day {day.day}"
            )
        if by_state["missing"] and not by_state["writing"] and not ordered:
            alarms.append(f"{day.day}: {len(by_state['missing'])} texts are missing and nobody writes them")
    if counts.overdue:
        alarms.append(f"readers who have waited for more than two minutes: {counts.overdue}")
    if counts.parked:
        alarms.append(f"parked messages: {counts.parked}; was RabbitMQ away, is no bot or worker running?")
    return Status(
        days=days,
        queues=queues,
        horoscopes_today=int(counts.views),
        readers=counts.readers,
        waiters=counts.waiters,
        parked=counts.parked,
        alarms=alarms,
    )


def _queue_alarms(queues: list[QueueStatus]) -> list[str]:
    if not queues:
        return ["RabbitMQ has no queues: no process has been started"]
    alarms = []
    for queue in queues:
        if queue.name == DEAD_LETTERS:
            if queue.messages:
                alarms.append(f"dead letters: {queue.messages}")
        elif ".retry." not in queue.name and not queue.consumers:
            alarms.append(f"nobody consumes the queue {queue.name}: is a worker running?")
    return alarms
