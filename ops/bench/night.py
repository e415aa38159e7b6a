"""The row «night»: what writing twelve texts, one after another, takes beside the model.

Three workers wait; the texts of tomorrow are missing, as after any midnight. A round is one ``MidnightTick``:
it is published, the workers order what is missing and write it, and the time until the last text's commit,
less what the model took, is what the service itself costs. The texts are then held against the rules of the
night: each sign once, one call at a time in the whole cluster.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import date

from ops.bench.figures import Spread
from ops.bench.model import Model, most_in_flight
from ops.bench.report import Line, Result
from ops.bench.stage import HOME, HOROSCOPE, BenchError, Running, Stage, until
from schema.messages import MidnightTick
from schema.signs import Sign
from services.days import ONE_DAY, day_in, system_clock

WORKERS = 3
LATENCY_S = 0.3
OVERHEAD_S = 0.1  # a sign


@dataclass(frozen=True, slots=True)
class Turn:
    """One night.

    Args:
        seconds: From the tick to the last commit.
        model_s: What the model took of that, all calls together.
        calls: Calls to the model.
        in_flight: The most of them at once.
        cpu_ms: Processor time a sign, of all workers and of each server, in milliseconds.
    """

    seconds: float
    model_s: float
    calls: int
    in_flight: int
    cpu_ms: dict[str, float]

    @property
    def overhead_s(self) -> float:
        """Seconds a sign beside the model."""
        return (self.seconds - self.model_s) / len(Sign)


async def measure(rounds: int, seconds: int) -> Result:
    """Measure the row.

    Args:
        rounds: How many nights.
        seconds: Of no meaning here: a night takes as long as it takes.

    Raises:
        BenchError: A figure would mean nothing.
        ServerError: A private server cannot be started.
    """
    del seconds
    turns = []
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(Stage())
        model = await stack.enter_async_context(stage.model(LATENCY_S))
        workers = [
            await stack.enter_async_context(
                stage.running(
                    f"worker {number}", HOROSCOPE, "worker", ready="worker.ready", settings=model.settings
                )
            )
            for number in range(WORKERS)
        ]
        for number in range(rounds):
            turn = await _turn(stage, model, workers)
            turns.append(turn)
            print(
                f"round {number + 1} of {rounds}: {turn.seconds:.2f} s, {turn.overhead_s * 1000:.0f} ms a sign "
                "beside the model",
                file=sys.stderr,
            )
        complaints = [line for worker in workers for line in worker.complaints]
    return _judge(turns, complaints)


async def _turn(stage: Stage, model: Model, workers: Sequence[Running]) -> Turn:
    tomorrow = day_in(HOME, system_clock()) + ONE_DAY
    await stage.calm()
    await stage.forget(tomorrow)
    spent = _processor(stage, workers)
    began = time.time()
    await stage.publish(MidnightTick())

    async def all_written() -> bool:
        return bool(await _written(stage, tomorrow) == len(Sign))

    await until(all_written, "the night writes twelve texts", within=120)
    ended = await stage.sql.fetchval(
        "SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8 "
        "FROM horoscope_cache WHERE horoscope_date = $1",
        tomorrow,
    )
    await stage.calm()  # nothing may follow
    for worker in workers:
        worker.check()
    calls = await model.calls(began)
    if [call.outcome for call in calls] != ["ok"] * len(Sign) or await _written(stage, tomorrow) != len(Sign):
        raise BenchError(f"twelve texts should have taken twelve calls, which were {calls}")
    return Turn(
        seconds=ended - began,
        model_s=sum(call.took for call in calls),
        calls=len(calls),
        in_flight=most_in_flight(calls),
        cpu_ms={
            part: (now - spent[part]) * 1000 / len(Sign) for part, now in _processor(stage, workers).items()
        },
    )


async def _written(stage: Stage, day: date) -> int:
    return int(
        await stage.sql.fetchval("SELECT count(*) FROM horoscope_cache WHERE horoscope_date = $1", day)
    )


def _processor(stage: Stage, workers: Sequence[Running]) -> dict[str, float]:
    servers = stage.cpu_seconds()
    del servers["telegram"]
    return {"workers": sum(worker.cpu_seconds for worker in workers), **servers}


def _judge(turns: Sequence[Turn], complaints: Sequence[str]) -> Result:
    overhead = Spread.of(turn.overhead_s * 1000 for turn in turns)
    in_flight = max(turn.in_flight for turn in turns)
    shares = ", ".join(
        f"{part} {Spread.of(turn.cpu_ms[part] for turn in turns).median:.0f}" for part in turns[0].cpu_ms
    )
    notes = [f"Milliseconds of processor time a sign, waiting for the next included: {shares}."]
    if complaints:
        notes.append(f"The workers logged {len(complaints)} warnings and errors; the first: {complaints[0]}")
    return Result(
        name="night",
        title=f"Night: 12 signs, {WORKERS} workers, a model of {LATENCY_S:g} s ({len(turns)} rounds)",
        lines=[
            Line(
                "a sign beside the model",
                f"≤ {OVERHEAD_S * 1000:.0f} ms",
                overhead.show(".0f", "ms"),
                overhead.median <= OVERHEAD_S * 1000,
            ),
            Line("calls to the model at once", "1", str(in_flight), in_flight == 1),
        ],
        details=[
            ("", "tick to last commit", "of it the model", "calls"),
            *(
                (f"round {number}", f"{turn.seconds:.2f} s", f"{turn.model_s:.2f} s", str(turn.calls))
                for number, turn in enumerate(turns, 1)
            ),
        ],
        notes=notes,
        samples={"rounds": len(turns), "latency_s": LATENCY_S, "turns": [asdict(turn) for turn in turns]},
    )
