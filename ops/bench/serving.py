"""The row ``serving``, a cached reply by webhook from one process: our bot, an empty handler, and the plain design.

The three take turns on the same servers, one process alive at a time. Ratios are taken within a round, so that
other load on the machine affects both sides. In its turn each system

1. answers one update, its first,
2. is warmed up,
3. answers as much as it can (wrk), without a worker: the views wait in their queue, because the row is about one
   process, and on two cores a worker would slow our bot and not the others,
4. answers 200 updates a second. Ours has a worker beside it that counts the views, as in production. Bot, worker,
   both servers and the generator share the cores.

The worker counts the waiting views before step 4. In the end every reply must have become one view.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median

from ops.bench import load, steady
from ops.bench.figures import Spread, alternated, medians, ratios
from ops.bench.load import Burst
from ops.bench.report import Line, Result, busy, progress
from ops.bench.stage import HOROSCOPE, BenchError, Stage
from ops.bench.steady import Steady
from ops.bench.yardsticks import EMPTY, PLAIN, READY
from schema.messages import VIEWS

RATE = 200  # updates a second
WARM_UP_S = 2

OURS = "ours"
_YARDSTICKS = (sys.executable, "-m", "ops.bench.yardsticks")
SYSTEMS = {
    OURS: (HOROSCOPE, "bot"),
    EMPTY: (*_YARDSTICKS, EMPTY),
    PLAIN: (*_YARDSTICKS, PLAIN),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One system's turn in one round."""

    #: The first update, the burst as fast as possible, and the constant rate.
    first: Steady
    burst: Burst
    steady: Steady
    #: Shares of one core during the burst, of the bot and of each server.
    cpu: dict[str, float]
    #: Share of one core that other programs took then.
    others: float
    #: The peak of each process's resident memory, in MiB.
    memory: dict[str, float]
    #: Good answers in all, the warm-up's included.
    replied: int
    #: Views from the whole turn. They may exceed the replies: wrk drops the last answer of each connection.
    views: int
    #: Views from the constant rate, which must equal its replies.
    steady_views: int

    @property
    def cpu_ms(self) -> float:
        """The bot's processor time for a reply."""
        return 1000 * self.cpu["bot"] / self.burst.rate


async def measure(stage: Stage, rounds: int, seconds: int) -> Result:
    """Measure the row; each step of a turn takes so many seconds."""
    turns: dict[str, list[Turn]] = {name: [] for name in SYSTEMS}
    for number, name in alternated(SYSTEMS, rounds):
        turn = await _turn(stage, name, seconds)
        turns[name].append(turn)
        p99 = turn.steady.p99_ms
        progress(number, rounds, f"{name:<5}  {turn.burst.rate:5.0f}/s   p99 at {RATE}/s {p99:.1f} ms")
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
        meter = stage.meter(bot=[bot])
        burst = await load.burst(stage.webhook_url, seconds, text)
        spent = meter.read()
        if ours:
            queued = stage.queued(VIEWS)
            processes["worker"] = (await stack.enter_async_context(stage.services("worker")))["worker"][0]
            await stage.until_counted(before + queued)
        already = await stage.counted()
        constant = await load.steady(stage.webhook_url, RATE, RATE * seconds, expected)
        if ours:
            await stage.until_counted(already + constant.answered)
        counted = await stage.counted()
        for process in processes.values():
            process.check()
        turn = Turn(
            first=first,
            burst=burst,
            steady=constant,
            cpu=spent.each(burst.seconds, 1),
            others=spent.others,
            memory={part: process.peak_mib for part, process in processes.items()},
            replied=first.answered + warm_up.right + burst.right + constant.answered,
            views=counted - before,
            steady_views=counted - already,
        )
        _check(name, turn)
    return turn


def _check(name: str, turn: Turn) -> None:
    """Raise BenchError for a wrong or missing answer; only the plain design may be too slow to answer."""
    wrong = turn.burst.wrong + turn.burst.broken + turn.first.wrong + turn.steady.wrong
    if wrong or not turn.burst.right or (turn.steady.unanswered and name != PLAIN):
        raise BenchError(f"{name} answered badly: {turn.first}, {turn.burst}, {turn.steady}")


def _judge(turns: Mapping[str, list[Turn]], rounds: int, seconds: int) -> Result:
    ours = turns[OURS]
    rates = {name: [turn.burst.rate for turn in of] for name, of in turns.items()}
    of_plain, of_empty = ratios(rates[OURS], rates[PLAIN]), ratios(rates[OURS], rates[EMPTY])
    lost = sum(max(0, turn.replied - turn.views) for turn in ours)
    twice = sum(max(0, turn.steady_views - turn.steady.answered) for turn in ours)
    views = f"{lost} lost, {twice} twice, of {sum(turn.replied for turn in ours)}"
    slowest, first = [turn.steady.max_ms for turn in ours], [turn.first.max_ms for turn in ours]
    return Result(
        title=f"Cached reply, webhook, 1 process ({rounds} alternated rounds of {seconds} s)",
        lines=[
            Line.of(f"p99 at {RATE}/s", "< 50 ms", (turn.steady.p99_ms for turn in ours), ".1f"),
            Line.of(f"slowest at {RATE}/s", "< 500 ms", slowest, ".0f", worst=True),
            Line.of("first reply of a process", "< 500 ms", first, ".0f", worst=True),
            Line.of("throughput / plain design", "≥ 2.0 ×", of_plain),
            Line.of("throughput / empty handler", "≥ 0.7 ×", of_empty),
            Line("views of replies", "each once", views, not lost + twice),
            *(Line.memory(part, (turn.memory[part] for turn in ours)) for part in ours[0].memory),
        ],
        tables=[[_details(name, of) for name, of in turns.items()]],
        notes=_notes(turns),
        samples={
            "seconds": seconds,
            "ratios": {"ours/plain": Spread.of(of_plain), "ours/empty": Spread.of(of_empty)},
            "turns": turns,
        },
    )


def _details(name: str, turns: list[Turn]) -> dict[str, str]:
    return {
        "": name,
        "replies/s": f"{median(turn.burst.rate for turn in turns):.0f}",
        "CPU a reply": f"{median(turn.cpu_ms for turn in turns):.2f} ms",
        f"p50 at {RATE}/s": f"{median(turn.steady.p50_ms for turn in turns):.1f} ms",
        "p99": f"{median(turn.steady.p99_ms for turn in turns):.1f} ms",
        "slowest": f"{max(turn.steady.max_ms for turn in turns):.0f} ms",
        "first": f"{median(turn.first.max_ms for turn in turns):.0f} ms",
        "memory": f"{max(turn.memory['bot'] for turn in turns):.0f} MiB",
    }


def _notes(turns: Mapping[str, list[Turn]]) -> list[str]:
    every = [turn for of in turns.values() for turn in of]
    took = max(turn.steady.cpu for turn in every)
    late = Spread.of(turn.steady.late_ms for turn in every).show(".1f", "ms")
    notes = [
        f"Bursts: {load.CONNECTIONS} connections, no worker.",
        f"At {RATE}/s: {steady.CONNECTIONS} connections, Telegram's default, and a worker for our views.",
        *(
            f"Shares of one core in the bursts of {name}: {medians([turn.cpu for turn in of], '.0%')}."
            for name, of in turns.items()
        ),
        f"wrk took at most {max(turn.burst.cpu for turn in every):.0%} of one core.",
        f"The open loop took at most {took:.0%}; it was {late} late (p99).",
        *busy(turn.others for turn in every),
    ]
    if unanswered := sum(turn.steady.unanswered for turn in turns[PLAIN]):
        notes.append(f"The plain design left {unanswered} of the updates at {RATE}/s unanswered.")
    return notes
