"""Waits for conditions without polling."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Watch:
    """Wakes waiting coroutines after every change, so that no test needs a sleep."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Have every waiter check its condition again."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, look: Callable[[], T], within: float, describe: Callable[[], str]) -> T:
        """Wait `within` seconds until `look()` is true; returns its result. `describe` tells the state in the error.

        An IndexError counts as false, so that `messages[-1].text == "…"` works on an empty chat.

        Raises:
            TimeoutError: `look()` did not become true in time.
        """
        deadline = asyncio.get_running_loop().time() + within
        while True:
            with contextlib.suppress(IndexError):
                if found := look():
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
