"""A cable between a client and a server that a test can cut."""

import asyncio
from contextlib import suppress
from typing import Self

import yarl


class Cable:
    """A TCP proxy on a loopback port.

    Args:
        url: The server's address, of any scheme.
    """

    def __init__(self, url: str) -> None:
        self._server_url = yarl.URL(url)
        self._pairs: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._plugged = True
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.url = str(self._server_url.with_port(self._server.sockets[0].getsockname()[1]))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.unplug()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection; new ones may be made."""
        for writer in self._pairs:
            writer.transport.abort()

    def unplug(self) -> None:
        """Break every connection, and each new one at once."""
        self._plugged = False
        self.cut()

    def plug(self) -> None:
        """Let connections be made again."""
        self._plugged = True

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._plugged:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._server_url.host, self._server_url.port)
        self._pairs |= {writer, back}
        for task in (asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))):
            self._tasks.add(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
