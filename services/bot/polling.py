"""Fetches updates by long polling.

aiogram's own polling confirms updates before their handlers have finished; this one confirms them afterwards. Telegram
takes a request for an offset as the confirmation of all earlier updates. So the offset is that of the oldest update
still being handled. A reader with a slow chat keeps that update unconfirmed, but delays no other reader.
"""

import asyncio
from typing import Any

import structlog
from aiogram.exceptions import AiogramError
from aiogram.methods import TelegramMethod

from schema.errors import PassingError, UpdateUnfinished
from services.app import App
from services.bot import answers
from services.bot.updates import ALLOWED_UPDATES, Updates

log = structlog.get_logger(__name__)

#: Seconds that Telegram holds a request open while there are no updates.
POLL_S = 25
#: Seconds before a failed update is handled again, and before Telegram is asked again.
PAUSES_S = (1, 2, 5, 10, 20, 30, 60)
#: Seconds to wait for running handlers before asking Telegram again. While an update is unfinished, Telegram answers
#: at once with that one.
TURN_S = 0.5
#: Seconds that a stopping bot gives running handlers; unfinished updates come again.
GRACE_S = 25.0


class GetUpdates(TelegramMethod[list[Any]]):
    """``getUpdates`` with raw updates, so that a malformed one does not hide the others."""

    __returning__ = list[Any]
    __api_method__ = "getUpdates"

    offset: int | None = None
    limit: int | None = None
    timeout: int | None = None
    allowed_updates: list[str] | None = None


class Polling:
    """Fetches and handles updates: those of different chats concurrently, those of one chat in order."""

    def __init__(self, app: App, updates: Updates) -> None:
        self._app = app
        self._updates = updates
        self._offset: int | None = None
        #: Tasks by update number, from the oldest unconfirmed update on. A finished one stays until all older ones
        #: are finished.
        self._running: dict[int, asyncio.Task[None]] = {}
        self._latest_of_chat: dict[Any, asyncio.Task[None]] = {}
        #: Why no updates arrive; empty while Telegram answers.
        self.trouble = "polling has not begun"

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until ``stop`` is set, then finish and confirm the updates already fetched."""
        stopping = asyncio.create_task(stop.wait())
        pauses = iter(PAUSES_S)
        self.trouble = ""
        try:
            while not stop.is_set():
                fetching = asyncio.create_task(self._fetch(timeout=POLL_S))
                await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not fetching.done():
                    fetching.cancel()
                    break
                try:
                    batch = fetching.result()
                except (PassingError, AiogramError) as error:
                    self.trouble = f"Telegram gives no updates: {error}"
                    pause = max(next(pauses, PAUSES_S[-1]), getattr(error, "retry_after", None) or 0)
                    log.warning("updates.not_fetched", reason=str(error), again_in=pause)
                    await asyncio.wait({stopping}, timeout=pause)
                    continue
                pauses = iter(PAUSES_S)
                self.trouble = ""
                if not self._begin(batch) and batch:
                    # No update of this batch can be confirmed; do not fetch it again at once.
                    await asyncio.wait({stopping}, timeout=PAUSES_S[0])
                await self._settle(TURN_S)
        finally:
            stopping.cancel()
        await self._settle(GRACE_S)
        await self._confirm()

    async def _fetch(self, timeout: int, limit: int | None = None) -> list[Any]:
        request = GetUpdates(
            offset=self._offset, limit=limit, timeout=timeout, allowed_updates=ALLOWED_UPDATES
        )
        return await self._app.bot(request, request_timeout=timeout + 10)

    def _begin(self, batch: list[Any]) -> bool:
        """Start handling new updates; False: no update of the batch has a number."""
        numbered = [(raw["update_id"], raw) for raw in batch if _has_number(raw)]
        if len(numbered) < len(batch):
            log.error("updates.unnumbered", count=len(batch) - len(numbered))
        for number, raw in sorted(numbered, key=lambda each: each[0]):
            if number in self._running:
                continue
            chat = _chat(raw)
            task = asyncio.create_task(self._handle(self._latest_of_chat.get(chat), number, raw))
            self._running[number] = self._latest_of_chat[chat] = task
        return bool(numbered)

    async def _settle(self, timeout: float | None) -> None:
        """Wait for running handlers, then move the offset past the finished updates."""
        if self._running:
            await asyncio.wait(self._running.values(), timeout=timeout)
        for number in sorted(self._running):
            if not self._running[number].done():
                break
            self._offset = number + 1
            del self._running[number]
        self._latest_of_chat = {chat: task for chat, task in self._latest_of_chat.items() if not task.done()}

    async def _confirm(self) -> None:
        """Confirm finished updates with one more request; its answer is not used."""
        if self._offset is not None:
            try:
                await self._fetch(timeout=0, limit=1)
            except AiogramError as error:
                log.warning("updates.not_confirmed", reason=str(error))

    async def _handle(self, earlier: asyncio.Task[None] | None, number: int, raw: Any) -> None:
        """Handle one update after an earlier one; repeat it for some minutes while Telegram or a server is away."""
        if earlier:
            await asyncio.wait({earlier})
        unfinished = False
        for pause in (*PAUSES_S, None):
            try:
                answer = await self._updates.handle(raw, unfinished=unfinished)
                if answer:
                    await answers.by_call(answer, self._app)
            except PassingError as error:
                if pause is None:
                    log.error("update.given_up", update_id=number, reason=str(error))
                    return
                unfinished = unfinished or isinstance(error, UpdateUnfinished)
                await asyncio.sleep(max(pause, error.retry_after or 0))
            except AiogramError as error:
                log.error("answer.refused", update_id=number, reason=str(error))
                return
            except Exception:
                log.exception("answer.failed", update_id=number)
                return
            else:
                return


def _has_number(raw: Any) -> bool:
    return isinstance(raw, dict) and type(raw.get("update_id")) is int


def _chat(raw: Any) -> Any:
    """A key shared by the updates of one chat."""
    try:
        event = raw.get("message") or raw["callback_query"]["message"]
        chat = event["chat"]["id"]
    except (AttributeError, KeyError, TypeError):
        return id(raw)
    return chat if isinstance(chat, int) else id(raw)
