"""How the operators' page is served: who may say where a request came from, and how long one may take to come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import aiohttp
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from services.admin.server import serve_http
from services.process import http
from services.process.settings import Settings
from tests.waiting import DEADLINE_S

BY_HTTPS = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says what it takes a request for."""
    body = (await Request(scope, receive).body()).decode()
    await PlainTextResponse(f"{scope['scheme']} {scope['client'][0]} {body}")(scope, receive, send)


@asynccontextmanager
async def asked(port: int, *proxies: str, host: str = "127.0.0.1") -> AsyncIterator[aiohttp.ClientSession]:
    async with (
        serve_http(told, f"{host}:{port}", proxies or Settings.model_fields["admin_proxies"].default),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("host", "proxies", "expected"),
    [
        ("127.0.0.1", (), "https 192.0.2.7 "),
        ("127.0.0.1", ("192.0.2.1", "127.0.0.0/8"), "https 192.0.2.7 "),
        ("127.0.0.1", ("192.0.2.1", "::1"), "http 127.0.0.1 "),
        ("[::]", (), "https 192.0.2.7 "),
        ("[::]", ("127.0.0.0/8",), "https 192.0.2.7 "),
        ("[::]", ("10.0.0.0/8",), "http ::ffff:127.0.0.1 "),
    ],
)
async def test_only_a_proxy_that_is_named_says_who_asks(
    free_port: int, host: str, proxies: tuple[str, ...], expected: str
) -> None:
    async with asked(free_port, *proxies, host=host) as client, client.get("/", headers=BY_HTTPS) as answer:
        assert await answer.text() == expected


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nform",
     b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n"],
)  # fmt: skip
async def test_a_connection_whose_request_does_not_come_is_closed(
    free_port: int, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.3)
    monkeypatch.setattr(http, "CHECK_S", 0.1)
    # uvicorn itself closes what is idle, after five seconds; some of these it does not count as idle.
    monkeypatch.setattr(uvicorn, "Config", partial(uvicorn.Config, timeout_keep_alive=3600))
    async with asked(free_port) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
        writer.write(begun)
        async with asyncio.timeout(DEADLINE_S):
            await reader.read()
        writer.close()
        async with client.post("/", data="whole") as answer:
            assert await answer.text() == "http 127.0.0.1 whole"


async def test_a_request_that_has_come_is_given_the_time_it_takes(
    free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "REQUEST_S", 0.1)
    monkeypatch.setattr(http, "CHECK_S", 0.05)

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await told(scope, receive, send)

    async with (
        serve_http(slow, f"127.0.0.1:{free_port}", ()),
        aiohttp.ClientSession(f"http://127.0.0.1:{free_port}") as client,
        client.get("/") as answer,
    ):
        assert answer.status == 200
