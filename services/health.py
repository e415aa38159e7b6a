"""Serves a process's metrics and health over HTTP, on ``METRICS_LISTEN``.

``/metrics``       for Prometheus
``/health/live``   200 while the process can work; otherwise it must be restarted
``/health/ready``  200 while it is also started, reaches its servers and does its own work

A 503 names each failing part and its reason. Anybody can read these pages, so they contain no readers, texts or
secrets.
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
from services.process.http import FEW_CONNECTIONS, serve_http
from services.process.logs import Mask
from services.process.settings import Settings

#: Seconds that PostgreSQL has to answer, and for which that answer is cached.
GLANCE_S = 1.0
#: Seconds that running requests have to finish when the process stops.
_GRACE_S = 1.0

#: Describes the trouble of one part of the process; empty while it works.
Trouble = Callable[[], str]


class Reader(Protocol):
    """Metrics that are read from other servers at each scrape."""

    async def refresh(self) -> None:
        """Read them again, within a few seconds; never raises."""

    def collect(self) -> list[Metric]:
        """The values last read."""


class Health:
    """The health of one process.

    Attributes:
        live: Checks of the parts that it cannot work without, by name.
        ready: Checks of the parts that do its own work, by name; None until it has started.
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

    def add_reader(self, reader: Reader) -> None:
        """Serve these metrics too."""
        self._readers.append(reader)
        self._registry.register(reader)

    def remove_readers(self) -> None:
        """Stop serving the metrics of every reader."""
        while self._readers:
            self._registry.unregister(self._readers.pop())

    def application(self) -> web.Application:
        """The web application; it answers GET and HEAD only."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        return app

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        servers = await self._servers()
        for server, trouble in servers.items():
            metrics.CONNECTED.labels(server).set(not trouble)
        for reader in self._readers:
            await reader.refresh()
        return await self._handle_metrics(request)

    async def _live(self, _: web.Request) -> web.Response:
        return self._response("live", self._liveness())

    async def _ready(self, _: web.Request) -> web.Response:
        servers = await self._servers()  # awaited first: all parts below are then of the same moment
        parts = self._liveness() | servers | _check(self.ready or {})
        parts["process"] = (
            "it is stopping" if self._stop.is_set() else "it is starting" if self.ready is None else ""
        )
        return self._response("ready", parts)

    def _liveness(self) -> dict[str, str]:
        # A stopping process ends its parts, and counts as live until it has ended.
        return {"event loop": "", **({} if self._stop.is_set() else _check(self.live))}

    async def _servers(self) -> dict[str, str]:
        async with self._glancing:  # concurrent requests share one check
            if time.monotonic() - self._glanced_at >= GLANCE_S:
                try:
                    await self._database.check(GLANCE_S)
                except DatabaseUnavailable as error:
                    self._database_trouble = str(error)
                else:
                    self._database_trouble = ""
                self._glanced_at = time.monotonic()
        return {"postgresql": self._database_trouble, "rabbitmq": self._publisher.trouble}

    def _response(self, word: str, parts: Mapping[str, str]) -> web.Response:
        healthy = not any(parts.values())
        shown = {name: self._mask(trouble) or "ok" for name, trouble in parts.items()}
        return web.json_response({word: healthy, "parts": shown}, status=200 if healthy else 503)


def _check(parts: Mapping[str, Trouble]) -> dict[str, str]:
    return {name: trouble() for name, trouble in parts.items()}


@asynccontextmanager
async def serve_health(
    settings: Settings, kind: str, database: Database, publisher: Publisher, stop: asyncio.Event
) -> AsyncIterator[Health]:
    """Serve a process's health while the block runs; raises WrongSettings if ``METRICS_LISTEN`` cannot be used."""
    health = Health(database, publisher, stop, Mask(settings.secrets))
    metrics.PROCESS.info({"kind": kind, "release": RELEASE})
    if not settings.metrics_listen:
        yield health
        return
    try:
        listen = settings.metrics_listen
        async with serve_http(
            health.application(), "METRICS_LISTEN", listen, grace=_GRACE_S, most=FEW_CONNECTIONS
        ):
            yield health
    finally:
        health.remove_readers()
