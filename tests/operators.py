"""The operators' page in a test's own process, and an operator in front of it."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import orjson
from pydantic import SecretStr
from starlette.types import ASGIApp

from actors import REPLAYABLE, topology
from schema.errors import InvalidEnvelope, PermanentError, TooOld
from schema.messages import DeadLetter, Message
from services.admin.server import make_page, open_snapshots
from services.app import open_servers
from services.database.pool import Database
from services.days import Clock, system_clock
from services.dead_letters.archive import Archive
from services.dead_letters.death import Death
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import make_inspector
from services.messaging.bus import Bus
from services.messaging.envelope import decode, encode
from services.messaging.publisher import Publisher
from services.process.logs import Mask
from services.process.settings import Settings

PASSWORD = "correct horse battery"
ORIGIN = "http://page.test"
RUNBOOK = (Path(__file__).parents[1] / "ops" / "RUNBOOK.md").read_text()
_TOKEN = re.compile(r'name="form_token" value="(\w+)"')


def settings_of(database_url: str, rabbitmq_url: str, **others: Any) -> Settings:
    """The settings of a page."""
    return Settings(
        database_url=SecretStr(database_url),
        rabbitmq_url=SecretStr(rabbitmq_url),
        admin_password=SecretStr(others.pop("password", PASSWORD)),
        **others,
    )


@asynccontextmanager
async def open_admin(
    settings: Settings, clock: Clock = system_clock
) -> AsyncIterator[tuple[ASGIApp, Publisher]]:
    """The page, and its connection to RabbitMQ."""
    queues = topology.queues(settings)
    async with (
        open_servers(settings, queues, process="test") as (database, publisher),
        open_snapshots(settings, queues, database, clock=clock) as figures,
    ):
        yield (
            make_page(
                settings,
                figures,
                database,
                Bus(publisher, database),
                REPLAYABLE,
                runbook=RUNBOOK,
                clock=clock,
            ),
            publisher,
        )


class Operator:
    """A browser without a window.

    Args:
        page: The application.
        address: Where its requests come from.
        base: The address that it knows the page by.
    """

    def __init__(self, page: ASGIApp, address: str = "192.0.2.1", base: str = ORIGIN) -> None:
        transport = httpx2.ASGITransport(app=page, client=(address, 50000), raise_app_exceptions=True)
        self.http = httpx2.AsyncClient(transport=transport, base_url=base)

    async def get(self, path: str, **headers: str) -> httpx2.Response:
        """Ask for a page; redirections are not followed."""
        return await self.http.get(path, headers=_named(headers))

    async def token(self, path: str = "/sign-in") -> str:
        """The token that the forms of a page send along."""
        found = _TOKEN.search((await self.get(path)).text)
        assert found
        return found[1]

    async def send(
        self, path: str, fields: Mapping[str, str] | None = None, *, of: str = "/", **headers: str
    ) -> httpx2.Response:
        """Send a form of the page ``of``."""
        data = {"form_token": await self.token(of), **(fields or {})}
        return await self.http.post(path, data=data, headers=_named(headers))

    async def shown(self, path: str) -> dict[str, str]:
        """What the form of a page that asks before an act sends back, without what is typed."""
        hidden = re.findall(r'type="hidden" name="(of|shown)" value="([^"]*)"', (await self.get(path)).text)
        return {name: unescape(value) for name, value in hidden}

    async def confirm(self, path: str, **fields: str) -> httpx2.Response:
        """Ask for an act, and send the form that is shown."""
        return await self.send(path.partition("?")[0], await self.shown(path) | fields, of=path)

    async def sign_in(
        self, password: str = PASSWORD, *, name: str = "", to: str = "/", **headers: str
    ) -> httpx2.Response:
        """Try to sign in."""
        fields = {"username": name, "password": password, "next": to}
        return await self.send("/sign-in", fields, of="/sign-in", **headers)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def put_text(
    sql: Any, sign: str, day: Any, content: str = "Звёзды советуют не спешить.", **generation: Any
) -> Any:
    """A text that is written; the time when it was."""
    return await sql.fetchval(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ($1, $2, $3) "
        "RETURNING generated_at",
        sign, day, content,
    )  # fmt: skip


async def put_generation(sql: Any, sign: str, day: Any, state: str, **columns: Any) -> None:
    """What became of a text so far."""
    values = {"token": 1, "ladder": "night", "attempts": 1, **columns}
    names = ", ".join(values)
    places = ", ".join(f"${place}" for place in range(4, 4 + len(values)))
    await sql.execute(
        f"INSERT INTO generations (zodiac_sign, horoscope_date, state, {names}) VALUES ($1, $2, $3, {places})",
        sign, day, state, *values.values(),
    )  # fmt: skip


async def put_process(sql: Any, kind: str, host: str, *, silent_s: float = 0, release: str = "0.1.0") -> None:
    """A process that said so some seconds ago."""
    await sql.execute(
        "INSERT INTO processes (id, kind, host, pid, release, started_at, seen_at) "
        "VALUES ($1, $2, $3, 7, $4, now() - interval '2 hours', now() - make_interval(secs => $5))",
        uuid4(), kind, host, release, silent_s,
    )  # fmt: skip


async def add_dead_letter(
    database: Database, message: Message | bytes, error: PermanentError | None = None, **options: Any
) -> int:
    """Put a message among the dead letters, as a worker and the archive do; its number."""
    headers = Death.of(error or TooOld("nobody waits"), "views", str, replay=None).headers()
    if isinstance(message, bytes):
        headers = Death.of(error or InvalidEnvelope("no JSON"), "views", str, replay=None).headers()
        body = message
    else:
        parts = decode(encode(message))
        body = orjson.dumps(parts | {"options": {"traceback": "Traceback: the last one", **options}})
    await Archive(database, Mask([])).keep([DeadLetter(body, headers)])
    (letter,) = await make_inspector(database, REPLAYABLE, system_clock).records.listed(
        Filter(state=None), limit=1
    )
    return letter.id
