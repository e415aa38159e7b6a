"""The process that serves the operators' page."""

import socket

import aiohttp
import asyncpg
import pytest

from tests.operators import PASSWORD
from tests.processes import Processes
from tests.waiting import until_sql

# The page talks neither to Telegram nor to a model.
ALONE = {"BOT_TOKEN": "", "OPENAI_API_KEY": "", "ADMIN_PASSWORD": PASSWORD}


def _with(password: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth("me", password)}


async def test_the_page_is_served_until_it_is_stopped(
    processes: Processes, sql: asyncpg.Connection, free_port: int
) -> None:
    admin = await processes.start("admin", environment={**ALONE, "ADMIN_LISTEN": f"127.0.0.1:{free_port}"})
    assert f"listen=127.0.0.1:{free_port}" in await admin.said("admin.ready")
    running = "SELECT count(*) FROM processes WHERE kind = 'admin' AND pid = $1"
    await until_sql(sql, running, 1, admin.pid)

    async with aiohttp.ClientSession(f"http://127.0.0.1:{free_port}") as http:
        by_https = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7", "X-Live": "1"}
        async with http.get("/sign-in", headers=by_https) as answer:
            assert answer.status == 200
            assert "server" not in answer.headers
            assert answer.headers["Strict-Transport-Security"]
            assert "Secure" in answer.headers["Set-Cookie"]
        async with http.get("/api/today", headers=by_https | _with("a guess")) as answer:
            assert answer.status == 401
        async with http.get("/api/processes", headers=_with(PASSWORD)) as answer:
            assert [process["kind"] for process in (await answer.json())["processes"]] == ["admin"]
        assert await admin.stop() == 0

    assert "remote=192.0.2.7" in await admin.said("admin.sign_in_failed")
    assert "admin.stopped" in admin.output
    assert PASSWORD not in admin.output
    assert "GET /" not in admin.output, "no line a request"
    assert await sql.fetchval(running, admin.pid) == 0


async def test_it_starts_and_stops_while_both_servers_are_away(processes: Processes, free_port: int) -> None:
    nowhere = {"DATABASE_URL": "postgresql://x@127.0.0.1:1/x", "RABBITMQ_URL": "amqp://x:x@127.0.0.1:1/"}
    admin = await processes.start(
        "admin", environment={**ALONE, **nowhere, "ADMIN_LISTEN": f"127.0.0.1:{free_port}"}
    )
    await admin.said("admin.ready")
    async with aiohttp.ClientSession(f"http://127.0.0.1:{free_port}") as http:
        async with http.get("/api/today", headers=_with(PASSWORD)) as answer:
            assert answer.status == 503
            assert (await answer.json())["error"] == "postgresql_away"
        async with http.get("/api/queues", headers=_with(PASSWORD)) as answer:
            assert (await answer.json())["error"] == "rabbitmq_away"
    assert await admin.stop() == 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ADMIN_PASSWORD": ""}, "ADMIN_PASSWORD is not set: expected at least 12 characters that nobody guesses"),
        ({"ADMIN_PASSWORD": "seven77"}, "ADMIN_PASSWORD is wrong: it can be guessed: it has 7 characters; expected at least 12"),
        ({"ADMIN_LISTEN": "127.0.0.1:{taken}"}, "ADMIN_LISTEN is wrong: 127.0.0.1:{taken} cannot be listened on"),
        ({"ADMIN_LISTEN": "no-such-host.invalid:80"}, "ADMIN_LISTEN is wrong: no-such-host.invalid:80 cannot"),
    ],
)  # fmt: skip
async def test_it_does_not_start_without_a_password_or_an_address(
    processes: Processes, wrong: dict[str, str], said: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {name: value.format(taken=port) for name, value in wrong.items()}
        admin = await processes.start("admin", environment={**ALONE, **settings})
        assert await admin.ended() == 78
    assert said.format(taken=port) in admin.output
    assert "seven77" not in admin.output
    assert "admin.ready" not in admin.output
