"""A Dramatiq broker on RabbitMQ for a worker that shares one publishing connection.

It differs from ``dramatiq.brokers.rabbitmq`` on purpose:

- every publish is confirmed, over the process's one :class:`services.messaging.publisher.Publisher`;
- nothing is delayed in memory: a retry waits in a queue of the broker's own (see ``actors.retries``);
- a message that dies is published to ``dead_letters`` as it died, not as it was last delivered;
- a delivery belongs to the consumer that received it, so that after a reconnection an old delivery cannot
  acknowledge a new one with the same tag;
- one consumer, and so one connection, a queue; a consumer that RabbitMQ cancels is opened anew.
"""

import asyncio
import concurrent.futures
import time
from collections import deque
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import dramatiq
import pika
import structlog
from dramatiq import MessageProxy
from dramatiq.broker import Consumer
from dramatiq.errors import ConnectionClosed
from pika.exceptions import AMQPError

from actors.table import Actor
from schema.errors import DeliveryLost, InvalidEnvelope, NotPublished, UnknownActor
from services.messaging.envelope import decode
from services.messaging.publisher import UNREACHABLE, Publisher, Queue, connection_parameters

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

#: Seconds before a message that could not be settled is handed out again.
PAUSE_S = 2.0

#: Publishes bytes to a queue with headers, and returns when the broker has confirmed them. A queue that is given
#: whole is declared before.
Publish = Callable[[str | Queue, bytes, dict[str, Any] | None], None]

#: Makes the consumer of a queue: (broker, queue, prefetch, timeout in ms).
ConsumerFactory = Callable[["Broker", str, int, int], "QueueConsumer"]


class DeadLetterSink(Protocol):
    """Where what cannot be answered is kept; see :class:`actors.dead_letters.DeadLetters`."""

    def publish(self, message: "Delivered", error: BaseException) -> None:
        """Keep a message."""

    def publish_bytes(self, queue: str, body: bytes, error: BaseException) -> None:
        """Keep bytes that are no message."""


class Broker(dramatiq.Broker):
    """Consumes on connections of its own and publishes through ``publish``.

    Args:
        urls: One or several AMQP addresses with ``;`` between.
        queues: Every queue, as :mod:`actors.topology` gives them.
        publish: Called from any thread.
        prefetch: Messages that a queue's consumer holds at most, by queue.
        consumers: Queues whose consumer is not the plain one.
        paused: Queues that are not consumed; looked at again and again.
        middleware: Dramatiq's middleware, in order.
    """

    def __init__(
        self,
        urls: str,
        queues: Sequence[Queue],
        publish: Publish,
        *,
        prefetch: Mapping[str, int] | None = None,
        consumers: Mapping[str, ConsumerFactory] | None = None,
        paused: Container[str] = (),
        middleware: Sequence[dramatiq.Middleware] = (),
    ) -> None:
        super().__init__(middleware=list(middleware))
        self.parameters = connection_parameters(urls)
        self.topology = queues
        self.queues: set[str] = set()
        self.publish = publish
        self.paused = paused
        #: Set by whoever puts the worker together, before it starts.
        self.dead_letter_sink: DeadLetterSink
        #: When the consumer of each queue last turned, on the clock of :func:`time.monotonic`.
        self.turned: dict[str, float] = {}
        self._prefetch = dict(prefetch or {})
        self._consumers = dict(consumers or {})

    def declare_queue(self, queue_name: str) -> None:
        """Announce a queue to the worker; on RabbitMQ each consumer declares the whole topology."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Open the consumer of a queue, on a connection of its own."""
        self.turned[queue_name] = time.monotonic()
        factory = self._consumers.get(queue_name, QueueConsumer)
        return factory(self, queue_name, self._prefetch.get(queue_name, prefetch), timeout)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Publish a message.

        Raises:
            NotPublished: It was not confirmed.
            ValueError: A delay is asked for; a rung of a ladder is the way to wait.
        """
        if delay is not None:
            raise ValueError("messages are not delayed in a worker's memory; publish to a retry queue")
        self.emit_before("enqueue", message, delay)
        self.publish(message.queue_name, message.encode(), None)
        self.emit_after("enqueue", message, delay)
        return message

    def get_declared_queues(self) -> set[str]:
        """The queues announced so far."""
        return self.queues.copy()

    def close(self) -> None:
        """Nothing to close: consumers are closed by the worker, the publisher by its owner."""


class Delivered(MessageProxy):
    """A message as one consumer received it.

    Attributes:
        consumer: Who received it; nobody else can settle it.
        tag: The delivery's number there.
        redelivered: Somebody had received it before, and was lost before it was settled.
        requeue: Set when the message has to go back to its queue instead of being acknowledged.
        done: In a batch: this one is dealt with, whatever becomes of the others.
        started: When the current try began, in seconds since the epoch.
        outcome: What became of it, as ``horoscope_messages_total`` counts it.
    """

    def __init__(
        self,
        message: dramatiq.Message[Any],
        consumer: "QueueConsumer",
        tag: int,
        *,
        redelivered: bool = False,
    ) -> None:
        super().__init__(message)
        # The proxy looks up each of these by a call of its own, a thousand times a batch.
        self.actor_name = message.actor_name
        self.args = message.args
        self.kwargs = message.kwargs
        self.message_timestamp = message.message_timestamp
        self.consumer = consumer
        self.tag = tag
        self.redelivered = redelivered
        self.requeue = False
        self.done = False
        self.started = 0.0
        self.outcome = "done"


class QueueConsumer(Consumer):
    """Receives the messages of one queue on a connection of its own.

    Iterating and closing belong to one thread; settling may come from any. While the queue is paused the connection
    stays, and whatever had been begun is finished and settled over it.

    Raises:
        ConnectionClosed: Whenever the connection, the channel or the consumer is no more.
    """

    def __init__(self, broker: Broker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self._timeout_s = timeout / 1000
        self._arrived: deque[tuple[Any, Any, bytes]] = deque()
        self._unsettled: set[int] = set()
        self._one_at_a_time = prefetch == 1
        #: What RabbitMQ calls our consuming; None while the queue is paused.
        self._consuming: str | None = None
        self._cancelled = False
        self._running: set[concurrent.futures.Future[None]] = set()
        #: The connection is gone, or going.
        self.closed = False
        try:
            self._connection = pika.BlockingConnection(broker.parameters)
        except UNREACHABLE as error:
            raise ConnectionClosed(error) from None
        try:
            self._channel = self._connection.channel()
            for queue in broker.topology:
                self._channel.queue_declare(queue.name, durable=True, arguments=queue.arguments)
            self._channel.basic_qos(prefetch_count=prefetch)
            self._channel.add_on_cancel_callback(self._on_cancel)
            if queue_name not in broker.paused:
                self._consuming = self._channel.basic_consume(queue_name, self._on_message)
        except UNREACHABLE as error:
            self.close()
            raise ConnectionClosed(error) from None

    def _on_message(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        self._unsettled.add(method.delivery_tag)
        self._arrived.append((method, properties, body))

    def _on_cancel(self, _: Any) -> None:
        self._cancelled = True

    def __next__(self) -> MessageProxy | None:
        """The next message; None when there was none for a while or it could not be decoded."""
        self._heed_pause()
        if not self._arrived:
            self._wait(self._timeout_s)
        return self._take() if self._arrived else None

    def _heed_pause(self) -> None:
        """Stop or begin to consume, as operators have it."""
        paused = self.queue_name in self.broker.paused
        if paused is (self._consuming is None):
            return
        if paused and self._one_at_a_time and len(self._unsettled) > len(self._arrived):
            return  # one is under way: were it let go of now, another worker might be given the next one beside it
        try:
            if paused:
                self._channel.basic_cancel(self._consuming)
                self._consuming = None
                put_back = self._let_go()
                for tag in put_back:
                    self._settle_now(tag, requeue=True)
                log.info("consumer.paused", queue=self.queue_name, put_back=len(put_back))
            else:
                self._consuming = self._channel.basic_consume(self.queue_name, self._on_message)
                log.info("consumer.resumed", queue=self.queue_name)
        except UNREACHABLE as error:
            raise ConnectionClosed(error) from None

    def _let_go(self) -> list[int]:
        """Forget what was received and not begun; what is handed to Dramatiq has begun, it has threads enough.

        Returns:
            The tags, which are to be put back.
        """
        tags = [method.delivery_tag for method, _, _ in self._arrived]
        self._arrived.clear()
        return tags

    @property
    def is_open(self) -> bool:
        """Messages can come, or could if the queue were not paused."""
        return self._channel.is_open and not self._cancelled and not self.closed

    def _wait(self, seconds: float) -> None:
        """Serve the connection until something happens, at most for ``seconds``."""
        self.broker.turned[self.queue_name] = time.monotonic()
        try:
            self._connection.process_data_events(time_limit=seconds)
        except UNREACHABLE as error:
            raise ConnectionClosed(error) from None
        if self._cancelled or not self._channel.is_open:
            raise ConnectionClosed(f"RabbitMQ cancelled the consumer of {self.queue_name!r}")

    def _take(self) -> Delivered | None:
        """The oldest message that has arrived; what nobody here can answer is settled at once."""
        self.broker.turned[self.queue_name] = time.monotonic()
        method, properties, body = self._arrived.popleft()
        sink = self.broker.dead_letter_sink
        try:
            message = self._read(method, properties, body)
        except InvalidEnvelope as fault:
            self._settle_dead(method.delivery_tag, partial(sink.publish_bytes, self.queue_name, body, fault))
            return None
        delivered = Delivered(message, self, method.delivery_tag, redelivered=method.redelivered)
        actor = self.broker.actors.get(message.actor_name)
        if actor is None or actor.queue_name != self.queue_name:
            unknown = UnknownActor(f"the queue {self.queue_name} has no actor {message.actor_name!r}")
            self._settle_dead(delivered.tag, partial(sink.publish, delivered, unknown))
            return None
        return delivered

    def _read(self, _: Any, __: Any, body: bytes) -> dramatiq.Message[Any]:
        """The message in a body.

        Raises:
            InvalidEnvelope: There is none.
        """
        parts = decode(body)
        # Nothing waits in memory here, so a delay that somebody put in means nothing; and Dramatiq's threads would
        # stumble over errors to expect that are none.
        parts["options"].pop("eta", None)
        parts["options"].pop("throws", None)
        parts["queue_name"] = self.queue_name  # the one that it came from counts, not the one that it names
        return dramatiq.Message[Any](**parts)

    def _settle_dead(self, tag: int, keep: Callable[[], None]) -> None:
        """Acknowledge what is kept as a dead letter; put it back when that cannot be done now."""
        try:
            keep()
        except NotPublished as trouble:
            log.warning("dead_letter.not_published", reason=str(trouble))
            time.sleep(PAUSE_S)
            self._settle(tag, requeue=True)
        else:
            self._settle(tag, requeue=False)

    def run(self, work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        """Run a handler on the loop and wait for it, as long as this consumer lives.

        When the connection is lost RabbitMQ hands the message to somebody else at once, so whoever is at
        work on it stops.

        Raises:
            DeliveryLost: The connection broke.
        """
        running = asyncio.run_coroutine_threadsafe(work, loop)
        self._running.add(running)
        if self.closed:
            running.cancel()
        try:
            running.result()
        except concurrent.futures.CancelledError:
            raise DeliveryLost(f"the connection of the queue {self.queue_name} broke") from None
        finally:
            self._running.discard(running)

    def ack(self, message: MessageProxy) -> None:
        """Settle a message whose handler has finished: acknowledged, or put back where that is asked."""
        assert isinstance(message, Delivered)
        if message.consumer is self:  # otherwise it came over a connection that is gone, and comes again
            self._settle(message.tag, requeue=message.requeue)

    def nack(self, message: MessageProxy) -> None:
        """Dramatiq gives up only what has no actor, and that does not get this far."""
        raise NotImplementedError(f"nobody rejects {message}")

    def _settle(self, tag: int, *, requeue: bool) -> None:
        self._later(partial(self._settle_now, tag, requeue=requeue))

    def _settle_now(self, tag: int, *, requeue: bool) -> None:
        """Runs in the connection's own thread."""
        if tag not in self._unsettled:
            return
        self._unsettled.discard(tag)
        if requeue:
            self._channel.basic_nack(tag, requeue=True)
        else:
            self._channel.basic_ack(tag)

    def _later(self, call: Callable[[], None]) -> None:
        """Have the connection's own thread make a call."""

        def guarded() -> None:
            if self._channel.is_open:
                call()

        try:
            self._connection.add_callback_threadsafe(guarded)
        except AMQPError:
            # The connection is gone, and with it the delivery: it comes again.
            log.info("message.unsettled", queue=self.queue_name)

    def requeue(self, messages: Any) -> None:
        """What was not settled goes back to its queue when the connection closes."""

    def close(self) -> None:
        """Stop whoever is at work on what was received here, acknowledge what is done, and disconnect."""
        self.closed = True
        for running in tuple(self._running):
            running.cancel()
        try:
            if self._connection.is_open:
                self._connection.process_data_events(time_limit=0)
                self._connection.close()
        except UNREACHABLE as error:
            raise ConnectionClosed(error) from None


def declare(broker: dramatiq.Broker, actor: Actor, answer: Callable[..., None], **options: Any) -> Any:
    """Make a row of the table an actor of a broker."""
    decorate = dramatiq.actor(broker=broker, actor_name=actor.name, queue_name=actor.queue, **options)
    return decorate(answer)


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on the process's loop and wait for it in this thread."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def blocking_publish(publisher: Publisher, loop: asyncio.AbstractEventLoop) -> Publish:
    """Publishing for threads: returns when the broker has confirmed."""

    def publish(queue: str | Queue, body: bytes, headers: dict[str, Any] | None) -> None:
        run_on(loop, publisher.send(queue, body, headers))

    return publish
