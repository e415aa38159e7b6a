"""The worker process: Dramatiq's threads around one event loop.

The event loop runs in the main thread. Each of Dramatiq's threads runs its message's handler on the loop and waits
for the result. So a process needs one pool of database connections, one client of each kind and one publishing
connection, however many messages it handles at once.
"""

import asyncio
from collections.abc import Collection

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage

from actors import REPLAYABLE, TABLE, topology
from actors.answers import actor_function
from actors.app import WorkerApp, open_worker_app
from actors.batches import BatchConsumer, Batches
from actors.broker import Broker, blocking_publish, declare
from actors.dead_letter_consumer import LetterConsumer
from actors.dead_letters import DeadLetters
from actors.meter import Meter, Threads
from actors.poison import PoisonGuard
from actors.retries import Retries
from schema.errors import HoroscopeError
from schema.messages import DEAD_LETTERS, DELIVERY, GENERATION, REQUESTS, TICKS, ReconcileTick
from services.accounts.retention import Retention
from services.app import App, open_app
from services.days import Clock, system_clock
from services.dead_letters.preflight import NOTE_S, Preflight
from services.dead_letters.replayer import replaying
from services.health import serve_health
from services.messaging.attempts import Ladder
from services.messaging.bus import UNPARK_S
from services.messaging.pauses import Pauses, followed
from services.process.heartbeats import present
from services.process.periodic import periodic
from services.process.settings import Settings
from services.readers.views import PRUNE_S

log = structlog.get_logger(__name__)

#: Messages that one process handles at once. Most of them wait for the model, which costs only a sleeping thread.
THREADS = 64

#: The most messages that one process holds, by queue; batch actors set their own. For the generation queue it is one:
#: with the single active consumer, one message at a time in the whole cluster. For requests it is enough for every
#: sign of three days.
PREFETCH = {REQUESTS: 40, GENERATION: 1, DELIVERY: 8, TICKS: 1}

#: Seconds between two checks for overdue waiters.
WAITERS_S = 15

#: Milliseconds after which an idle thread checks for a stop. An idle worker stops within twice this time.
LOOK_MS = 250
#: Milliseconds that a stopping worker gives its running handlers.
GRACE_MS = 60_000


async def run(
    settings: Settings,
    stop: asyncio.Event,
    *,
    only: Collection[str] = (),
    clock: Clock = system_clock,
) -> None:
    """Answer messages of the queues ``only``, or of all, until ``stop`` is set; then finish the running handlers.

    The settings of the database, RabbitMQ, the bot's token and the model's key must be there. Raises the errors of
    :func:`services.app.open_app` at the start.
    """
    queues = topology.queues(settings)
    async with (
        open_app(settings, queues, process="worker", clock=clock) as app,
        open_worker_app(app) as worker_app,
        serve_health(settings, "worker", app.database, app.publisher, stop) as health,
        present(app.database, "worker"),
        followed(app.database) as pauses,
        periodic({app.bus.send_parked: UNPARK_S, app.night.nudge_waiters: WAITERS_S}),
        periodic(
            {
                app.views.prune: PRUNE_S,
                worker_app.archive.prune: PRUNE_S,
                worker_app.poison.prune: PRUNE_S,
                Retention(app.database).prune: PRUNE_S,
                Preflight(app.database, REPLAYABLE, clock).note_done: NOTE_S,
            },
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
    """A worker's broker, with an actor for every row of the table."""
    loop = asyncio.get_running_loop()
    assert app.settings.rabbitmq_url
    publish = blocking_publish(app.publisher, loop)
    broker = Broker(
        app.settings.rabbitmq_url.get_secret_value(),
        topology.queues(app.settings),
        publish,
        DeadLetters(publish, app.mask),
        prefetch=PREFETCH,
        consumers={
            actor.queue: LetterConsumer if actor.queue == DEAD_LETTERS else BatchConsumer
            for actor in TABLE
            if actor.batch
        },
        paused=pauses,
    )
    poison = PoisonGuard(worker_app.poison, loop)
    # After a message, Dramatiq calls the middleware in reverse: Retries decides the outcome, then the meter counts it.
    for middleware in (CurrentMessage(), meter, Retries(), Batches()):
        broker.add_middleware(middleware)
    for actor in TABLE:
        ladder = actor.ladder.delays(app.settings)
        declare(
            broker,
            actor,
            actor_function(actor, poison, worker_app, loop),
            ladder=None if actor.ladder is Ladder.FOREVER else ladder,
            throws=HoroscopeError,
            **({"batch": actor.batch} if actor.batch else {}),
        )
    return broker
