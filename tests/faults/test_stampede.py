"""Everything at once: a crowd, several of each process, and no mercy for workers."""

import random

from tests.faults.conftest import SOON, Scene, webhook_bots

CROWD = 150


async def test_a_crowd_asks_for_a_missing_text_while_workers_are_killed_at_random(scene: Scene) -> None:
    dice = random.Random(20261122)
    model, telegram, day = scene.sandbox.model, scene.sandbox.telegram, scene.today.isoformat()
    hang = model.faults.add("hang", sign="leo", day=day)
    telegram.latency["editmessagetext"] = 0.3
    async with webhook_bots(scene.processes, 2, constants=SOON):
        for reader in [await scene.reader() for _ in range(CROWD)]:
            await reader.say("/today")
        workers = await scene.processes.workers(3, constants=SOON)
        for _ in range(2):
            await scene.processes.start("scheduler")

        async def kill_one() -> None:
            victim = workers.pop(dice.randrange(len(workers)))
            victim.kill()
            await victim.ended()
            workers.extend(await scene.processes.workers(1, constants=SOON))

        # The model hangs, so that a call ends only with the worker that made it.
        await model.wait_for_calls(1, "leo", day)
        while len(model.calls_for("leo", day)) < 3:
            await kill_one()
            await model.wait_until_busy()
        model.faults.remove(hang.id)
        # It answers, and the answers go out.
        for edits in sorted(dice.sample(range(CROWD), 3)):
            await telegram.wait_for_calls("editMessageText", edits)
            await kill_one()

        await scene.answered_once()
        await scene.written_once()
        assert model.max_in_flight == 1, "for this text: no other was missing"
        outcomes = [call.outcome for call in model.calls]
        assert outcomes == ["hang"] * (len(outcomes) - 1) + ["ok"]
