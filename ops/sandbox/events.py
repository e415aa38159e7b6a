"""Server-sent events for open pages."""

import asyncio
from typing import Any

import orjson
from aiohttp import web

_MOST_WAITING = 2_000  # events that a slow page may lag behind before it has to reload
_HEARTBEAT = 15.0  # seconds


class Events:
    """Sends every event to every open page.

    Attributes:
        touched: How often the state worth keeping has changed.
    """

    def __init__(self) -> None:
        self.touched = 0
        self._pages: set[asyncio.Queue[bytes | None]] = set()

    @property
    def watched(self) -> bool:
        """Whether a page is open."""
        return bool(self._pages)

    def touch(self) -> None:
        """Note that the state file is out of date."""
        self.touched += 1

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Send an event to all pages."""
        if not self._pages:
            return
        event = b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps(data))
        for page in self._pages:
            if page.qsize() < _MOST_WAITING:
                page.put_nowait(event)
            elif page.qsize() == _MOST_WAITING:
                page.put_nowait(b"event: reload\ndata: {}\n\n")

    def stop(self) -> None:
        """End every stream."""
        for page in self._pages:
            page.put_nowait(None)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """One page's stream of events, until it leaves or the sandbox stops."""
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        page: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._pages.add(page)
        try:
            await response.prepare(request)
            await response.write(b"retry: 1000\nevent: hello\ndata: {}\n\n")
            while True:
                try:
                    async with asyncio.timeout(_HEARTBEAT):
                        event = await page.get()
                except TimeoutError:
                    event = b": still here\n\n"
                if event is None:
                    break
                await response.write(event)
        finally:
            self._pages.discard(page)
        return response
