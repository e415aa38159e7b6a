"""The row «stampede»: a thousand readers ask at once for a text that does not exist.

They are of one sign and one day; a bot receives their updates over as many connections as Telegram opens,
and three workers stand by. The model takes two seconds. A round, on fresh processes, is

1. a warm-up of replies that exist,
2. all the updates at once, until every reader has the text and every view is counted.

Then everything is held against what Telegram's stand-in and the tables saw: each reader was shown the progress
message, and then in that same message the text, or, having come late, the text at once; nothing else; and
a view each. A reader counts as answered when Telegram was told.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

from ops.bench import load
from ops.bench.figures import Spread, percentile
from ops.bench.model import Model, most_in_flight
from ops.bench.report import Line, Result
from ops.bench.stage import FIRST_READER, HOME, HOROSCOPE, READERS, BenchError, Running, Stage, until
from ops.bench.steady import Generator, Update
from ops.bench.telegram import Shown
from schema.signs import Language, Sign
from services.days import day_in, system_clock
from services.readers import replies

SIGN = Sign.LEO
FIRST, CROWD = FIRST_READER + READERS, 1000
WORKERS = 3
LATENCY_S = 2.0
MARGIN_S = 3.0
MEMORY_MIB = 150

#: Updates a second: all of them at once, and those of the warm-up.
AT_ONCE, WARM_UP = 1e6, 100
#: Seconds until all is over, or else it was no measurement.
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One stampede; times in seconds.

    Args:
        last: From the first request to the last answer.
        half: To the answer of half of the readers.
        progress: To the progress message, of every reader who was shown one: from their own request, ascending.
        calls: Calls to the model.
        in_flight: The most of them at once.
        refused: Edits that would have changed nothing.
        transactions: Writing transactions a reader, views and all.
        cpu_ms: Processor time a reader, of each part, in milliseconds.
        memory: The most that a process had resident, in MiB.
    """

    last: float
    half: float
    progress: list[float]
    calls: int
    in_flight: int
    refused: int
    transactions: float
    cpu_ms: dict[str, float]
    memory: dict[str, float]

    def progress_ms(self, percent: float) -> float:
        """A percentile of the milliseconds to the progress message."""
        return percentile(self.progress, percent) * 1000 if self.progress else 0.0


async def measure(rounds: int, seconds: int) -> Result:
    """Measure the row.

    Args:
        rounds: How many stampedes.
        seconds: Of no meaning here: a stampede takes as long as it takes.

    Raises:
        BenchError: A figure would mean nothing.
        ServerError: A private server cannot be started.
    """
    del seconds
    turns, complaints = [], []
    async with Stage() as stage, stage.model(LATENCY_S) as model:
        await stage.sql.execute(
            "INSERT INTO readers (telegram_id, zodiac_sign, language) "
            "SELECT id, $1, 'ru' FROM generate_series($2::bigint, $3) AS id",
            SIGN.value,
            FIRST,
            FIRST + CROWD - 1,
        )
        for number in range(rounds):
            turn, complained = await _turn(stage, model)
            turns.append(turn)
            complaints += complained
            print(
                f"round {number + 1} of {rounds}: the last of {CROWD} answered after {turn.last:.2f} s",
                file=sys.stderr,
            )
    return _judge(turns, complaints)


async def _turn(stage: Stage, model: Model) -> tuple[Turn, list[str]]:
    today = day_in(HOME, system_clock())
    async with AsyncExitStack() as stack:
        parts: dict[str, list[Running]] = {"worker": [], "bot": []}
        for part in ["worker"] * WORKERS + ["bot"]:
            running = stage.running(part, HOROSCOPE, part, ready=f"{part}.ready", settings=model.settings)
            parts[part].append(await stack.enter_async_context(running))
        warm_up = await load.steady(stage.webhook_url, WARM_UP, WARM_UP, lambda _: [stage.text])
        await _counted(stage, warm_up.answered)
        await stage.calm()
        await stage.forget(today, SIGN)
        await stage.shown()

        counted, began = await stage.counted(), time.time()
        transactions, spent = await stage.written_transactions(), _processor(stage, parts)
        crowd = Generator(load.plan_of(stage.webhook_url, AT_ONCE, range(FIRST, FIRST + CROWD), lambda _: []))
        sent = await crowd.run()
        if sent.answered != CROWD:
            raise BenchError(f"the bot did not take the updates: {sent}")
        await _counted(stage, counted + CROWD)
        spent = {part: now - spent[part] for part, now in _processor(stage, parts).items()}
        transactions = await stage.written_transactions() - transactions
        await stage.calm()  # nothing may follow
        if (views := await stage.counted() - counted) != CROWD:
            raise BenchError(f"{CROWD} readers made {views} views")
        text = await stage.sql.fetchval(
            "SELECT content FROM horoscope_cache WHERE zodiac_sign = $1 AND horoscope_date = $2",
            SIGN.value,
            today,
        )
        shown = await stage.shown()
        expected = replies.horoscope(SIGN, today, text, Language.RU).text
        progress, answered = _witnessed(crowd.updates, shown, expected)
        calls = await model.calls(began)
        turn = Turn(
            last=answered[-1],
            half=percentile(answered, 50),
            progress=progress,
            calls=len(calls),
            in_flight=most_in_flight(calls),
            refused=sum(each.how == "refused" for each in shown),
            transactions=transactions / CROWD,
            cpu_ms={part: seconds * 1000 / CROWD for part, seconds in spent.items()},
            memory={part: max(each.peak_mib for each in running) for part, running in parts.items()},
        )
        return turn, [line for running in parts.values() for each in running for line in each.complaints]


def _witnessed(
    updates: Sequence[Update], shown: Sequence[Shown], expected: str
) -> tuple[list[float], list[float]]:
    """Hold what every reader got to see against what they should have.

    Returns:
        Seconds to the progress message, from each one's own request; seconds to the answer, from the first
        request. Both ascending.

    Raises:
        BenchError: Somebody saw something else.
    """
    seen: defaultdict[int, list[Shown]] = defaultdict(list)
    for each in shown:
        seen[each.chat].append(each)
    first = min(update.began for update in updates)
    generating = replies.generating(Language.RU).text
    progress, answered = [], []
    for reader, update in enumerate(updates, FIRST):
        screen = [each for each in seen.pop(reader, []) if each.how != "refused"]
        words = [each.text for each in screen]
        if words == [generating, expected] and len({each.message for each in screen}) == 1:
            progress.append(screen[0].at - update.due)
            answered.append(screen[1].at - first)
        elif not words and expected.partition("\n")[0].encode() in update.body and update.took is not None:
            answered.append(update.due + update.took - first)
        else:
            raise BenchError(f"reader {reader} was shown {screen} and {update.body.decode()!r}")
    if seen:
        raise BenchError(f"some who did not ask were shown {next(iter(seen.values()))}")
    return sorted(progress), sorted(answered)


async def _counted(stage: Stage, views: int) -> None:
    async def counted() -> bool:
        return await stage.counted() >= views

    await until(counted, f"there are {views} views", within=PATIENCE_S)


def _processor(stage: Stage, parts: Mapping[str, Sequence[Running]]) -> dict[str, float]:
    ours = {part: sum(each.cpu_seconds for each in running) for part, running in parts.items()}
    return {**ours, **stage.cpu_seconds(), "generator": time.process_time()}


def _judge(turns: Sequence[Turn], complaints: Sequence[str]) -> Result:
    last = Spread.of(turn.last for turn in turns)
    calls = max(turn.calls for turn in turns)
    shares = ", ".join(
        f"{part} {Spread.of(turn.cpu_ms[part] for turn in turns).median:.2f}" for part in turns[0].cpu_ms
    )
    transactions = Spread.of(turn.transactions for turn in turns)
    notes = [
        f"Milliseconds of processor time a reader: {shares}.",
        f"Writing transactions a reader: {transactions.show('.2f')}.",
        "Who was not shown the progress message came late and had the text in the response.",
    ]
    if complaints:
        notes.append(
            f"The processes logged {len(complaints)} warnings and errors; the first: {complaints[0]}"
        )
    return Result(
        name="stampede",
        title=f"Stampede: {CROWD} readers miss one sign, 1 bot, {WORKERS} workers, a model of {LATENCY_S:g} s "
        f"({len(turns)} rounds)",
        lines=[
            Line("calls to the model", "1", str(calls), calls == 1),
            Line(
                "last reader answered, beside the model",
                f"≤ {MARGIN_S:g} s",
                Spread.of(turn.last - LATENCY_S for turn in turns).show(".2f", "s"),
                last.median <= LATENCY_S + MARGIN_S,
            ),
            *(
                Line(
                    f"memory, {part}", f"< {MEMORY_MIB} MiB", most.show(".0f", "MiB"), most.most < MEMORY_MIB
                )
                for part in turns[0].memory
                for most in [Spread.of(turn.memory[part] for turn in turns)]
            ),
        ],
        details=[
            (
                "",
                "half answered",
                "last answered",
                "shown progress",
                "p50",
                "p99",
                "at once",
                "edits refused",
            ),
            *(
                (
                    f"round {number}",
                    f"{turn.half:.2f} s",
                    f"{turn.last:.2f} s",
                    str(len(turn.progress)),
                    f"{turn.progress_ms(50):.0f} ms",
                    f"{turn.progress_ms(99):.0f} ms",
                    str(turn.in_flight),
                    str(turn.refused),
                )
                for number, turn in enumerate(turns, 1)
            ),
        ],
        notes=notes,
        samples={"rounds": len(turns), "latency_s": LATENCY_S, "turns": [asdict(turn) for turn in turns]},
    )
