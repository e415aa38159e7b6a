"""The worker process: Dramatiq's threads around one event loop.

The loop runs in the main thread, with the composition root open on it; each of Dramatiq's threads hands its
message's handler to the loop and waits for it. So a process has one pool of database connections, one client
of each kind, and one publishing connection, however many messages it answers at once.
"""

import asyncio
from collections.abc import Collection

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage

from actors import TABLE, topology
from actors.answers import answering
from actors.app import WorkerApp, open_worker_app
from actors.batches import BatchConsumer, Batches
from actors.broker import Broker, blocking_publish, declare
from actors.dead_letter_consumer import LetterConsumer
from actors.dead_letters import DeadLetters
from actors.meter import Meter
from actors.poison import PoisonGuard
from actors.retries import Retries
from actors.table import Ladder
from actors.threads import Threads
from schema.errors import HoroscopeError
from schema.messages import DEAD_LETTERS, DELIVERY, GENERATION, REQUESTS, TICKS, ReconcileTick
from services.app import App, open_app
from services.days import Clock, system_clock
from services.dead_letters.replayer import replaying
from services.health import serve_health
from services.messaging.bus import UNPARK_S
from services.messaging.pauses import Pauses, followed
from services.process.heartbeats import present
from services.process.periodic import periodic
from services.process.settings import Settings
from services.readers.views import PRUNE_S

log = structlog.get_logger(__name__)

#: Messages that one process answers at once. Most wait for the model, which costs a sleeping thread.
THREADS = 64

#: Messages that one process holds, by queue; batch actors say so themselves. In the generation queue, one;
#: together with the single active consumer that makes one at a time in the cluster. Of the requests, enough for
#: every sign of three days.
PREFETCH = {REQUESTS: 40, GENERATION: 1, DELIVERY: 8, TICKS: 1}

#: Seconds between two looks for readers whom nobody answers.
WAITERS_S = 15

#: Milliseconds within which an idle thread looks whether the worker stops: twice as long takes an idle worker's stop.
LOOK_MS = 250
#: Milliseconds that a stopping worker waits for what is under way.
GRACE_MS = 60_000


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    only: Collection[str] = (),
    clock: Clock = system_clock,
) -> None:
    """Answer messages until ``stop`` is set, then finish what is under way.

    Args:
        settings: With the database, RabbitMQ, the bot's token and the model's key set.
        stop: Set it to stop.
        only: The queues to consume; none: all.
        clock: The time.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached at the start, or has not been migrated.
        NotPublished: RabbitMQ cannot be reached at the start.
    """
    queues = topology.queues(settings)
    async with (
        open_app(settings, queues, process="worker", clock=clock) as app,
        open_worker_app(app) as worker_app,
        serve_health(settings, "worker", app.database, app.publisher, stop) as health,
        present(app.database, "worker"),
        followed(app.database) as pauses,
        periodic({app.bus.send_parked: UNPARK_S, app.night.see_to_waiters: WAITERS_S}),
        periodic(
            {app.views.prune: PRUNE_S, worker_app.archive.prune: PRUNE_S, worker_app.poison.prune: PRUNE_S},
            at_once=True,
        ),
        replaying(app.database, app.publisher),
    ):
        meter = Meter(TABLE)
        broker = make_broker(app, worker_app, meter, pauses)
        worker = dramatiq.Worker(
            broker, queues=set(only) or None, worker_timeout=LOOK_MS, worker_threads=THREADS
        )
        worker.start()
        threads = Threads(broker, worker, meter)
        health.live["threads"] = threads.trouble
        health.ready = {"consumers": threads.consumers_trouble}
        await app.bus.publish(ReconcileTick())
        log.info("worker.ready", queues=sorted(only) or "all")
        await stop.wait()
        log.info("worker.stopping")
        await asyncio.to_thread(worker.stop, GRACE_MS)
        log.info("worker.stopped")


def make_broker(app: App, worker_app: WorkerApp, meter: Meter, pauses: Pauses) -> Broker:
    """The broker of a worker, with an actor for every row of the table."""
    loop = asyncio.get_running_loop()
    assert app.settings.rabbitmq_url
    broker = Broker(
        app.settings.rabbitmq_url.get_secret_value(),
        topology.queues(app.settings),
        blocking_publish(app.publisher, loop),
        prefetch=PREFETCH,
        consumers={
            actor.queue: LetterConsumer if actor.queue == DEAD_LETTERS else BatchConsumer
            for actor in TABLE
            if actor.batch
        },
        paused=pauses,
    )
    dead_letters = DeadLetters(broker, app.mask)
    broker.dead_letter_sink = dead_letters
    retries = Retries(dead_letters)
    poison = PoisonGuard(worker_app.poison, loop)
    # A handler finds the message that it answers through the first; afterwards, and backwards, the third settles
    # it and the second counts what became of it. The last knows of batches.
    for middleware in (CurrentMessage(), meter, retries, Batches()):
        broker.add_middleware(middleware)
    for actor in TABLE:
        ladder = actor.ladder.delays(app.settings)
        declare(
            broker,
            actor,
            answering(actor, broker, retries, poison, worker_app, loop),
            ladder=None if actor.ladder is Ladder.FOREVER else ladder,
            throws=HoroscopeError,
            **({"batch": actor.batch} if actor.batch else {}),
        )
    return broker
