"""The service's status for operators: days, ticks, queues, processes, and alarms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.messages import GENERATION
from schema.sentences import Sentence
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
           generation.since, COALESCE(generation.attempts, 0), generation.retry_at, generation.writer,
           generation.error, cache.generated_at,
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
# A worker with other settings may have written a text since; then the outage is over for this service.
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
           (SELECT count(*) FROM dead_letters WHERE state = 'dead')
               - (SELECT count(*) FROM dead_letters WHERE state = 'dead' AND done) AS dead,
           (SELECT count(*) FROM dead_letters WHERE state = 'dead' AND done) AS done,
           (SELECT count(*) FROM dead_letters WHERE state = 'waiting' AND state_since < now() - interval '1 day')
               AS unheard
""")

STATES = ("written", "writing", "pending", "retrying", "given_up", "missing")

#: Seconds without a reconcile tick after which an alarm is raised.
NO_TICK_S = 900

#: The kinds of processes that the service needs, each with what is wrong when none lives.
NEEDED = {
    "bot": Sentence("no bot runs"),
    "worker": Sentence("no worker runs"),
    "scheduler": Sentence("no scheduler runs"),
}


@dataclass(frozen=True, slots=True)
class SignStatus:
    """The text of one sign and day; the fields are the columns of ``_DAYS``."""

    sign: str
    state: str  #: One of :data:`STATES`
    since: datetime | None  #: When the state began
    attempts: int  #: How often a worker began to write it
    retry_at: datetime | None  #: When its ladder tries again
    writer: str | None  #: The process that writes it or last tried to: host and pid
    error: str | None  #: Why the last attempt failed
    generated_at: datetime | None = None  #: When the text that readers see was written; None: there is none
    #: The state of its replacement: writing, retrying or given_up; None: it gets none.
    anew: str | None = None


@dataclass(frozen=True, slots=True)
class DayStatus:
    """The texts of one day, in the order of the zodiac."""

    day: date
    states: dict[str, str]
    signs: list[SignStatus]

    @property
    def written(self) -> int:
        """How many texts exist."""
        return sum(state == "written" for state in self.states.values())

    @property
    def unfinished(self) -> list[SignStatus]:
        """The texts that were begun and are not written, and the written ones whose rewrite is not."""
        return [sign for sign in self.signs if sign.since and (sign.state != "written" or sign.anew)]


@dataclass(frozen=True, slots=True)
class TickStatus:
    """A kind of tick."""

    name: str  #: midnight or reconcile
    at: datetime | None  #: When the last one came; None: never
    did: str  #: What it did
    due: datetime  #: When the next one comes


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that needs a person."""

    section: str  #: The section of ``ops/RUNBOOK.md`` about it: the anchor of its heading
    sentence: Sentence  #: What is wrong
    detail: str = ""  #: What a server answered, or why a person did it; may be empty
    queue: str = ""  #: The queue that it is about; empty for other alarms

    def __str__(self) -> str:
        return f"{self.sentence}: {self.detail}" if self.detail else self.sentence


@dataclass(frozen=True, slots=True)
class Status:
    """The status of the whole service."""

    days: list[DayStatus]
    ticks: list[TickStatus]
    queues: list[QueueStatus]
    horoscopes_today: int
    readers: int
    waiters: int
    parked: int
    dead_letters: int  #: Those that a person can mend: in the archive, or in RabbitMQ on their way there
    done_letters: int  #: Those with nothing left to do, as workers last judged them; they raise no alarm
    tokens_today: int
    cost_today_usd: float | None
    running: dict[str, int]  #: The number of running processes, by kind
    pauses: list[Pause] = field(default_factory=list)
    alarms: list[Alarm] = field(default_factory=list)  #: Conditions that need a person

    @property
    def notes(self) -> list[str]:
        """Hints; none of them is urgent."""
        if not self.done_letters:
            return []
        more = "more " if self.dead_letters else ""
        dead, them = ("letter has", "it") if self.done_letters == 1 else ("letters have", "them")
        drop = 'horoscope dead drop --verdict done --why "nothing left to do"'
        return [f"{self.done_letters} {more}dead {dead} nothing left to do; drop {them}: {drop}"]


@dataclass(frozen=True, slots=True)
class Records:
    """What PostgreSQL knows of the service."""

    days: list[DayStatus]
    ticks: list[TickStatus]
    tick_age_s: float | None
    outage: Any
    exhausted: str | None
    counts: Any
    processes: list[ProcessStatus]
    pauses: dict[str, Pause] = field(default_factory=dict)


async def read_records(database: Database, usage: Usage, clock: Clock, home: ZoneInfo) -> Records:
    """Read the service's records; raises DatabaseUnavailable while PostgreSQL is away."""
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
    """Read the state of a day's twelve texts."""
    rows = await connection.execute(_DAYS, {"signs": [sign.value for sign in Sign], "day": day})
    signs = [SignStatus(*row) for row in rows]
    return DayStatus(day, {sign.sign: sign.state for sign in signs}, signs)


def judge(records: Records, queues: list[QueueStatus] | None) -> Status:
    """Derive the status and its alarms. While RabbitMQ is away, ``queues`` is None and raises no alarms."""
    running = {
        kind: sum(each.kind == kind and not each.lost for each in records.processes)
        for kind in (*NEEDED, "admin")
    }
    counts = records.counts
    dead = counts.dead + sum(queue.messages for queue in queues or () if queue.kind == "dead")
    alarms = [
        *_queue_alarms(queues, records.pauses),
        *(Alarm("process-missing", sentence) for kind, sentence in NEEDED.items() if not running[kind]),
        *_text_alarms(records.days, queues),
        *_model_alarms(records),
        *_count_alarms(counts, dead),
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
        done_letters=counts.done,
        tokens_today=int(counts.tokens),
        cost_today_usd=None if counts.cost_usd is None else float(counts.cost_usd),
        running=running,
        pauses=[*records.pauses.values()],
        alarms=alarms,
    )


def _queue_alarms(queues: list[QueueStatus] | None, pauses: Mapping[str, Pause]) -> Iterator[Alarm]:
    if queues == []:
        yield Alarm("no-queues", Sentence("RabbitMQ has no queues: no process has been started"))
    for queue in queues or ():
        # Some workers may be told not to archive; that matters only when there is something to archive.
        needed = queue.kind == "work" or (queue.kind == "dead" and queue.messages)
        if needed and not queue.consumers and queue.name not in pauses:
            yield Alarm(
                "queue-without-worker",
                Sentence("no worker consumes the queue %(queue)s", queue=queue.name),
                queue=queue.name,
            )
    for pause in pauses.values():
        if pause.age_s > FORGOTTEN_S:
            yield Alarm(
                "pause-forgotten",
                Sentence(
                    "the queue %(queue)s has been paused since %(since)s by %(by)s",
                    queue=pause.queue,
                    since=pause.since,
                    by=pause.by,
                ),
                pause.why,
                pause.queue,
            )


def _text_alarms(days: Sequence[DayStatus], queues: Sequence[QueueStatus] | None) -> Iterator[Alarm]:
    ordered = queues is None or any(queue.messages for queue in queues if queue.name == GENERATION)
    for day in days:
        by_state = {state: [sign for sign in day.states if day.states[sign] == state] for state in STATES}
        if lost := by_state["given_up"]:
            yield Alarm(
                "texts-given-up",
                Sentence(
                    "%(day)s: all attempts failed for %(signs)s; "
                    "remove the cause, then: horoscope generate --day %(argument)s",
                    day=day.day,
                    signs=tuple(map(Sign, lost)),
                    argument=str(day.day),
                ),
            )
        if by_state["missing"] and not (by_state["writing"] or by_state["pending"] or ordered):
            yield Alarm(
                "texts-missing",
                Sentence.counted(
                    "%(day)s: %(count)s text is missing, and no worker is writing it",
                    "%(day)s: %(count)s texts are missing, and no worker is writing them",
                    day=day.day,
                    count=len(by_state["missing"]),
                ),
            )


def _model_alarms(records: Records) -> Iterator[Alarm]:
    outage = records.outage
    if outage is not None and outage.refused:
        refused = Sentence("the model refuses every request since %(since)s", since=outage.since)
        yield Alarm("model-refusing", refused, outage.reason)
    elif outage is not None:
        failed = Sentence.counted(
            "the model has failed %(count)s time since %(since)s",
            "the model has failed %(count)s times in a row since %(since)s",
            count=outage.failures,
            since=outage.since,
        )
        yield Alarm("model-failing", failed, outage.reason)
    if records.exhausted:
        yield Alarm("token-limit-reached", Sentence("no texts are written ahead"), records.exhausted)
    if records.tick_age_s is None or records.tick_age_s > NO_TICK_S:
        yield Alarm("no-ticks", Sentence("no tick for fifteen minutes: is a scheduler running?"))


def _count_alarms(counts: Any, dead: int) -> Iterator[Alarm]:
    sentences = {
        "dead-letters-waiting": Sentence.counted(
            "%(count)s dead letter needs a decision", "%(count)s dead letters need a decision", count=dead
        ),
        "replays-without-outcome": Sentence.counted(
            "%(count)s replay has had no outcome for a day: was a queue purged?",
            "%(count)s replays have had no outcome for a day: was a queue purged?",
            count=counts.unheard,
        ),
        "readers-overdue": Sentence.counted(
            "%(count)s reader has waited for more than two minutes",
            "%(count)s readers have waited for more than two minutes",
            count=counts.overdue,
        ),
        "messages-parked": Sentence.counted(
            "%(count)s message is parked: was RabbitMQ away, or is no bot or worker running?",
            "%(count)s messages are parked: was RabbitMQ away, or is no bot or worker running?",
            count=counts.parked,
        ),
    }
    return (Alarm(section, sentence) for section, sentence in sentences.items() if sentence.values["count"])
