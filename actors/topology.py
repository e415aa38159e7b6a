"""The queues as every process declares them.

views  requests  generation  delivery  ticks      work; a rejected message falls into dead_letters
generation.retry.300s  requests.retry.5s  …       a rung: holds a message for that long, then hands it back
requests.pause.47s  …                             the same, where the other side asked for that long; goes by itself
dead_letters                                      what finally failed; never expires by itself
"""

from collections.abc import Iterable

from actors import TABLE
from schema.messages import DEAD_LETTERS, GENERATION
from services.messaging.publisher import Queue
from services.process.settings import Settings

#: Seconds after its last use in which a pause's queue has let its messages go.
_UNUSED_S = 300


def rung_of(queue: str, seconds: int, *, static: bool) -> Queue:
    """The queue in which a message of ``queue`` waits for so many seconds.

    Args:
        queue: Where it goes afterwards.
        seconds: How long it waits.
        static: It is a rung of the queue's ladder; otherwise it is made when it is needed, and RabbitMQ deletes
            it when nobody has used it for a while.
    """
    # A rung has one time to live for all its messages: RabbitMQ expires them at the head only.
    arguments: dict[str, object] = {
        "x-message-ttl": seconds * 1000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
    }
    if static:
        return Queue(f"{queue}.retry.{seconds}s", arguments)
    return Queue(f"{queue}.pause.{seconds}s", arguments | {"x-expires": (seconds + _UNUSED_S) * 1000})


def queues(settings: Settings) -> tuple[Queue, ...]:
    """Every queue, with its arguments."""
    return (Queue(DEAD_LETTERS), *_work_queues(), *_rungs(settings))


def _work_queues() -> Iterable[Queue]:
    for name in dict.fromkeys(actor.queue for actor in TABLE if actor.queue != DEAD_LETTERS):
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
    for queue, seconds in sorted(
        {(actor.queue, delay) for actor in TABLE for delay in actor.ladder.delays(settings)}
    ):
        yield rung_of(queue, seconds, static=True)
