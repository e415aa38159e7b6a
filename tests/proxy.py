"""A cable between a client and its servers that a test can cut."""

import asyncio
import itertools
from contextlib import suppress
from typing import Self

import yarl


class Cable:
    """A TCP proxy on a loopback port.

    Args:
        urls: The server's address, of any scheme. Of several servers each connection is led to the next one that
            is there.
    """

    def __init__(self, *urls: str) -> None:
        self._server_urls = [yarl.URL(url) for url in urls]
        self._turns = itertools.cycle(self._server_urls)
        self._pairs: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._plugged = True
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = str(self._server_urls[0].with_port(self._server.sockets[0].getsockname()[1]))
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

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pairs.add(writer)
        self._tasks.add(asyncio.create_task(self._join(reader, writer)))

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._plugged:
            writer.transport.abort()
            return
        for server in itertools.islice(self._turns, len(self._server_urls)):
            with suppress(OSError):
                there, back = await asyncio.open_connection(server.host, server.port)
                break
        else:
            writer.transport.abort()
            return
        self._pairs.add(back)
        if not self._plugged:
            self.cut()
        for task in (asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))):
            self._tasks.add(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
