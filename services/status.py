"""Is today ready, is anything stuck: what an operator asks first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.messages import GENERATION
from schema.signs import Sign
from services.database.pool import Database
from services.days import Clock, day_in, days_to_write, next_night
from services.horoscopes.night import MIDNIGHT, RECONCILE, RECONCILE_EVERY_S
from services.horoscopes.outages import BELIEVED_S
from services.horoscopes.usage import Usage
from services.messaging.pauses import FORGOTTEN_S, Pause, read_pauses
from services.messaging.queues import QueueStatus
from services.process.heartbeats import ProcessStatus, read_processes

_DAYS = text("""
    SELECT sign.name AS sign, CASE WHEN cache.id IS NOT NULL THEN 'written'
                                   WHEN generation.state = 'written' THEN 'missing'  -- deleted since
                                   WHEN generation.expires_at < now() THEN 'missing'  -- its writer died
                                   ELSE COALESCE(generation.state, 'missing') END AS state,
           generation.since, generation.attempts, generation.retry_at, generation.writer, generation.error,
           cache.generated_at,
           CASE WHEN cache.id IS NOT NULL AND (generation.state IN ('retrying', 'given_up')
                     OR generation.state = 'writing' AND generation.expires_at > now())
                THEN generation.state END AS anew
    FROM unnest(CAST(:signs AS text[])) WITH ORDINALITY AS sign (name, place)
    LEFT JOIN horoscope_cache AS cache ON cache.zodiac_sign = sign.name AND cache.horoscope_date = :day
    LEFT JOIN generations AS generation
        ON generation.zodiac_sign = sign.name AND generation.horoscope_date = :day
    ORDER BY sign.place
""")
_TICKS = text("SELECT name, at, did, extract(epoch FROM now() - at) AS age_s FROM ticks")
# A worker with other settings may have written something since; then the model is not to blame any more.
_OUTAGE = text("""
    SELECT reason, since, failures, refused FROM model_outages AS outage
    WHERE known_at IS NOT NULL AND failed_at > now() - make_interval(secs => :believed)
      AND NOT EXISTS (
          SELECT FROM generations WHERE state = 'written' AND generations.since > outage.failed_at)
    ORDER BY failed_at DESC LIMIT 1
""")
_COUNTS = text("""
    SELECT (SELECT COALESCE(sum(view_count), 0) FROM horoscope_views WHERE view_date = :today) AS views,
           (SELECT count(*) FROM waiters WHERE answered_at IS NULL) AS waiters,
           (SELECT count(*) FROM waiters
            WHERE answered_at IS NULL AND created_at < now() - interval '2 minutes') AS overdue,
           (SELECT count(*) FROM parked_messages) AS parked,
           (SELECT COALESCE(extract(epoch FROM now() - min(parked_at)), 0)::float FROM parked_messages)
               AS oldest_parked_s,
           (SELECT COALESCE(sum(prompt_tokens + completion_tokens), 0) FROM model_usage
            WHERE spent_on = :today) AS tokens,
           (SELECT sum(cost_usd) FROM model_usage WHERE spent_on = :today) AS cost_usd,
           (SELECT count(*) FROM readers WHERE zodiac_sign IS NOT NULL AND blocked_at IS NULL) AS readers,
           (SELECT count(*) FROM dead_letters WHERE state = 'dead') AS dead,
           (SELECT count(*) FROM dead_letters WHERE state = 'waiting' AND state_since < now() - interval '1 day')
               AS unheard
""")


STATES = ("written", "writing", "pending", "retrying", "given_up", "missing")

#: Seconds without a reconcile tick after which somebody should look for the scheduler.
NO_TICK_S = 900

#: The kinds of processes without which the service does not do what it is there for.
NEEDED = ("bot", "worker", "scheduler")


@dataclass(frozen=True, slots=True)
class SignStatus:
    """The text of one sign and day: what became of it so far.

    Args:
        sign: Whose text.
        state: One of :data:`STATES`.
        since: When the state began.
        attempts: How often somebody began to write it.
        retry_at: When its ladder tries again.
        writer: The process that writes it or last tried to: host and pid.
        error: Why the last attempt failed.
        generated_at: When the text that readers are shown was written; None: there is none.
        anew: What becomes of the text that is to take its place: writing, retrying or given_up; None: nothing
            is to.
    """

    sign: str
    state: str
    since: datetime | None
    attempts: int
    retry_at: datetime | None
    writer: str | None
    error: str | None
    generated_at: datetime | None = None
    anew: str | None = None


@dataclass(frozen=True, slots=True)
class DayStatus:
    """The twelve signs of one day, in the zodiac's order: each one's state, and all that is known of it."""

    day: date
    states: dict[str, str]
    signs: list[SignStatus]

    @property
    def written(self) -> int:
        """How many of the twelve can be shown."""
        return sum(state == "written" for state in self.states.values())

    @property
    def unwritten(self) -> list[SignStatus]:
        """Those that cannot be shown."""
        return [sign for sign in self.signs if sign.state != "written"]


@dataclass(frozen=True, slots=True)
class TickStatus:
    """A kind of tick.

    Args:
        name: midnight or reconcile.
        at: When the last one came; None: none ever did.
        did: What came of it.
        due: When the next one is due.
    """

    name: str
    at: datetime | None
    did: str
    due: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """The whole service at a glance.

    Args:
        dead_letters: Those that wait for a person: in the archive, and on their way there as far as RabbitMQ tells.
        running: How many processes of each kind live.
        pauses: The queues that are paused.
        alarms: What needs a person, in words.
    """

    days: list[DayStatus]
    ticks: list[TickStatus]
    queues: list[QueueStatus]
    horoscopes_today: int
    readers: int
    waiters: int
    parked: int
    dead_letters: int
    tokens_today: int
    cost_today_usd: float | None
    running: dict[str, int]
    pauses: list[Pause] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Records:
    """What PostgreSQL knows: rows as they were read."""

    days: list[DayStatus]
    ticks: list[TickStatus]
    tick_age_s: float | None
    outage: Any
    exhausted: str | None
    counts: Any
    processes: list[ProcessStatus]
    pauses: dict[str, Pause] = field(default_factory=dict)


async def read_records(database: Database, usage: Usage, clock: Clock, home: ZoneInfo) -> Records:
    """The days that must exist, the ticks, the model's outage, the counters, the processes and the pauses.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    now = clock()
    async with database.transaction() as connection:
        days = [await read_day(connection, day) for day in days_to_write(now, home)]
        ticked = {row.name: row for row in await connection.execute(_TICKS)}
        outage = (await connection.execute(_OUTAGE, {"believed": BELIEVED_S})).one_or_none()
        counts = (await connection.execute(_COUNTS, {"today": day_in(home, now)})).one()
    due = {
        MIDNIGHT: next_night(now, home),
        RECONCILE: datetime.fromtimestamp(
            (now.timestamp() // RECONCILE_EVERY_S + 1) * RECONCILE_EVERY_S, now.tzinfo
        ),
    }
    ticks = [
        TickStatus(
            name, ticked[name].at if name in ticked else None, ticked[name].did if name in ticked else "", at
        )
        for name, at in due.items()
    ]
    age = float(ticked[RECONCILE].age_s) if RECONCILE in ticked else None
    processes = await read_processes(database)
    pauses = await read_pauses(database)
    return Records(days, ticks, age, outage, await usage.exhausted(), counts, processes, pauses)


async def read_day(connection: AsyncConnection, day: date) -> DayStatus:
    """What became of the twelve texts of a day."""
    rows = await connection.execute(_DAYS, {"signs": [sign.value for sign in Sign], "day": day})
    signs = [
        SignStatus(
            row.sign, row.state, row.since, row.attempts or 0, row.retry_at, row.writer, row.error,
            row.generated_at, row.anew,
        )
        for row in rows
    ]  # fmt: skip
    return DayStatus(day, {sign.sign: sign.state for sign in signs}, signs)


def judge(records: Records, queues: list[QueueStatus] | None) -> Status:
    """Put the parts together and say what needs a person.

    Args:
        queues: What RabbitMQ knows; None: it cannot be reached, and nothing is said that would need it.
    """
    alarms = [] if queues is None else _queue_alarms(queues, records.pauses)
    alarms += [
        f"the queue {pause.queue} is {pause}"
        for pause in records.pauses.values()
        if pause.age_s > FORGOTTEN_S
    ]
    running = {
        kind: sum(each.kind == kind and not each.lost for each in records.processes)
        for kind in (*NEEDED, "admin")
    }
    alarms += [f"no {kind} runs" for kind in NEEDED if not running[kind]]
    ordered = queues is None or any(queue.messages for queue in queues if queue.name == GENERATION)
    for day in records.days:
        by_state = {state: [sign for sign in day.states if day.states[sign] == state] for state in STATES}
        if lost := by_state["given_up"]:
            alarms.append(
                f"{day.day}: given up: {', '.join(lost)}; see why, then: horoscope generate --day {day.day}"
            )
        at_work = by_state["writing"] or by_state["pending"] or ordered
        if by_state["missing"] and not at_work:
            alarms.append(f"{day.day}: {len(by_state['missing'])} texts are missing and nobody writes them")
    if (outage := records.outage) is not None:
        fails = "refuses us" if outage.refused else f"has failed {outage.failures} times in a row"
        alarms.append(f"the model {fails} since {outage.since:%Y-%m-%d %H:%M} UTC: {outage.reason}")
    if records.exhausted:
        alarms.append(f"the night has stopped: {records.exhausted}")
    if records.tick_age_s is None or records.tick_age_s > NO_TICK_S:
        alarms.append("no tick for fifteen minutes: is a scheduler running?")
    counts = records.counts
    dead = counts.dead + sum(queue.messages for queue in queues or () if queue.kind == "dead")
    alarms += [
        alarm
        for count, alarm in (
            (dead, f"dead letters: {dead}"),
            (
                counts.unheard,
                f"replays of which nothing has been heard for a day: {counts.unheard}; was a queue purged?",
            ),
            (counts.overdue, f"readers who have waited for more than two minutes: {counts.overdue}"),
            (
                counts.parked,
                f"parked messages: {counts.parked}; was RabbitMQ away, is no bot or worker running?",
            ),
        )
        if count
    ]
    return Status(
        days=records.days,
        ticks=records.ticks,
        queues=queues or [],
        horoscopes_today=int(counts.views),
        readers=counts.readers,
        waiters=counts.waiters,
        parked=counts.parked,
        dead_letters=dead,
        tokens_today=int(counts.tokens),
        cost_today_usd=None if counts.cost_usd is None else float(counts.cost_usd),
        running=running,
        pauses=[*records.pauses.values()],
        alarms=alarms,
    )


def _queue_alarms(queues: list[QueueStatus], pauses: Mapping[str, Pause]) -> list[str]:
    if not queues:
        return ["RabbitMQ has no queues: no process has been started"]
    # Few workers may be told to archive, and while nothing has died nobody misses them.
    unserved = [
        queue.name
        for queue in queues
        if not queue.consumers
        and queue.name not in pauses
        and (queue.kind == "work" or (queue.kind == "dead" and queue.messages))
    ]
    return [f"nobody consumes the queue {name}: is a worker running?" for name in unserved]
