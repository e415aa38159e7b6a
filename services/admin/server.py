"""The admin process: it serves the operators' page and API until it is stopped."""

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from ipaddress import ip_network
from socket import AF_INET6, SOCK_STREAM, create_server, socket

import h11
import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from schema.messages import Message
from services.admin.auth import Gate, Sessions
from services.admin.metrics import ClusterMetrics
from services.admin.pages.page import Site
from services.admin.pages.runbook import to_html
from services.admin.rendering import Rendering
from services.admin.routes import application
from services.admin.sign_in_limits import Tries
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
from services.process.logs import Mask
from services.process.periodic import periodic
from services.process.settings import Settings, WrongSettings, split_listen

log = structlog.get_logger(__name__)

#: Seconds in which a stopping process finishes the requests under way.
GRACE_S = 10
#: Seconds in which a request must arrive, from the connection or from the answer before it.
REQUEST_S = 15.0
#: The most connections at once; requests on further ones are answered with 503.
CONNECTIONS = 500


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
    async with ManagementApi(urls, settings.rabbitmq_management_url) as api:
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
    gate = Gate(Sessions(settings.admin_password.get_secret_value(), clock), Tries())
    return application(
        Site(
            gate=gate,
            rendering=Rendering(gate, clock, settings.home_timezone, settings.text_language),
            snapshots=snapshots,
            database=database,
            bus=bus,
            inspector=make_inspector(database, actors, clock),
            actors=actors,
            mask=Mask(settings.secrets),
            clock=clock,
            home=settings.home_timezone,
            runbook=to_html(runbook),
        )
    )


@asynccontextmanager
async def serve_http(app: ASGIApp, listen: str, proxies: Sequence[str]) -> AsyncIterator[None]:
    """Serve on ``host:port`` while the block runs, then finish the requests under way.

    ``proxies`` are the addresses and networks that are believed what they say of a browser's address and of HTTPS.

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
    server = _Server(
        uvicorn.Config(
            app,
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            forwarded_allow_ips=[*proxies, *map(_mapped, proxies)],
            limit_concurrency=CONNECTIONS,
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
    """uvicorn's connection, closed when a request takes too long: idle ones would use up :data:`CONNECTIONS`."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        if self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self._forget()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(REQUEST_S, self.transport.close)

    def _forget(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


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
