"""``python -m ops.bench.celery_counter``: celery-batches as a consumer of views, in its own process.

It counts with the code of our worker and is as safe: it acknowledges a batch after the commit. This is the fastest
configuration that was found:

- the solo pool: threads or a child process reach two thirds and a half of its speed;
- a prefetch of two batches, so that one arrives while the other is counted; unlimited is no faster;
- a flush every second: one every 50 ms, our linger, cuts the batches to a fifth and the speed to two thirds;
- no events, gossip, remote control or results; uvloop for the statement.
"""

import json
import os
from collections.abc import Sequence
from uuid import uuid4

import pika
import uvloop
from celery import Celery
from celery.signals import worker_ready
from celery_batches import Batches, SimpleRequest

from ops import cli
from ops.bench.backlog import PERSISTENT, READY, Wire
from schema.messages import HoroscopeRequested
from services.database.pool import Database
from services.days import system_clock
from services.readers.views import Views

QUEUE = "celery"
SIZE = 1000
FLUSH_S = 1.0

_TASK = "count_views"
_QUIET = ("--loglevel=warning", "--without-gossip", "--without-mingle", "--without-heartbeat")

_app = Celery(set_as_current=False)


def wire(event: HoroscopeRequested) -> Wire:
    """A view as Celery publishes it: protocol 2, JSON."""
    message = _app.amqp.as_task_v2(str(uuid4()), _TASK, kwargs=event.arguments(), ignore_result=True)
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers=message.headers,
        delivery_mode=PERSISTENT,
        priority=0,
        **message.properties,
    )
    return Wire(json.dumps(message.body).encode(), properties)


def main() -> None:
    """Count until SIGTERM."""
    cli.start("worker", "database_url", "rabbitmq_url")
    _app.conf.update(
        broker_url=os.environ["RABBITMQ_URL"],
        broker_connection_retry_on_startup=True,
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=2 * SIZE,
        worker_concurrency=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
    )
    loop = uvloop.new_event_loop()
    views = Views(Database(os.environ["DATABASE_URL"]), system_clock)

    def count_views(requests: Sequence[SimpleRequest]) -> None:
        loop.run_until_complete(
            views.count([HoroscopeRequested.parse(request.kwargs) for request in requests])
        )

    _app.task(base=Batches, name=_TASK, flush_every=SIZE, flush_interval=FLUSH_S)(count_views)
    worker_ready.connect(lambda **_: print(READY, flush=True), weak=False)
    _app.worker_main(["worker", "--pool=solo", *_QUIET])


if __name__ == "__main__":
    main()
