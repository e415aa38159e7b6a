"""Telegram in trouble: every reader has one answer in the end, and every answer is one view."""

import pytest

from tests.acceptance.conftest import GENERATING, heading
from tests.faults.conftest import SOON, WORK, Scene
from tests.waiting import until_sql, until_views

IMPATIENT = SOON | {"services.telegram.client:CALL_TIMEOUT_S": 1}
BLOCKED = "SELECT blocked_at IS NOT NULL FROM readers"


@pytest.mark.parametrize("kind", ["429", "500", "hang", "disconnect", "garbage"])
async def test_what_telegram_has_not_done_is_asked_of_it_again(scene: Scene, kind: str) -> None:
    for method in ("sendMessage", "editMessageText"):
        scene.sandbox.telegram.faults.add(kind, method=method, times=2)
    await scene.processes.bot(constants=IMPATIENT)
    for reader in [await scene.reader() for _ in range(2)]:
        await reader.say("/today")
    for reader in scene.readers:
        await reader.wait_for(lambda messages: messages[-1].text == GENERATING)
    await scene.processes.workers(queues=WORK, constants=IMPATIENT)
    await scene.answered_once()
    assert scene.sandbox.telegram.faults.met == 4


@pytest.mark.parametrize("kind", ["timeout_after_doing", "disconnect_after_doing"])
async def test_an_edit_that_telegram_has_made_without_saying_so_is_one_answer_and_one_view(
    scene: Scene, kind: str
) -> None:
    scene.sandbox.telegram.faults.add(kind, method="editMessageText", times=2)
    for _ in range(2):
        await scene.ask()
    await scene.processes.workers(queues=WORK, constants=IMPATIENT)
    await scene.answered_once()
    refused = [call.response for call in scene.sandbox.telegram.calls_of("editMessageText") if not call.ok]
    assert len(refused) == 2
    assert all(response and "message is not modified" in response["description"] for response in refused)


async def test_an_answer_whose_progress_message_has_vanished_is_a_message_of_its_own(scene: Scene) -> None:
    reader = await scene.ask()
    reader.last.deleted = True
    await scene.processes.workers(queues=WORK)
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    await until_views(scene.sql, 1)
    await scene.at_rest()
    (answer,) = reader.received
    assert len(answer.texts) == 1


async def test_a_reader_who_has_blocked_the_bot_is_owed_nothing_until_they_start_it_again(
    scene: Scene,
) -> None:
    reader = await scene.ask()
    await reader.block()  # and the bot does not hear of it
    await scene.processes.workers(queues=WORK)
    await until_sql(scene.sql, BLOCKED, True)
    await scene.written_once()
    await scene.at_rest()
    await until_views(scene.sql, 0)
    assert reader.received[0].texts == [GENERATING]
    assert await scene.dead.count() == 0

    await reader.unblock()
    await scene.bot_handles(await reader.say("/start"))
    await until_sql(scene.sql, BLOCKED, False)
    await scene.bot_handles(await reader.say("/today"))
    assert heading("Лев") in reader.last.text
    await scene.processes.workers(queues=WORK)
    await until_views(scene.sql, 1)


async def test_a_reader_to_whom_telegram_refuses_every_answer_holds_up_nobody(scene: Scene) -> None:
    for _ in range(3):
        await scene.ask()
    unlucky = scene.readers.pop(0)
    scene.sandbox.telegram.faults.add("400", chat_id=unlucky.id, description="Bad Request: TOPIC_CLOSED")
    (worker,) = await scene.processes.workers(queues=WORK)
    await scene.answered_once()
    assert "TOPIC_CLOSED" in await worker.said("waiter.refused")
