"""Several people at several processes of the page: who gets in, until when, and what the audit says of it."""

import asyncio
import json
import os
import pty
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from ops.stack.ports import free_port
from schema.messages import VIEWS, GenerateHoroscope
from schema.signs import Sign
from services.admin.cookies import KNOWN_COOKIE
from services.app import App
from services.database.pool import Database
from tests.dead_letters import TODAY
from tests.operators import PASSWORD, add_dead_letter
from tests.processes import Process, Processes
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S

ALONE = {"BOT_TOKEN": "", "OPENAI_API_KEY": "", "ADMIN_PASSWORD": PASSWORD}
SECRETS = ("the first password of ann", "another password of ann", "a password for eve only")
BY = {"HOROSCOPE_BY": "Olga"}
COOKIE = "horoscope_admin"


def client(headers: dict[str, str]) -> httpx2.AsyncClient:
    """A client that keeps no connection open."""
    return httpx2.AsyncClient(headers=headers, limits=httpx2.Limits(max_keepalive_connections=0))


class Browser:
    """A browser without a window, behind a proxy that tells its address."""

    def __init__(self, address: str) -> None:
        headers = {"accept-language": "en", "x-forwarded-for": address}
        self.http = client(headers)

    async def send(self, page: str, path: str, of: str = "/sign-in", **fields: str) -> httpx2.Response:
        """Send a form of a page."""
        shown = await self.http.get(page + of)
        token = re.search(r'name="form_token" value="(\w+)"', shown.text)
        assert token, shown.text
        return await self.http.post(page + path, data={"form_token": token[1], **fields})

    async def sign_in(self, page: str, name: str, password: str) -> int:
        """Try to sign in; the status."""
        return (await self.send(page, "/sign-in", username=name, password=password)).status_code

    async def status(self, page: str, path: str = "/queues") -> int:
        """The status of a page."""
        return (await self.http.get(page + path)).status_code


@asynccontextmanager
async def admins(
    processes: Processes, count: int, **arranged: Any
) -> AsyncIterator[list[tuple[str, Process]]]:
    """So many processes that serve the page, each with its address."""
    found = []
    for _ in range(count):
        listen = f"127.0.0.1:{free_port()}"
        process = await processes.start("admin", environment={**ALONE, "ADMIN_LISTEN": listen}, **arranged)
        await process.said("admin.ready")
        found.append((f"http://{listen}", process))
    yield found


async def command(processes: Processes, *arguments: str, typed: str = "") -> str:
    """Run a command to its end, with a line on its standard input if one is given."""
    if not typed:
        code, said = await processes.run(*arguments, environment=BY)
        assert code == 0, said
        return said
    child = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("horoscope"),
        *arguments,
        env=processes._settings(BY),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await child.communicate(f"{typed}\n".encode())
    assert child.returncode == 0, output.decode()
    return output.decode()


async def typed_at_a_terminal(processes: Processes, typed: str, *arguments: str) -> str:
    """Run a command at a terminal where somebody types when asked, twice."""
    ours, theirs = pty.openpty()
    try:
        child = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("horoscope"),
            *arguments,
            env=processes._settings(BY),
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert child.stdout
        said = b""
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(2):
                said += await child.stdout.readuntil(b": ")
                os.write(ours, f"{typed}\n".encode())
            said += await child.stdout.read()
            assert await child.wait() == 0, said.decode()
    finally:
        os.close(ours)
        os.close(theirs)
    return said.decode()


async def a_token_holds_until_it_is_revoked(processes: Processes, admin: Browser, one: str, two: str) -> str:
    """Read the API with a token, until an admin revokes it; the token."""
    told = await command(
        processes, "accounts", "token", "add", "grafana", "--role", "viewer", "--days", "1", "--json"
    )
    token: str = json.loads(told)["token"]
    script = client({"authorization": f"Bearer {token}"})
    assert [(await script.get(page + "/api/processes")).status_code for page in (one, two)] == [200, 200]
    assert (await script.get(one + "/api/audit")).json()["error"] == "forbidden"
    assert (await script.get(one + "/queues")).status_code == 303, "a token opens no page"
    assert (await admin.send(two, "/accounts/tokens/grafana/revoke", of="/accounts")).status_code == 303
    assert (await script.get(one + "/api/processes")).status_code == 401
    return token


async def test_a_session_ends_in_every_process_with_whatever_ends_it(
    processes: Processes, sql: asyncpg.Connection
) -> None:
    first, second, eves = SECRETS
    said = await typed_at_a_terminal(processes, first, "accounts", "add", "ann", "--role", "operator")
    said += await command(processes, "accounts", "add", "eve", "--role", "admin", typed=eves)
    async with admins(processes, 2) as ((one, here), (two, there)):
        ann, phone, eve = Browser("192.0.2.1"), Browser("192.0.2.2"), Browser("192.0.2.3")
        assert await ann.sign_in(one, "", PASSWORD) == 403, "ADMIN_PASSWORD counts no longer"
        assert await ann.sign_in(one, "ann", first) == 303
        assert await phone.sign_in(two, "Ann", first) == 303
        assert await eve.sign_in(two, "eve", eves) == 303
        for browser in (ann, phone):
            assert [await browser.status(page) for page in (one, two)] == [200, 200]
        assert [await ann.status(two, path) for path in ("/audit", "/queues/views/purge")] == [403, 403]

        assert (await phone.send(two, "/sign-out", of="/account")).status_code == 303
        assert [await phone.status(one), await ann.status(two)] == [303, 200]
        assert await phone.sign_in(one, "ann", first) == 303
        assert (await ann.send(one, "/sign-out-everywhere", of="/account")).status_code == 303
        assert [await browser.status(two) for browser in (ann, phone, eve)] == [303, 303, 200]

        async def ended(by: str) -> None:
            assert await ann.sign_in(one, "ann", password) == 303, by
            assert await ann.status(two) == 200
            if by == "page":
                changed = {"current": password, "new": first, "again": first}
                assert (await ann.send(two, "/account/password", of="/account", **changed)).status_code == 303
            else:
                typed = second if by.startswith("password") else ""
                await command(processes, "accounts", *by.split(), typed=typed)
            assert [await ann.status(page) for page in (one, two)] == [303, 303], by

        password = first
        await ended("password ann")
        assert await ann.sign_in(two, "ann", first) == 403
        password = second
        await ended("role ann viewer")
        await ended("sign-out ann")
        await ended("page")
        password = first
        await ended("disable ann")
        assert await ann.sign_in(one, "ann", first) == 403
        assert (await eve.send(one, "/accounts/ann/enable", of="/accounts")).status_code == 303
        await ended("remove ann --yes")

        token = await a_token_holds_until_it_is_revoked(processes, eve, one, two)

        entries = json.loads(await command(processes, "audit", "--json", "--limit", "1000"))["entries"]
        assert {(each["who"], each["what"]) for each in entries} >= {
            ("Olga", "account.add"), ("Olga", "account.remove"), ("Olga", "token.add"), ("eve", "token.revoke"),
            ("eve", "account.enable"), ("ann", "session.sign-in"), ("ann", "session.sign-out"),
            ("ann", "session.sign-out-everywhere"), ("ann", "account.password"), ("?", "session.sign-in"),
        }  # fmt: skip
        outcomes = [(each["what"], each["outcome"]) for each in entries if each["who"] in {"?", "ann"}]
        assert ("session.sign-in", "refused") in outcomes
        everything = str(await sql.fetch("SELECT * FROM audit")) + here.output + there.output + said
        everything += str(await sql.fetch("SELECT * FROM accounts")) + str(
            await sql.fetch("SELECT * FROM sessions")
        )
        for secret in (*SECRETS, PASSWORD, token, eve.http.cookies[COOKIE]):
            assert secret not in everything


async def test_guesses_are_counted_across_processes_and_lock_nobody_out(
    processes: Processes, sql: asyncpg.Connection
) -> None:
    first, _, eves = SECRETS
    await command(processes, "accounts", "add", "ann", "--role", "operator", typed=first)
    await command(processes, "accounts", "add", "eve", "--role", "admin", typed=eves)
    few = {"services.accounts.sign_in_limits:TRIES_OF_ALL": 12}
    async with admins(processes, 2, constants=few) as ((one, _), (two, _)):
        ann = Browser("192.0.2.1")
        assert await ann.sign_in(one, "ann", first) == 303
        await ann.send(one, "/sign-out", of="/account")

        def her_own() -> Browser:
            """Her browser in the network of whoever guesses: it is known by its cookie."""
            browser = Browser("203.0.113.9")
            browser.http.cookies[KNOWN_COOKIE] = ann.http.cookies[KNOWN_COOKIE]
            return browser

        guessers = [Browser("203.0.113.9") for _ in range(20)]
        guesses = await asyncio.gather(
            *(
                each.sign_in((one, two)[place % 2], "ann", f"guess {place}")
                for place, each in enumerate(guessers)
            )
        )
        assert set(guesses) <= {403, 429}, "429: it was refused, or it was the last one"
        assert await Browser("203.0.113.9").sign_in(two, "ann", first) == 429
        assert await sql.fetchval("SELECT count(*) FROM audit WHERE outcome = 'refused'") == 5

        for page in (one, two):
            assert await her_own().sign_in(page, "ann", first) == 303, "her own browser, wherever it is"
        assert await Browser("192.0.2.77").sign_in(two, "ann", first) == 303, "a new browser, elsewhere"

        for place in range(7):
            assert await Browser(f"198.51.100.{place}").sign_in(one, "ann", "a guess") == 403
        assert await Browser("198.51.100.200").sign_in(two, "ann", first) == 429, "guessed from everywhere"
        assert await her_own().sign_in(one, "ann", first) == 303
        assert await Browser("192.0.2.77").sign_in(one, "ann", first) == 303, (
            "an address that she has been at"
        )
        assert await Browser("198.51.100.200").sign_in(one, "eve", eves) == 303, "nobody guessed at eve"


async def test_an_act_that_is_killed_or_cannot_be_recorded_is_told_apart_from_one_that_is_done(
    processes: Processes,
    database: Database,
    sql: asyncpg.Connection,
    queues: Queues,
    database_url: str,
    app: App,
) -> None:
    for _ in range(2):
        await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY))
    drop = ("dead", "drop", "1", "--why", "noise", "--yes", "--by", "Anna")
    for when in ("before", "after"):
        death = processes.death(when, "services.dead_letters.edits:Edits.drop")
        killed = await processes.start(*drop, death=death)
        assert await killed.ended() == -9
    states = [row["state"] for row in await sql.fetch("SELECT state FROM dead_letters ORDER BY id")]
    assert states == ["dropped", "dead"]
    assert [row["outcome"] for row in await sql.fetch("SELECT outcome FROM audit")] == ["begun", "begun"]
    code, said = await processes.run("audit")
    assert (code, said.count("begun, end unknown"), said.count("Anna")) == (0, 2, 2)

    queues.put(VIEWS, b"{}")
    purge = ("queues", "purge", VIEWS, "--yes", "--by", "Anna")
    async with Cable(database_url) as cable:
        cable.unplug()
        code, said = await processes.run(*purge, environment={"DATABASE_URL": cable.url})
    assert (code, queues.count(VIEWS)) == (69, 1), "what cannot be put on record does not happen"
    code, said = await processes.run(*purge)
    assert (code, queues.count(VIEWS)) == (0, 0), said


async def test_while_postgresql_is_away_the_page_can_be_looked_at_and_nobody_acts(
    processes: Processes, database_url: str, queues: Queues, sql: asyncpg.Connection
) -> None:
    first = SECRETS[0]
    await command(processes, "accounts", "add", "ann", "--role", "operator", typed=first)
    async with Cable(database_url) as cable:
        processes.environment = {**processes.environment, "DATABASE_URL": cable.url}
        async with admins(processes, 1) as ((page, _),):
            ann, late, chief = Browser("192.0.2.1"), Browser("192.0.2.2"), Browser("192.0.2.3")
            assert await ann.sign_in(page, "ann", first) == 303
            assert await ann.status(page) == 200
            cable.unplug()
            assert await ann.status(page) == 200, "this process has just seen her"
            assert (await ann.send(page, "/queues/views/peek", of="/account")).status_code == 503
            assert await late.sign_in(page, "ann", first) == 503
            assert [await chief.sign_in(page, "", f"guess {place}") for place in range(5)][-1] == 503
            assert await chief.sign_in(page, "", PASSWORD) == 429
            chief = Browser("192.0.2.4")
            assert await chief.sign_in(page, "", PASSWORD) == 303, "to look"
            assert await chief.status(page) == 200
            assert (await chief.send(page, "/queues/views/peek", of="/account")).status_code == 503
            cable.plug()
            assert await chief.status(page, "/audit") == 403, "it still only looks"
            assert (await chief.send(page, "/queues/views/pause", of="/account")).status_code == 403
            await sql.execute("UPDATE accounts SET role = 'admin'")
            assert await chief.status(page) == 303


@pytest.mark.parametrize("name", ["container", "KUBERNETES_SERVICE_HOST"])
async def test_in_a_container_an_act_needs_a_name(processes: Processes, name: str, queues: Queues) -> None:
    code, said = await processes.run("queues", "purge", VIEWS, "--yes", environment={name: "x"})
    assert (code, "add --by NAME, or set HOROSCOPE_BY" in " ".join(said.split())) == (2, True), said
