"""What a process tells of itself over HTTP, on ``METRICS_LISTEN``: its metrics, and how it is.

``/metrics``       for Prometheus
``/health/live``   200 while the process can do work at all; otherwise it is of no use until somebody restarts it
``/health/ready``  200 while it is live, its servers answer and what it is there for is under way

503 names each part that is not well, and why. Nobody signs in here, so nothing is told that is not for all:
no reader, no text, no secret.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from aiohttp import web
from prometheus_client import REGISTRY, CollectorRegistry, Metric
from prometheus_client.aiohttp import make_aiohttp_handler

from schema.errors import DatabaseUnavailable
from services.database.pool import Database
from services.messaging.publisher import Publisher
from services.process import metrics
from services.process.heartbeats import RELEASE
from services.process.http import serve_http
from services.process.logs import Mask
from services.process.settings import Settings

#: Seconds that PostgreSQL is given to answer, and for which its answer is taken for granted.
GLANCE_S = 1.0
#: Seconds that a stopping process gives to those who ask.
_GRACE_S = 1.0

#: Says what is wrong with a part of the process, in words; nothing when it is well.
Trouble = Callable[[], str]


class Reader(Protocol):
    """Metrics that are read from elsewhere when somebody asks for them."""

    async def refresh(self) -> None:
        """Bring them up to date, in a few seconds at the most; never raises."""

    def collect(self) -> list[Metric]:
        """What was read last."""


class Health:
    """How one process is.

    Args:
        database: Its PostgreSQL.
        publisher: Its RabbitMQ.
        stop: Set when it is stopping.
        mask: Applied to every reason.
        registry: The metrics that it tells.

    Attributes:
        live: Parts without which it cannot work, by name.
        ready: Parts without which it does not do what it is there for, by name; None until it has started.
    """

    def __init__(
        self,
        database: Database,
        publisher: Publisher,
        stop: asyncio.Event,
        mask: Mask,
        registry: CollectorRegistry = REGISTRY,
    ) -> None:
        self.live: dict[str, Trouble] = {}
        self.ready: dict[str, Trouble] | None = None
        self._database = database
        self._publisher = publisher
        self._stop = stop
        self._mask = mask
        self._registry = registry
        self._readers: list[Reader] = []
        self._glancing = asyncio.Lock()
        self._glanced_at = float("-inf")
        self._database_trouble = ""
        self._handle_metrics = make_aiohttp_handler(registry)

    def tell(self, reader: Reader) -> None:
        """Tell these metrics, too."""
        self._readers.append(reader)
        self._registry.register(reader)

    def leave_untold(self) -> None:
        """What was read from elsewhere is told no longer."""
        while self._readers:
            self._registry.unregister(self._readers.pop())

    def application(self) -> web.Application:
        """The web application that answers; to GET and HEAD only."""
        app = web.Application()
        app.router.add_get("/metrics", self._tell_metrics)
        app.router.add_get("/health/live", self._tell_live)
        app.router.add_get("/health/ready", self._tell_ready)
        return app

    async def _tell_metrics(self, request: web.Request) -> web.StreamResponse:
        servers = await self._servers()
        for server, trouble in servers.items():
            metrics.CONNECTED.labels(server).set(not trouble)
        for reader in self._readers:
            await reader.refresh()
        return await self._handle_metrics(request)

    async def _tell_live(self, _: web.Request) -> web.Response:
        return self._told("live", self._liveness())

    async def _tell_ready(self, _: web.Request) -> web.Response:
        servers = await self._servers()  # first: a process that has started meanwhile has all its parts
        parts = self._liveness() | servers | _look(self.ready or {})
        parts["process"] = (
            "it is stopping" if self._stop.is_set() else "it is starting" if self.ready is None else ""
        )
        return self._told("ready", parts)

    def _liveness(self) -> dict[str, str]:
        # Whoever stops lets its parts end, and is alive until they have.
        return {"event loop": "", **({} if self._stop.is_set() else _look(self.live))}

    async def _servers(self) -> dict[str, str]:
        async with self._glancing:  # those who ask meanwhile are told the same
            if time.monotonic() - self._glanced_at >= GLANCE_S:
                try:
                    await self._database.glance(GLANCE_S)
                except DatabaseUnavailable as error:
                    self._database_trouble = str(error)
                else:
                    self._database_trouble = ""
                self._glanced_at = time.monotonic()
        return {"postgresql": self._database_trouble, "rabbitmq": self._publisher.trouble}

    def _told(self, word: str, parts: Mapping[str, str]) -> web.Response:
        well = not any(parts.values())
        told = {name: self._mask(trouble) or "ok" for name, trouble in parts.items()}
        return web.json_response({word: well, "parts": told}, status=200 if well else 503)


def _look(parts: Mapping[str, Trouble]) -> dict[str, str]:
    return {name: trouble() for name, trouble in parts.items()}


@asynccontextmanager
async def serve_health(
    settings: Settings, kind: str, database: Database, publisher: Publisher, stop: asyncio.Event
) -> AsyncIterator[Health]:
    """Tell how this process is while the block runs, if ``METRICS_LISTEN`` says where.

    Args:
        settings: Where to listen, and the secrets that are not told.
        kind: What the process is: bot, worker, scheduler or admin.
        database: Its PostgreSQL.
        publisher: Its RabbitMQ.
        stop: Set when it is stopping.

    Raises:
        WrongSettings: ``METRICS_LISTEN`` cannot be listened on.
    """
    health = Health(database, publisher, stop, Mask(settings.secrets))
    metrics.PROCESS.info({"kind": kind, "release": RELEASE})
    if not settings.metrics_listen:
        yield health
        return
    try:
        listen = settings.metrics_listen
        async with serve_http(health.application(), "METRICS_LISTEN", listen, grace=_GRACE_S):
            yield health
    finally:
        health.leave_untold()
