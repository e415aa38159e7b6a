"""The row ``dead_letters``: how fast letters are archived and replayed, and how long a look at 100,000 of them takes.

A round fills the queue of dead letters while the worker is frozen. The worker archives them, and then replays all as
fast as it can until each replay is known to have had its effect. The replayed messages are views, because their
effect is the least work. After the rounds the table is filled up, and timed with the questions of the page.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from uuid import uuid4

import orjson
import pika

from actors import REPLAYABLE
from ops.bench import backlog
from ops.bench.backlog import PERSISTENT, Wire
from ops.bench.report import Line, Result, progress
from ops.bench.stage import HOME, BenchError, Running, Stage
from schema.errors import ModelUnavailable
from schema.messages import DEAD_LETTERS, VIEWS, HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.days import day_in, system_clock
from services.dead_letters.death import TRACEBACK_LIMIT, Death
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector, make_inspector
from services.dead_letters.replays import FASTEST
from services.messaging.envelope import decode, encode
from services.process.logs import Mask

#: Letters of a round.
LETTERS = 10_000
#: Letters in the table, and kinds of failures among them, for the questions.
MANY, KINDS = 100_000, 100
#: Times that each question is asked.
ASKED = 15

_CLONE = """
    INSERT INTO dead_letters (
        death, digest, state, message_id, actor, queue, arguments, zodiac_sign, day, body, masked, cause, error_type,
        error, traceback, fingerprint, attempts, release, host, published_at, died_at)
    SELECT gen_random_uuid(), sha256(number::text::bytea), 'dead', gen_random_uuid()::text, actor, queue, arguments,
           zodiac_sign, day, body, masked, cause, error_type, error, traceback,
           lpad(to_hex(number % $1), 16, '0'), attempts, '0.' || number % 3, host, published_at,
           died_at - make_interval(secs => number)
    FROM generate_series(1, $2) AS number
    JOIN (SELECT *, row_number() OVER (ORDER BY id) AS place FROM dead_letters) AS letter
        ON place = 1 + number % $3
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """One round: letters a second, and the peak of the worker's resident memory."""

    #: From the queue into the table.
    archived: float
    #: Out of the table, confirmed and on record.
    published: float
    #: Published, answered, and known to have had their effect.
    settled: float
    peak_mib: float


async def measure(stage: Stage, rounds: int, _seconds: int) -> Result:
    """Measure the row."""
    async with Database(stage.database_url) as database:
        inspector = make_inspector(database, REPLAYABLE, system_clock)
        turns = []
        for number in range(rounds):
            await stage.sql.execute(
                "TRUNCATE dead_letters, replay_runs, view_receipts, horoscope_views CASCADE"
            )
            async with stage.services("worker") as parts:
                turn = await _turn(stage, inspector, parts["worker"][0])
            turns.append(turn)
            rates = f"published {turn.published:.0f}/s, settled {turn.settled:.0f}/s"
            progress(number, rounds, f"archived {turn.archived:.0f}/s, {rates}")
        await stage.sql.execute(_CLONE, KINDS, MANY - LETTERS, LETTERS)
        await stage.sql.execute("VACUUM ANALYZE dead_letters")
        return _judge(turns, await _look(inspector))


async def _turn(stage: Stage, inspector: Inspector, worker: Running) -> Turn:
    letters = [_letter(number) for number in range(LETTERS)]
    with worker.held():
        await backlog.publish(stage, DEAD_LETTERS, letters)
        began = time.perf_counter()
    await stage.until_at_least(LETTERS, "SELECT count(*) FROM dead_letters")
    archived = LETTERS / (time.perf_counter() - began)

    ids = [each.id for each in await inspector.records.listed(Filter(), limit=None)]
    verdicts = await inspector.replays.verdicts(ids)
    began = time.perf_counter()
    run = await inspector.replays.start(verdicts, what="all", by="the benchmark", why="to see", rate=FASTEST)
    await stage.until_at_least(1, "SELECT count(*) FROM replay_runs WHERE state = 'finished'")
    published = LETTERS / (time.perf_counter() - began)
    await stage.until_at_least(LETTERS, "SELECT count(*) FROM replays WHERE state = 'did_it'")
    settled = LETTERS / (time.perf_counter() - began)
    worker.check()
    run = await inspector.replays.run(run.id)
    if (counted := await stage.counted()) != LETTERS or run.did_it != LETTERS:
        raise BenchError(f"{counted} of {LETTERS} replayed views were counted")
    if left := stage.queued(VIEWS) + stage.queued(DEAD_LETTERS):
        raise BenchError(f"{left} messages are left")
    return Turn(archived, published, settled, worker.peak_mib)


def _letter(number: int) -> Wire:
    """A view that died after all its retries, with a traceback of the usual length."""
    now = datetime.now(UTC)
    sign = tuple(Sign)[number % 12]
    view = HoroscopeRequested(uuid4(), sign, day_in(HOME, system_clock()), answered=True, at=now)
    error = ModelUnavailable(f"the model did not answer: {uuid4()}")
    parts = decode(encode(view))
    process = {"host": "bench", "pid": 1, "release": "0"}
    attempt = process | {"at": now.isoformat(), "seconds": 1.5, "error": str(error)}
    trace = "".join(f"  File {uuid4()}, line {line}, in work\n" for line in range(TRACEBACK_LIMIT // 120))
    parts["options"] = {"attempts": [attempt] * 4, "traceback": trace}
    headers = Death.of(error, VIEWS, Mask([]), replay=None).headers()
    return Wire(orjson.dumps(parts), pika.BasicProperties(delivery_mode=PERSISTENT, headers=headers))


async def _look(inspector: Inspector) -> dict[str, list[float]]:
    """The milliseconds that each question took, each time."""
    (latest,) = await inspector.records.listed(Filter(state=None), limit=1)
    questions: dict[str, Callable[[], Awaitable[object]]] = {
        "groups": lambda: inspector.records.groups(Filter()),
        "groups, in any state": lambda: inspector.records.groups(Filter(state=None)),
        "the latest 50 of a group": lambda: inspector.records.listed(Filter(group=latest.group)),
        "50 that contain a word": lambda: inspector.records.listed(Filter(text="no such word")),
        "one in full": lambda: inspector.records.whole(latest.id),
    }
    looks: dict[str, list[float]] = {}
    for name, ask in questions.items():
        for _ in range(ASKED):
            began = time.perf_counter()
            await ask()
            looks.setdefault(name, []).append((time.perf_counter() - began) * 1000)
    if (found := len(await inspector.records.groups(Filter()))) != KINDS:
        raise BenchError(f"the groups are {found} instead of {KINDS}")
    return looks


def _judge(turns: Sequence[Turn], looks: dict[str, list[float]]) -> Result:
    rates = {
        "archived a second": [turn.archived for turn in turns],
        "replayed a second, published": [turn.published for turn in turns],
        "replayed a second, known to have had their effect": [turn.settled for turn in turns],
    }
    slowest = f"groups over {MANY:,}, the slowest of {ASKED}"
    return Result(
        title=f"Dead letters: {LETTERS:,} archived and replayed by one worker ({len(turns)} rounds)",
        lines=[
            *(Line.of(name, "≥ 1,000", rate, ",.0f") for name, rate in rates.items()),
            Line.of(slowest, "< 300 ms", [max(looks["groups"])], ".0f"),
            Line.memory("worker", [max(turn.peak_mib for turn in turns)]),
        ],
        tables=[
            [
                {
                    f"questions about {MANY:,} letters": name,
                    "median": f"{median(took):.0f} ms",
                    "slowest": f"{max(took):.0f} ms",
                }
                for name, took in looks.items()
            ]
        ],
        notes=[
            f"Each letter has four attempts and a traceback of more than {TRACEBACK_LIMIT // 2:,} characters.",
            f"The letters in the table have {KINDS} kinds of failures.",
        ],
        samples={"turns": turns, "looks_ms": looks},
    )
