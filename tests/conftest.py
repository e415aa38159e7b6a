"""What tests stand on: one private PostgreSQL and RabbitMQ a run; a database and a virtual host a test.

The service works with the rights that it has in production: as the running role, and as a user without administration.
"""

import asyncio
import gc
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import hypothesis
import pytest
import yarl
from pydantic import SecretStr

from actors import topology
from ops.sandbox import Sandbox
from ops.stack.ports import free_port as find_free_port
from ops.stack.postgres import Postgres
from ops.stack.programs import TEST, ProgramsMissing, ensure_installed
from ops.stack.rabbitmq import RUNNING, WATCHING, RabbitMQ
from services.app import App, open_app
from services.database.migrations import migrate
from services.database.pool import Database
from services.database.roles import RunningRole
from services.process.addresses import database_servers
from services.process.settings import Settings, secret_settings
from tests.dead import Dead
from tests.nursery import Nursery
from tests.processes import Processes
from tests.queues import Queues, open_queues

TOKEN = "42:TESTTESTTESTTESTTESTTESTTESTTESTTEST"
WEBHOOK_SECRET = "k3-Vq_8sLw2pZx7R"
MODEL_KEY = "sk-a-model-key"

# No assertion on wall time: on a busy machine, an example may take long.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

#: Memory that looks like a folder. What the servers keep is thrown away at the end, and a disk makes a test's database
#: and its files slower than the test.
_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30

_servers = ExitStack()


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make screenshots` asks for."""
    parser.addoption("--screenshots", action="store_true", help="keep the pictures of the README")


def pytest_configure(config: pytest.Config) -> None:
    """Start the servers once, in the process that the workers of pytest-xdist are started by."""
    if hasattr(config, "workerinput"):
        gc.disable()  # until the tests are collected: what they import stays
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    _install_programs(config)
    unused = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    roomy = _MEMORY.is_dir() and min(shutil.disk_usage(_MEMORY).free, unused) > _ROOM
    memory = _MEMORY if roomy else None
    folder = Path(_servers.enter_context(tempfile.TemporaryDirectory(prefix="horoscope-tests-", dir=memory)))
    fast = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "400"}
    postgres, rabbitmq = Postgres(folder / "postgres", settings=fast), RabbitMQ(folder / "rabbitmq")
    for server in (rabbitmq, postgres):
        server.launch()
        _servers.callback(server.stop)
    for each in (postgres, rabbitmq):
        each.wait_until_ready()
    rabbitmq.add_users()
    os.environ["TEST_POSTGRES"] = postgres.url
    os.environ["TEST_POSTGRES_RUNNING"] = postgres.running_url
    os.environ["TEST_RABBITMQ_URL"] = rabbitmq.url
    os.environ["TEST_RABBITMQ_RUNNING"] = rabbitmq.running_url()
    os.environ["TEST_RABBITMQ_API"] = rabbitmq.management_url
    os.environ["TEST_RABBITMQ_WATCHING"] = rabbitmq.watching_url
    # Here and not by each test's migration: several of them at once would create it.
    running = database_servers(postgres.running_url)[0]
    asyncio.run(_run_sql(f"CREATE ROLE {running.user} LOGIN PASSWORD '{running.password}'"))


def _install_programs(config: pytest.Config) -> None:
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():  # it takes minutes
        try:
            ensure_installed(*TEST)
        except ProgramsMissing as error:
            raise pytest.UsageError(str(error)) from None


def pytest_unconfigure() -> None:
    """Stop what was started."""
    _servers.close()


def pytest_collection_finish() -> None:
    """Have the collector of garbage pass over what stays for the whole run."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests see neither the settings of whoever runs them nor a .env file."""
    for name in (*Settings.model_fields, *(f"{name}_file" for name in secret_settings())):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


async def _run_sql(statement: str) -> None:
    connection = await asyncpg.connect(os.environ["TEST_POSTGRES"])
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def _database_url(name: str, server: str = "TEST_POSTGRES") -> str:
    return f"{os.environ[server].rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def template_database() -> str:
    """A migrated database that each test's own is copied from."""
    name = f"template_{uuid4().hex}"

    async def create() -> None:
        await _run_sql(f"CREATE DATABASE {name}")
        running = RunningRole(str(database_servers(os.environ["TEST_POSTGRES_RUNNING"])[0].user))
        async with Database(_database_url(name)) as database:
            await migrate(database, running=running)

    asyncio.run(create())
    return name


@pytest.fixture
async def empty_database_url() -> AsyncIterator[str]:
    """A database without tables."""
    name = f"test_{uuid4().hex}"
    await _run_sql(f"CREATE DATABASE {name}")
    yield _database_url(name)
    await _run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def _copy_of(template: str) -> AsyncIterator[str]:
    name = f"test_{uuid4().hex}"
    await _run_sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    await _run_sql(
        f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC"
    )  # as migrating does; a copy has no such rights
    yield _database_url(name, "TEST_POSTGRES_RUNNING")
    await _run_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database_url(template_database: str) -> AsyncIterator[str]:
    """A migrated database of the test's own, as the running role reaches it."""
    async with _copy_of(template_database) as url:
        yield url


@pytest.fixture
async def other_database_url(template_database: str) -> AsyncIterator[str]:
    """A second one, of another deployment."""
    async with _copy_of(template_database) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The test's own database, opened."""
    async with Database(database_url) as database:
        yield database


@pytest.fixture
def owner_url(database_url: str) -> str:
    """The test's own database, as the owner of its tables reaches it."""
    return database_url.replace(_database_url("", "TEST_POSTGRES_RUNNING"), _database_url(""))


@pytest.fixture
async def sql(owner_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the test's own database, for looking and for preparing."""
    connection = await asyncpg.connect(owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def rabbitmq_url() -> AsyncIterator[str]:
    """A virtual host of the test's own, as the processes reach it."""
    name = f"test-{uuid4().hex}"
    server = yarl.URL(os.environ["TEST_RABBITMQ_URL"])
    headers = {"Authorization": aiohttp.encode_basic_auth(server.user or "", server.password or "")}
    base = f"{os.environ['TEST_RABBITMQ_API']}/api"
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as api:
        await api.put(f"{base}/vhosts/{name}")
        for user, may in ((RUNNING, ".*"), (WATCHING, "^$")):
            rights = dict.fromkeys(("configure", "write", "read"), may)
            await api.put(f"{base}/permissions/{name}/{user}", json=rights)
        yield str(yarl.URL(os.environ["TEST_RABBITMQ_RUNNING"]).with_path(f"/{name}"))
        await api.delete(f"{base}/vhosts/{name}")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Telegram and the model, over real HTTP."""
    async with Sandbox(token=TOKEN) as sandbox:
        yield sandbox


@pytest.fixture
def environment(database_url: str, rabbitmq_url: str, sandbox: Sandbox) -> dict[str, str]:
    """The settings of a whole service of the test's own, as environment variables."""
    return {
        "DATABASE_URL": database_url,
        "RABBITMQ_URL": rabbitmq_url,
        "BOT_TOKEN": TOKEN,
        "TELEGRAM_API_URL": sandbox.url,
        "OPENAI_API_KEY": MODEL_KEY,
        "OPENAI_BASE_URL": f"{sandbox.url}/v1",
        "OPENAI_MODEL": "sandbox",
        "REQUEST_RETRIES": "1,1,1",
        "NIGHT_RETRIES": "1,1,1",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The same settings, read."""
    values: dict[str, Any] = {name.lower(): value for name, value in environment.items()}
    for name in ("database_url", "rabbitmq_url", "bot_token", "openai_api_key"):
        values[name] = SecretStr(values[name])
    return Settings(**values)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[App]:
    """The composition root, opened inside the test."""
    async with open_app(settings, topology.queues(settings), process="test") as app:
        yield app


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where processes are forked."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
async def processes(environment: dict[str, str], nursery: Nursery) -> AsyncIterator[Processes]:
    """Starts the service's real processes on the test's own settings, and ends them."""
    async with Processes(environment, nursery) as processes:
        yield processes


@pytest.fixture
def free_port() -> int:
    """A loopback port that nobody listens on."""
    return find_free_port()


@pytest.fixture
async def queues(rabbitmq_url: str) -> AsyncIterator[Queues]:
    """A look into the test's own virtual host."""
    async with open_queues(rabbitmq_url) as queues:
        yield queues


@pytest.fixture
def dead(sql: asyncpg.Connection, queues: Queues) -> Dead:
    """A look at the test's own dead letters."""
    return Dead(sql, queues)
