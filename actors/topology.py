"""The queues as every process declares them.

views  requests  generation  delivery  ticks     work queues; a rejected message goes to dead_letters
generation.retry.300s  requests.retry.5s  …      rungs: hold a message for that long, then return it to its queue
requests.pause.47s  …                            the same, for a pause that the other side asked for; made on demand
dead_letters                                     messages that finally failed; they never expire
"""

from actors import TABLE
from schema.messages import DEAD_LETTERS, GENERATION
from services.messaging.publisher import Queue
from services.process.settings import Settings

#: Seconds without use after which RabbitMQ deletes a pause's queue.
_UNUSED_S = 300


def rung_of(queue: str, seconds: int, *, static: bool) -> Queue:
    """The queue in which a message of ``queue`` waits for ``seconds`` before it returns.

    A rung of the ladder is ``static``. Otherwise RabbitMQ deletes the queue when it is no longer used.
    """
    # One time to live for all messages of a rung: RabbitMQ expires messages only at the queue's head.
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
    found = [Queue(DEAD_LETTERS)]
    for name in dict.fromkeys(actor.queue for actor in TABLE if actor.queue != DEAD_LETTERS):
        arguments: dict[str, object] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": DEAD_LETTERS,
        }
        if name == GENERATION:
            # RabbitMQ delivers this queue to one worker of the cluster; with a prefetch of one, only one
            # message is handled at a time.
            arguments["x-single-active-consumer"] = True
        found.append(Queue(name, arguments))
    rungs = {(actor.queue, delay) for actor in TABLE for delay in actor.ladder.delays(settings)}
    return *found, *(rung_of(queue, seconds, static=True) for queue, seconds in sorted(rungs))
