"""The row «dead letters»: how fast they are archived and replayed, and how long a look at 100,000 of them takes.

A round fills the queue with letters as a worker buries them while the worker is stopped, lets it archive them, and
has it replay all of them as fast as it can, until each is known to have had its effect: they are views, whose effect is
the least work there is. Then the table is filled up, and people's questions are asked of it.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4

import orjson
import pika

from actors import REPLAYABLE
from ops.bench import backlog
from ops.bench.backlog import PERSISTENT, Wire
from ops.bench.figures import Spread
from ops.bench.report import Line, Result
from ops.bench.stage import HOME, HOROSCOPE, BenchError, Running, Stage, until
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
#: Letters in the table, and kinds of failures among them, when people ask.
MANY, KINDS = 100_000, 100
#: Times that each question is asked.
ASKED = 15

A_SECOND = 1000
GROUPS_MS = 300
MEMORY_MIB = 150
PATIENCE_S = 180.0

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
    """One round: letters a second.

    Args:
        archived: From the queue into the table.
        published: Out of the table, confirmed and on record.
        settled: Published, answered, and known to have had their effect.
        peak_mib: The most memory that the worker ever held.
    """

    archived: float
    published: float
    settled: float
    peak_mib: float


async def measure(rounds: int, seconds: int) -> Result:
    """Measure the row.

    Args:
        rounds: How many.
        seconds: Of no meaning here.

    Raises:
        BenchError: A figure would mean nothing.
        ServerError: A private server cannot be started.
    """
    del seconds
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(Stage())
        database = await stack.enter_async_context(Database(stage.database_url))
        inspector = make_inspector(database, REPLAYABLE, system_clock)
        turns = []
        for number in range(rounds):
            await stage.sql.execute(
                "TRUNCATE dead_letters, replay_runs, view_receipts, horoscope_views CASCADE"
            )
            async with stage.running("worker", HOROSCOPE, "worker", ready="worker.ready") as worker:
                turns.append(await _turn(stage, inspector, worker))
            print(
                f"round {number + 1} of {rounds}: archived {turns[-1].archived:.0f}/s, "
                f"published {turns[-1].published:.0f}/s, settled {turns[-1].settled:.0f}/s",
                file=sys.stderr,
            )
        await stage.sql.execute(_CLONE, KINDS, MANY - LETTERS, LETTERS)
        await stage.sql.execute("VACUUM ANALYZE dead_letters")
        looks = await _look(inspector)
    return _judge(turns, looks)


async def _turn(stage: Stage, inspector: Inspector, worker: Running) -> Turn:
    letters = [_letter(number) for number in range(LETTERS)]
    with worker.held():
        await asyncio.to_thread(backlog.fill, stage.rabbitmq_url, DEAD_LETTERS, letters)
        began = time.perf_counter()
    await _reached(stage, "SELECT count(*) FROM dead_letters", LETTERS)
    archived = LETTERS / (time.perf_counter() - began)

    ids = [each.id for each in await inspector.records.listed(Filter(), limit=None)]
    verdicts = await inspector.replays.verdicts(ids)
    began = time.perf_counter()
    run = await inspector.replays.start(verdicts, what="all", by="the benchmark", why="to see", rate=FASTEST)
    await _reached(stage, "SELECT count(*) FROM replay_runs WHERE state = 'finished'", 1)
    published = LETTERS / (time.perf_counter() - began)
    await _reached(stage, "SELECT count(*) FROM replays WHERE state = 'did_it'", LETTERS)
    settled = LETTERS / (time.perf_counter() - began)
    worker.check()
    if (counted := await stage.counted()) != LETTERS or (
        await inspector.replays.run(run.id)
    ).did_it != LETTERS:
        raise BenchError(f"{LETTERS} views were counted as {counted}")
    if left := stage.queued(VIEWS) + stage.queued(DEAD_LETTERS):
        raise BenchError(f"{left} messages are left")
    return Turn(archived, published, settled, worker.peak_mib)


def _letter(number: int) -> Wire:
    """A view that died after a whole ladder, with a traceback of the usual length."""
    now = datetime.now(UTC)
    sign = tuple(Sign)[number % 12]
    view = HoroscopeRequested(uuid4(), sign, day_in(HOME, system_clock()), answered=True, at=now)
    error = ModelUnavailable(f"the model did not answer: {uuid4()}")
    parts = decode(encode(view))
    attempt = {
        "at": now.isoformat(),
        "seconds": 1.5,
        "host": "bench",
        "pid": 1,
        "release": "0",
        "error": str(error),
    }
    trace = "".join(f"  File {uuid4()}, line {line}, in work\n" for line in range(TRACEBACK_LIMIT // 120))
    parts["options"] = {"attempts": [attempt] * 4, "traceback": trace}
    headers = Death.of(error, VIEWS, Mask([]), replay=None).headers()
    return Wire(orjson.dumps(parts), pika.BasicProperties(delivery_mode=PERSISTENT, headers=headers))


async def _reached(stage: Stage, count: str, wanted: int) -> None:
    async def reached() -> bool:
        return int(await stage.sql.fetchval(count)) >= wanted

    await until(reached, count, within=PATIENCE_S)


async def _look(inspector: Inspector) -> dict[str, list[float]]:
    """The milliseconds that each question takes, time and again."""
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
        raise BenchError(f"{KINDS} kinds of failures were found to be {found}")
    return looks


def _judge(turns: Sequence[Turn], looks: dict[str, list[float]]) -> Result:
    rates = {
        "archived a second": Spread.of(turn.archived for turn in turns),
        "replayed a second, published": Spread.of(turn.published for turn in turns),
        "replayed a second, known to have had their effect": Spread.of(turn.settled for turn in turns),
    }
    slowest = max(looks["groups"])
    peak = max(turn.peak_mib for turn in turns)
    return Result(
        name="dead_letters",
        title=f"Dead letters: {LETTERS:,} archived and replayed by one worker ({len(turns)} rounds)",
        lines=[
            *(
                Line(name, f"≥ {A_SECOND:,}", rate.show(",.0f"), rate.median >= A_SECOND)
                for name, rate in rates.items()
            ),
            Line(
                f"groups over {MANY:,}, the slowest of {ASKED}",
                f"< {GROUPS_MS} ms",
                f"{slowest:.0f} ms",
                slowest < GROUPS_MS,
            ),
            Line("memory, worker", f"< {MEMORY_MIB} MiB", f"{peak:.0f} MiB", peak < MEMORY_MIB),
        ],
        details=[
            (f"a look at {MANY:,} letters", "median", "slowest"),
            *(
                (name, f"{Spread.of(took).median:.0f} ms", f"{max(took):.0f} ms")
                for name, took in looks.items()
            ),
        ],
        notes=[
            f"Each letter has four attempts and a traceback of more than {TRACEBACK_LIMIT // 2:,} characters.",
            f"The letters in the table have {KINDS} kinds of failures.",
        ],
        samples={"rounds": len(turns), "turns": [asdict(turn) for turn in turns], "looks_ms": looks},
    )
