"""The row «views»: a backlog of views, drained by our worker and by what one might use in its place.

The four take turns, one alive at a time, each a fresh process against the same servers; a ratio is taken
within a round. A turn is

1. the process starts on an empty queue and drains a warm-up, a tenth of what follows,
2. it is held (SIGSTOP) while the backlog is published in its own system's form: persistent, a tenth twice,
3. the clock starts as it is let go, and stops when nine tenths of the messages are settled: committed, as
   PostgreSQL knows it, or, by the consumer that writes nothing, acknowledged. The last tenth is off the clock, for
   how long somebody waits for a batch to fill is no matter of speed,
4. all is drained, the process stops, and then each view must have been counted once, and the queue be empty.

A backlog is as long as its system is busy with for some seconds. In the end one worker of ours drains ten thousand
messages, and then a hundred thousand, over which its memory must not grow.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from ops.bench import backlog, celery_counter, counters, machine
from ops.bench.backlog import TWICE, Backlog, Wire
from ops.bench.figures import Spread, alternated
from ops.bench.report import Line, Result
from ops.bench.stage import HOROSCOPE, BenchError, Running, Stage, until
from schema.messages import VIEWS, HoroscopeRequested

OURS, SINGLE, CELERY, BARE = "ours", "one by one", "celery-batches", "bare consumer"
#: How many times what each of the others does ours should do.
BUDGETS = {SINGLE: 5.0, CELERY: 2.5, BARE: 0.5}

WARM_UP = 0.1  # of the views that follow
ON_THE_CLOCK = 0.9  # of the messages

MEMORY_MIB = 150
#: What a worker may have grown by, over so many messages after the first, and still be called flat.
GROWTH_MIB = 5
FIRST, LONG = 10_000, 100_000

#: Share of one core from which on whatever else runs here is told of.
BUSY = 0.25
#: Seconds until a backlog is drained, or else it was no measurement.
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class System:
    """One that drains a queue.

    Args:
        command: Its process.
        ready: What that prints when it is ready.
        queue: Which queue.
        wire: How a view is published to it.
        views: How many in a turn.
    """

    command: tuple[str, ...]
    ready: str
    queue: str
    wire: Callable[[HoroscopeRequested], Wire]
    views: int


_COUNTERS = (sys.executable, "-m", "ops.bench.counters")
SYSTEMS = {
    OURS: System((HOROSCOPE, "worker", "--queues", VIEWS), "worker.ready", VIEWS, backlog.wire, 25_000),
    SINGLE: System(
        (*_COUNTERS, counters.SINGLE), counters.READY, counters.SINGLE, counters.single_wire, 4_000
    ),
    CELERY: System(
        (sys.executable, "-m", "ops.bench.celery_counter"),
        celery_counter.READY,
        celery_counter.QUEUE,
        celery_counter.wire,
        8_000,
    ),
    BARE: System((*_COUNTERS, counters.BARE), counters.READY, counters.BARE, backlog.wire, 25_000),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One system's turn in one round.

    Args:
        messages: How many were on the clock.
        seconds: How long they took.
        views: Views that were counted in all, the warm-up's included; None where nothing counts.
        cpu_us: Processor time a message, of the consumer and of each server, in microseconds.
        others: Share of one core that processes took that are none of ours.
        peak_mib: The most memory that the consumer held, resident.
        complaints: Warnings and errors that it logged.
    """

    messages: int
    seconds: float
    views: int | None
    cpu_us: Mapping[str, float]
    others: float
    peak_mib: float
    complaints: Sequence[str]

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


@dataclass(frozen=True, slots=True)
class Endurance:
    """One worker of ours, and very many messages.

    Args:
        messages: How many, after the first ten thousand.
        seconds: How long they took.
        before_mib: The memory that it held before them, resident.
        after_mib: And after.
        peak_mib: The most that it ever held.
    """

    messages: int
    seconds: float
    before_mib: float
    after_mib: float
    peak_mib: float


async def measure(rounds: int, seconds: int) -> Result:
    """Measure the row.

    Args:
        rounds: How often each system has its turn.
        seconds: Of no meaning here: a backlog takes as long as it takes.

    Raises:
        BenchError: A figure would mean nothing.
        ServerError: A private server cannot be started.
    """
    del seconds
    turns: dict[str, list[Turn]] = {name: [] for name in SYSTEMS}
    async with Stage() as stage:
        for number, name in alternated(SYSTEMS, rounds):
            turn = await _turn(stage, name, number)
            turns[name].append(turn)
            print(
                f"round {number + 1} of {rounds}: {name:<14}  {turn.rate:6.0f}/s"
                f"   {turn.cpu_us['consumer']:.0f} µs a message",
                file=sys.stderr,
            )
        endurance = await _endure(stage)
    return _judge(turns, endurance)


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
    async with stage.running(name, *command, ready=system.ready) as process:
        for published, expected in ((sizes[0], warm_up.views), (sum(sizes), views)):
            with process.held():
                await _fill(stage, system.queue, messages.pop(0))
                spent, began = _processor(stage, process), time.time()
            if name == BARE:
                await _acknowledged(process, published)
            else:
                await _counted(stage, expected)
        elapsed = time.time() - began
        cpu = {part: now - spent[part] for part, now in _processor(stage, process).items()}
        others = max(0.0, cpu.pop("machine") - sum(cpu.values())) / elapsed
        del cpu["bench"]
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
        cpu_us={part: each / sizes[1] * 1e6 for part, each in cpu.items()},
        others=others,
        peak_mib=peak_mib,
        complaints=process.complaints,
    )


async def _endure(stage: Stage) -> Endurance:
    """Have one worker drain very many messages.

    Raises:
        BenchError: It did not count each view once.
    """
    system = SYSTEMS[OURS]
    await _clear(stage)
    async with stage.running(OURS, *system.command, ready=system.ready) as process:
        views, resident = 0, 0.0
        for count in (FIRST, LONG):
            part = Backlog.of(round(count * TWICE / (TWICE + 1)), seed=count)
            views += part.views
            with process.held():
                await _fill(stage, system.queue, [system.wire(event) for event in part.events])
                began = time.time()
            await _counted(stage, views)
            seconds = time.time() - began
            before, resident = resident, process.resident_mib
        process.check()
        peak_mib = process.peak_mib
    if (counted := await stage.counted()) != views:
        raise BenchError(f"{OURS} counted {views} views as {counted}")
    return Endurance(len(part.events), seconds, before, resident, peak_mib)


async def _clear(stage: Stage) -> None:
    """Empty tables, and nothing that PostgreSQL has yet to write."""
    await stage.sql.execute("TRUNCATE view_receipts, view_times, horoscope_views")
    await stage.sql.execute("CHECKPOINT")


async def _fill(stage: Stage, queue: str, messages: Sequence[Wire]) -> None:
    await asyncio.to_thread(backlog.fill, stage.rabbitmq_url, queue, messages)


async def _counted(stage: Stage, views: int) -> None:
    async def counted() -> bool:
        return await stage.counted() >= views

    await until(counted, f"{views} views are counted", within=PATIENCE_S)


async def _committed(stage: Stage, since: float, views: int) -> float:
    """When so many of the views were committed that came after an instant, in seconds since the epoch."""
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
    """When the bare consumer acknowledged so many, in seconds since the epoch."""

    def found() -> list[float]:
        said = [line.split() for line in process.last if line.startswith(counters.ACKNOWLEDGED)]
        return [float(at) for _, count, at in said if int(count) == messages]

    async def told() -> bool:
        return bool(found())

    await until(told, f"{messages} messages are acknowledged", within=PATIENCE_S)
    return found()[0]


def _processor(stage: Stage, process: Running) -> dict[str, float]:
    servers = stage.cpu_seconds()
    del servers["telegram"]
    return {
        "consumer": process.cpu_seconds,
        **servers,
        "bench": time.process_time(),
        "machine": machine.busy_seconds(),
    }


def _judge(turns: Mapping[str, Sequence[Turn]], endurance: Endurance) -> Result:
    rounds = len(turns[OURS])
    rates = {name: [turn.rate for turn in of] for name, of in turns.items()}
    ratios = {name: Spread.of_ratios(rates[OURS], rates[name]) for name in BUDGETS}
    counted = sum(turn.views or 0 for of in turns.values() for turn in of)
    growth = endurance.after_mib - endurance.before_mib
    lines = [
        Line(f"messages a second / {name}", f"≥ {budget} ×", ratio.show(), ratio.median >= budget)
        for (name, budget), ratio in zip(BUDGETS.items(), ratios.values(), strict=True)
    ]
    lines += [
        # Otherwise there would be no result.
        Line("views of the messages", "each once", f"0 lost, 0 twice, of {counted}", kept=True),
        Line(
            "memory, worker",
            f"< {MEMORY_MIB} MiB",
            f"{endurance.peak_mib:.0f} MiB",
            endurance.peak_mib < MEMORY_MIB,
        ),
        Line(
            f"its growth over {endurance.messages:,} messages",
            f"≤ {GROWTH_MIB} MiB",
            f"{growth:+.1f} MiB",
            growth <= GROWTH_MIB,
        ),
    ]
    return Result(
        name="views",
        title=f"Views: a backlog drained by one process ({rounds} alternated rounds)",
        lines=lines,
        details=[
            ("", "messages/s", "CPU a message", "of PostgreSQL", "of RabbitMQ", "memory", "backlog"),
            *(_details(name, of) for name, of in turns.items()),
        ],
        notes=_notes(turns, endurance),
        samples={
            "rounds": rounds,
            "ratios": {f"ours/{name}": asdict(ratio) for name, ratio in ratios.items()},
            "turns": {name: [asdict(turn) for turn in of] for name, of in turns.items()},
            "endurance": asdict(endurance),
        },
    )


def _details(name: str, turns: Sequence[Turn]) -> tuple[str, ...]:
    parts = (
        Spread.of(turn.cpu_us[part] for turn in turns).median
        for part in ("consumer", "postgresql", "rabbitmq")
    )
    return (
        name,
        f"{Spread.of(turn.rate for turn in turns).median:.0f}",
        *(f"{part:.0f} µs" for part in parts),
        f"{max(turn.peak_mib for turn in turns):.0f} MiB",
        f"{SYSTEMS[name].views * (TWICE + 1) // TWICE:,}",
    )


def _notes(turns: Mapping[str, Sequence[Turn]], endurance: Endurance) -> list[str]:
    size = celery_counter.SIZE
    single = (
        f"{SINGLE}: Dramatiq as it comes, {counters.THREADS} threads with a connection each; of the ways to write a "
        "view a statement, the fastest found."
    )
    celery = (
        f"{CELERY}: solo pool, {size:,} a batch, prefetch {2 * size:,}, acknowledged late, counted by our own code; "
        "of its configurations, the fastest found."
    )
    notes = [
        f"One message in {TWICE} is there twice. The clock runs for nine tenths of the backlog, of warm processes.",
        single,
        celery,
        f"{BARE}: pika, prefetch {counters.PREFETCH:,}, {counters.AT_ONCE:,} acknowledged at once, no message read.",
        f"The worker of the memory's lines drained {endurance.messages:,} messages in {endurance.seconds:.1f} s.",
    ]
    others = Spread.of(turn.others for of in turns.values() for turn in of)
    if others.median > BUSY:
        notes.append(
            f"The machine was busy with something else, which took {others.show('.0%')} of one core: rates mean "
            "little, ratios more."
        )
    if complaints := [line for turn in turns[OURS] for line in turn.complaints]:
        notes.append(f"Ours logged {len(complaints)} warnings and errors; the first: {complaints[0]}")
    return notes
