"""Coalescing: one query answers several callers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from schema.errors import PassingError

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class Coalescer(Generic[_Request, _Answer]):
    """Answers calls that arrive at about the same time with one query.

    While a query runs, new calls gather for the next one. So no call waits for a timer, a single call runs at once,
    and under load more calls share a query. ``answer_all`` answers several requests, in their order.
    """

    def __init__(self, answer_all: Callable[[Sequence[_Request]], Awaitable[Sequence[_Answer]]]) -> None:
        self._answer_all = answer_all
        self._gathered: list[tuple[_Request, asyncio.Future[_Answer]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, request: _Request) -> _Answer:
        """Answer one request, or raise the error of ``answer_all``.

        An error that is not passing is raised only if ``answer_all`` fails for this request alone.
        """
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        entry = (request, answer)
        self._gathered.append(entry)
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer_gathered(), name="gathering")
        try:
            return await answer
        except asyncio.CancelledError:
            with suppress(ValueError):  # its query runs already
                self._gathered.remove(entry)
            raise

    async def _answer_gathered(self) -> None:
        try:
            while self._gathered:
                gathered, self._gathered = self._gathered, []
                await self._answer(gathered)
        finally:
            self._answering = None

    async def _answer(self, gathered: list[tuple[_Request, asyncio.Future[_Answer]]]) -> None:
        waiting = [(request, answer) for request, answer in gathered if not answer.done()]
        if not waiting:
            return
        try:
            answers = await self._answer_all([request for request, _ in waiting])
        except Exception as error:  # noqa: BLE001  passed on to the callers
            if len(waiting) > 1 and not isinstance(error, PassingError):
                for each in waiting:  # one request is to blame and must not fail the others
                    await self._answer([each])
                return
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)
