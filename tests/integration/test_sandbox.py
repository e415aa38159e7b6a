"""The Bot API emulator behaves as Telegram does, over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramBadRequest, TelegramForbiddenError, TelegramRetryAfter
from aiogram.types import BotCommand, BufferedInputFile

from ops.sandbox import Sandbox

TOKEN = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"
ROOT = Path(__file__).parents[2]
KEYS = {"inline_keyboard": [[{"text": "♌ Лев", "callback_data": "sign:leo"}]]}

NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a "
    "current content and reply markup of the message"
)

Api = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def api(sandbox: Sandbox, http: aiohttp.ClientSession) -> Api:
    async def call(method: str, **parameters: Any) -> dict[str, Any]:
        async with http.post(f"{sandbox.url}/bot{TOKEN}/{method}", json=parameters) as response:
            body: dict[str, Any] = await response.json()
            assert response.status == (200 if body["ok"] else body["error_code"])
            return body

    return call


@pytest.fixture
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    session = AiohttpSession(api=TelegramAPIServer.from_base(sandbox.url))
    async with Bot(TOKEN, session=session) as bot:
        yield bot


# Updates


async def test_an_update_comes_again_until_a_higher_offset_confirms_it(sandbox: Sandbox, api: Api) -> None:
    anya = sandbox.telegram.reader(1, name="Аня", language="ru")
    first, second = await anya.say("/start"), await anya.say("привет")

    for _ in range(2):
        assert [update["update_id"] for update in (await api("getUpdates"))["result"]] == [first, second]
    (update,) = (await api("getUpdates", offset=first + 1))["result"]

    assert update["message"]["text"] == "привет"
    assert update["message"]["from"]["language_code"] == "ru"
    assert (await api("getUpdates", offset=second + 1))["result"] == []
    assert (await api("getUpdates"))["result"] == []


async def test_limit_and_negative_offset_choose_among_the_updates(sandbox: Sandbox, api: Api) -> None:
    anya = sandbox.telegram.reader(1)
    ids = [await anya.say(str(number)) for number in range(5)]

    assert [update["update_id"] for update in (await api("getUpdates", limit=2))["result"]] == ids[:2]
    assert [update["update_id"] for update in (await api("getUpdates", offset=-2))["result"]] == ids[3:]
    assert list(sandbox.telegram.updates.pending) == ids[3:]


async def test_a_long_poll_returns_as_soon_as_there_is_something(sandbox: Sandbox, api: Api) -> None:
    poll = asyncio.create_task(api("getUpdates", timeout=50))
    await sandbox.telegram.wait_for_polling()

    update_id = await sandbox.telegram.reader(1).say("/today")

    (update,) = (await poll)["result"]
    assert update["update_id"] == update_id
    assert update["message"]["entities"] == [{"type": "bot_command", "offset": 0, "length": 6}]


async def test_a_second_poll_ends_the_first_with_a_conflict(sandbox: Sandbox, api: Api) -> None:
    first = asyncio.create_task(api("getUpdates", timeout=50))
    await sandbox.telegram.wait_for_polling()
    second = asyncio.create_task(api("getUpdates", timeout=50))

    refused = await first
    await sandbox.telegram.reader(1).say("привет")

    assert refused["error_code"] == 409
    assert refused["description"].startswith("Conflict: terminated by other getUpdates request")
    assert len((await second)["result"]) == 1


async def test_only_updates_of_the_kinds_asked_for_are_queued(sandbox: Sandbox, api: Api) -> None:
    anya = sandbox.telegram.reader(1)
    await api("getUpdates", allowed_updates=["message"])

    assert await anya.block() == 0
    await anya.unblock()
    await anya.say("привет")

    (update,) = (await api("getUpdates"))["result"]
    assert update["message"]["text"] == "привет"


async def test_blocking_is_told_and_forbids_messages(sandbox: Sandbox, api: Api) -> None:
    anya = sandbox.telegram.reader(1)
    sent = (await api("sendMessage", chat_id=1, text="привет"))["result"]
    await anya.block()

    (update,) = (await api("getUpdates"))["result"]
    for method in ("sendMessage", "editMessageText", "sendChatAction"):
        refused = await api(method, chat_id=1, text="два", message_id=sent["message_id"], action="typing")
        assert refused["description"] == "Forbidden: bot was blocked by the user"

    assert update["my_chat_member"]["new_chat_member"]["status"] == "kicked"
    with pytest.raises(RuntimeError, match="unblock"):
        await anya.say("привет")


async def test_an_update_can_be_repeated_or_malformed(sandbox: Sandbox, api: Api) -> None:
    update_id = await sandbox.telegram.reader(1).say("/today")
    await api("getUpdates", offset=update_id + 1)

    await sandbox.telegram.repeat(update_id)
    malformed = await sandbox.telegram.send_update({"message": {"text": 7}})

    again, odd = (await api("getUpdates", offset=update_id + 1))["result"]
    assert again["update_id"] == update_id
    assert odd == {"update_id": malformed, "message": {"text": 7}}


# Messages


@pytest.mark.parametrize("form", ["json", "urlencoded", "multipart", "query"])
async def test_parameters_come_in_every_form(
    sandbox: Sandbox, http: aiohttp.ClientSession, form: str
) -> None:
    reader = sandbox.telegram.reader(1)
    url = f"{sandbox.url}/bot{TOKEN}/sendmessage"
    flat = {"chat_id": "1", "text": "Выберите знак", "reply_markup": json.dumps(KEYS)}
    if form == "json":
        request = http.post(url, json={"chat_id": 1, "text": "Выберите знак", "reply_markup": KEYS})
    elif form == "urlencoded":
        request = http.post(url, data=flat)
    elif form == "multipart":
        parts = aiohttp.FormData(flat, default_to_multipart=True)
        request = http.post(url, data=parts)
    else:
        request = http.get(url, params=flat)

    async with request as response:
        sent = (await response.json())["result"]

    assert sent["text"] == "Выберите знак"
    assert sent["reply_markup"] == KEYS
    assert reader.last.buttons == ["♌ Лев"]


@pytest.mark.parametrize("caption", ["", "Ваши данные: /help"])
async def test_a_document_is_shown_with_its_caption_and_can_be_downloaded(
    sandbox: Sandbox, http: aiohttp.ClientSession, bot: Bot, caption: str
) -> None:
    reader = sandbox.telegram.reader(1)
    file = BufferedInputFile(b'{"a": 1}', filename="данные.json")
    sent = await bot.send_document(1, file, caption=caption or None)

    assert sent.document
    assert (sent.document.file_name, sent.document.file_size) == ("данные.json", 8)
    assert (sent.caption or "", sent.text) == (caption, None)
    assert reader.last.text == caption
    assert reader.file(reader.last).data == b'{"a": 1}'
    async with http.get(f"{sandbox.url}/sandbox/files/{sent.document.file_id}") as response:
        assert await response.read() == b'{"a": 1}'
        assert response.headers["Content-Disposition"].startswith("attachment;")
    async with http.get(f"{sandbox.url}/sandbox/files/none") as response:
        assert response.status == 404
    async with http.get(f"{sandbox.url}/sandbox/calls", params={"method": "sendDocument"}) as response:
        (call,) = await response.json()
        assert "данные.json, 8 bytes" in call["parameters"].values()


async def test_a_document_that_is_none_is_refused(sandbox: Sandbox, api: Api) -> None:
    sandbox.telegram.reader(1)
    refused = await api("sendDocument", chat_id=1, document="attach://nothing")
    assert "there is no document in the request" in refused["description"]


async def test_an_edit_replaces_the_text_and_keeps_what_was_said_before(sandbox: Sandbox, api: Api) -> None:
    reader = sandbox.telegram.reader(1)
    sent = (await api("sendMessage", chat_id=1, text="Генерирую гороскоп…", reply_markup=KEYS))["result"]

    edited = (await api("editMessageText", chat_id=1, message_id=sent["message_id"], text="Готово"))["result"]

    assert edited["edit_date"] >= edited["date"]
    assert "reply_markup" not in edited
    assert reader.last.texts == ["Генерирую гороскоп…", "Готово"]
    assert reader.last.edited


@pytest.mark.parametrize(
    ("method", "parameters", "description"),
    [
        ("sendMessage", {"text": "  "}, "message text is empty"),
        ("sendMessage", {"text": "я" * 4097}, "message is too long"),
        ("sendMessage", {"text": "🦁" * 2049}, "message is too long"),
        ("editMessageText", {"text": "я" * 4097}, "MESSAGE_TOO_LONG"),
        ("sendMessage", {"text": "1", "chat_id": 404}, "chat not found"),
        ("sendMessage", {"text": "1", "chat_id": ""}, "chat_id is empty"),
        ("sendMessage", {"text": "1", "reply_markup": "{"}, "can't parse reply markup JSON object"),
        (
            "sendMessage",
            {"text": "1", "reply_markup": {"inline_keyboard": [[{"text": "1", "callback_data": "я" * 33}]]}},
            "BUTTON_DATA_INVALID",
        ),
        (
            "sendMessage",
            {"text": "1", "reply_markup": {"inline_keyboard": [[{"text": "1"}]]}},
            "can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard",
        ),
        (
            "editMessageText",
            {"text": "Привет"},
            NOT_MODIFIED,
        ),
        ("editMessageText", {"text": "1", "message_id": 7}, "message to edit not found"),
        ("editMessageText", {"text": "1", "message_id": ""}, "message identifier is not specified"),
        ("deleteMessage", {"message_id": 7}, "message to delete not found"),
        (
            "answerCallbackQuery",
            {"callback_query_id": "7"},
            "query is too old and response timeout expired or query ID is invalid",
        ),
        ("setWebhook", {"url": "ftp://x"}, "invalid webhook URL specified"),
        (
            "setWebhook",
            {"url": "http://x", "secret_token": "?"},
            "secret token contains unallowed characters",
        ),
        ("setMyCommands", {"commands": [{"command": "Сегодня", "description": "…"}]}, "BOT_COMMAND_INVALID"),
    ],
)
async def test_mistakes_are_told_in_the_words_of_telegram(
    sandbox: Sandbox, api: Api, method: str, parameters: dict[str, Any], description: str
) -> None:
    sandbox.telegram.reader(1)
    sent = (await api("sendMessage", chat_id=1, text="Привет"))["result"]

    refused = await api(method, **{"chat_id": 1, "message_id": sent["message_id"], **parameters})

    assert refused == {"ok": False, "error_code": 400, "description": f"Bad Request: {description}"}


async def test_4096_characters_after_parsing_are_not_too_many(sandbox: Sandbox, api: Api) -> None:
    reader = sandbox.telegram.reader(1)

    assert (await api("sendMessage", chat_id=1, parse_mode="HTML", text=f"<b>{'&lt;' * 4096}</b>"))["ok"]

    assert reader.last.text == "<" * 4096


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("<b>Лев</b> &amp; <i>Дева</i>", "Лев & Дева", [("bold", 0, 3), ("italic", 6, 4)]),
        ("🦁<b><u>a</u></b>", "🦁a", [("underline", 2, 1), ("bold", 2, 1)]),
        (" \n<code>x</code> ", "x", [("code", 0, 1)]),
        ("1 &lt; 2 &#128513; &nbsp;", "1 < 2 😁 &nbsp;", []),
        ('<span class="tg-spoiler">a</span>', "a", [("spoiler", 0, 1)]),
        ("<blockquote expandable>a</blockquote>", "a", [("expandable_blockquote", 0, 1)]),
        ("Скажите /today", "Скажите /today", [("bot_command", 8, 6)]),
    ],
)
async def test_html_becomes_text_and_entities(
    sandbox: Sandbox, api: Api, source: str, text: str, entities: list[tuple[str, int, int]]
) -> None:
    sandbox.telegram.reader(1)

    sent = (await api("sendMessage", chat_id=1, text=source, parse_mode="HTML"))["result"]

    found = [(entity["type"], entity["offset"], entity["length"]) for entity in sent.get("entities", [])]
    assert sent["text"] == text
    assert sorted(found) == sorted(entities)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("ы<script>", 'Unsupported start tag "script" at byte offset 2'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("1 < 2", 'Unsupported start tag "" at byte offset 2'),
        ("1 <b", "Unclosed start tag at byte offset 2"),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
    ],
)
async def test_wrong_html_is_refused(sandbox: Sandbox, api: Api, source: str, reason: str) -> None:
    sandbox.telegram.reader(1)

    refused = await api("sendMessage", chat_id=1, text=source, parse_mode="HTML")

    assert refused["description"] == f"Bad Request: can't parse entities: {reason}"


async def test_a_pressed_button_is_answered_once(sandbox: Sandbox, api: Api) -> None:
    reader = sandbox.telegram.reader(1)
    sent = (await api("sendMessage", chat_id=1, text="Выберите знак", reply_markup=KEYS))["result"]
    for button in ("♌ Лев", "sign:leo"):
        pressed = await reader.press(button)
        query = sandbox.telegram.updates.recent[pressed]["callback_query"]
        assert (query["data"], query["message"]) == ("sign:leo", sent)

    assert (await api("answerCallbackQuery", callback_query_id=query["id"], text="Лев"))["ok"]
    assert (await api("answerCallbackQuery", callback_query_id=query["id"], text="ещё раз"))["ok"]

    assert (await reader.wait_for_answer(pressed))["text"] == "Лев"
    assert len(reader.answers) == 1
    with pytest.raises(LookupError, match="Выберите знак"):
        await reader.press("Дева")


async def test_a_pressed_button_cannot_be_answered_for_ever(sandbox: Sandbox, api: Api) -> None:
    sandbox.telegram.callback_lifetime = -1
    reader = sandbox.telegram.reader(1)
    await api("sendMessage", chat_id=1, text="Выберите знак", reply_markup=KEYS)
    query = sandbox.telegram.updates.recent[await reader.press("♌ Лев")]["callback_query"]

    refused = await api("answerCallbackQuery", callback_query_id=query["id"])

    assert "query is too old" in refused["description"]


async def test_a_deleted_message_is_gone_for_the_reader(sandbox: Sandbox, api: Api) -> None:
    reader = sandbox.telegram.reader(1)
    sent = (await api("sendMessage", chat_id=1, text="раз"))["result"]

    assert (await api("deleteMessage", chat_id=1, message_id=sent["message_id"]))["result"] is True

    assert reader.messages == []


@pytest.mark.parametrize(
    ("path", "status", "description"),
    [
        ("bot1:short/getMe", 401, "Unauthorized"),
        (f"bot{TOKEN}/sendHoroscope", 404, "Not Found: method not found"),
    ],
)
async def test_unknown_tokens_and_methods_are_refused(
    sandbox: Sandbox, http: aiohttp.ClientSession, path: str, status: int, description: str
) -> None:
    async with http.get(f"{sandbox.url}/{path}") as response:
        assert response.status == status
        assert await response.json() == {"ok": False, "error_code": status, "description": description}


async def test_a_given_token_is_the_only_good_one(http: aiohttp.ClientSession) -> None:
    async with Sandbox(token=TOKEN) as sandbox:
        async with http.get(f"{sandbox.url}/bot{TOKEN}/getMe") as response:
            assert (await response.json())["result"]["id"] == 123456
        async with http.get(f"{sandbox.url}/bot{TOKEN[:-1]}x/getMe") as response:
            assert response.status == 401


# Faults


async def test_faults_meet_the_calls_they_are_for_as_often_as_told(sandbox: Sandbox, api: Api) -> None:
    sandbox.telegram.reader(1)
    sandbox.telegram.reader(2)
    sandbox.telegram.faults.add("429", method="sendMessage", chat_id=1, times=2, retry_after=7)

    assert (await api("sendMessage", chat_id=2, text="привет"))["ok"]
    assert (await api("sendChatAction", chat_id=1, action="typing"))["ok"]
    for _ in range(2):
        assert await api("sendMessage", chat_id=1, text="привет") == {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 7",
            "parameters": {"retry_after": 7},
        }
    assert (await api("sendMessage", chat_id=1, text="привет"))["ok"]
    assert [call.fault for call in sandbox.telegram.calls_of("sendMessage", chat_id=1)] == [
        "429",
        "429",
        None,
    ]


@pytest.mark.parametrize(
    ("kind", "done"),
    [("disconnect", False), ("disconnect_after_doing", True), ("hang", False), ("timeout_after_doing", True)],
)
async def test_a_call_may_stay_without_an_answer(
    sandbox: Sandbox, http: aiohttp.ClientSession, kind: str, *, done: bool
) -> None:
    reader = sandbox.telegram.reader(1)
    fault = sandbox.telegram.faults.add(kind)
    url = f"{sandbox.url}/bot{TOKEN}/sendMessage"

    async def call() -> None:
        async with http.post(url, json={"chat_id": 1, "text": "привет"}):
            pass

    task = asyncio.create_task(call())
    await sandbox.telegram.wait_for_calls("sendMessage")
    if kind in {"hang", "timeout_after_doing"}:
        assert not task.done()
        sandbox.telegram.faults.remove(fault.id)

    with pytest.raises(aiohttp.ClientConnectionError):
        await task
    assert bool(reader.messages) is done


async def test_a_wait_that_fails_tells_which_calls_came(sandbox: Sandbox, api: Api) -> None:
    sandbox.telegram.reader(1)
    waiting = asyncio.create_task(sandbox.telegram.wait_for_calls("editMessageText", within=0.2))
    await asyncio.sleep(0)
    await api("sendMessage", chat_id=1, text="раз")

    with pytest.raises(TimeoutError, match=r"calls: \['sendMessage'\]"):
        await waiting


async def test_garbage_is_no_json(sandbox: Sandbox, http: aiohttp.ClientSession) -> None:
    sandbox.telegram.faults.add("garbage")

    async with http.get(f"{sandbox.url}/bot{TOKEN}/getMe") as response:
        with pytest.raises(json.JSONDecodeError):
            json.loads(await response.text())


async def test_the_rate_limits_can_be_real(sandbox: Sandbox, api: Api) -> None:
    sandbox.telegram.limits.per_chat = 1
    sandbox.telegram.reader(1)
    sandbox.telegram.reader(2)

    answers = [await api("sendMessage", chat_id=chat_id, text="привет") for chat_id in (1, 2, 1)]

    assert [answer["ok"] for answer in answers] == [True, True, False]
    assert answers[-1]["parameters"] == {"retry_after": 1}


# The real client


async def test_aiogram_finds_everything_where_it_expects_it(sandbox: Sandbox, bot: Bot) -> None:
    reader = sandbox.telegram.reader(1, name="Аня")
    await bot.set_my_commands([BotCommand(command="today", description="Гороскоп на сегодня")])
    await bot.set_my_description("Гороскопы", language_code="ru")
    await reader.say("/start")

    (update,) = await bot.get_updates(timeout=5)
    sent = await bot.send_message(1, "<b>Привет</b>", parse_mode="HTML")
    edited = await bot.edit_message_text("Пока", chat_id=1, message_id=sent.message_id)

    assert update.message
    assert update.message.text == "/start"
    assert isinstance(edited, type(sent))
    assert reader.last.texts == ["Привет", "Пока"]
    assert (await bot.get_my_commands())[0].command == "today"
    assert (await bot.get_my_description(language_code="ru")).description == "Гороскопы"
    assert (await bot.get_chat(1)).first_name == "Аня"
    assert await bot.send_chat_action(1, "typing")
    assert await bot.delete_message(1, sent.message_id)


async def test_aiogram_understands_the_errors(sandbox: Sandbox, bot: Bot) -> None:
    reader = sandbox.telegram.reader(1)
    sandbox.telegram.faults.add("429", times=1, retry_after=3)
    with pytest.raises(TelegramRetryAfter) as flood:
        await bot.send_message(1, "привет")
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await bot.send_message(404, "привет")
    await reader.block()
    with pytest.raises(TelegramForbiddenError):
        await bot.send_message(1, "привет")

    assert flood.value.retry_after == 3
