"""Messages that come twice, answers that get lost, and workers that die at the wrong moment."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from schema.errors import DatabaseUnavailable, UpdateUnfinished
from schema.messages import (
    GENERATION,
    REQUESTS,
    GenerateDay,
    GenerateHoroscope,
    HoroscopeRequested,
)
from schema.signs import Sign
from services.bot import handlers
from services.bot.updates import Updates
from services.messaging.envelope import encode
from tests.acceptance.conftest import AGAIN, FAILED, GENERATING, heading
from tests.faults.conftest import SOON, WORK, Scene
from tests.waiting import until_sql


async def test_a_copy_of_a_request_does_not_call_the_model_beside_the_first(scene: Scene) -> None:
    hang = scene.sandbox.model.faults.add("hang")
    await scene.processes.workers(2, queues=WORK)
    body = encode(HoroscopeRequested(uuid4(), Sign.LEO, scene.today, answered=False, at=datetime.now(UTC)))
    scene.queues.put(REQUESTS, body)
    await scene.sandbox.model.wait_for_calls()
    for _ in range(5):
        scene.queues.put(REQUESTS, body)
    await scene.queues.drained(REQUESTS)
    scene.sandbox.model.faults.remove(hang.id)
    await scene.written_once()
    await scene.at_rest()
    assert len(scene.sandbox.model.calls) <= 2, "the one that hung was cut off"


async def test_a_copy_of_a_nights_order_does_not_become_a_ladder_of_its_own(scene: Scene) -> None:
    scene.sandbox.model.faults.add("500")
    await scene.processes.workers(1, queues=WORK)
    body = encode(GenerateHoroscope(Sign.LEO, scene.today))
    for _ in range(2):
        scene.queues.put(GENERATION, body)
    await until_sql(scene.sql, "SELECT count(*) FROM generations WHERE state = 'given_up'", 1)
    await scene.queues.drained(GENERATION, "generation.retry.1s")
    await scene.at_rest()
    assert len(scene.sandbox.model.calls) == 4
    assert await scene.dead.count() == 1


async def test_while_the_model_asks_for_an_hour_nobody_is_left_to_wait(scene: Scene) -> None:
    scene.sandbox.model.faults.add("429", retry_after=3600, times=1)
    await scene.processes.workers(1, queues=WORK)
    first = await scene.ask()
    await first.wait_for(lambda messages: FAILED in messages[-1].text)
    second = await scene.ask()
    await second.wait_for(lambda messages: FAILED in messages[-1].text)
    press = scene.sandbox.telegram.updates.recent[await first.press(AGAIN)]
    await Updates(scene.app).handle(press)
    await first.wait_for(lambda messages: len(messages[-1].versions) == 4)
    assert first.last.texts == [GENERATING, first.last.text] * 2
    assert len(scene.sandbox.model.calls) == 1


async def test_a_waiter_that_is_on_record_though_nobody_heard_so_is_answered_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await scene.reader()
    raw = scene.sandbox.telegram.updates.recent[await reader.say("/today")]
    fetch = scene.app.database.writes.fetch

    async def unheard(*arguments: Any, **options: Any) -> Any:
        await fetch(*arguments, **options)
        raise DatabaseUnavailable("the answer was lost")

    monkeypatch.setattr(handlers, "INSIST_S", 0)
    bot = Updates(scene.app)
    with monkeypatch.context() as patched:
        patched.setattr(scene.app.database.writes, "fetch", unheard)
        with pytest.raises(UpdateUnfinished):
            await bot.handle(raw)
    await until_sql(scene.sql, "SELECT claimed_until < now() FROM waiters", True)
    assert await bot.handle(raw) is None
    await scene.processes.workers(1, queues=WORK)
    await scene.answered_once()


async def test_postgresql_away_for_a_moment_between_the_steps_of_a_wait_is_not_noticed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await scene.reader()
    raw = scene.sandbox.telegram.updates.recent[await reader.say("/today")]
    fetch, calls = scene.app.database.writes.fetch, 0

    async def every_other(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise DatabaseUnavailable("PostgreSQL is away")
        return await fetch(*arguments, **options)

    monkeypatch.setattr(scene.app.database.writes, "fetch", every_other)
    assert await Updates(scene.app).handle(raw) is None
    assert [message.text for message in reader.received] == [GENERATING]
    assert calls == 4
    await scene.processes.workers(1, queues=WORK)
    await scene.answered_once()


async def test_a_night_whose_worker_dies_while_it_hands_out_the_orders_is_complete(scene: Scene) -> None:
    await scene.sql.execute("DELETE FROM horoscope_cache WHERE horoscope_date = $1", scene.today)
    death = scene.processes.death("after", "services.messaging.bus:Bus.publish", "GenerateHoroscope", call=3)
    await scene.processes.workers(2, queues=(GENERATION,), death=death)
    scene.queues.publish(GenerateDay(scene.today))
    written = "SELECT count(*) FROM horoscope_cache WHERE horoscope_date = $1"
    await until_sql(scene.sql, written, 12, scene.today)
    assert death.happened


async def test_the_ladder_goes_on_when_its_worker_dies_after_the_reader_was_told(scene: Scene) -> None:
    await scene.sql.execute(
        "INSERT INTO model_outages (endpoint, failures, repeats, refused, kind, reason, known_at)"
        " VALUES ($1, 3, 0, false, 'unavailable', 'no answer', now())",
        scene.app.outages.endpoint,
    )
    scene.sandbox.model.faults.add("hang", times=1)
    (first,) = await scene.processes.workers(
        1, queues=WORK, constants={"services.horoscopes.writer:HOPE_S": 1}
    )
    reader = await scene.ask()
    await reader.wait_for(lambda messages: FAILED in messages[-1].text)
    await scene.processes.workers(1, queues=WORK)
    first.kill()
    await scene.written_once()


async def test_a_reader_who_cannot_be_shown_the_progress_message_is_marked_as_blocked(scene: Scene) -> None:
    reader = await scene.reader()
    scene.sandbox.telegram.faults.add("403", method="sendMessage")
    raw = scene.sandbox.telegram.updates.recent[await reader.say("/today")]
    assert await Updates(scene.app).handle(raw) is None
    assert await scene.sql.fetchval("SELECT blocked_at IS NOT NULL FROM readers")
    assert await scene.sql.fetchval("SELECT answered_at IS NOT NULL FROM waiters")


async def test_telegram_being_away_does_not_fill_the_dead_letters(scene: Scene) -> None:
    await scene.ask()
    trouble = scene.sandbox.telegram.faults.add("500", method="editMessageText")
    (worker,) = await scene.processes.workers(1, queues=WORK, constants=SOON)
    await worker.said("message.dropped")
    scene.sandbox.telegram.faults.remove(trouble.id)
    await scene.answered_once()


async def test_all_who_are_out_of_time_are_told_together(scene: Scene) -> None:
    await scene.sql.execute(
        "INSERT INTO generations (zodiac_sign, horoscope_date, state, token, ladder, retry_at)"
        " VALUES ('leo', $1, 'retrying', 1, 'request', now() + interval '40 minutes')",
        scene.today,
    )
    readers = [await scene.ask() for _ in range(5)]
    await scene.sql.execute("UPDATE waiters SET created_at = created_at - interval '16 minutes'")
    scene.queues.take(REQUESTS)
    await scene.processes.workers(1, queues=("delivery",), constants=SOON)
    for reader in readers:
        await reader.wait_for(lambda messages: FAILED in messages[-1].text)
        assert heading("Лев") not in reader.last.text
