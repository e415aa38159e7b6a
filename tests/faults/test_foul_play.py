"""Connections cut at the worst moment, and servers that answer what no server should."""

import asyncio
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import openai
import pytest
from aiohttp import web

from actors.app import open_worker_app
from ops.sandbox import Sandbox
from schema.errors import ModelUnavailable, TextRejected
from schema.messages import DEAD_LETTERS, GENERATION, TICKS, DeliverHoroscope
from schema.signs import Language, Sign
from services.app import App
from services.bot.updates import Updates, request_id
from services.horoscopes import model as author
from services.horoscopes.leases import Order
from services.horoscopes.model import Author
from services.horoscopes.waiters import Waiters
from services.messaging.attempts import Attempt, Ladder
from tests.acceptance.conftest import GENERATING, heading, reader_of, until_written
from tests.dead import Dead
from tests.processes import Processes
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S, until_sql, until_views


def today() -> date:
    return datetime.now(ZoneInfo("Europe/Moscow")).date()


async def test_a_cut_to_rabbitmq_during_a_call_leaves_one_call_in_flight_and_one_answer(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    async with Cable(processes.environment["RABBITMQ_URL"]) as cable:
        await processes.workers(2, {"RABBITMQ_URL": cable.url})
        await until_written(sql)
        await queues.drained("ticks", "generation", "delivery")
        await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
        before = len(sandbox.model.calls_for("leo"))
        sandbox.model.latency = 4.0
        await processes.bot()
        reader = await reader_of(sql, sandbox, 7, Sign.LEO)
        await reader.say("/today")
        await sandbox.model.wait_for_calls(before + 1, sign="leo")
        cable.cut()
        await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
        assert sandbox.model.max_in_flight_of["leo", today().isoformat()] == 1
        assert len(sandbox.model.calls_for("leo")) == before + 2, "the call that was cut off, and the next"
        assert len(reader.received) == 1
        await until_views(sql, 1)
        assert await dead.count() == 0


async def test_polling_survives_an_answer_that_is_no_json(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    bot = await processes.bot()
    sandbox.telegram.faults.add("garbage", method="getUpdates", times=2)
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/help")
    await reader.wait_for(lambda messages: "/timezone" in messages[-1].text)
    assert await bot.stop() == 0


async def test_one_chat_that_telegram_cannot_serve_holds_up_nobody(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection, processes: Processes, queues: Queues, dead: Dead
) -> None:
    await sql.execute(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ('leo', $1, 'Текст.')",
        today(),
    )
    sandbox.telegram.faults.add("500", chat_id=100)
    for number in range(120):
        reader = await reader_of(sql, sandbox, 100 + number, Sign.LEO)
        request = request_id(42, number)
        await app.waiters.add(request, chat_id=reader.id, sign=Sign.LEO, day=today(), language=Language.RU)
        await app.waiters.name(request, 1_000_000 + number)  # long vanished: it is sent anew
    queues.publish(DeliverHoroscope(Sign.LEO, today()))
    (worker,) = await processes.workers()
    await until_sql(sql, "SELECT count(*) FROM waiters WHERE answered_at IS NULL", 1)
    await worker.said("message.dropped")
    await until_views(sql, 119)
    assert await dead.count() == 0, "the one is on record, and is seen to"


async def test_a_request_whose_answer_was_given_meanwhile_shows_no_progress(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection
) -> None:
    """The bot died before it could name its progress message; somebody else has answered since."""
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    update = {
        "update_id": 5,
        "message": {
            "message_id": 1,
            "date": 0,
            "chat": {"id": 7, "type": "private"},
            "from": {"id": 7, "is_bot": False, "first_name": "Аня"},
            "text": "/today",
        },
    }
    waiters: Waiters = app.waiters
    request = request_id(app.bot.id, 5)
    await waiters.add(request, chat_id=7, sign=Sign.LEO, day=today(), language=Language.RU)
    await waiters.settle([request])
    assert await Updates(app).handle(update) is None
    assert reader.received == []


async def test_nobody_can_be_answered_in_a_progress_message_that_is_not_shown_yet(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection
) -> None:
    """The button under an error names the message at once; it is ready for the answer only when edited."""
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    sent = await app.bot.send_message(7, "Не получилось")
    sandbox.telegram.latency["editmessagetext"] = 1.0
    query = sandbox.telegram.new_callback_query(reader)
    query |= {"data": "again", "message": reader.last.as_api(reader.chat, sandbox.telegram.bot)}
    pressing = asyncio.create_task(Updates(app).handle({"update_id": 6, "callback_query": query}))
    await until_sql(sql, "SELECT count(*) FROM waiters", 1)
    async with asyncio.timeout(DEADLINE_S):
        while not sandbox.telegram.calls_of("editMessageText"):
            await asyncio.sleep(0.01)
    assert await app.waiters.claim(Sign.LEO, today(), limit=9, before=None) == []
    await pressing
    await reader.wait_for(lambda messages: messages[-1].text == GENERATING)
    (claimed,) = await app.waiters.claim(Sign.LEO, today(), limit=9, before=None)
    assert claimed.message_id == sent.message_id


TEXT = "Сегодня звёзды советуют вам не спешить и заметить то, что обычно проходит мимо. " * 5
WHOLE: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
}


@pytest.mark.parametrize(
    ("odd", "good"),
    [
        ({"usage": "many"}, True),
        ({"usage": {"prompt_tokens": "many", "completion_tokens": 1 << 40, "total_tokens": None}}, True),
        ({"model": 7}, True),
        ({"model": "a\0b"}, True),
        ({"choices": [{"message": {"role": "assistant", "content": 7}}]}, False),
        ({"choices": []}, False),
        ({"choices": None}, False),
    ],
)
async def test_an_odd_answer_is_a_text_or_a_failed_try(odd: dict[str, Any], good: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(WHOLE | odd)

    async with serving(answer) as url, openai.AsyncOpenAI(api_key="key", base_url=url) as client:
        writing = Author(client, "configured", Language.RU).write(Sign.LEO, today())
        if good:
            draft = await writing
            assert draft.text == TEXT.strip()
            assert draft.model in {"m", "ab", "configured"}
            assert draft.prompt_tokens is draft.completion_tokens is None
        else:
            with pytest.raises(TextRejected, match="holds no message"):
                await writing


async def test_trouble_that_nobody_foresaw_is_told_to_the_reader(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    request = request_id(42, 1)
    await app.waiters.add(request, chat_id=reader.id, sign=Sign.LEO, day=today(), language=Language.RU)
    async with open_worker_app(app) as worker_app:
        monkeypatch.setattr(worker_app.writer.author, "write", _stumble)
        order = Order(Attempt("id", datetime.now(UTC)), Ladder.REQUEST)
        with pytest.raises(ZeroDivisionError):
            await worker_app.writer.write(Sign.LEO, today(), order)
    state_and_error = await sql.fetchval("SELECT state || ': ' || error FROM generations")
    assert state_and_error == r"given_up: nobody foresaw\x00", "PostgreSQL stores no NUL"
    letter = queues.take("delivery")
    assert letter
    assert letter.message["kwargs"]["given_up_at"]


async def _stumble(*_: Any) -> Any:
    raise ZeroDivisionError("nobody foresaw\0")


async def test_a_model_that_drips_bytes_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(author, "ANSWER_TIMEOUT_S", 0.5)

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)

    async with serving(drip) as url, openai.AsyncOpenAI(api_key="key", base_url=url) as client:
        with pytest.raises(ModelUnavailable, match="within"):
            await asyncio.wait_for(Author(client, "m", Language.RU).write(Sign.LEO, today()), DEADLINE_S)


async def test_a_server_that_repeats_the_key_does_not_get_it_into_the_database_or_on_the_screen(
    processes: Processes, sandbox: Sandbox, sql: asyncpg.Connection, queues: Queues
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        said = f"Incorrect API key provided: {request.headers['Authorization']}"
        return web.json_response({"error": {"message": said}}, status=401)

    async with serving(refuse) as url:
        (worker,) = await processes.workers(1, {"OPENAI_BASE_URL": url}, queues=(TICKS, GENERATION))
        await until_sql(sql, "SELECT count(*) FROM generations WHERE state = 'given_up'", 24)
    key = processes.environment["OPENAI_API_KEY"]
    assert key not in worker.output
    assert await sql.fetchval("SELECT count(*) FROM generations WHERE error LIKE '%' || $1 || '%'", key) == 0
    assert await sql.fetchval("SELECT count(*) FROM generations WHERE error LIKE '%Incorrect API key%'") == 24
    _, said = await processes.run("status")
    assert key not in said
    letter = await queues.next(DEAD_LETTERS)
    assert key not in repr(letter), "nor does it lie in RabbitMQ until somebody archives it"


class serving:  # noqa: N801  it reads as a verb
    """A server of one's own on ``/chat/completions``."""

    def __init__(self, answer: Any) -> None:
        app = web.Application()
        app.router.add_post("/chat/completions", answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
