"""The emulator posts updates to a webhook as Telegram does, over real HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ops.sandbox import Sandbox

TOKEN = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"
KEYS = {"inline_keyboard": [[{"text": "♌ Лев", "callback_data": "sign:leo"}]]}

Api = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def api(sandbox: Sandbox) -> Api:
    async def call(method: str, **parameters: Any) -> dict[str, Any]:
        url = f"{sandbox.url}/bot{TOKEN}/{method}"
        async with aiohttp.request("POST", url, json=parameters) as response:
            return dict(await response.json())

    return call


class Receiver:
    """A bot's webhook: remembers what it got and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, Any], str | None]] = []
        self.answer: Callable[[dict[str, Any]], Awaitable[web.StreamResponse]] = self._ok
        self.url = ""

    async def _ok(self, _: dict[str, Any]) -> web.StreamResponse:
        return web.Response()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        update = await request.json()
        self.requests.append((update, request.headers.get("X-Telegram-Bot-Api-Secret-Token")))
        return await self.answer(update)

    @property
    def texts(self) -> list[str]:
        return [update["message"]["text"] for update, _ in self.requests]


@pytest.fixture
async def receiver(sandbox: Sandbox) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    sandbox.telegram.webhook.first_delay = 0.01
    yield receiver
    await sandbox.telegram.webhook.set("")
    await runner.cleanup()


async def test_the_webhook_gets_what_was_pending_with_the_secret(
    sandbox: Sandbox, api: Api, receiver: Receiver
) -> None:
    await sandbox.telegram.reader(1).say("раньше")
    await api("setWebhook", url=receiver.url, secret_token="s-e_cret", max_connections=3)
    await sandbox.telegram.reader(1).say("позже")

    await sandbox.telegram.wait_until_delivered()

    assert receiver.texts == ["раньше", "позже"]
    assert {secret for _, secret in receiver.requests} == {"s-e_cret"}
    info = (await api("getWebhookInfo"))["result"]
    assert (info["url"], info["pending_update_count"], info["max_connections"]) == (receiver.url, 0, 3)


async def test_a_webhook_forbids_polling_and_ends_a_poll(
    sandbox: Sandbox, api: Api, receiver: Receiver
) -> None:
    poll = asyncio.create_task(api("getUpdates", timeout=50))
    await sandbox.telegram.wait_for_polling()
    await api("setWebhook", url=receiver.url)

    assert (await poll)["description"] == "Conflict: terminated by setWebhook request"
    assert "can't use getUpdates method while webhook is active" in (await api("getUpdates"))["description"]
    await api("deleteWebhook")
    assert (await api("getUpdates"))["ok"]


async def test_pending_updates_can_be_dropped(sandbox: Sandbox, api: Api, receiver: Receiver) -> None:
    await sandbox.telegram.reader(1).say("раньше")
    await api("setWebhook", url=receiver.url, drop_pending_updates=True)
    await sandbox.telegram.reader(1).say("позже")

    await sandbox.telegram.wait_until_delivered()

    assert receiver.texts == ["позже"]


async def test_an_update_is_posted_until_it_is_taken_and_holds_up_its_own_chat_only(
    sandbox: Sandbox, api: Api, receiver: Receiver
) -> None:
    failures = 3

    async def answer(update: dict[str, Any]) -> web.StreamResponse:
        nonlocal failures
        if update["message"]["text"] == "раз" and failures:
            failures -= 1
            return web.Response(status=500)
        return web.Response()

    receiver.answer = answer
    await api("setWebhook", url=receiver.url)
    await sandbox.telegram.reader(1).say("раз")
    await sandbox.telegram.reader(1).say("два")
    await sandbox.telegram.reader(2).say("другой чат")

    await sandbox.telegram.wait_until_delivered()

    assert [text for text in receiver.texts if text != "другой чат"] == ["раз", "раз", "раз", "раз", "два"]
    assert receiver.texts.index("другой чат") < receiver.texts.index("два")
    info = (await api("getWebhookInfo"))["result"]
    assert info["last_error_message"] == "Wrong response from the webhook: 500 Internal Server Error"


@pytest.mark.parametrize("form", ["json", "urlencoded", "multipart"])
async def test_a_method_in_the_answer_is_carried_out(
    sandbox: Sandbox, api: Api, receiver: Receiver, form: str
) -> None:
    async def answer(update: dict[str, Any]) -> web.StreamResponse:
        flat = {"method": "sendMessage", "chat_id": str(update["message"]["chat"]["id"]), "text": "Готово"}
        if form == "json":
            return web.json_response({**flat, "reply_markup": KEYS})
        flat["reply_markup"] = json.dumps(KEYS)
        if form == "urlencoded":
            body: Any = aiohttp.FormData(flat)()
        else:
            body = aiohttp.FormData(flat, default_to_multipart=True)()
        return web.Response(body=body)

    receiver.answer = answer
    reader = sandbox.telegram.reader(1)
    await api("setWebhook", url=receiver.url)

    await reader.say("/today")

    assert (await reader.wait_for_text("Готово")).buttons == ["♌ Лев"]
    (call,) = sandbox.telegram.calls_of("sendMessage")
    assert (call.via, call.ok) == ("webhook", True)


async def test_a_thousand_readers_are_served_at_once(sandbox: Sandbox, api: Api, receiver: Receiver) -> None:
    async def answer(update: dict[str, Any]) -> web.StreamResponse:
        chat_id = update["message"]["chat"]["id"]
        return web.json_response({"method": "sendMessage", "chat_id": chat_id, "text": f"Вам, {chat_id}"})

    receiver.answer = answer
    await api("setWebhook", url=receiver.url, max_connections=100)
    readers = [sandbox.telegram.reader(number) for number in range(1, 1001)]

    for reader in readers:
        await reader.say("/today")
    await sandbox.telegram.wait_until_delivered()

    assert all(reader.last.text == f"Вам, {reader.id}" for reader in readers)
