"""The queues as every process declares them.

views  requests  generation  delivery  ticks      work; a rejected message falls into dead_letters
generation.retry.300s  requests.retry.5s  …       a rung: holds a message for that long, then hands it back
dead_letters                                      what finally failed; never expires by itself
"""

from collections.abc import Iterable

from actors import TABLE
from schema.messages import DEAD_LETTERS, GENERATION
from services.publisher import Queue
from services.settings import Settings


def retry_queue(queue: str, seconds: int) -> str:
    """The name of a rung."""
    return f"{queue}.retry.{seconds}s"


def queues(settings: Settings) -> tuple[Queue, ...]:
    """Every queue, with its arguments."""
    return (Queue(DEAD_LETTERS), *_work_queues(), *_rungs(settings))


def _work_queues() -> Iterable[Queue]:
    for name in dict.fromkeys(actor.queue for actor in TABLE):
        arguments: dict[str, object] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": DEAD_LETTERS,
        }
        if name == GENERATION:
            # The broker itself sees to it that one worker in the cluster has this queue; with a prefetch
            # of one that makes one message at a time.
            arguments["x-single-active-consumer"] = True
        yield Queue(name, arguments)


def _rungs(settings: Settings) -> Iterable[Queue]:
    # A rung has one time to live for all its messages: RabbitMQ expires them at the head only.
    for queue, seconds in sorted(
        {(actor.queue, delay) for actor in TABLE for delay in actor.ladder.delays(settings)}
    ):
        yield Queue(
            retry_queue(queue, seconds),
            {
                "x-message-ttl": seconds * 1000,
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": queue,
            },
        )
