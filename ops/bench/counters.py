"""``python -m ops.bench.counters NAME``: two consumers of views to compare our worker with, each in its own process.

``single`` is plain Dramatiq: its RabbitMQ broker, middleware and worker with eight threads, and an actor that counts
one view a message, with its receipt, in one statement. Each thread has its own connection; this was the fastest way
found to reach PostgreSQL. Dramatiq's AsyncIO middleware with a connection pool is half as fast.

``bare`` is pika's consumer alone. It acknowledges a thousand messages at once, as ours does, and reads none: the
limit of pika and RabbitMQ.
"""

import asyncio
import os
import sys
import threading
import time
from datetime import UTC, date, datetime
from uuid import UUID

import asyncpg
import dramatiq
import pika
import uvloop
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from ops import cli
from ops.bench.backlog import PERSISTENT, READY, Wire
from schema.messages import HoroscopeRequested
from services.readers.views import BUCKET

SINGLE, BARE = "single", "bare"
#: ``bare`` prints this with the number of acknowledged messages and the time in seconds since the epoch.
ACKNOWLEDGED = "counter.acknowledged"

THREADS = 8
#: As in our worker: two batches.
PREFETCH, AT_ONCE = 2000, 1000

_ACTOR = "count_view"
_COUNT = """
    WITH fresh AS (
        INSERT INTO view_receipts (request_id, view_date) VALUES ($1, $2)
        ON CONFLICT DO NOTHING
        RETURNING view_date
    ), timed AS (
        INSERT INTO view_times (view_date, at, zodiac_sign, view_count)
        SELECT view_date, $3, $4, 1 FROM fresh
        ON CONFLICT (view_date, at, zodiac_sign) DO UPDATE SET view_count = view_times.view_count + 1
    )
    INSERT INTO horoscope_views (zodiac_sign, view_date, view_count)
    SELECT $4, view_date, 1 FROM fresh
    ON CONFLICT ON CONSTRAINT uq_horoscope_views_sign_date
    DO UPDATE SET view_count = horoscope_views.view_count + 1
"""


def single_wire(event: HoroscopeRequested) -> Wire:
    """A view as Dramatiq's own broker publishes it."""
    message = dramatiq.Message[None](
        queue_name=SINGLE, actor_name=_ACTOR, args=(), kwargs=event.arguments(), options={}
    )
    return Wire(message.encode(), pika.BasicProperties(delivery_mode=PERSISTENT))


def run_single() -> None:
    """Count each message in a statement of its own."""
    cli.start("worker", "database_url", "rabbitmq_url")
    cli.run_until_stopped(_single)


async def _single(stop: asyncio.Event) -> None:
    url = os.environ["DATABASE_URL"]
    broker = RabbitmqBroker(url=os.environ["RABBITMQ_URL"])
    own = threading.local()

    @dramatiq.actor(broker=broker, actor_name=_ACTOR, queue_name=SINGLE)
    def count_view(request_id: str, sign: str, day: str, answered: bool, at: str) -> None:
        del answered
        if not hasattr(own, "loop"):
            own.loop = uvloop.new_event_loop()
            own.connection = own.loop.run_until_complete(asyncpg.connect(url, loop=own.loop))
        made = datetime.fromisoformat(at).timestamp()
        bucket = datetime.fromtimestamp(made - made % BUCKET.total_seconds(), UTC)
        own.loop.run_until_complete(
            own.connection.execute(_COUNT, UUID(request_id), date.fromisoformat(day), bucket, sign)
        )

    broker.declare_queue(SINGLE, ensure=True)  # the worker declares it only some time after its start
    worker = dramatiq.Worker(broker, worker_threads=THREADS)
    worker.start()
    print(READY, flush=True)
    await stop.wait()
    await asyncio.to_thread(worker.stop)


def run_bare(*ends: int) -> None:
    """Acknowledge every thousand messages; at each number in ``ends`` also acknowledge and print."""
    cli.start("worker", "rabbitmq_url")
    received = 0

    def on_message(
        channel: pika.channel.Channel, method: pika.spec.Basic.Deliver, _: object, __: bytes
    ) -> None:
        nonlocal received
        received += 1
        if received % AT_ONCE == 0 or received in ends:
            channel.basic_ack(method.delivery_tag, multiple=True)
            if received in ends:
                print(ACKNOWLEDGED, received, time.time(), flush=True)

    with pika.BlockingConnection(pika.URLParameters(os.environ["RABBITMQ_URL"])) as connection:
        channel = connection.channel()
        channel.queue_declare(BARE, durable=True)
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(BARE, on_message)
        print(READY, flush=True)
        channel.start_consuming()


if __name__ == "__main__":
    if sys.argv[1] == SINGLE:
        run_single()
    else:
        run_bare(*map(int, sys.argv[2:]))
