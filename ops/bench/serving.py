"""The row «cached reply, webhook, 1 process»: our bot beside an empty handler and the plain design.

The three take turns, one alive at a time, each a fresh process against the same servers; a ratio is taken
within a round, so that what else the machine is busy with weighs on both sides of it. In a round each is

1. warmed up,
2. asked for as much as it can answer (wrk), without a worker: views pile up in their queue, for the row is
   about one process, and on two cores a worker would take its share from the bot and not from the others,
3. sent 200 updates a second, ours with a worker that counts the views at the same time: the service as it
   runs. The two cores are then shared by bot, worker, both servers and the generator.

Before the third step the worker counts what has piled up in the second, and in the end every reply must have
become one view.
"""

import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial

from ops.bench import load, machine
from ops.bench.figures import Spread
from ops.bench.load import Burst
from ops.bench.report import Line, Result
from ops.bench.stage import HOROSCOPE, BenchError, Running, Stage, until
from ops.bench.steady import CONNECTIONS, Steady
from ops.stack.ports import is_free
from schema.messages import VIEWS

RATE = 200  # updates a second
WARM_UP_S = 2

P99_MS = 50
SLOWEST_MS = 500
OF_PLAIN = 2.0
OF_EMPTY = 0.7
MEMORY_MIB = 150

OURS, EMPTY, PLAIN = "ours", "empty", "plain"
_YARDSTICKS = (sys.executable, "-m", "ops.bench.yardsticks")
SYSTEMS = {
    OURS: (HOROSCOPE, "bot"),
    EMPTY: (*_YARDSTICKS, EMPTY),
    PLAIN: (*_YARDSTICKS, PLAIN),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One system's turn in one round.

    Args:
        burst: As much as it can answer.
        steady: At a constant rate.
        cpu: Shares of one core during the burst: of the bot, of each server, and of processes that are none
            of ours.
        peak_mib: The bot's memory.
        replied: Good answers, the warm-up's included.
        views: Views that came of them. More than replies may be: wrk leaves without waiting for the last
            answers, up to one a connection.
        steady_views: Views that came of the updates at a constant rate.
        complaints: Warnings and errors that were logged.
    """

    burst: Burst
    steady: Steady
    cpu: Mapping[str, float]
    peak_mib: float
    replied: int
    views: int
    steady_views: int
    complaints: list[str]


async def measure(rounds: int, seconds: int) -> Result:
    """Measure the row.

    Args:
        rounds: How often each system has its turn.
        seconds: How long each step of a turn takes.

    Raises:
        BenchError: A figure would mean nothing.
        ServerError: A private server cannot be started.
    """
    load.ensure_wrk()
    turns: dict[str, list[Turn]] = {name: [] for name in SYSTEMS}
    async with Stage() as stage:
        for number in range(rounds):
            for place in range(len(SYSTEMS)):  # nobody is always the first
                name = list(SYSTEMS)[(number + place) % len(SYSTEMS)]
                turn = await _turn(stage, name, seconds)
                turns[name].append(turn)
                print(
                    f"round {number + 1} of {rounds}: {name:<5}  {turn.burst.rate:5.0f}/s"
                    f"   p99 at {RATE}/s {turn.steady.p99_ms:.1f} ms",
                    file=sys.stderr,
                )
    return _judge(turns, rounds, seconds)


async def _turn(stage: Stage, name: str, seconds: int) -> Turn:
    ours = name == OURS
    text = stage.text if ours else ""
    counted_before = await stage.counted()
    async with AsyncExitStack() as stack:
        bot = await stack.enter_async_context(stage.running(name, *SYSTEMS[name], ready="bot.ready"))
        await until(partial(_listens, stage), f"{name} listens")
        warm_up = await load.burst(stage.webhook_url, WARM_UP_S, text)
        before = _processor(stage, bot)
        burst = await load.burst(stage.webhook_url, seconds, text)
        cpu = {part: (after - before[part]) / burst.seconds for part, after in _processor(stage, bot).items()}
        cpu["others"] = cpu.pop("machine") - sum(cpu.values()) - burst.cpu
        processes = [bot]
        if ours:
            queued = stage.queued(VIEWS)
            worker = await stack.enter_async_context(
                stage.running("worker", HOROSCOPE, "worker", ready="worker.ready")
            )
            processes.append(worker)
            await until(
                partial(_counted, stage, counted_before + queued), "the worker has counted what piled up"
            )
        views_before = await stage.counted()
        steady = await load.steady(
            stage.webhook_url,
            RATE,
            seconds,
            partial(load.sent_in_response, text=text) if ours else lambda _: [],
        )
        if ours:
            await until(
                partial(_counted, stage, views_before + steady.answered),
                "the worker has counted the views of the updates at a constant rate",
            )
        counted = await stage.counted()
        for process in processes:
            process.check()
        turn = Turn(
            burst=burst,
            steady=steady,
            cpu=cpu,
            peak_mib=bot.peak_mib,
            replied=warm_up.right + burst.right + steady.answered,
            views=counted - counted_before,
            steady_views=counted - views_before,
            complaints=[line for process in processes for line in process.complaints],
        )
    _check(name, turn)
    return turn


async def _listens(stage: Stage) -> bool:
    return not is_free(int(stage.listen.rpartition(":")[2]))


async def _counted(stage: Stage, views: int) -> bool:
    return await stage.counted() >= views


def _processor(stage: Stage, bot: Running) -> dict[str, float]:
    return {"bot": bot.cpu_seconds, **stage.cpu_seconds(), "machine": machine.busy_seconds()}


def _check(name: str, turn: Turn) -> None:
    """A system that answers badly is not measured, it is broken; only the plain design may be too slow."""
    burst, steady = turn.burst, turn.steady
    faults = burst.wrong + burst.broken + steady.wrong + (0 if name == PLAIN else steady.unanswered)
    if faults or not burst.right:
        said = "\n".join(turn.complaints[:5])
        raise BenchError(f"{name} did not answer as it should: {burst}, {steady}; it said:\n{said}")


def _judge(turns: Mapping[str, list[Turn]], rounds: int, seconds: int) -> Result:
    ours = turns[OURS]
    rates = {name: [turn.burst.rate for turn in of] for name, of in turns.items()}
    p99 = Spread.of(turn.steady.p99_ms for turn in ours)
    slowest = Spread.of(turn.steady.max_ms for turn in ours)
    of_plain = Spread.of_ratios(rates[OURS], rates[PLAIN])
    of_empty = Spread.of_ratios(rates[OURS], rates[EMPTY])
    memory = Spread.of(turn.peak_mib for turn in ours)
    lost = sum(max(0, turn.replied - turn.views) for turn in ours)
    # The open loop waits for every answer, so there the two numbers must be the same.
    twice = sum(max(0, turn.steady_views - turn.steady.answered) for turn in ours)
    replied = sum(turn.replied for turn in ours)
    return Result(
        name="serving",
        title=f"Cached reply, webhook, 1 process ({rounds} alternated rounds of {seconds} s)",
        lines=[
            Line(f"p99 at {RATE}/s", f"< {P99_MS} ms", p99.show(".1f", "ms"), p99.median < P99_MS),
            Line(
                f"slowest at {RATE}/s",
                f"< {SLOWEST_MS} ms",
                slowest.show(".1f", "ms"),
                slowest.most < SLOWEST_MS,
            ),
            Line(
                "throughput / plain design", f"≥ {OF_PLAIN:g} ×", of_plain.show(), of_plain.median >= OF_PLAIN
            ),
            Line(
                "throughput / empty handler",
                f"≥ {OF_EMPTY:g} ×",
                of_empty.show(),
                of_empty.median >= OF_EMPTY,
            ),
            Line(
                "views of replies",
                "each once",
                f"{lost} lost, {twice} twice, of {replied:,}".replace(",", " "),
                not lost and not twice,
            ),
            Line("memory, bot", f"< {MEMORY_MIB} MiB", memory.show(".0f", "MiB"), memory.most < MEMORY_MIB),
        ],
        details=[
            ("", "replies/s", f"p50 at {RATE}/s", "p99", "slowest", "memory", "bot's ms of CPU a reply"),
            *(_details(name, of) for name, of in turns.items()),
        ],
        notes=_notes(turns),
        samples={
            "rounds": rounds,
            "seconds": seconds,
            "ratios": {"ours/plain": asdict(of_plain), "ours/empty": asdict(of_empty)},
            "turns": {name: [asdict(turn) for turn in of] for name, of in turns.items()},
        },
    )


def _details(name: str, turns: list[Turn]) -> tuple[str, ...]:
    return (
        name,
        Spread.of(turn.burst.rate for turn in turns).show(".0f"),
        f"{Spread.of(turn.steady.p50_ms for turn in turns).median:.1f} ms",
        f"{Spread.of(turn.steady.p99_ms for turn in turns).median:.1f} ms",
        f"{max(turn.steady.max_ms for turn in turns):.1f} ms",
        f"{max(turn.peak_mib for turn in turns):.0f} MiB",
        f"{Spread.of(1000 * turn.cpu['bot'] / turn.burst.rate for turn in turns).median:.2f}",
    )


def _notes(turns: Mapping[str, list[Turn]]) -> list[str]:
    every: list[Turn] = [turn for of in turns.values() for turn in of]

    def median(name: str, part: str) -> str:
        return f"{Spread.of(turn.cpu[part] for turn in turns[name]).median:.0%}"

    idle = (
        f"The generators idle: of one core wrk took {max(turn.burst.cpu for turn in every):.0%} at the most and "
        f"the open loop {max(turn.steady.cpu for turn in every):.0%}, which was at its worst "
        f"{max(turn.steady.late_ms for turn in every):.1f} ms late (p99)."
    )
    notes = [idle] + [
        f"Of one core, in the bursts of {name}: bot {median(name, 'bot')}, "
        f"PostgreSQL {median(name, 'postgresql')}, RabbitMQ {median(name, 'rabbitmq')}, "
        f"Telegram's stand-in {median(name, 'telegram')}."
        for name in turns
    ]
    others = Spread.of(turn.cpu["others"] for turn in every)
    notes.append(f"Meanwhile processes that are none of ours took {others.show('.0%')} of one core.")
    notes.append(
        f"Bursts: {CONNECTIONS} connections, no worker. At {RATE}/s a worker counts the views of ours; bot, "
        "worker, PostgreSQL, RabbitMQ and the generator share the cores."
    )
    if late := sum(turn.steady.unanswered for turn in turns[PLAIN]):
        notes.append(f"The plain design left {late} updates at {RATE}/s unanswered.")
    if complaints := [line for turn in turns[OURS] for line in turn.complaints]:
        notes.append(f"Ours logged {len(complaints)} warnings and errors; the first: {complaints[0]}")
    return notes
