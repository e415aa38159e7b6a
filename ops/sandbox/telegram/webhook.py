"""The webhook: posts updates to the bot, in order within a chat, chats in parallel."""

import asyncio
import contextlib
import json
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

import aiohttp

from ops.sandbox.telegram.updates import Update, Updates, chat_of

_CONNECTIONS = 40
# Telegram ignores these in the answer to an update.
_NOT_IN_REPLY = ("get", "setwebhook", "deletewebhook", "close", "logout")


class Webhook:
    """The bot's address and the deliveries to it.

    Attributes:
        url: Where to post; empty while the bot polls.
        first_delay: Seconds before the second try of an update; doubles with each further try.
        longest_delay: The limit of that delay, in seconds.
        failing: Whether the latest delivery failed.
        perform: Carries out a method that comes in the answer to an update.
    """

    def __init__(self, updates: Updates) -> None:
        self.url = ""
        self.secret_token = ""
        self.max_connections = _CONNECTIONS
        self.first_delay = 0.5
        self.longest_delay = 60.0
        self.timeout = 60.0
        self.failing = False
        self.last_error: tuple[int, str] | None = None
        self.perform: Callable[[str, dict[str, Any]], Awaitable[Any]] | None = None
        self._updates = updates
        self._lines: defaultdict[int, deque[Update]] = defaultdict(deque)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._session: aiohttp.ClientSession | None = None

    async def set(self, url: str, secret_token: str = "", max_connections: int = 0) -> None:
        """Post to this address from now on, pending updates first; an empty address ends it."""
        await self.stop()
        self.url, self.secret_token = url, secret_token
        self.max_connections = max_connections or _CONNECTIONS
        self.failing, self.last_error = False, None
        self.start()

    def start(self) -> None:
        """Begin to deliver pending updates."""
        self._turns = asyncio.Semaphore(self.max_connections)
        for update in tuple(self._updates.pending.values()) if self.url else ():
            self.post(update)

    async def stop(self) -> None:
        """End all deliveries; updates that the bot has not taken stay pending."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        # The answer of a delivery may remove the webhook; that delivery is not waited for.
        await asyncio.gather(*(tasks - {asyncio.current_task()}), return_exceptions=True)
        self._lines.clear()
        if self._session:
            await self._session.close()
            self._session = None

    def post(self, update: Update) -> bool:
        """Take an update for delivery; false where no webhook is set."""
        if not self.url:
            return False
        chat_id = chat_of(update)
        self._lines[chat_id].append(update)
        if len(self._lines[chat_id]) == 1:
            task = asyncio.get_running_loop().create_task(self._deliver(chat_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return True

    async def _deliver(self, chat_id: int) -> None:
        line = self._lines[chat_id]
        delay = self.first_delay
        while line:
            async with self._turns:
                problem, retry_after = await self._try(line[0])
            self.failing = bool(problem)
            if problem:
                self.last_error = (int(time.time()), problem)
                await asyncio.sleep(max(delay, retry_after))
                delay = min(delay * 2, self.longest_delay)
            else:
                self._updates.forget(line.popleft()["update_id"])
                delay = self.first_delay
        del self._lines[chat_id]

    async def _try(self, update: Update) -> tuple[str, float]:
        """Post one update; returns the problem (empty: none) and the seconds to wait at least."""
        if not self._session:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        headers = {"Content-Type": "application/json"}
        if self.secret_token:
            headers["X-Telegram-Bot-Api-Secret-Token"] = self.secret_token
        timeout = aiohttp.ClientTimeout(total=self.timeout)
        body = json.dumps(update, ensure_ascii=False).encode()
        try:
            async with self._session.post(self.url, data=body, headers=headers, timeout=timeout) as response:
                if not 200 <= response.status < 300:
                    retry_after = response.headers.get("Retry-After", "")
                    seconds = float(retry_after) if retry_after.isdigit() else 0.0
                    return f"Wrong response from the webhook: {response.status} {response.reason}", seconds
                reply = await _method_in(response)
        except TimeoutError:
            return "Read timeout expired", 0.0
        except aiohttp.ClientError as error:
            return f"Connection failed: {type(error).__name__}", 0.0
        method = str(reply.pop("method", ""))
        if self.perform and method and not method.lower().startswith(_NOT_IN_REPLY):
            await self.perform(method, reply)
        return "", 0.0

    def info(self) -> dict[str, Any]:
        """The result of `getWebhookInfo`."""
        info: dict[str, Any] = {"url": self.url, "has_custom_certificate": False}
        info["pending_update_count"] = len(self._updates.pending)
        if self.url:
            info["max_connections"] = self.max_connections
        if self.last_error:
            info["last_error_date"], info["last_error_message"] = self.last_error
        if self._updates.allowed:
            info["allowed_updates"] = self._updates.allowed
        return info


async def _method_in(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The method and its parameters in the answer to an update, in JSON or a form; else empty."""
    if response.content_type == "application/json":
        with contextlib.suppress(ValueError):
            parsed = json.loads(await response.read() or b"{}")
            return parsed if isinstance(parsed, dict) else {}
    elif response.content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(await response.text()))
    elif response.content_type == "multipart/form-data":
        parts: dict[str, Any] = {}
        reader = aiohttp.MultipartReader.from_response(response)
        async for part in reader:
            if isinstance(part, aiohttp.BodyPartReader) and part.name and not part.filename:
                parts[part.name] = await part.text()
        return parts
    return {}
