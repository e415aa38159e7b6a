"""One call for many callers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from schema.errors import PassingError

_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class Coalescer(Generic[_Asked, _Answer]):
    """Answers all who ask at about the same time by one call.

    While a call is under way, those who come meanwhile gather for the next. So nobody waits for a timer, a
    single caller goes ahead at once, and the busier it gets, the more go together.

    Args:
        answer_all: Answers several, in their order.
    """

    def __init__(self, answer_all: Callable[[Sequence[_Asked]], Awaitable[Sequence[_Answer]]]) -> None:
        self._answer_all = answer_all
        self._gathered: list[tuple[_Asked, asyncio.Future[_Answer]]] = []
        self._answering: asyncio.Task[None] | None = None

    async def ask(self, asked: _Asked) -> _Answer:
        """The answer to one.

        Raises:
            Exception: What ``answer_all`` raised: any passing error at once; any other one when it was asked for
                this one alone.
        """
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        entry = (asked, answer)
        self._gathered.append(entry)
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer_gathered(), name="gathering")
        try:
            return await answer
        except asyncio.CancelledError:
            with suppress(ValueError):  # it is being asked for already
                self._gathered.remove(entry)
            raise

    async def _answer_gathered(self) -> None:
        try:
            while self._gathered:
                gathered, self._gathered = self._gathered, []
                await self._answer(gathered)
        finally:
            self._answering = None

    async def _answer(self, gathered: list[tuple[_Asked, asyncio.Future[_Answer]]]) -> None:
        waiting = [(asked, answer) for asked, answer in gathered if not answer.done()]
        if not waiting:
            return
        try:
            answers = await self._answer_all([asked for asked, _ in waiting])
        except Exception as error:  # noqa: BLE001  it is for those who asked
            if len(waiting) > 1 and not isinstance(error, PassingError):
                for each in waiting:  # one is to blame, and must not fail its neighbours
                    await self._answer([each])
                return
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            if not future.done():
                future.set_result(answer)
