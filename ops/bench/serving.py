"""The row «cached reply, webhook, 1 process»: our bot beside an empty handler and the plain design.

The three take turns, one alive at a time, each a fresh process against the same servers; a ratio is taken
within a round, so that what else the machine is busy with weighs on both sides of it. In a round each is

1. sent one update, the first of its life,
2. warmed up,
3. asked for as much as it can answer (wrk), without a worker: views pile up in their queue, for the row is
   about one process, and on two cores a worker would take its share from the bot and not from the others,
4. sent 200 updates a second, ours with a worker that counts the views at the same time: the service as it
   runs. The cores are then shared by bot, worker, both servers and the generator.

Before the last step the worker counts what has piled up, and in the end every reply must have become one view.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial

from ops.bench import load, machine, steady
from ops.bench.figures import Spread, alternated
from ops.bench.load import Burst
from ops.bench.report import Line, Result
from ops.bench.stage import HOROSCOPE, BenchError, Running, Stage, until
from ops.bench.steady import Steady
from ops.bench.yardsticks import EMPTY, PLAIN, READY
from schema.messages import VIEWS

RATE = 200  # updates a second
WARM_UP_S = 2

P99_MS = 50
SLOWEST_MS = 500
OF_PLAIN = 2.0
OF_EMPTY = 0.7
MEMORY_MIB = 150
#: Share of one core from which on whatever else runs here is told of.
BUSY = 0.25

OURS = "ours"
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
        first: The first update after the start.
        burst: As much as it can answer.
        steady: At a constant rate.
        cpu: Shares of one core during the burst: of the bot, of each server, and of processes that are none
            of ours.
        memory: The most that each process had resident, in MiB.
        replied: Good answers in all, the warm-up's included.
        views: Views that came of them. They may be more than the replies: wrk leaves without waiting for the
            last answers, up to one a connection.
        steady_views: Views that came of the updates at a constant rate; there the two must agree.
        complaints: Warnings and errors that were logged.
    """

    first: Steady
    burst: Burst
    steady: Steady
    cpu: Mapping[str, float]
    memory: Mapping[str, float]
    replied: int
    views: int
    steady_views: int
    complaints: list[str]

    @property
    def cpu_ms(self) -> float:
        """The bot's processor time for a reply."""
        return 1000 * self.cpu["bot"] / self.burst.rate


async def measure(rounds: int, seconds: int) -> Result:
    """Measure the row.

    Args:
        rounds: How often each system has its turn.
        seconds: How long each step of a turn takes.

    Raises:
        BenchError: A figure would mean nothing.
        ServerError: A private server cannot be started.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in SYSTEMS}
    async with Stage() as stage:
        for number, name in alternated(SYSTEMS, rounds):
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
    expected: Callable[[int], list[str]] = partial(load.sent_in_response, text=text) if ours else lambda _: []
    before = await stage.counted()
    async with AsyncExitStack() as stack:
        bot = await stack.enter_async_context(stage.running(name, *SYSTEMS[name], ready=READY))
        processes = {"bot": bot}
        first = await load.steady(stage.webhook_url, RATE, 1, expected)
        warm_up = await load.burst(stage.webhook_url, WARM_UP_S, text)
        spent = _processor(stage, bot)
        burst = await load.burst(stage.webhook_url, seconds, text)
        cpu = {part: (now - spent[part]) / burst.seconds for part, now in _processor(stage, bot).items()}
        cpu["others"] = max(0.0, cpu.pop("machine") - sum(cpu.values()) - burst.cpu)
        if ours:
            queued = stage.queued(VIEWS)
            processes["worker"] = await stack.enter_async_context(
                stage.running("worker", HOROSCOPE, "worker", ready="worker.ready")
            )
            await _all_counted(stage, before + queued)
        already = await stage.counted()
        constant = await load.steady(stage.webhook_url, RATE, RATE * seconds, expected)
        if ours:
            await _all_counted(stage, already + constant.answered)
        counted = await stage.counted()
        for process in processes.values():
            process.check()
        turn = Turn(
            first=first,
            burst=burst,
            steady=constant,
            cpu=cpu,
            memory={part: process.peak_mib for part, process in processes.items()},
            replied=first.answered + warm_up.right + burst.right + constant.answered,
            views=counted - before,
            steady_views=counted - already,
            complaints=[line for process in processes.values() for line in process.complaints],
        )
    _check(name, turn)
    return turn


async def _all_counted(stage: Stage, views: int) -> None:
    async def counted() -> bool:
        return await stage.counted() >= views

    await until(counted, "the worker has counted the views")


def _processor(stage: Stage, bot: Running) -> dict[str, float]:
    return {"bot": bot.cpu_seconds, **stage.cpu_seconds(), "machine": machine.busy_seconds()}


def _check(name: str, turn: Turn) -> None:
    """A system that answers badly is not measured, it is broken; only the plain design may be too slow."""
    wrong = turn.burst.wrong + turn.burst.broken + turn.first.wrong + turn.steady.wrong
    if wrong or not turn.burst.right or (turn.steady.unanswered and name != PLAIN):
        said = "\n".join(turn.complaints[:5])
        raise BenchError(
            f"{name} did not answer as it should: {turn.first}, {turn.burst}, {turn.steady}; it said:\n{said}"
        )


def _judge(turns: Mapping[str, list[Turn]], rounds: int, seconds: int) -> Result:
    ours = turns[OURS]
    rates = {name: [turn.burst.rate for turn in of] for name, of in turns.items()}
    p99 = Spread.of(turn.steady.p99_ms for turn in ours)
    slowest = Spread.of(turn.steady.max_ms for turn in ours)
    first = Spread.of(turn.first.max_ms for turn in ours)
    of_plain = Spread.of_ratios(rates[OURS], rates[PLAIN])
    of_empty = Spread.of_ratios(rates[OURS], rates[EMPTY])
    lost = sum(max(0, turn.replied - turn.views) for turn in ours)
    twice = sum(max(0, turn.steady_views - turn.steady.answered) for turn in ours)
    replied = sum(turn.replied for turn in ours)
    memory = {part: Spread.of(turn.memory[part] for turn in ours) for part in ours[0].memory}
    lines = [
        Line(f"p99 at {RATE}/s", f"< {P99_MS} ms", p99.show(".1f", "ms"), p99.median < P99_MS),
        Line(
            f"slowest at {RATE}/s", f"< {SLOWEST_MS} ms", slowest.show(".0f", "ms"), slowest.most < SLOWEST_MS
        ),
        Line(
            "first reply of a process", f"< {SLOWEST_MS} ms", first.show(".0f", "ms"), first.most < SLOWEST_MS
        ),
        Line("throughput / plain design", f"≥ {OF_PLAIN} ×", of_plain.show(), of_plain.median >= OF_PLAIN),
        Line("throughput / empty handler", f"≥ {OF_EMPTY} ×", of_empty.show(), of_empty.median >= OF_EMPTY),
        Line("views of replies", "each once", f"{lost} lost, {twice} twice, of {replied}", not lost + twice),
    ]
    lines += [
        Line(f"memory, {part}", f"< {MEMORY_MIB} MiB", most.show(".0f", "MiB"), most.most < MEMORY_MIB)
        for part, most in memory.items()
    ]
    return Result(
        name="serving",
        title=f"Cached reply, webhook, 1 process ({rounds} alternated rounds of {seconds} s)",
        lines=lines,
        details=[
            ("", "replies/s", "CPU a reply", f"p50 at {RATE}/s", "p99", "slowest", "first", "memory"),
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
        f"{Spread.of(turn.burst.rate for turn in turns).median:.0f}",
        f"{Spread.of(turn.cpu_ms for turn in turns).median:.2f} ms",
        f"{Spread.of(turn.steady.p50_ms for turn in turns).median:.1f} ms",
        f"{Spread.of(turn.steady.p99_ms for turn in turns).median:.1f} ms",
        f"{max(turn.steady.max_ms for turn in turns):.0f} ms",
        f"{Spread.of(turn.first.max_ms for turn in turns).median:.0f} ms",
        f"{max(turn.memory['bot'] for turn in turns):.0f} MiB",
    )


def _notes(turns: Mapping[str, list[Turn]]) -> list[str]:
    every = [turn for of in turns.values() for turn in of]
    conditions = (
        f"Bursts: {load.CONNECTIONS} connections, no worker. At {RATE}/s: {steady.CONNECTIONS} connections, as "
        "Telegram opens by default; a worker counts the views of ours, so that bot, worker, PostgreSQL, "
        "RabbitMQ and the generator share the cores."
    )
    generators = (
        f"The generators idle: of one core, wrk took {max(turn.burst.cpu for turn in every):.0%} at the most, "
        f"the open loop {max(turn.steady.cpu for turn in every):.0%}."
    )
    notes = [conditions, *(_shares(name, of) for name, of in turns.items()), generators]
    others = Spread.of(turn.cpu["others"] for turn in every)
    late = Spread.of(turn.steady.late_ms for turn in every)
    if others.median > BUSY:
        notes.append(
            f"The machine was busy with something else, which took {others.show('.0%')} of one core, and made "
            f"the open loop itself {late.show('.1f', 'ms')} late (p99): times mean little, ratios more."
        )
    if unanswered := sum(turn.steady.unanswered for turn in turns[PLAIN]):
        notes.append(f"The plain design left {unanswered} of the updates at {RATE}/s unanswered.")
    if complaints := [line for turn in turns[OURS] for line in turn.complaints]:
        notes.append(f"Ours logged {len(complaints)} warnings and errors; the first: {complaints[0]}")
    return notes


def _shares(name: str, turns: list[Turn]) -> str:
    shares = ", ".join(
        f"{part} {Spread.of(turn.cpu[part] for turn in turns).median:.0%}"
        for part in turns[0].cpu
        if part != "others"
    )
    return f"Of one core, in the bursts of {name}: {shares}."
