"""The admin process: it serves the operators' page and API until it is stopped."""

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from ipaddress import ip_network
from socket import AF_INET6, SOCK_STREAM, create_server, socket
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from schema.messages import Message
from services.accounts.accounts import Accounts
from services.accounts.audit import Audit
from services.accounts.sessions import Sessions
from services.accounts.sign_in_limits import SignInLimits
from services.accounts.tokens import Tokens
from services.admin.auth import Gate
from services.admin.cookies import Cookies
from services.admin.metrics import ClusterMetrics
from services.admin.pages.page import Site
from services.admin.pages.runbook import to_html
from services.admin.rendering import Rendering
from services.admin.routes import application
from services.admin.snapshots import Snapshots
from services.app import open_servers
from services.database.pool import Database
from services.days import Clock, system_clock
from services.dead_letters.inspector import make_inspector
from services.dead_letters.replayer import replaying
from services.health import serve_health
from services.horoscopes.usage import Usage
from services.messaging.bus import UNPARK_S, Bus
from services.messaging.management import ManagementApi
from services.messaging.publisher import Queue
from services.process.heartbeats import present
from services.process.http import BACKLOG, CONNECTIONS, Connections
from services.process.logs import Mask
from services.process.periodic import periodic
from services.process.settings import Settings, WrongSettings, split_listen

log = structlog.get_logger(__name__)

#: Seconds in which a stopping process finishes the requests under way.
GRACE_S = 10


async def run(
    settings: Settings,
    queues: Sequence[Queue],
    actors: Mapping[str, type[Message]],
    stop: asyncio.Event,
    *,
    runbook: str,
    clock: Clock = system_clock,
) -> None:
    """Serve the page until ``stop`` is set, also while PostgreSQL or RabbitMQ is away.

    The process publishes runs of replays, too, as every worker does. The settings of the database, RabbitMQ and the
    page's password must be there; ``actors`` names the message that each actor answers; ``runbook`` is Markdown.

    Raises:
        WrongSettings: The address cannot be listened on.
    """
    async with (
        open_servers(settings, queues, process="admin") as (database, publisher),
        Bus(publisher, database) as bus,
        serve_health(settings, "admin", database, publisher, stop) as health,
        present(database, "admin"),
        periodic({bus.send_parked: UNPARK_S}),
        replaying(database, publisher),
        open_snapshots(settings, queues, database, clock=clock) as snapshots,
        serve_http(
            make_page(settings, snapshots, database, bus, actors, runbook=runbook, clock=clock),
            settings.admin_listen,
            settings.admin_proxies,
        ),
    ):
        health.add_reader(ClusterMetrics(snapshots, clock))
        health.ready = {}
        log.info("admin.ready", listen=settings.admin_listen)
        await stop.wait()
    log.info("admin.stopped")


@asynccontextmanager
async def open_snapshots(
    settings: Settings, queues: Sequence[Queue], database: Database, *, clock: Clock = system_clock
) -> AsyncIterator[Snapshots]:
    """The snapshots of the whole service, as long as the block runs."""
    assert settings.rabbitmq_url
    urls, home = settings.rabbitmq_url.get_secret_value(), settings.home_timezone
    usage = Usage(database, home, clock, settings.token_prices, settings.daily_token_limit)
    management_url = settings.rabbitmq_management_url.get_secret_value()
    async with ManagementApi(urls, management_url, settings.ca_file) as api:
        yield Snapshots(database, usage, urls, queues, api, clock, home, Mask(settings.secrets))


def make_page(
    settings: Settings,
    snapshots: Snapshots,
    database: Database,
    bus: Bus,
    actors: Mapping[str, type[Message]],
    *,
    runbook: str,
    clock: Clock = system_clock,
) -> ASGIApp:
    """The page as an ASGI application."""
    assert settings.admin_password
    cookies = Cookies(settings.admin_password.get_secret_value(), clock)
    accounts, tokens, mask = Accounts(database), Tokens(database), Mask(settings.secrets)
    audit, sessions = Audit(database, mask), Sessions(database, cookies.stamp)
    gate = Gate(cookies, accounts, sessions, tokens, SignInLimits(database), audit, clock)
    return application(
        Site(
            gate=gate,
            accounts=accounts,
            tokens=tokens,
            audit=audit,
            rendering=Rendering(gate, clock, settings.home_timezone, settings.text_language),
            snapshots=snapshots,
            database=database,
            bus=bus,
            inspector=make_inspector(database, actors, clock),
            actors=actors,
            mask=mask,
            clock=clock,
            home=settings.home_timezone,
            runbook=to_html(runbook),
        )
    )


@asynccontextmanager
async def serve_http(
    app: ASGIApp, listen: str, proxies: Sequence[str], *, most: int = CONNECTIONS
) -> AsyncIterator[None]:
    """Serve on ``host:port`` while the block runs, then finish the requests under way.

    At most ``most`` connections are open at once. ``proxies`` are the addresses and networks that are believed what they say of a browser's address and of HTTPS.

    Raises:
        WrongSettings: The address cannot be listened on.
    """
    host, port = split_listen(listen)
    try:
        door = await _opened(host, port)
    except OSError as error:
        raise WrongSettings(
            f"ADMIN_LISTEN is wrong: {listen} cannot be listened on: {error.strerror or error}; "
            "expected an address of this machine and a port that is free"
        ) from error
    make_connection: Any = partial(_Connection, Connections(listen, most))
    server = _Server(
        uvicorn.Config(
            app,
            http=make_connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=[*proxies, *map(_mapped, proxies)],
            backlog=BACKLOG,
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    serving = asyncio.create_task(server.serve([door]), name="admin-page")
    try:
        await server.ready.wait()
        yield
    finally:
        server.should_exit = True
        await serving


def _mapped(proxy: str) -> str:
    """An IPv4 address or network as a socket for both IPv6 and IPv4 sees it."""
    network = ip_network(proxy)
    if network.version == 6:
        return proxy
    return str(ip_network((f"::ffff:{network.network_address}", 96 + network.prefixlen)))


async def _opened(host: str, port: int) -> socket:
    (family, _, _, _, address), *_ = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=SOCK_STREAM
    )
    return create_server(address[:2], family=family, dualstack_ipv6=family == AF_INET6 and host == "::")


class _Connection(H11Protocol):
    """uvicorn's connection, counted among the :class:`Connections` of its listener."""

    def __init__(self, connections: Connections, **options: Any) -> None:
        super().__init__(**options)
        self.since = 0.0
        self.receiving = True
        self._counted = connections

    @property
    def answering(self) -> bool:
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)

    def drop(self) -> None:
        waiting = self.transport.get_write_buffer_size()
        self.transport.close()
        if waiting:
            self.transport.abort()  # otherwise it waits for a peer that does not read

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._counted.add(self)

    def data_received(self, data: bytes) -> None:
        if not self.receiving:
            self.receiving = True
            self.since = self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        # Before the next request begins, which may have come already.
        self._counted.answered(self)
        self.receiving = bool(self.conn.trailing_data[0])
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._counted.remove(self)
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the process has its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()
