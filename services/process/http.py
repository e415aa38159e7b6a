"""Serves HTTP on an address from the settings, and bounds the connections of a listener.

Anybody who reaches a listener can open connections and send nothing, or half of a request. Such a connection is closed
after :data:`REQUEST_S`. Before the process runs out of files, the oldest connection that has nothing to answer makes room
for a new one; so whoever sends a whole request at once gets through.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

import structlog
from aiohttp import web

from services.process.settings import WrongSettings, split_listen

log = structlog.get_logger(__name__)

#: Seconds in which a request must arrive, from the opening of its connection or its first byte.
REQUEST_S = 5.0
#: Seconds that a connection may wait for its next request: longer than a proxy keeps it.
IDLE_S = 75.0
#: Seconds after which a connection whose request is still being answered may be closed to make room.
ANSWER_S = 60.0
#: Seconds between two checks of all connections.
CHECK_S = 1.0
#: The most connections of a listener. With the other listener of a process, and those that the kernel has accepted, it
#: stays below the usual limit of 1,024 files.
CONNECTIONS = 400
#: The most connections of a listener for metrics and health: only a few supervisors ask.
FEW_CONNECTIONS = 200
#: The most connections that the kernel accepts before we do; fewer than the above, so that none is closed unread.
BACKLOG = 128
#: Connections closed within so many seconds that are worth a warning; browsers open some that they do not use.
_MANY, _WITHIN_S = 20, 60.0


class Connection(Protocol):
    """One connection of a listener.

    Attributes:
        since: The loop's time when it was opened, when its current request began, or when it was last answered.
        receiving: Its request has not arrived completely yet; False between two requests.
    """

    since: float
    receiving: bool

    @property
    def answering(self) -> bool:
        """A request that has arrived completely is being answered."""

    def drop(self) -> None:
        """Close it at once."""


class Connections:
    """The open connections of one listener.

    Args:
        listen: The listener's address, for the log.
        most: How many may be open.
    """

    def __init__(self, listen: str, most: int) -> None:
        self._listen = listen
        self._most = most
        # Those without an answer so far, the first opened first; and the others, the longest unanswered first.
        self._new: dict[Connection, None] = {}
        self._answered: dict[Connection, None] = {}
        self._check: asyncio.TimerHandle | None = None
        self._dropped = 0
        self._count_until = 0.0
        self._logged = False

    def __len__(self) -> int:
        return len(self._new) + len(self._answered)

    def add(self, connection: Connection) -> None:
        """A connection was opened. It is closed at once if there is no room."""
        connection.since = asyncio.get_running_loop().time()
        connection.receiving = True
        if len(self) >= self._most and not self._make_room():
            self._drop(connection)
            return
        self._new[connection] = None
        if self._check is None:
            self._check_later()

    def answered(self, connection: Connection) -> None:
        """A connection has got an answer, and may send its next request."""
        connection.since = asyncio.get_running_loop().time()
        known = connection in self._new or connection in self._answered
        self.remove(connection)
        if known:  # not dropped meanwhile
            self._answered[connection] = None

    def remove(self, connection: Connection) -> None:
        """A connection was closed."""
        self._new.pop(connection, None)
        self._answered.pop(connection, None)

    def _make_room(self) -> bool:
        """Close one connection: rather a new one than one that was answered before, and the oldest of these."""
        now = asyncio.get_running_loop().time()
        for group in (self._new, self._answered):
            for connection in group:
                if not connection.answering or now - connection.since > ANSWER_S:
                    self._drop(connection)
                    return True
        return False

    def _drop(self, connection: Connection) -> None:
        self.remove(connection)
        self._dropped += 1
        connection.drop()

    def _check_later(self) -> None:
        self._check = asyncio.get_running_loop().call_later(CHECK_S, self._close_overdue)

    def _close_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in [*self._new, *self._answered]:
            patience = REQUEST_S if connection.receiving else IDLE_S
            if not connection.answering and now - connection.since > patience:
                self._dropped += connection.receiving
                self.remove(connection)
                connection.drop()
        self._warn(now)
        self._check = None
        if len(self):
            self._check_later()

    def _warn(self, now: float) -> None:
        """Log, once a minute, that many connections were closed."""
        if now >= self._count_until:
            self._count_until, self._dropped, self._logged = now + _WITHIN_S, 0, False
        if self._dropped >= _MANY and not self._logged:
            log.warning("http.connections_dropped", listen=self._listen, count=self._dropped, open=len(self))
            self._logged = True


class _Connection(web.RequestHandler):
    """aiohttp's connection, counted among the :class:`Connections` of its listener."""

    def __init__(self, connections: Connections, server: web.Server, **options: Any) -> None:
        super().__init__(server, **options)
        self.since = 0.0
        self.receiving = True
        self._connections = connections
        self._sending = False

    @property
    def answering(self) -> bool:
        request = self._current_request
        return self._sending or bool(self._messages) or (request is not None and request.content.is_eof())

    def drop(self) -> None:
        transport = self.transport
        self.force_close()
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()  # otherwise it waits for a peer that does not read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.receiving:
            self.receiving = True
            self.since = self._loop.time()
        super().data_received(data)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        self._sending = True
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._sending = self.receiving = False
            self._connections.answered(self)


class BoundedSite(web.BaseSite):
    """Listens on a TCP port, with at most ``most`` connections."""

    def __init__(self, runner: web.BaseRunner, host: str, port: int, *, most: int = CONNECTIONS) -> None:
        super().__init__(runner, backlog=min(BACKLOG, most // 2))
        self._address = host, port
        self._connections = Connections(f"{host}:{port}", most)

    @property
    def name(self) -> str:
        """The address."""
        host, port = self._address
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Listen; raises OSError if the address cannot be listened on."""
        await super().start()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()
        options = {"loop": loop, **server._kwargs}  # noqa: SLF001  the options of the runner
        host, port = self._address
        self._server = await loop.create_server(
            lambda: _Connection(self._connections, server, **options), host, port, backlog=self._backlog
        )


@asynccontextmanager
async def serve_http(
    app: web.Application, setting: str, listen: str, *, grace: float, most: int = CONNECTIONS
) -> AsyncIterator[None]:
    """Serve while the block runs, then give the running requests ``grace`` seconds to finish.

    At most ``most`` connections are open at once. Raises WrongSettings, which names the ``setting``, if the address
    cannot be listened on.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace, handle_signals=False)
    await runner.setup()
    try:
        try:
            await BoundedSite(runner, *split_listen(listen), most=most).start()
        except OSError as error:
            raise WrongSettings(
                f"{setting} is wrong: {listen} cannot be listened on: {error.strerror or error}; "
                "expected an address of this machine and a port that is free"
            ) from error
        yield
    finally:
        await runner.cleanup()
