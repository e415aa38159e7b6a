"""Listeners that somebody floods with connections, while others send real requests."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from functools import partial
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path
from typing import Self

import pytest
from aiohttp import web
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from ops.stack.ports import free_port as find_free_port
from services.admin import server
from services.process import http as module
from services.process.http import serve_http
from tests.conftest import WEBHOOK_SECRET
from tests.operators import PASSWORD
from tests.processes import Processes
from tests.telling import until_health
from tests.waiting import DEADLINE_S

#: More than a process may have files open.
FLOOD = 1500
FILES = 1024
HALF = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Len"


@pytest.fixture
def many_files() -> None:
    """The test itself needs more files than the process that it floods."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard not in {-1, resource.RLIM_INFINITY} and hard < 4 * FLOOD:
        pytest.skip(f"the limit of open files is {hard} here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * FLOOD, hard))


class Flood:
    """Connections that send half of a request, or a byte now and then, and wait.

    Attributes:
        open: How many are open.
    """

    def __init__(self, port: int, count: int, begun: bytes = HALF) -> None:
        self._port, self._count, self._begun = port, count, begun
        self._open = 0
        self._opened = 0
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._hold(number)) for number in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _hold(self, number: int) -> None:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            await self._count_one(opened=1)
            try:
                writer.write(self._begun)
                if number % 10 == 0:
                    await self._trickle(reader, writer)
                else:
                    await reader.read()
            finally:
                writer.transport.abort()
                await self._count_one(opened=0)

    @staticmethod
    async def _trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A byte every fifth of a second, until the other side closes."""
        while not reader.at_eof() and not writer.transport.is_closing():
            with suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await reader.read(1)
            writer.write(b"x")

    async def _count_one(self, opened: int) -> None:
        async with self._changed:
            self._opened += opened
            self._open += 1 if opened else -1
            self._changed.notify_all()

    async def risen(self, count: int) -> None:
        """Wait until so many have been opened."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: self._opened >= count)

    async def fallen(self) -> None:
        """Wait until all have been opened, and the other side has closed all."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: self._opened == self._count and self._open == 0)


async def asked(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    """The status of a request on a connection of its own, which is made once: not by the flood's event loop."""

    def ask() -> int:
        with closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)) as connection:
            connection.request(
                method, path, body, {name.replace("_", "-"): text for name, text in headers.items()}
            )
            answer = connection.getresponse()
            answer.read()
            return answer.status

    return await asyncio.to_thread(ask)


def open_files(pid: int) -> int:
    """How many files a process has open."""
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


async def test_a_flood_of_half_open_connections_keeps_no_request_out(
    processes: Processes, many_files: None
) -> None:
    webhook, of_bot, page, of_admin = (find_free_port() for _ in range(4))
    url = f"http://127.0.0.1:{webhook}/hook"
    # Much shorter, so that the end of it need not be waited for; the file limit is the real one.
    soon = {"services.process.http:REQUEST_S": 2.0}
    bot = await processes.bot(
        {
            "WEBHOOK_URL": url,
            "WEBHOOK_SECRET": WEBHOOK_SECRET,
            "WEBHOOK_LISTEN": f"127.0.0.1:{webhook}",
            "METRICS_LISTEN": f"127.0.0.1:{of_bot}",
        },
        constants=soon,
    )
    admin = await processes.start(
        "admin",
        environment={
            "ADMIN_LISTEN": f"127.0.0.1:{page}",
            "ADMIN_PASSWORD": PASSWORD,
            "METRICS_LISTEN": f"127.0.0.1:{of_admin}",
        },
        constants=soon,
    )
    await until_health(of_admin, "ready", 200)
    right = {"body": b"{}", "X_Telegram_Bot_Api_Secret_Token": WEBHOOK_SECRET}
    real = {
        webhook: (bot, partial(asked, webhook, "POST", "/hook", **right)),  # type: ignore[arg-type]
        of_bot: (bot, partial(asked, of_bot, "GET", "/health/ready")),
        page: (admin, partial(asked, page, "GET", "/sign-in")),
        of_admin: (admin, partial(asked, of_admin, "GET", "/metrics")),
    }
    for process in (bot, admin):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    for port, (process, request) in real.items():
        async with Flood(port, FLOOD) as flood:
            answers = [asyncio.create_task(request()) for _ in range(5)]
            await flood.risen(FLOOD // 2)
            answers += [asyncio.create_task(request()) for _ in range(5)]
            await flood.risen(FLOOD)
            answers += [asyncio.create_task(request()) for _ in range(5)]
            assert set(await asyncio.gather(*answers)) == {200}
            assert open_files(process.pid) < FILES * 0.75
            await flood.fallen()
    await bot.said("http.connections_dropped")
    await admin.said("http.connections_dropped")
    assert await bot.stop() == 0
    assert await admin.stop() == 0


# One listener, of each kind


class Answers:
    """An application that answers with the body; at ``/held`` not before it is let go.

    Attributes:
        held: How many requests wait.
        go: Lets them go.
    """

    def __init__(self) -> None:
        self.held = 0
        self.go = asyncio.Event()

    async def wait(self, path: str) -> None:
        if path == "/held":
            self.held += 1
            await self.go.wait()

    async def of_aiohttp(self, request: web.Request) -> web.Response:
        await self.wait(request.path)
        return web.Response(text=await request.text() or "-")

    async def of_asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = (await Request(scope, receive).body()).decode()
        await self.wait(scope["path"])
        await PlainTextResponse(body or "-")(scope, receive, send)

    async def until_held(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.held < count:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listening(kind: str, answers: Answers, most: int) -> AsyncIterator[int]:
    """A listener with room for ``most`` connections; its port."""
    port = find_free_port()
    if kind == "aiohttp":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answers.of_aiohttp)
        serving = serve_http(app, "METRICS_LISTEN", f"127.0.0.1:{port}", grace=1, most=most)
    else:

        async def page(scope: Scope, receive: Receive, send: Send) -> None:
            await answers.of_asgi(scope, receive, send)

        serving = server.serve_http(page, f"127.0.0.1:{port}", (), most=most)
    async with serving:
        yield port


KINDS = pytest.mark.parametrize("kind", ["aiohttp", "uvicorn"])
WHOLE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for long."""
    monkeypatch.setattr(module, "REQUEST_S", 0.2)
    monkeypatch.setattr(module, "IDLE_S", 1.0)
    monkeypatch.setattr(module, "CHECK_S", 0.05)


async def opened(port: int, data: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other side has closed."""
    async with asyncio.timeout(DEADLINE_S):
        with suppress(ConnectionError):
            await reader.read()


async def answered(reader: asyncio.StreamReader) -> None:
    """Wait for an answer."""
    async with asyncio.timeout(DEADLINE_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(1) == b"-"


@KINDS
@pytest.mark.parametrize(
    "begun", [b"", HALF, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", WHOLE + HALF]
)
async def test_a_request_that_does_not_come_is_not_waited_for(
    quick: None, answers: Answers, kind: str, begun: bytes
) -> None:
    async with listening(kind, answers, most=10) as port:
        reader, writer = await opened(port, begun)
        await closed(reader)
        writer.close()
        assert await asked(port, "POST", "/", b"whole") == 200


@KINDS
async def test_a_request_that_is_being_answered_is_disturbed_neither_by_the_clock_nor_by_a_crowd(
    quick: None, answers: Answers, kind: str
) -> None:
    async with listening(kind, answers, most=5) as port:
        held = [asyncio.create_task(asked(port, "GET", "/held")) for _ in range(3)]
        await answers.until_held(3)
        crowd = [await opened(port, HALF) for _ in range(20)]
        for reader, writer in crowd:  # the last ones are closed because they took too long
            await closed(reader)
            writer.close()
        assert await asked(port, "GET", "/") == 200
        answers.go.set()
        assert await asyncio.gather(*held) == [200, 200, 200]


@KINDS
async def test_connections_that_were_answered_give_way_last_and_the_longest_idle_first(
    answers: Answers, kind: str
) -> None:
    async with listening(kind, answers, most=4) as port:
        young, old = await opened(port, WHOLE), await opened(port, WHOLE)
        for reader, _ in (young, old):
            await answered(reader)
        young[1].write(WHOLE)  # it came first, and asks again last
        await answered(young[0])
        silent = [await opened(port, HALF) for _ in range(3)]
        await closed(silent[0][0])
        held = []
        for number in range(3):  # two more of the silent ones make room, then one that was answered
            held.append(asyncio.create_task(asked(port, "GET", "/held")))
            await answers.until_held(number + 1)
        for reader, _ in (*silent, old):
            await closed(reader)
        young[1].write(WHOLE)
        await answered(young[0])
        answers.go.set()
        assert await asyncio.gather(*held) == [200, 200, 200]
        for _, writer in (young, old, *silent):
            writer.close()


@KINDS
async def test_when_all_are_being_answered_a_newcomer_is_sent_away_until_an_answer_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, answers: Answers, kind: str
) -> None:
    async with listening(kind, answers, most=2) as port:
        held = [asyncio.create_task(asked(port, "GET", "/held")) for _ in range(2)]
        await answers.until_held(2)
        with pytest.raises((ConnectionError, RemoteDisconnected)):
            await asked(port, "GET", "/")
        monkeypatch.setattr(module, "ANSWER_S", 0.0)
        assert await asked(port, "GET", "/") == 200
        answers.go.set()
        ended = await asyncio.gather(*held, return_exceptions=True)
        assert sum(each == 200 for each in ended) == 1


async def test_a_proxy_may_keep_a_connection_longer_than_a_request_may_take(
    quick: None, answers: Answers
) -> None:
    async with listening("aiohttp", answers, most=4) as port:
        reader, writer = await opened(port, WHOLE)
        await answered(reader)
        half, other = await opened(port, HALF)
        await closed(half)  # the time for a request is over
        writer.write(WHOLE)
        await answered(reader)
        await closed(reader)  # and now that for a pause
        for each in (writer, other):
            each.close()
