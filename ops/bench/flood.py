"""The row ``flood``: one reader sends 10,000 ``/today`` at once, and meanwhile a hundred others ask once each.

A bot by polling and a bot by webhook take turns, each with a worker beside it that counts the views. Telegram's stand-in
takes one new message a second for each chat. The others ask at a constant rate from the moment of the flood on.

By polling, the flood is ahead of everybody in Telegram's queue. By webhook, it comes over forty connections, and the
others come over forty of their own. A latency lasts from a question until Telegram has the answer.

Everybody else must be answered, and the reader who floods makes only as many views as the bot allows.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ops.bench import load
from ops.bench.figures import alternated, percentile
from ops.bench.report import Line, Result, progress
from ops.bench.stage import FIRST_READER, BenchError, Stage, until
from ops.bench.steady import Plan
from services.bot.admission import BURST, REFILL_S

FLOOD, QUIET = 10_000, 100
FLOODER = FIRST_READER
#: Updates a second: of the quiet readers, and of the flood.
QUIET_RATE, AT_ONCE = 50, 1e6
#: Seconds for which Telegram's stand-in takes no second message for a chat.
CHAT_S = 1.0
ANSWERED_WITHIN_S = 60.0

#: The settings and the budget of each mode.
MODES: Mapping[str, tuple[Mapping[str, str], str]] = {
    "polling": ({"WEBHOOK_URL": ""}, "< 1000 ms"),
    "webhook": ({}, "< 50 ms"),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """One flood in one mode."""

    #: Milliseconds until the answers to the quiet readers.
    p50_ms: float
    p99_ms: float
    max_ms: float
    #: Views of the reader who floods, and the most that the bot allows.
    views: int
    allowed: int
    #: The peak of each process's resident memory, in MiB.
    memory: dict[str, float]


async def measure(stage: Stage, rounds: int, _seconds: int) -> Result:
    """Measure the row."""
    turns: dict[str, list[Turn]] = {mode: [] for mode in MODES}
    async with stage.limited_chats():
        for number, mode in alternated(MODES, rounds):
            turn = await _turn(stage, mode)
            turns[mode].append(turn)
            progress(number, rounds, f"{mode:<7}  p99 of the others {turn.p99_ms:.1f} ms")
    return _judge(turns, rounds)


async def _turn(stage: Stage, mode: str) -> Turn:
    settings, _ = MODES[mode]
    ask = _by_polling if mode == "polling" else _by_webhook
    async with stage.services("worker", "bot", settings=settings) as parts:
        await ask(stage, _quiet(stage), None)  # a warm-up
        await asyncio.sleep(CHAT_S)
        await stage.calm()
        counted, began = await stage.counted(), time.monotonic()
        flood = load.plan_of(stage.webhook_url, AT_ONCE, [FLOODER] * FLOOD, lambda _: [])
        took = await ask(stage, _quiet(stage), flood)
        await stage.until_counted(counted + QUIET)
        allowed = BURST + int((time.monotonic() - began) / REFILL_S) + 1
        return Turn(
            *took,
            views=await stage.counted() - counted - QUIET,
            allowed=allowed,
            memory={part: running.peak_mib for part, (running,) in parts.items()},
        )


def _quiet(stage: Stage) -> Plan:
    readers = range(FLOODER + 1, FLOODER + 1 + QUIET)
    return load.plan_of(stage.webhook_url, QUIET_RATE, readers, lambda _: [stage.text])


async def _by_webhook(_: Stage, quiet: Plan, flood: Plan | None) -> tuple[float, float, float]:
    """The median, the 99th percentile and the longest of the quiet readers' latencies, in milliseconds."""
    plans = [quiet, flood] if flood else [quiet]
    answered, *rest = await asyncio.gather(*map(load.carry_out, plans))
    if answered.answered != QUIET or any(sent.answered != FLOOD for sent in rest):
        raise BenchError(f"the bot answered badly: {answered}, {rest}")
    return answered.p50_ms, answered.p99_ms, answered.max_ms


async def _by_polling(stage: Stage, quiet: Plan, flood: Plan | None) -> tuple[float, float, float]:
    """The same for a bot that polls."""
    await stage.shown()
    if flood:
        await stage.push([update for update, _ in flood.updates])
    start = time.perf_counter()
    due = [start + number / quiet.rate for number in range(QUIET)]
    for at, (update, _) in zip(due, quiet.updates, strict=True):
        await asyncio.sleep(at - time.perf_counter())
        await stage.push([update])
    answered: dict[int, float] = {}

    async def all_answered() -> bool:
        for shown in await stage.shown():
            if stage.text in shown.text:
                answered.setdefault(shown.chat, shown.at)
        return len(answered.keys() - {FLOODER}) == QUIET

    await until(all_answered, "the quiet readers are answered", within=ANSWERED_WITHIN_S)
    took = sorted(answered[FLOODER + 1 + number] - at for number, at in enumerate(due))
    return (percentile(took, 50) * 1000, percentile(took, 99) * 1000, took[-1] * 1000)


def _judge(turns: Mapping[str, Sequence[Turn]], rounds: int) -> Result:
    every = [turn for of in turns.values() for turn in of]
    most = max(turn.views for turn in every)
    return Result(
        title=f"Flood: {FLOOD:,} /today of one reader, {QUIET} quiet readers, 1 bot ({rounds} alternated rounds)",
        lines=[
            *(
                Line.of(
                    f"p99 of the quiet readers, {mode}", MODES[mode][1], [turn.p99_ms for turn in of], ".1f"
                )
                for mode, of in turns.items()
            ),
            Line(
                "views of the flood",
                "as allowed",
                str(most),
                all(turn.views <= turn.allowed for turn in every),
            ),
            *(Line.memory(part, [turn.memory[part] for turn in every]) for part in every[0].memory),
        ],
        tables=[
            [
                {
                    "": mode,
                    "p50": f"{median(turn.p50_ms for turn in of):.1f} ms",
                    "p99": f"{median(turn.p99_ms for turn in of):.1f} ms",
                    "slowest": f"{max(turn.max_ms for turn in of):.0f} ms",
                    "views of the flood": f"{max(turn.views for turn in of)}",
                }
                for mode, of in turns.items()
            ]
        ],
        notes=[f"The bot allows a reader {BURST} answers at once, and one more every {REFILL_S:g} s."],
        samples={"turns": turns},
    )
