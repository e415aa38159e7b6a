"""The scheduler process: periodiq publishes the cluster's ticks.

A tick only makes a worker compare the texts that should exist with those that do. So a lost, doubled or late
tick does no harm, and two schedulers may run at once.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import dramatiq
import periodiq
import structlog

from actors import TABLE, topology
from actors.broker import Broker, blocking_publish, declare, run_on
from actors.dead_letters import DeadLetters
from schema.errors import NotPublished
from schema.messages import MidnightTick, ReconcileTick
from services.app import open_servers
from services.health import Health, serve_health
from services.horoscopes.night import RECONCILE_EVERY_S
from services.messaging.publisher import START_PATIENCE_S, Publisher, Queue
from services.process.heartbeats import present
from services.process.logs import Mask
from services.process.settings import Settings

log = structlog.get_logger(__name__)

#: When each tick is published, in home time, in cron's notation.
SCHEDULE = {MidnightTick: "0 0 * * *", ReconcileTick: f"*/{RECONCILE_EVERY_S // 60} * * * *"}

#: Seconds by which the clock may be late before it counts as stuck: a tick waits for RabbitMQ's confirm.
LATE_S = 60.0


class SchedulerBroker(Broker):
    """A broker that survives a lost tick: the next tick makes up for it."""

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Publish a tick, or log that it was lost."""
        try:
            sent = super().enqueue(message, delay=delay)
        except NotPublished as error:
            log.error("tick.lost", tick=message.actor_name, reason=str(error))
            return message
        log.info("tick.published", tick=message.actor_name)
        return sent


class Clockwork(periodiq.Scheduler):  # type: ignore[misc]  # periodiq has no types
    """periodiq's loop, which also reports when it fails to wake."""

    def __init__(self, actors: list[Any]) -> None:
        super().__init__(actors)
        self._wakes_at = time.monotonic()

    def schedule(self) -> None:
        """Publish the ticks that are due, and set SIGALRM for the next one."""
        super().schedule()
        left, _ = signal.getitimer(signal.ITIMER_REAL)  # the timer that periodiq's alarm(2) sets
        self._wakes_at = time.monotonic() + left

    def trouble(self) -> str:
        """Why no ticks are published; empty while the loop works."""
        late = time.monotonic() - self._wakes_at
        return f"periodiq should have woken {late:.0f} s ago" if late > LATE_S else ""


def run(settings: Settings) -> None:
    """Publish ticks until SIGTERM or SIGINT; raises NotPublished if RabbitMQ cannot be reached at the start.

    periodiq needs SIGALRM in the main thread, so the event loop runs in another thread. PostgreSQL only stores
    this process's heartbeat, and may be away.
    """
    # periodiq knows only the process's own time zone.
    os.environ["TZ"] = settings.home_timezone.key
    time.tzset()
    assert settings.rabbitmq_url
    url = settings.rabbitmq_url.get_secret_value()
    queues = topology.queues(settings)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="publisher", daemon=True)
    thread.start()

    stop = asyncio.Event()
    opened = AsyncExitStack()
    try:
        publisher, health = run_on(loop, _open(opened, settings, queues, stop))
        publish = blocking_publish(publisher, loop)
        dead_letters = DeadLetters(publish, Mask(settings.secrets))
        middleware = [periodiq.PeriodiqMiddleware()]
        broker = SchedulerBroker(url, queues, publish, dead_letters, middleware=middleware)
        _run_periodiq(broker, settings, health, lambda: loop.call_soon_threadsafe(stop.set))
    finally:
        run_on(loop, opened.aclose())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _open(
    opened: AsyncExitStack, settings: Settings, queues: Sequence[Queue], stop: asyncio.Event
) -> tuple[Publisher, Health]:
    servers = open_servers(settings, queues, process="scheduler")
    database, publisher = await opened.enter_async_context(servers)
    await publisher.wait_ready(START_PATIENCE_S)
    health = await opened.enter_async_context(serve_health(settings, "scheduler", database, publisher, stop))
    await opened.enter_async_context(present(database, "scheduler"))
    return publisher, health


def _run_periodiq(broker: Broker, settings: Settings, health: Health, stopping: Callable[[], object]) -> None:
    ticks = [
        declare(broker, actor, _never, periodic=periodiq.cron(SCHEDULE[actor.message]))
        for actor in TABLE
        if actor.message in SCHEDULE
    ]
    scheduler = Clockwork(ticks)
    health.live["clock"] = scheduler.trouble

    def stop(*_: Any) -> None:
        log.info("scheduler.stopping")
        stopping()
        scheduler.alarm_q.put_nowait(None)  # ends periodiq's loop

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    # A scheduler that was down at midnight catches up now, not at the next reconcile tick.
    reconcile = next(tick for tick in ticks if tick.actor_name.endswith(ReconcileTick.__name__))
    broker.enqueue(reconcile.message())
    log.info("scheduler.ready", home=settings.home_timezone.key)
    scheduler.schedule()
    health.ready = {}
    scheduler.loop()
    signal.alarm(0)
    log.info("scheduler.stopped")


def _never() -> None:
    """Never called: workers answer the ticks. Here an actor only has a name and a schedule."""
