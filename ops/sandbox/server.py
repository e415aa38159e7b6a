"""The sandbox: everything on one port, inside a test or as a process."""

from pathlib import Path
from typing import Self

from aiohttp import web

from ops.sandbox.model.server import Model
from ops.sandbox.page.control import Control
from ops.sandbox.page.events import Events
from ops.sandbox.state import State
from ops.sandbox.telegram.server import Telegram

_MOST_BYTES = 10 * 1024 * 1024  # of a request's body
_GRACE = 0.5  # seconds for the last answers when stopping


class Sandbox:
    """A Telegram Bot API server, a text server and a chat page.

    Used as a context manager it listens inside and is silent outside; `stop` and `start` take it
    down and up again on the same port, its state kept.

    Attributes:
        telegram: The Bot API; its base is `url`.
        model: The text server; its base is `url` + `/v1`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        latency: float = 0.0,
        state: Path | None = None,
    ) -> None:
        """Set up, without listening yet.

        Args:
            host: Where to listen.
            port: Where to listen; 0 for any free port.
            token: The only bot token that is good; without it every well-formed one is.
            latency: Seconds the model takes for a text.
            state: The file that keeps readers and chats.
        """
        self.host, self.port = host, port
        self.events = Events()
        self.telegram = Telegram(self.events, token)
        self.model = Model(self.events, latency)
        self._state = State(state, self.telegram, self.events) if state else None
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.add_routes(self.telegram.routes())
        app.add_routes(self.model.routes())
        app.add_routes(Control(self.telegram, self.model, self.events).routes())
        # A call whose client has gone away is cancelled: polls and hanging calls must not pile up.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_GRACE)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=4096)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self._state:
            self._state.start()
        self.telegram.start()
        self.model.start()

    async def stop(self) -> None:
        """Stop listening and let go of every call under way."""
        self.telegram.stop()
        self.model.stop()
        self.events.stop()
        await self.telegram.webhook.stop()
        if self._state:
            await self._state.stop()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
