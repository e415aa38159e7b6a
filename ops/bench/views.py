"""The row ``views``: a backlog of views, drained by our worker and by three alternatives.

The four take turns on the same servers, one process alive at a time. Ratios are taken within a round. A turn:

1. The process starts on an empty queue and drains a warm-up, a tenth of the backlog.
2. It is frozen (SIGSTOP) while the backlog is published in its own format: persistent, a tenth of it twice.
3. The clock starts when the process continues. It stops when nine tenths of the messages are settled: committed,
   by PostgreSQL's record, or acknowledged by the consumer that writes nothing. The last tenth does not count,
   because it measures how long a system waits for a batch to fill.
4. The process drains the rest and stops. Each view must be counted once, and the queue must be empty.

The backlog of each system keeps it busy for some seconds. Then one worker of ours drains ten thousand messages, and
a hundred thousand more, over which its memory must not grow. Last, :mod:`ops.bench.receipts` compares counting
beside two million receipts with counting beside hardly any.
"""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ops.bench import backlog, celery_counter, counters, machine, receipts
from ops.bench.backlog import READY, TWICE, Backlog, Wire
from ops.bench.figures import Spread, alternated, ratios
from ops.bench.receipts import Receipts
from ops.bench.report import Line, Result, busy, progress
from ops.bench.stage import HOROSCOPE, PATIENCE_S, BenchError, Running, Stage, until
from schema.messages import VIEWS, HoroscopeRequested

OURS, SINGLE, CELERY, BARE = "ours", "one by one", "celery-batches", "bare consumer"
BUDGETS = {SINGLE: "≥ 5 ×", CELERY: "≥ 2.5 ×", BARE: "≥ 0.5 ×"}

WARM_UP = 0.1  # of the views that follow
ON_THE_CLOCK = 0.9  # of the messages
FIRST, LONG = 10_000, 100_000  # messages of the memory's measurement


@dataclass(frozen=True, slots=True)
class System:
    """A consumer of views."""

    command: tuple[str, ...]
    queue: str
    #: Gives a view the system's own format.
    wire: Callable[[HoroscopeRequested], Wire]
    #: Views in a turn.
    views: int


_COUNTERS = (sys.executable, "-m", "ops.bench.counters")
_CELERY = (sys.executable, "-m", "ops.bench.celery_counter")
SYSTEMS = {
    OURS: System((HOROSCOPE, "worker", "--queues", VIEWS), VIEWS, backlog.wire, 25_000),
    SINGLE: System((*_COUNTERS, counters.SINGLE), counters.SINGLE, counters.single_wire, 4_000),
    CELERY: System(_CELERY, celery_counter.QUEUE, celery_counter.wire, 8_000),
    BARE: System((*_COUNTERS, counters.BARE), counters.BARE, backlog.wire, 25_000),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One system's turn in one round."""

    #: Messages on the clock.
    messages: int
    seconds: float
    #: Counted views in all, the warm-up's included; None for the consumer that counts nothing.
    views: int | None
    #: Processor time a message, of the consumer and of each server, in microseconds.
    cpu_us: Mapping[str, float]
    #: Share of one core that other programs took.
    others: float
    peak_mib: float

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


@dataclass(frozen=True, slots=True)
class Endurance:
    """One worker of ours over very many messages; resident memory before and after them, and its peak."""

    messages: int
    seconds: float
    before_mib: float
    after_mib: float
    peak_mib: float


async def measure(stage: Stage, rounds: int, _seconds: int) -> Result:
    """Measure the row."""
    turns: dict[str, list[Turn]] = {name: [] for name in SYSTEMS}
    for number, name in alternated(SYSTEMS, rounds):
        turn = await _turn(stage, name, number)
        turns[name].append(turn)
        cpu = turn.cpu_us["consumer"]
        progress(number, rounds, f"{name:<14}  {turn.rate:6.0f}/s   {cpu:.0f} µs a message")
    endurance = await _endure(stage)
    await _clear(stage)
    return _judge(turns, endurance, await receipts.measure(stage, rounds))


async def _turn(stage: Stage, name: str, seed: int) -> Turn:
    system = SYSTEMS[name]
    warm_up, main = Backlog.of(round(system.views * WARM_UP), seed), Backlog.of(system.views, seed)
    messages = [[system.wire(event) for event in each.events] for each in (warm_up, main)]
    sizes = [len(each) for each in messages]
    on_the_clock = round(sizes[1] * ON_THE_CLOCK)
    command = system.command
    if name == BARE:
        command += tuple(map(str, (sizes[0], sizes[0] + on_the_clock, sum(sizes))))
    views = main.views + warm_up.views
    await _clear(stage)
    async with stage.running(name, *command, ready=READY) as process:
        for published, expected in ((sizes[0], warm_up.views), (sum(sizes), views)):
            with process.held():
                await backlog.publish(stage, system.queue, messages.pop(0))
                meter, began = stage.meter(consumer=[process]), time.time()
            if name == BARE:
                await _acknowledged(process, published)
            else:
                await stage.until_counted(expected)
        spent = meter.read()
        if name == BARE:
            settled = await _acknowledged(process, sizes[0] + on_the_clock)
        else:
            settled = await _committed(stage, began, main.distinct(on_the_clock))
        process.check()
        peak_mib = process.peak_mib
    if left := stage.queued(system.queue):
        raise BenchError(f"{name} left {left} messages unsettled")
    counted = None if name == BARE else await stage.counted()
    if counted not in {None, views}:
        raise BenchError(f"{name} counted {views} views as {counted}")
    return Turn(
        messages=on_the_clock,
        seconds=settled - began,
        views=counted,
        cpu_us=spent.each(sizes[1], 1e6),
        others=spent.others,
        peak_mib=peak_mib,
    )


async def _endure(stage: Stage) -> Endurance:
    """Have one worker drain very many messages; raise BenchError unless it counts each view once."""
    system = SYSTEMS[OURS]
    await _clear(stage)
    async with stage.running(OURS, *system.command, ready=READY) as process:
        views, resident = 0, 0.0
        for count in (FIRST, LONG):
            part = Backlog.of(round(count * TWICE / (TWICE + 1)), seed=count)
            views += part.views
            with process.held():
                await backlog.publish(stage, system.queue, [system.wire(event) for event in part.events])
                began = time.time()
            await stage.until_counted(views)
            seconds = time.time() - began
            before, resident = resident, machine.memory_mib(process.pid, "VmRSS")
        process.check()
        peak_mib = process.peak_mib
    if (counted := await stage.counted()) != views:
        raise BenchError(f"{OURS} counted {views} views as {counted}")
    return Endurance(len(part.events), seconds, before, resident, peak_mib)


async def _clear(stage: Stage) -> None:
    """Empty the tables, and leave PostgreSQL nothing to write."""
    await stage.sql.execute("TRUNCATE view_receipts, view_times, horoscope_views")
    await stage.sql.execute("CHECKPOINT")


async def _committed(stage: Stage, since: float, views: int) -> float:
    """When the first ``views`` after ``since`` were committed; both times in seconds since the epoch."""
    at = await stage.sql.fetchval(
        """
        SELECT extract(epoch FROM at)::float8
        FROM (SELECT pg_xact_commit_timestamp(xmin) AS at FROM view_receipts) AS commits
        WHERE at > to_timestamp($1) ORDER BY at OFFSET $2 LIMIT 1
        """,
        since,
        views - 1,
    )
    return float(at)


async def _acknowledged(process: Running, messages: int) -> float:
    """When the bare consumer acknowledged so many messages, in seconds since the epoch."""

    def found() -> list[float]:
        said = [line.split() for line in process.last if line.startswith(counters.ACKNOWLEDGED)]
        return [float(at) for _, count, at in said if int(count) == messages]

    async def reached() -> bool:
        return bool(found())

    await until(reached, f"{messages} messages are acknowledged", within=PATIENCE_S)
    return found()[0]


def _judge(turns: Mapping[str, Sequence[Turn]], endurance: Endurance, kept: Receipts) -> Result:
    rounds = len(turns[OURS])
    rates = {name: [turn.rate for turn in of] for name, of in turns.items()}
    of_others = {name: ratios(rates[OURS], rates[name]) for name in BUDGETS}
    counted = sum(turn.views or 0 for of in turns.values() for turn in of)
    growth = endurance.after_mib - endurance.before_mib
    return Result(
        title=f"Views: a backlog drained by one process ({rounds} alternated rounds)",
        lines=[
            *(Line.of(f"messages a second / {name}", BUDGETS[name], of) for name, of in of_others.items()),
            # Any other count raised BenchError.
            Line("views of the messages", "each once", f"0 lost, 0 twice, of {counted}", kept=True),
            Line.memory("worker", [endurance.peak_mib]),
            Line.of(f"its growth over {endurance.messages:,} messages", "≤ 5 MiB", [growth], "+.1f"),
            *kept.lines(),
        ],
        tables=[[_details(name, of) for name, of in turns.items()], kept.table()],
        notes=_notes(turns, endurance, kept),
        samples={
            "ratios": {f"ours/{name}": Spread.of(of) for name, of in of_others.items()},
            "turns": turns,
            "endurance": endurance,
            "receipts": kept,
        },
    )


def _details(name: str, turns: Sequence[Turn]) -> dict[str, str]:
    cpu = {part: f"{median(turn.cpu_us[part] for turn in turns):.0f} µs" for part in turns[0].cpu_us}
    return {
        "": name,
        "messages/s": f"{median(turn.rate for turn in turns):.0f}",
        "CPU a message": cpu["consumer"],
        "of PostgreSQL": cpu["postgresql"],
        "of RabbitMQ": cpu["rabbitmq"],
        "memory": f"{max(turn.peak_mib for turn in turns):.0f} MiB",
        "backlog": f"{SYSTEMS[name].views * (TWICE + 1) // TWICE:,}",
    }


def _notes(turns: Mapping[str, Sequence[Turn]], endurance: Endurance, kept: Receipts) -> list[str]:
    size = celery_counter.SIZE
    return [
        f"One message in {TWICE} is a duplicate. The clock runs for nine tenths of the backlog; processes are warm.",
        f"{SINGLE}: plain Dramatiq, {counters.THREADS} threads, each with a connection; the fastest way found.",
        f"{CELERY}: solo pool, batches of {size:,}, prefetch {2 * size:,}; the fastest configuration found.",
        f"{BARE}: pika, prefetch {counters.PREFETCH:,}, {counters.AT_ONCE:,} acknowledged at once, no message read.",
        f"Memory: the worker drained {endurance.messages:,} messages in {endurance.seconds:.1f} s.",
        kept.note(),
        *busy(turn.others for of in turns.values() for turn in of),
    ]
