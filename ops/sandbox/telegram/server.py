"""A Telegram Bot API server with one bot, its readers and its faults."""

import asyncio
import itertools
import random
import re
import time
from collections import OrderedDict, deque
from typing import Any

import orjson
from aiohttp import web

from ops.sandbox.faults import Fault, TelegramFaults
from ops.sandbox.page.events import Events
from ops.sandbox.telegram.calls import ApiError, Call, Parameters, read_parameters
from ops.sandbox.telegram.limits import Limits
from ops.sandbox.telegram.messages import Message
from ops.sandbox.telegram.methods import METHODS
from ops.sandbox.telegram.updates import Updates
from ops.sandbox.telegram.webhook import Webhook
from ops.sandbox.telegram.world import Reader
from ops.sandbox.watch import Watch

_TOKEN = re.compile(r"\d{1,16}:[A-Za-z0-9_-]{30,50}")
_MOST_CALLS = 20_000
_MOST_QUERIES = 10_000
_NOT_DONE = {"hang", "disconnect", "garbage"}
_NOT_ANSWERED = {"hang", "timeout_after_doing"}
_CUT_OFF = {"hang", "timeout_after_doing", "disconnect", "disconnect_after_doing"}
_DESCRIPTIONS = {
    "400": "Bad Request: chat not found",
    "403": "Forbidden: bot was blocked by the user",
    "500": "Internal Server Error",
}


class Telegram:
    """The emulator: state, routes, and what a test may look at.

    Attributes:
        readers: By id.
        calls: The bot's calls, the latest last.
        faults: What goes wrong.
        latency: Seconds before a method is carried out, by its name; "*" for all others.
        limits: Telegram's rate limits, off by default.
        callback_lifetime: Seconds in which a pressed button can be answered.
    """

    def __init__(self, events: Events, token: str | None = None) -> None:
        self.token = token
        self.bot: dict[str, Any] = {
            "id": int(token.split(":")[0]) if token else 1,
            "is_bot": True,
            "first_name": "Гороскоп",
            "username": "horoscope_sandbox_bot",
        }
        self.readers: dict[int, Reader] = {}
        self.calls: deque[Call] = deque(maxlen=_MOST_CALLS)
        self.faults = TelegramFaults(self._faults_changed)
        self.latency: dict[str, float] = {}
        self.limits = Limits()
        self.commands: dict[tuple[str, str], list[dict[str, str]]] = {}
        self.profile: dict[tuple[str, str], str] = {}
        self.callback_lifetime = 60.0
        self.callback_queries: OrderedDict[str, tuple[int, float, bool]] = OrderedDict()
        self._watch = Watch()
        self.updates = Updates(self._watch)
        self.webhook = Webhook(self.updates, self._perform_reply)
        self.updates.post = self.webhook.post
        # As with updates: a new sandbox must not seem to go on with the messages of an earlier one.
        self.next_message_id = random.randrange(1_000, 1_000_000)
        self._query_ids = itertools.count(random.randrange(10**17, 10**18))
        self._events = events
        self._stopping = asyncio.Event()

    # For tests and the control API

    def reader(self, reader_id: int, *, name: str = "", language: str = "ru") -> Reader:
        """The reader with this id; made on first use."""
        if reader_id not in self.readers:
            reader = Reader(self, reader_id, name or f"Reader {reader_id}", language)
            self.readers[reader_id] = reader
            self.reader_changed(reader)
        return self.readers[reader_id]

    async def send_update(self, update: dict[str, Any]) -> int:
        """Deliver any update, however malformed; returns its id."""
        return self.updates.add_raw(update)

    async def repeat(self, update_id: int) -> None:
        """Deliver an update once more, as Telegram does when a confirmation was lost."""
        self.updates.repeat(update_id)

    def calls_of(self, method: str, chat_id: int | None = None) -> list[Call]:
        """The bot's calls of a method, at will for one chat."""
        return [
            call
            for call in self.calls
            if call.method.lower() == method.lower() and chat_id in {None, call.chat_id}
        ]

    async def wait_for_calls(
        self, method: str, count: int = 1, chat_id: int | None = None, within: float = 10.0
    ) -> list[Call]:
        """Wait until a method was called so often, and answered unless a fault met it; returns the calls."""

        def answered() -> list[Call]:
            calls = [call for call in self.calls_of(method, chat_id) if call.response or call.fault]
            return calls if len(calls) >= count else []

        return await self._watch.until(
            answered,
            within,
            lambda: (
                f"called were {[call.method for call in self.calls if call.method != 'getUpdates'][-20:]}"
            ),
        )

    async def wait_for_polling(self, within: float = 10.0) -> None:
        """Wait until the bot waits in a long poll."""
        await self._watch.until(lambda: self.updates.waiting, within, lambda: "nobody polls")

    async def wait_until_delivered(self, within: float = 10.0) -> None:
        """Wait until the bot has taken every update."""
        await self._watch.until(
            lambda: not self.updates.pending,
            within,
            lambda: f"pending are {list(self.updates.pending.values())}",
        )

    @property
    def online(self) -> bool:
        """Whether a bot is there: it polls, or its webhook takes what it is sent."""
        return self.updates.polled or bool(self.webhook.url and not self.webhook.failing)

    # For the methods

    def new_message_id(self) -> int:
        """The next message's id; ids grow over all chats of the bot."""
        self.next_message_id += 1
        return self.next_message_id

    def new_callback_query(self, reader: Reader) -> dict[str, Any]:
        """A callback query without its message and data; it can be answered for a while."""
        query_id = str(next(self._query_ids))
        self.callback_queries[query_id] = (reader.id, time.time() + self.callback_lifetime, False)
        if len(self.callback_queries) > _MOST_QUERIES:
            self.callback_queries.popitem(last=False)
        return {"id": query_id, "from": reader.user, "chat_instance": str(reader.id)}

    def profile_text(self, name: str, language: str) -> str:
        """A text of the bot's profile in a language, else in the default one."""
        default = {"name": self.bot["first_name"]}.get(name, "")
        return self.profile.get((name, language)) or self.profile.get((name, "")) or str(default)

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell the page."""
        self._events.publish(kind, data)

    def message_changed(self, message: Message) -> None:
        """Tell the page of a new, edited or deleted message."""
        self._events.touch()
        if self._events.watched:
            self.publish("message", message.as_json())

    def reader_changed(self, reader: Reader) -> None:
        """Tell the page of a new reader or another state of one."""
        self._events.touch()
        self.publish("reader", reader.as_json())

    def profile_changed(self) -> None:
        """Tell the page of other commands or descriptions."""
        self._events.touch()
        self.publish("profile", {})

    def _faults_changed(self) -> None:
        self.publish("faults", {})

    # Over HTTP

    def routes(self) -> list[web.AbstractRouteDef]:
        """The Bot API."""
        return [web.route("*", "/bot{token:[^/]+}/{method}", self._handle)]

    def stop(self) -> None:
        """Let go of every call that hangs or waits."""
        self._stopping.set()
        self.updates.release_poll()

    def start(self) -> None:
        """Serve again."""
        self._stopping.clear()
        self.webhook.start()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        token, method = request.match_info["token"], request.match_info["method"]
        if token != self.token and (self.token or not _TOKEN.fullmatch(token)):
            return _answer(ApiError(401, "Unauthorized"))
        if not self.token:
            self.bot["id"] = int(token.split(":")[0])
        call = Call(time.time(), method, {})
        try:
            call.parameters = await read_parameters(request)
        except ApiError as error:
            return _answer(error)
        fault = self._meet(call)
        kind = fault.kind if fault else ""
        response = web.Response(text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")
        if kind not in _NOT_DONE:
            response = await self._carry_out(call, fault)
        if fault and kind in _NOT_ANSWERED:
            await fault.hang(self._stopping)
        if kind in _CUT_OFF and request.transport:
            request.transport.abort()
        return response

    def _meet(self, call: Call) -> Fault | None:
        """Put a call on record, with the fault that meets it."""
        fault = self.faults.take({"method": call.method.lower(), "chat_id": call.chat_id})
        call.fault = fault.kind if fault else None
        self.calls.append(call)
        self._watch.notify()
        return fault

    async def _perform_reply(self, method: str, parameters: dict[str, Any]) -> None:
        """Carry out a method that came in the answer to an update."""
        call = Call(time.time(), method, parameters, via="webhook")
        fault = self._meet(call)
        if call.fault not in _NOT_DONE:
            await self._carry_out(call, fault)

    async def _carry_out(self, call: Call, fault: Fault | None) -> web.Response:
        result: Any = None
        try:
            result = {"ok": True, "result": await self._result(call, fault)}
            error = None
        except ApiError as refused:
            result, error = refused.as_json(), refused
        call.response = result
        self._watch.notify()
        return _answer(error) if error else web.json_response(body=orjson.dumps(result))

    async def _result(self, call: Call, fault: Fault | None) -> Any:
        name = call.method.lower()
        if latency := self.latency.get(name, self.latency.get("*", 0.0) if name != "getupdates" else 0.0):
            await asyncio.sleep(latency)
        if fault and fault.kind.isdigit():
            raise _error_of(fault)
        method = METHODS.get(name)
        if not method:
            raise ApiError(404, "Not Found: method not found")
        parameters = Parameters(call.parameters)
        call.parameters = parameters.values
        self.limits.check(name, call.chat_id)
        return await method(self, parameters)


def _error_of(fault: Fault) -> ApiError:
    if fault.kind == "429":
        retry_after = int(fault.details.get("retry_after", 1))
        return ApiError(429, f"Too Many Requests: retry after {retry_after}", retry_after)
    return ApiError(int(fault.kind), fault.details.get("description", _DESCRIPTIONS[fault.kind]))


def _answer(error: ApiError) -> web.Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    return web.json_response(body=orjson.dumps(error.as_json()), status=error.code, headers=headers)
