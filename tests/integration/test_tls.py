"""Connections to servers that encrypt well, badly, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import asyncpg
import pika
import pytest
from aiogram.exceptions import TelegramAPIError

from actors.app import open_author
from ops.sandbox import Sandbox
from schema.errors import DatabaseUnavailable, HoroscopeError, ManagementUnavailable, NotPublished
from schema.signs import Sign
from services.database.pool import Database
from services.messaging.management import ManagementApi
from services.messaging.publisher import UNREACHABLE, Publisher, connection_parameters
from services.process.settings import Settings
from services.telegram.client import WhoAmI, call, open_bot
from tests.acceptance.conftest import until_written
from tests.conftest import MODEL_KEY, TOKEN
from tests.processes import Processes
from tests.tls import Certificates, Kind, TlsFront
from tests.waiting import DEADLINE_S

#: Servers that must not be trusted.
BAD: tuple[Kind, ...] = ("self-signed", "another host", "plain")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.create(tmp_path_factory.mktemp("certificates"))


def read(certificates: Certificates | None, **settings: str) -> Settings:
    """The settings of a client that trusts our authority, as a process reads them."""
    trusted = {"ca_file": str(certificates.authority)} if certificates else {}
    return Settings(**{**settings, **trusted})  # type: ignore[arg-type]


async def ask_database(url: str, certificates: Certificates | None) -> None:
    settings = read(certificates, database_url=url)
    assert settings.database_url
    async with Database(settings.database_url.get_secret_value()) as database:
        await database.check(DEADLINE_S)
        async with database.transaction():
            pass


async def ask_publisher(url: str, certificates: Certificates | None) -> None:
    settings = read(certificates, rabbitmq_url=url)
    assert settings.rabbitmq_url
    async with (
        asyncio.timeout(DEADLINE_S),
        Publisher(settings.rabbitmq_url.get_secret_value(), []) as publisher,
    ):
        while not publisher.connected:
            if "not connected yet" not in publisher.trouble:
                raise NotPublished(publisher.trouble)
            await asyncio.sleep(0.02)


async def ask_consumer(url: str, certificates: Certificates | None) -> None:
    settings = read(certificates, rabbitmq_url=url)
    assert settings.rabbitmq_url
    parameters = connection_parameters(settings.rabbitmq_url.get_secret_value())
    await asyncio.to_thread(lambda: pika.BlockingConnection(parameters).close())


async def ask_management(url: str, certificates: Certificates | None) -> None:
    settings = read(certificates, rabbitmq_management_url=url)
    management = settings.rabbitmq_management_url.get_secret_value()
    async with ManagementApi("amqp://localhost/%2F", management, settings.ca_file) as api:
        await api.queues()


async def ask_telegram(url: str, certificates: Certificates | None) -> None:
    settings = read(certificates, telegram_api_url=url)
    async with open_bot(TOKEN, settings.telegram_api_url, settings.ca_file) as bot:
        await call(bot, WhoAmI())


async def ask_model(url: str, certificates: Certificates | None) -> None:
    settings = read(certificates, openai_base_url=f"{url}/v1", openai_api_key=MODEL_KEY)
    async with open_author(settings) as author:
        await author.write(Sign.LEO, date(2026, 11, 22))


Ask = Callable[[str, Certificates | None], Awaitable[None]]
CLIENTS: dict[str, tuple[Ask, str, str]] = {
    "postgresql": (ask_database, "postgresql", "?sslmode=verify-full"),
    "publisher": (ask_publisher, "amqps", ""),
    "consumer": (ask_consumer, "amqps", ""),
    "management": (ask_management, "https", ""),
    "telegram": (ask_telegram, "https", ""),
    "model": (ask_model, "https", ""),
}
FAILURES = (
    DatabaseUnavailable,
    NotPublished,
    ManagementUnavailable,
    HoroscopeError,
    TelegramAPIError,
    *UNREACHABLE,
)


@pytest.fixture
def servers(database_url: str, rabbitmq_url: str, management: str, sandbox: Sandbox) -> dict[str, str]:
    """The address of the server that each client asks."""
    return {
        "postgresql": database_url,
        "publisher": rabbitmq_url,
        "consumer": rabbitmq_url,
        "management": management,
        "telegram": sandbox.url,
        "model": sandbox.url,
    }


@pytest.mark.parametrize("client", CLIENTS)
async def test_only_a_server_with_the_right_certificate_is_spoken_to(
    client: str, servers: dict[str, str], certificates: Certificates
) -> None:
    ask, scheme, query = CLIENTS[client]
    async with TlsFront(servers[client], certificates) as front:
        await ask(f"{front.url(scheme)}{query}", certificates)
        with pytest.raises(FAILURES):  # nobody but we know our authority
            await ask(f"{front.url(scheme)}{query}", None)
    for kind in BAD:
        async with TlsFront(servers[client], certificates, kind) as front:
            with pytest.raises(FAILURES):
                await ask(f"{front.url(scheme)}{query}", certificates)
            for secret in (b"horoscope", TOKEN.encode(), MODEL_KEY.encode()):
                assert secret not in front.overheard, kind


async def test_postgresql_is_verified_by_the_authority_that_its_address_names(
    database_url: str, certificates: Certificates
) -> None:
    async with TlsFront(database_url, certificates) as front:
        url = front.url("postgresql+asyncpg")
        await ask_database(f"{url}?sslmode=verify-full&sslrootcert={certificates.authority}", None)
        for unknown in ("", "&sslrootcert=system"):
            with pytest.raises(DatabaseUnavailable, match="certificate verify failed"):
                await ask_database(f"{url}?sslmode=verify-full{unknown}", None)


@asynccontextmanager
async def encrypted(
    environment: dict[str, str], certificates: Certificates, kind: Kind
) -> AsyncIterator[dict[str, Any]]:
    """The settings of a service all of whose servers encrypt."""
    fronts = {
        name: TlsFront(environment[name], certificates, kind)
        for name in ("DATABASE_URL", "RABBITMQ_URL", "TELEGRAM_API_URL", "OPENAI_BASE_URL")
    }
    async with (
        fronts["DATABASE_URL"] as database,
        fronts["RABBITMQ_URL"] as rabbitmq,
        fronts["TELEGRAM_API_URL"] as telegram,
        fronts["OPENAI_BASE_URL"] as model,
    ):
        yield {
            "DATABASE_URL": f"{database.url('postgresql+asyncpg')}?sslmode=verify-full",
            "RABBITMQ_URL": rabbitmq.url("amqps"),
            "TELEGRAM_API_URL": telegram.url("https"),
            "OPENAI_BASE_URL": model.url("https"),
            "CA_FILE": str(certificates.authority),
        }


async def test_a_service_works_over_verified_connections_only(
    processes: Processes, environment: dict[str, str], certificates: Certificates, sql: asyncpg.Connection
) -> None:
    async with encrypted(environment, certificates, "right") as settings:
        await processes.workers(environment=settings)
        await processes.bot(settings)
        await until_written(sql)
        await processes.stop("worker")
        await processes.stop("bot")
    soon = {"services.app:START_PATIENCE_S": 1.0}
    async with encrypted(environment, certificates, "another host") as settings:
        for wrong in ("DATABASE_URL", "RABBITMQ_URL"):
            trusted = {name: settings[name] for name in (wrong, "CA_FILE")}
            worker = await processes.start("worker", environment=trusted, constants=soon)
            assert await worker.ended() == 69
            await worker.said("certificate verify failed")


async def test_a_process_does_not_start_on_an_address_that_others_can_read(
    processes: Processes,
) -> None:
    far = {
        "DATABASE_URL": "postgresql://horoscope_app:k3-Vq8sLw2pZx7R@db.example/horoscope?sslmode=require",
        "RABBITMQ_URL": "amqp://horoscope_app:k3-Vq8sLw2pZx7R@rabbit.example/",
        "TELEGRAM_API_URL": "http://telegram.example",
        "OPENAI_BASE_URL": "http://model.example/v1",
    }
    worker = await processes.start("worker", environment=far)
    assert await worker.ended() == 78
    for name in far:
        await worker.said(f"{name} is wrong: ")
    assert worker.output.count("UNENCRYPTED_HOSTS") >= len(far)
    assert "k3-Vq8sLw2pZx7R" not in worker.output
