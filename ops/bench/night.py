"""The row ``night``: the time to write twelve texts, one after another, beyond the time of the model.

Tomorrow's texts are missing, as after midnight, and three workers are idle. A round publishes one
``MidnightTick``, upon which the workers order and write the missing texts. The overhead is the time from the
tick to the last text's commit, less the time of the model. Each sign must take exactly one call to the model.
"""

import time
from dataclasses import dataclass

from ops.bench import backlog
from ops.bench.figures import medians
from ops.bench.model import Model, most_in_flight
from ops.bench.report import Line, Result, progress
from ops.bench.stage import HOME, BenchError, Running, Stage
from schema.messages import MidnightTick
from schema.signs import Sign
from services.days import ONE_DAY, day_in, system_clock

WORKERS = 3
LATENCY_S = 0.3

_WRITTEN = "SELECT count(*) FROM horoscope_cache WHERE horoscope_date = $1"


@dataclass(frozen=True, slots=True)
class Turn:
    """One night."""

    #: From the tick to the last commit.
    seconds: float
    #: All calls to the model together.
    model_s: float
    calls: int
    #: The most calls at once.
    in_flight: int
    #: Processor time a sign, of all workers and of each server, in milliseconds.
    cpu_ms: dict[str, float]

    @property
    def overhead_ms(self) -> float:
        """Milliseconds a sign beyond the model's time."""
        return (self.seconds - self.model_s) * 1000 / len(Sign)


async def measure(stage: Stage, rounds: int, _seconds: int) -> Result:
    """Measure the row."""
    turns = []
    async with (
        stage.model(LATENCY_S) as model,
        stage.services(*["worker"] * WORKERS, settings=model.settings) as parts,
    ):
        workers = parts["worker"]
        for number in range(rounds):
            turn = await _turn(stage, model, workers)
            turns.append(turn)
            progress(
                number, rounds, f"{turn.seconds:.2f} s, {turn.overhead_ms:.0f} ms a sign beyond the model"
            )
    return _judge(turns)


async def _turn(stage: Stage, model: Model, workers: list[Running]) -> Turn:
    tomorrow = day_in(HOME, system_clock()) + ONE_DAY
    await stage.calm()
    await stage.forget(tomorrow)
    meter, began = stage.meter(workers=workers), time.time()
    await backlog.publish(stage, MidnightTick.queue, [backlog.wire(MidnightTick())])
    await stage.until_at_least(len(Sign), _WRITTEN, tomorrow)
    ended = await stage.sql.fetchval(
        "SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin)))::float8 "
        "FROM horoscope_cache WHERE horoscope_date = $1",
        tomorrow,
    )
    await stage.calm()  # a second call for a sign would come now
    for worker in workers:
        worker.check()
    calls = await model.calls(began)
    written = await stage.sql.fetchval(_WRITTEN, tomorrow)
    if [call.outcome for call in calls] != ["ok"] * len(Sign) or written != len(Sign):
        raise BenchError(f"twelve texts must take twelve calls, but {written} texts took {calls}")
    return Turn(
        seconds=ended - began,
        model_s=sum(call.finished - call.started for call in calls),
        calls=len(calls),
        in_flight=most_in_flight(calls),
        cpu_ms=meter.read().each(len(Sign), 1000),
    )


def _judge(turns: list[Turn]) -> Result:
    shares = medians([turn.cpu_ms for turn in turns], ".0f")
    in_flight = max(turn.in_flight for turn in turns)
    return Result(
        title=f"Night: 12 signs, {WORKERS} workers, a model of {LATENCY_S:g} s ({len(turns)} rounds)",
        lines=[
            Line.of("a sign beyond the model", "≤ 100 ms", (turn.overhead_ms for turn in turns), ".0f"),
            Line("calls to the model at once", "1", str(in_flight), in_flight == 1),
        ],
        tables=[
            [
                {
                    "": f"round {number}",
                    "tick to last commit": f"{turn.seconds:.2f} s",
                    "the model's share": f"{turn.model_s:.2f} s",
                    "calls": str(turn.calls),
                }
                for number, turn in enumerate(turns, 1)
            ]
        ],
        notes=[f"Processor time a sign in milliseconds, with the idle time until the next: {shares}."],
        samples={"latency_s": LATENCY_S, "turns": turns},
    )
