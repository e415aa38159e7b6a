"""``python -m ops.bench.celery_counter``: celery-batches as a consumer of views, a process of its own.

It counts with the very code that our worker counts with, and is as safe: a batch is acknowledged after its
commit. Of what Celery offers this is the fastest that was found:

- the solo pool: threads or a child process for the batches add more than they take away (two thirds, a half);
- twice the batch as prefetch, so that one arrives while the other is counted; without a limit it is no faster;
- a flush every second: one every 50 ms, which is our linger, cuts the batches to a fifth, and does two thirds;
- no events, no gossip, no remote control, no results; uvloop under the statement.
"""

import json
from collections.abc import Sequence
from uuid import uuid4

import pika
import uvloop
from celery import Celery
from celery.signals import worker_ready
from celery_batches import Batches, SimpleRequest

from ops import cli
from ops.bench.backlog import PERSISTENT, Wire
from schema.messages import HoroscopeRequested
from services.database.pool import Database
from services.days import system_clock
from services.readers.views import Views

QUEUE = "celery"
READY = "celery.ready"
SIZE = 1000
FLUSH_S = 1.0

_TASK = "count_views"
_OPTIONS = (
    "--pool=solo",
    "--loglevel=warning",
    "--without-gossip",
    "--without-mingle",
    "--without-heartbeat",
)

_app = Celery(set_as_current=False)


def wire(event: HoroscopeRequested) -> Wire:
    """A view as Celery publishes it: version 2 of its protocol, JSON."""
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
    settings = cli.start("worker", "database_url", "rabbitmq_url")
    assert settings.database_url
    assert settings.rabbitmq_url
    _app.conf.update(
        broker_url=settings.rabbitmq_url.get_secret_value(),
        broker_connection_retry_on_startup=True,
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=2 * SIZE,
        worker_concurrency=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
    )
    loop = uvloop.new_event_loop()
    views = Views(Database(settings.database_url.get_secret_value()), system_clock)

    def count_views(requests: Sequence[SimpleRequest]) -> None:
        loop.run_until_complete(
            views.count([HoroscopeRequested.parse(request.kwargs) for request in requests])
        )

    _app.task(base=Batches, name=_TASK, flush_every=SIZE, flush_interval=FLUSH_S)(count_views)
    worker_ready.connect(lambda **_: print(READY, flush=True), weak=False)
    _app.worker_main(["worker", *_OPTIONS])


if __name__ == "__main__":
    main()
