"""Whatever comes in, it is refused with a clear reason, shown to nobody, and stops nothing."""

import asyncio
import io
import json
from collections import Counter
from datetime import UTC, datetime
from uuid import uuid4

import aiohttp
import asyncpg
import dramatiq
import pytest

from actors import TABLE
from ops.sandbox import Sandbox
from schema.messages import DEAD_LETTERS, VIEWS, HoroscopeRequested
from schema.signs import Sign
from tests.acceptance.conftest import heading, reader_of, until_written
from tests.conftest import WEBHOOK_SECRET
from tests.dead import Dead
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import until_views

QUEUES = sorted({actor.queue for actor in TABLE})
WHY = {"nobody": "unknown actor", "wrong": "wrong arguments"}


def wire(queue: str, actor: str, **kwargs: object) -> bytes:
    """A Dramatiq message with any content."""
    return dramatiq.Message[None](
        queue_name=queue, actor_name=actor, args=(), kwargs=kwargs, options={}
    ).encode()


async def test_garbage_on_every_queue_becomes_a_dead_letter_with_its_reason(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    (worker,) = await processes.workers()
    await until_written(sql)
    sent: dict[bytes, str] = {}
    for queue in QUEUES:
        sent[b"\x00\xff no message " + queue.encode()] = "undecodable"
        sent[b'["a", "list", "' + queue.encode() + b'"]'] = "undecodable"
        # Nobody says why a message was put among the dead letters; it is kept all the same.
        why = {"nobody": "rejected", "wrong": "rejected"} if queue == DEAD_LETTERS else WHY
        sent[wire(queue, f"{queue}.NoSuchActor")] = why["nobody"]
        sound: dict[str, object] = json.loads(wire(queue, "any"))
        odd: list[dict[str, object]] = [
            {"actor_name": []},
            {"options": {"attempts": 5}},
            {"message_timestamp": -1},
            {"kwargs": 7},
        ]
        for part in odd:
            sent[json.dumps(sound | part).encode()] = "undecodable"
        for actor in TABLE:
            if actor.queue == queue:
                sent[wire(queue, actor.name, unknown=1)] = why["wrong"]
        for body in sent:
            if queue.encode() in body:
                queues.put(queue, body)
    letters = [await dead.next() for _ in sent]

    assert sorted(letter.cause for letter in letters) == sorted(sent.values())
    assert {letter.queue for letter in letters} == set(QUEUES)
    for letter in letters:
        assert letter.error
        if letter.cause == "undecodable":
            assert letter.body in sent, "bytes are kept as they came"
        if letter.cause == "wrong arguments":
            assert "unknown" in letter.error, "the wrong argument is named"
            assert letter.traceback
            assert "InvalidMessage" in letter.traceback
    await queues.drained(*QUEUES)
    # The worker is as well as before.
    queues.publish(HoroscopeRequested(uuid4(), Sign.LEO, datetime.now(UTC).date(), True, datetime.now(UTC)))
    await until_views(sql, 1)
    assert await worker.stop() == 0
    assert await dead.count() == len(sent)


async def test_poison_among_views_costs_its_neighbours_nothing(
    processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    scheduler = await processes.start("scheduler")  # declares the queues
    await scheduler.said("scheduler.ready")
    today, now = datetime.now(UTC).date(), datetime.now(UTC)
    for number in range(300):
        event = HoroscopeRequested(uuid4(), Sign.LEO, today, answered=True, at=now)
        queues.publish(event)
        if number % 3 == 0:
            queues.publish(event)  # the same once more
        if number % 50 == 0:
            queues.put(VIEWS, b"poison")
            queues.put(VIEWS, wire(VIEWS, "views.HoroscopeRequested", sign="leo"))
    await processes.workers(2)
    await until_views(sql, 300)
    await queues.drained(VIEWS)
    causes = Counter([(await dead.next()).cause for _ in range(12)])
    assert causes == {"undecodable": 6, "wrong arguments": 6}
    assert await sql.fetchval("SELECT count(*) FROM view_receipts") == 300


@pytest.mark.parametrize("mode", ["polling", "webhook"])
async def test_malformed_updates_are_passed_over(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, free_port: int, mode: str
) -> None:
    webhook = {
        "WEBHOOK_URL": f"http://127.0.0.1:{free_port}/hook",
        "WEBHOOK_SECRET": WEBHOOK_SECRET,
        "WEBHOOK_LISTEN": f"127.0.0.1:{free_port}",
    }
    bot = await processes.bot(webhook if mode == "webhook" else {})
    for update in (
        {},
        {"message": "not an object"},
        {"message": {"text": "/today"}},
        {"message": {"chat": {"id": [1]}}},
        {"message": {"message_id": 1, "date": 0, "chat": {"id": 1, "type": "private"}, "text": "/today"}},
        {"callback_query": {"id": "1", "from": {"id": "x"}, "chat_instance": "1", "data": "sign:leo"}},
        {"inline_query": {"id": "1"}},
        {"some_new_kind": {"of": ["update"]}},
    ):
        await sandbox.telegram.send_update(dict(update))
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/help")
    await reader.wait_for(lambda messages: "/timezone" in messages[-1].text)
    await bot.said("update.malformed")
    assert "Traceback" not in bot.output
    assert await bot.stop() == 0


async def test_forged_webhook_calls_are_turned_away(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, free_port: int
) -> None:
    url = f"http://127.0.0.1:{free_port}/hook"
    bot = await processes.bot(
        {"WEBHOOK_URL": url, "WEBHOOK_SECRET": WEBHOOK_SECRET, "WEBHOOK_LISTEN": f"127.0.0.1:{free_port}"}
    )
    update = {"update_id": 1, "message": {}}
    async with aiohttp.ClientSession() as http:
        for headers in (
            {},
            {"X-Telegram-Bot-Api-Secret-Token": "guess"},
            {"X-Telegram-Bot-Api-Secret-Token": "é"},
        ):
            async with http.post(url, json=update, headers=headers) as response:
                assert response.status == 401
        right = {"X-Telegram-Bot-Api-Secret-Token": WEBHOOK_SECRET}
        async with http.post(url, data=b"\xff{", headers=right) as response:
            assert response.status == 400
        async with http.post(url, data=io.BytesIO(b"1" * (2 << 20)), headers=right) as response:
            assert response.status == 413
        async with http.post(url, json=[1, 2], headers=right) as response:
            assert response.status == 200
        async with http.get(url) as response:
            assert response.status == 405
    assert WEBHOOK_SECRET not in bot.output
    assert "Traceback" not in bot.output


async def test_forged_buttons_are_answered_with_a_hint(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/sign")
    await reader.wait_for(lambda messages: "Выберите знак" in messages[-1].text)
    picker = reader.last
    for data in ("sign:ophiuchus", "zone:../../etc/passwd", "what", "sign:"):
        seen = len(reader.messages)
        query = sandbox.telegram.new_callback_query(reader)
        query["message"] = picker.as_api(reader.chat, sandbox.telegram.bot)
        query["data"] = data
        sandbox.telegram.updates.add("callback_query", query)
        await reader.wait_for(
            lambda messages: len(messages) > seen  # noqa: B023  awaited at once
        )
    assert await sql.fetchval("SELECT zodiac_sign FROM readers") == "leo"
    assert await sql.fetchval("SELECT time_zone FROM readers") is None


async def test_a_text_full_of_markup_that_slipped_in_is_shown_as_plain_text(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    """The rules keep markup out; should one fail, or a person write to the table, it stays text."""
    text = "<b>жирно</b> & <script>alert(1)</script> *звёзды* [ссылка](http://x.example) " * 5
    for day in range(-1, 2):
        await sql.execute(
            "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ('leo', CURRENT_DATE + $1::int, $2)",
            day,
            text,
        )
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert reader.last.text.endswith(text.strip())
    call = next(call for call in sandbox.telegram.calls if call.method.lower() == "sendmessage")
    assert not call.parameters.get("parse_mode")


async def test_no_secret_reaches_a_log_or_a_dead_letter(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, dead: Dead
) -> None:
    sandbox.model.faults.add("401", sign="leo")
    (worker,) = await processes.workers()
    bot = await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    letter = await dead.next()
    assert letter.cause == "permanent"
    for secret in (processes.environment["BOT_TOKEN"], processes.environment["OPENAI_API_KEY"]):
        assert secret not in worker.output + bot.output
        assert secret not in repr(letter)
    await asyncio.gather(worker.stop(), bot.stop())
