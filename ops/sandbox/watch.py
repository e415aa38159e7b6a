"""Waiting for a condition over state that others change."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Watch:
    """Wakes coroutines when the state they look at has changed, so that no test needs a sleep."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Let every waiter look again."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, look: Callable[[], T], within: float, describe: Callable[[], str]) -> T:
        """Wait until `look()` is true and return what it gave.

        Args:
            look: Asked now and after every change. An IndexError counts as "not yet", so that
                `messages[-1].text == "…"` may be asked of an empty chat.
            within: Seconds.
            describe: What to say of the state when they are over.

        Raises:
            TimeoutError: The condition did not come true in time.
        """
        deadline = asyncio.get_running_loop().time() + within
        while True:
            try:
                found = look()
            except IndexError:
                pass
            else:
                if found:
                    return found
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                async with asyncio.timeout_at(deadline):
                    await waiter
            except TimeoutError:
                raise TimeoutError(f"not within {within} s; {describe()}") from None
            finally:
                self._waiters.discard(waiter)
