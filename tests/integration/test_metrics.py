"""Whether what a process counts is what happened."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from ops.sandbox import Sandbox
from schema.messages import (
    GENERATION,
    VIEWS,
    DeliverHoroscope,
    GenerateHoroscope,
    HoroscopeRequested,
)
from schema.signs import Sign
from services.messaging.envelope import encode
from tests.processes import Processes
from tests.proxy import Cable
from tests.queues import Queues
from tests.telling import measure
from tests.waiting import DEADLINE_S


def handled(message: type, queue: str, outcome: str) -> str:
    return f'horoscope_messages_total{{message="{message.__name__}",outcome="{outcome}",queue="{queue}"}}'


async def until_measured(
    port: int, expected: dict[str, float], within: float = DEADLINE_S
) -> dict[str, float]:
    """Wait until metrics have the values that are expected, then all of them."""
    measured: dict[str, float] = {}
    try:
        async with asyncio.timeout(within):
            while not expected.items() <= measured.items():
                await asyncio.sleep(0.05)
                measured = await measure(port)
    except TimeoutError:
        found = {name: measured.get(name) for name in expected}
        raise AssertionError(f"{found}, not {expected}, for {within} s") from None
    return measured


async def test_a_worker_counts_what_became_of_every_message(
    sandbox: Sandbox, processes: Processes, queues: Queues, free_port: int
) -> None:
    now = datetime.now(UTC)
    today = now.date()
    view = HoroscopeRequested(uuid4(), Sign.LEO, today, answered=True, at=now)
    wrong = encode(view).replace(b'"leo"', b'"lion"')
    async with Cable(processes.environment["DATABASE_URL"]) as cable:
        await processes.workers(
            1,
            {"METRICS_LISTEN": f"127.0.0.1:{free_port}", "DATABASE_URL": cable.url},
            queues=(VIEWS, GENERATION),
            constants={"actors.retries:PAUSE_S": 0.1},
        )
        measured = await measure(free_port)
        assert measured[handled(HoroscopeRequested, VIEWS, "done")] == 0
        for _ in range(3):
            queues.publish(HoroscopeRequested(uuid4(), Sign.LEO, today, answered=True, at=now))
        queues.put(VIEWS, wrong)
        sandbox.model.faults.add("500", times=1)
        queues.publish(GenerateHoroscope(Sign.LEO, today))
        measured = await until_measured(
            free_port,
            {
                handled(HoroscopeRequested, VIEWS, "done"): 3,
                handled(HoroscopeRequested, VIEWS, "dead"): 1,
                handled(HoroscopeRequested, VIEWS, "retried"): 0,
                handled(GenerateHoroscope, GENERATION, "retried"): 1,
                handled(GenerateHoroscope, GENERATION, "done"): 1,
                'horoscope_message_seconds_count{message="GenerateHoroscope",queue="generation"}': 2,
                'horoscope_model_calls_total{outcome="unavailable"}': 1,
                'horoscope_model_calls_total{outcome="answered"}': 1,
                "horoscope_model_seconds_count": 2,
                'horoscope_published_total{outcome="confirmed",queue="generation.retry.1s"}': 1,
                'horoscope_published_total{outcome="confirmed",queue="dead_letters"}': 1,
                'horoscope_published_total{outcome="failed",queue="dead_letters"}': 0,
            },
        )
        assert measured['horoscope_model_tokens_total{kind="completion"}'] > 0
        assert handled(DeliverHoroscope, "delivery", "done") in measured

        cable.unplug()
        queues.publish(view)
        async with asyncio.timeout(DEADLINE_S):
            while (await measure(free_port))[handled(HoroscopeRequested, VIEWS, "put_back")] < 1:
                await asyncio.sleep(0.05)
        cable.plug()
        await until_measured(free_port, {handled(HoroscopeRequested, VIEWS, "done"): 4})
