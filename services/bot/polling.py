"""Fetches updates by long polling.

aiogram's own polling confirms updates before their handlers have finished; this one confirms them afterwards. Telegram
takes a request for an offset as the confirmation of all earlier updates, and returns at most a hundred from there. So the
offset is that of the oldest update that is neither finished nor on record: see :mod:`services.bot.inbox`.
"""

import asyncio
from typing import Any

import structlog
from aiogram.exceptions import AiogramError
from aiogram.methods import TelegramMethod

from schema.errors import PassingError
from services.app import App
from services.bot.admission import Verdict
from services.bot.runner import Runner, Work, number_of
from services.bot.updates import ALLOWED_UPDATES
from services.process.descriptions import said

log = structlog.get_logger(__name__)

#: Seconds that Telegram holds a request open while there are no updates.
POLL_S = 25
#: Seconds before Telegram is asked again after a failure.
PAUSES_S = (1, 2, 5, 10, 20, 30, 60)
#: Seconds to wait for running handlers before asking Telegram again. While an update is unconfirmed, Telegram answers
#: at once with that one.
TURN_S = 0.1
#: Unconfirmed updates at which those that wait for an earlier one go on record at once, and slow ones are confirmed even if
#: they cannot: Telegram returns at most a hundred.
CROWDED = 50


class GetUpdates(TelegramMethod[list[Any]]):
    """``getUpdates`` with raw updates, so that a malformed one does not hide the others."""

    __returning__ = list[Any]
    __api_method__ = "getUpdates"

    offset: int | None = None
    limit: int | None = None
    timeout: int | None = None
    allowed_updates: list[str] | None = None


class Polling:
    """Fetches updates, and confirms those that are finished or on record."""

    def __init__(self, app: App, runner: Runner) -> None:
        self._app = app
        self._runner = runner
        self._offset: int | None = None
        # Updates from the oldest unconfirmed one on; None: nothing is left to do for it.
        self._window: dict[int, Work | None] = {}
        #: Why no updates arrive; empty while Telegram answers.
        self.trouble = "polling has not begun"

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until ``stop`` is set, then finish and confirm the updates already fetched."""
        stopping = asyncio.create_task(stop.wait())
        pauses = iter(PAUSES_S)
        self.trouble = ""
        await self._runner.recover()
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
                    self.trouble = f"Telegram gives no updates: {said(error)}"
                    pause = max(next(pauses, PAUSES_S[-1]), getattr(error, "retry_after", None) or 0)
                    log.warning("updates.not_fetched", reason=said(error), again_in=pause)
                    await asyncio.wait({stopping}, timeout=pause)
                    continue
                pauses = iter(PAUSES_S)
                self.trouble = ""
                if not self._begin(batch) and batch:
                    # No update of this batch can be confirmed; do not fetch it again at once.
                    await asyncio.wait({stopping}, timeout=PAUSES_S[0])
                await self._move_on()
        finally:
            stopping.cancel()
        await self._runner.stop()
        self._confirm_finished()
        await self._confirm()

    async def _fetch(self, timeout: int, limit: int | None = None) -> list[Any]:
        request = GetUpdates(
            offset=self._offset, limit=limit, timeout=timeout, allowed_updates=ALLOWED_UPDATES
        )
        return await self._app.bot(request, request_timeout=timeout + 10)

    def _begin(self, batch: list[Any]) -> bool:
        """Begin with new updates; False: no update of the batch has a number."""
        numbered = {number: raw for raw in batch if (number := number_of(raw)) is not None}
        if unnumbered := sum(number_of(raw) is None for raw in batch):
            log.error("updates.unnumbered", count=unnumbered)
        for number, raw in sorted(numbered.items()):
            if number in self._window:
                continue
            self._window[number] = None
            if number not in self._runner.known and not self._runner.under_way(number):
                verdict = self._runner.admission.judge(raw)
                if verdict is not Verdict.PASSED_OVER:
                    self._window[number] = self._runner.begin(raw, verdict)
        return bool(numbered)

    async def _move_on(self) -> None:
        """Wait a moment for running handlers; then put slow updates on record, and move the offset."""
        if works := self._unconfirmed():
            await asyncio.wait([work.task for work in works], timeout=TURN_S)
        crowded = len(self._window) >= CROWDED
        slow = [work for work in self._unconfirmed() if work.is_slow or (crowded and work.waits)]
        if slow and not await self._runner.keep(slow) and crowded:
            self._runner.risk(slow)
        self._confirm_finished()

    def _unconfirmed(self) -> list[Work]:
        return [work for work in self._window.values() if work and not work.may_be_confirmed]

    def _confirm_finished(self) -> None:
        """Move the offset past the updates that may be confirmed."""
        for number in sorted(self._window):
            work = self._window[number]
            if work and not work.may_be_confirmed:
                break
            self._offset = max(self._offset or 0, number + 1)
            del self._window[number]

    async def _confirm(self) -> None:
        """Confirm finished updates with one more request; its answer is not used."""
        if self._offset is not None:
            try:
                await self._fetch(timeout=0, limit=1)
            except AiogramError as error:
                log.warning("updates.not_confirmed", reason=said(error))
