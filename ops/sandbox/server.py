"""The sandbox: everything on one port, inside a test or as a process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

from aiohttp import web

from ops.sandbox.events import Events
from ops.sandbox.hooks import Clock, Missing, Texts
from ops.sandbox.model.server import Model
from ops.sandbox.page.control import Control
from ops.sandbox.state import State
from ops.sandbox.telegram.server import BotApi
from ops.sandbox.telegram.world import World

_MOST_BYTES = 10 * 1024 * 1024  # of a request's body
_GRACE = 0.5  # seconds for the last answers when stopping
_Site = partial(web.TCPSite, backlog=4096)


class Sandbox:
    """A Telegram Bot API server, a text server and a chat page.

    Listens inside its context. `stop` and `start` take it down and up again on the same port; its state stays.

    Attributes:
        telegram: Readers, chats and calls of the Bot API; its base is `url`.
        model: The text server; its base is `url` + `/v1`.

    Args:
        port: The TCP port; 0 for any free one.
        token: The only bot token that is accepted; None accepts every well-formed one.
        latency: Seconds the model takes for a text.
        state: The file that keeps readers and chats.
        texts: Access to the service's texts, or why there is none.
        clock: The clock that the page can move, or why there is none.
        site: Makes the listener: (runner, host, port).
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = None,
        latency: float = 0.0,
        state: Path | None = None,
        texts: Texts | Missing = "standalone",
        clock: Clock | Missing = "standalone",
        site: Callable[[web.BaseRunner, str, int], web.BaseSite] = _Site,
    ) -> None:
        self.host, self.port = host, port
        self.events = Events()
        self.telegram = World(self.events, token)
        self.model = Model(self.events, latency)
        self._bot_api = BotApi(self.telegram, token)
        self._control = Control(self.telegram, self.model, self.events, texts, clock)
        self._state = State(state, self.telegram, self.events) if state else None
        self._runner: web.AppRunner | None = None
        self._site = site

    @property
    def url(self) -> str:
        """Base address, without a slash at its end."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        app = web.Application(client_max_size=_MOST_BYTES)
        for part in (self._bot_api, self.model, self._control):
            app.add_routes(part.routes())
        # A call is cancelled when its client leaves: polls and hanging calls must not pile up.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=_GRACE)
        await self._runner.setup()
        await self._site(self._runner, self.host, self.port).start()
        self.port = self._runner.addresses[0][1]
        if self._state:
            self._state.start()
        self._bot_api.start()
        self.model.start()

    async def stop(self) -> None:
        """Stop listening and end every call."""
        self.model.stop()
        self.events.stop()
        await self._bot_api.stop()
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
