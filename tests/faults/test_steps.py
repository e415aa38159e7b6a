"""``kill -9`` at each step of the way, with somebody alive to go on from there."""

from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from typing import Literal
from unittest.mock import AsyncMock
from zoneinfo import ZoneInfo

import pytest

from schema.messages import TICKS, GenerateDay
from tests.faults.conftest import SOON, WORK, Scene, webhook_bots
from tests.processes import Processes
from tests.queues import Queues

Step = tuple[Literal["before", "after"], str, str]
Order = Literal["request", "night"]

GENERATION: dict[str, Step] = {
    "before the lease": ("before", "services.horoscopes.leases:Leases.acquire", "leo"),
    "after the call": ("after", "services.horoscopes.model:Author.write", "leo"),
    "after the commit": ("before", "services.messaging.bus:Bus.publish", "DeliverHoroscope"),
    "before the acknowledgement": ("after", "services.messaging.bus:Bus.publish", "DeliverHoroscope"),
}


async def order(scene: Scene, who: Order) -> None:
    """Have the text written, on a reader's request or on the night's order. In either case a reader waits."""
    if who == "request":
        await scene.ask()
        return
    # The reader's own request is lost: whoever carries out the night's order owes the answer.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scene.app.bus, "publish", AsyncMock())
        await scene.ask()
    scene.queues.publish(GenerateDay(scene.today))


@pytest.mark.parametrize("who", ["request", "night"])
@pytest.mark.parametrize("step", GENERATION.values(), ids=GENERATION)
async def test_whatever_step_of_a_generation_a_worker_dies_at_another_goes_on_from_there(
    scene: Scene, step: Step, who: Order
) -> None:
    death = scene.processes.death(*step)
    # Whoever dies may have begun to deliver, too.
    workers = await scene.processes.workers(2, queues=WORK, death=death, constants=SOON)
    await order(scene, who)
    await scene.answered_once()
    await scene.written_once()
    assert death.happened
    assert sorted(worker.code or 0 for worker in workers) == [-9, 0]


@pytest.mark.parametrize("who", ["request", "night"])
async def test_a_worker_that_dies_while_the_model_writes_is_replaced_by_another(
    scene: Scene, who: Order
) -> None:
    scene.sandbox.model.faults.add("hang", times=1)
    (first,) = await scene.processes.workers(queues=WORK)
    await order(scene, who)
    await scene.sandbox.model.wait_for_calls()
    await scene.processes.workers(queues=WORK)
    first.kill()
    await scene.answered_once()
    await scene.written_once()
    assert len(scene.sandbox.model.calls) == 2


@pytest.mark.parametrize(
    "step",
    [
        ("after", "services.telegram.client:show", "Лев"),
        ("before", "services.messaging.bus:Bus.publish", "answered=True"),
        ("before", "services.horoscopes.waiters:Waiters.settle", "UUID"),
    ],
    ids=["after an edit", "before its view is published", "before they are settled"],
)
async def test_a_worker_that_dies_in_a_delivery_leaves_nobody_without_an_answer_and_nobody_with_two(
    scene: Scene, step: Step
) -> None:
    scene.sandbox.model.latency = 0.5
    for _ in range(3):
        await scene.ask()
    death = scene.processes.death(*step)
    workers = await scene.processes.workers(2, queues=WORK, death=death, constants=SOON)
    await scene.answered_once()
    assert death.happened
    assert sorted(worker.code or 0 for worker in workers) == [-9, 0]


@pytest.mark.parametrize("mode", ["polling", "webhook"])
@pytest.mark.parametrize(
    "step",
    [
        ("after", "services.horoscopes.waiters:Waiters.add", ""),
        ("before", "services.messaging.bus:Bus.publish", "answered=False"),
    ],
    ids=["before the progress message", "before the request is published"],
)
async def test_a_bot_that_dies_once_a_waiter_is_on_record_is_replaced_when_the_update_comes_again(
    scene: Scene, step: Step, mode: str
) -> None:
    death = scene.processes.death(*step)
    await scene.processes.workers(queues=WORK)
    reader = await scene.reader()
    async with AsyncExitStack() as stack:
        if mode == "webhook":
            await stack.enter_async_context(webhook_bots(scene.processes, 2, death=death, constants=SOON))
            await reader.say("/today")
        else:
            bot = await scene.processes.bot(death=death, constants=SOON)
            await reader.say("/today")
            assert await bot.ended() == -9
            await scene.processes.bot(constants=SOON)
        await scene.answered_once()
    assert death.happened


async def test_a_second_scheduler_goes_on_when_the_first_dies_and_one_that_starts_ticks_at_once(
    processes: Processes, queues: Queues
) -> None:
    eve = datetime(2026, 11, 22, 23, 59, 44, tzinfo=ZoneInfo("Europe/Moscow"))

    async def tick() -> str:
        return str((await queues.next(TICKS)).message["actor_name"])

    # However slowly the second starts, midnight does not come while the first is alive.
    first = await processes.start("scheduler", clock=eve - timedelta(minutes=1))
    await first.said("scheduler.ready")
    second = await processes.start("scheduler", clock=eve)
    await second.said("scheduler.ready")
    assert [await tick() for _ in range(2)] == ["ticks.ReconcileTick"] * 2
    first.kill()
    assert sorted([await tick() for _ in range(2)]) == ["ticks.MidnightTick", "ticks.ReconcileTick"]
    await processes.start("scheduler", clock=eve)
    assert await tick() == "ticks.ReconcileTick"
