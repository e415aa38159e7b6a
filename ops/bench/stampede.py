"""The row ``stampede``: a thousand readers ask at once for one missing text.

They share a sign and a day. One bot receives their updates over as many connections as Telegram opens, and three
workers are idle. The model takes two seconds. Each round starts new processes:

1. a warm-up of replies whose texts exist,
2. all updates at once, until every reader has the text and every view is counted.

Then each reader's chat is checked. It shows a progress message that became the text, or, for a late reader, the
text at once. It shows nothing else, and each reader made one view. A reader counts as answered when Telegram
receives the answer.
"""

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ops.bench import load
from ops.bench.figures import Spread, medians, percentile
from ops.bench.model import Model, most_in_flight
from ops.bench.report import Line, Result, progress
from ops.bench.stage import FIRST_READER, HOME, READERS, BenchError, Stage
from ops.bench.steady import Generator, Update
from ops.bench.telegram import Shown
from schema.signs import Language, Sign
from services.days import day_in, system_clock
from services.readers import replies

SIGN = Sign.LEO
FIRST, CROWD = FIRST_READER + READERS, 1000
WORKERS = 3
LATENCY_S = 2.0

#: Updates a second: of the crowd, and of the warm-up.
AT_ONCE, WARM_UP = 1e6, 100


@dataclass(frozen=True, slots=True)
class Turn:
    """One stampede; times in seconds."""

    #: From the first request to the last answer, and to the answer of half of the readers.
    last: float
    half: float
    #: From a reader's request to the progress message, for each who was shown one, ascending.
    progress: list[float]
    calls: int
    #: The most calls to the model at once.
    in_flight: int
    #: Edits that changed nothing.
    refused: int
    #: Writing transactions a reader, with the views.
    transactions: float
    #: Processor time a reader, of each part, in milliseconds.
    cpu_ms: dict[str, float]
    #: The peak of resident memory, the largest of each part's processes, in MiB.
    memory: dict[str, float]

    def progress_ms(self, percent: float) -> str:
        """A percentile of the time to the progress message."""
        return f"{percentile(self.progress, percent) * 1000:.0f} ms" if self.progress else ""


async def measure(stage: Stage, rounds: int, _seconds: int) -> Result:
    """Measure the row."""
    turns = []
    await stage.sql.execute(
        "INSERT INTO readers (telegram_id, zodiac_sign, language) "
        "SELECT id, $1, 'ru' FROM generate_series($2::bigint, $3) AS id",
        SIGN.value,
        FIRST,
        FIRST + CROWD - 1,
    )
    async with stage.model(LATENCY_S) as model:
        for number in range(rounds):
            turns.append(await _turn(stage, model))
            progress(number, rounds, f"the last of {CROWD} answered after {turns[-1].last:.2f} s")
    return _judge(turns)


async def _turn(stage: Stage, model: Model) -> Turn:
    today = day_in(HOME, system_clock())
    async with stage.services(*["worker"] * WORKERS, "bot", settings=model.settings) as parts:
        warm_up = await load.steady(stage.webhook_url, WARM_UP, WARM_UP, lambda _: [stage.text])
        await stage.until_counted(warm_up.answered)
        await stage.calm()
        await stage.forget(today, SIGN)
        await stage.shown()

        counted, began = await stage.counted(), time.time()
        transactions, meter = await stage.written_transactions(), stage.meter(**parts)
        crowd = Generator(load.plan_of(stage.webhook_url, AT_ONCE, range(FIRST, FIRST + CROWD), lambda _: []))
        sent = await crowd.run()
        if sent.answered != CROWD:
            raise BenchError(f"the bot did not take the updates: {sent}")
        await stage.until_counted(counted + CROWD)
        spent = meter.read()
        transactions = await stage.written_transactions() - transactions
        await stage.calm()  # a second answer or view would come now
        if (views := await stage.counted() - counted) != CROWD:
            raise BenchError(f"{CROWD} readers made {views} views")
        text = await stage.sql.fetchval(
            "SELECT content FROM horoscope_cache WHERE zodiac_sign = $1 AND horoscope_date = $2",
            SIGN.value,
            today,
        )
        shown = await stage.shown()
        expected = replies.horoscope(SIGN, today, text, Language.RU).text
        to_progress, answered = _check_chats(crowd.updates, shown, expected)
        calls = await model.calls(began)
        return Turn(
            last=answered[-1],
            half=percentile(answered, 50),
            progress=to_progress,
            calls=len(calls),
            in_flight=most_in_flight(calls),
            refused=sum(each.how == "refused" for each in shown),
            transactions=transactions / CROWD,
            cpu_ms=spent.each(CROWD, 1000),
            memory={part: max(each.peak_mib for each in running) for part, running in parts.items()},
        )


def _check_chats(
    updates: Sequence[Update], shown: Sequence[Shown], expected: str
) -> tuple[list[float], list[float]]:
    """Compare every reader's chat with the expected one; raise BenchError for any difference.

    Returns:
        Seconds to each progress message, from the reader's own request, and to each answer, from the first
        request; both ascending.
    """
    seen: defaultdict[int, list[Shown]] = defaultdict(list)
    for each in shown:
        seen[each.chat].append(each)
    first = min(update.began for update in updates)
    generating = replies.generating(Language.RU).text
    to_progress, answered = [], []
    for reader, update in enumerate(updates, FIRST):
        screen = [each for each in seen.pop(reader, []) if each.how != "refused"]
        words = [each.text for each in screen]
        if words == [generating, expected] and len({each.message for each in screen}) == 1:
            to_progress.append(screen[0].at - update.due)
            answered.append(screen[1].at - first)
        elif not words and expected.partition("\n")[0].encode() in update.body and update.took is not None:
            answered.append(update.due + update.took - first)
        else:
            raise BenchError(f"reader {reader} was shown {screen} and {update.body.decode()!r}")
    if seen:
        raise BenchError(f"readers who did not ask were shown {next(iter(seen.values()))}")
    return sorted(to_progress), sorted(answered)


def _judge(turns: list[Turn]) -> Result:
    calls = max(turn.calls for turn in turns)
    shares = medians([turn.cpu_ms for turn in turns], ".2f")
    beyond = [turn.last - LATENCY_S for turn in turns]
    transactions = Spread.of(turn.transactions for turn in turns)
    return Result(
        title=f"Stampede: {CROWD} readers miss one sign, 1 bot, {WORKERS} workers, a model of {LATENCY_S:g} s "
        f"({len(turns)} rounds)",
        lines=[
            Line("calls to the model", "1", str(calls), calls == 1),
            Line.of("last reader answered, beyond the model", "≤ 3 s", beyond),
            *(Line.memory(part, (turn.memory[part] for turn in turns)) for part in turns[0].memory),
        ],
        tables=[
            [
                {
                    "": f"round {number}",
                    "half answered": f"{turn.half:.2f} s",
                    "last answered": f"{turn.last:.2f} s",
                    "shown progress": str(len(turn.progress)),
                    "p50": turn.progress_ms(50),
                    "p99": turn.progress_ms(99),
                    "at once": str(turn.in_flight),
                    "edits refused": str(turn.refused),
                }
                for number, turn in enumerate(turns, 1)
            ]
        ],
        notes=[
            f"Processor time a reader in milliseconds: {shares}.",
            f"Writing transactions a reader: {transactions.show('.2f', '')}.",
            "Readers without a progress message came late and got the text in the response.",
        ],
        samples={"latency_s": LATENCY_S, "turns": turns},
    )
