"""A Dramatiq broker on RabbitMQ for a worker that shares one publishing connection.

It differs from ``dramatiq.brokers.rabbitmq`` on purpose:

- every publish is confirmed, over the process's one :class:`services.messaging.publisher.Publisher`;
- no message is delayed in memory: a retry waits in a RabbitMQ queue (see ``actors.retries``);
- a message that dies is published to ``dead_letters`` as it died, not as it was last delivered;
- a delivery belongs to the consumer that received it, so after a reconnection an old delivery cannot
  acknowledge a new one with the same tag;
- each queue has one consumer and one connection; a consumer that RabbitMQ cancels is opened again.
"""

import asyncio
import concurrent.futures
import time
from collections import deque
from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import dramatiq
import pika
import structlog
from dramatiq import MessageProxy
from dramatiq.broker import Consumer
from dramatiq.errors import ConnectionClosed
from pika.exceptions import AMQPError

from actors.dead_letters import DeadLetters
from actors.table import Actor
from schema.errors import DeliveryLost, InvalidEnvelope, NotPublished, UnknownActor
from services.messaging.envelope import decode
from services.messaging.publisher import UNREACHABLE, Publish, Publisher, Queue, connection_parameters

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

#: Seconds before a message that could not be settled is delivered again.
PAUSE_S = 2.0

#: Makes the consumer of a queue: (broker, queue, prefetch, timeout in ms).
ConsumerFactory = Callable[["Broker", str, int, int], "QueueConsumer"]


class Broker(dramatiq.Broker):
    """Consumes on connections of its own and publishes through ``publish``.

    Args:
        urls: One or several AMQP addresses with ``;`` between.
        prefetch: The most messages that a queue's consumer holds, by queue.
        consumers: Factories for queues that need another consumer than :class:`QueueConsumer`.
        paused: Queues that are not consumed; it may change at any time.

    Attributes:
        turned: When each queue's consumer last made a turn of its loop, on the monotonic clock.
    """

    def __init__(
        self,
        urls: str,
        queues: Sequence[Queue],
        publish: Publish,
        dead_letters: DeadLetters,
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
        self.dead_letters = dead_letters
        self.paused = paused
        self.turned: dict[str, float] = {}
        self._prefetch = dict(prefetch or {})
        self._consumers = dict(consumers or {})

    def declare_queue(self, queue_name: str) -> None:
        """Announce a queue to the worker; on RabbitMQ, each consumer declares the whole topology."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        """Open a queue's consumer, on a connection of its own."""
        self.turned[queue_name] = time.monotonic()
        factory = self._consumers.get(queue_name, QueueConsumer)
        return factory(self, queue_name, self._prefetch.get(queue_name, prefetch), timeout)

    def enqueue(self, message: dramatiq.Message[Any], *, delay: int | None = None) -> dramatiq.Message[Any]:
        """Publish a message; raises NotPublished if it is not confirmed, ValueError if a delay is asked for."""
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
        """Do nothing: the worker closes its consumers, and the publisher's owner closes the publisher."""


class Delivered(MessageProxy):
    """A message as one consumer received it.

    Attributes:
        consumer: The consumer that received it, the only one that can settle it.
        tag: The delivery tag on that consumer's channel.
        redelivered: RabbitMQ delivered it before, and that worker was lost before it settled the message.
        requeue: The message goes back to its queue instead of being acknowledged.
        done: In a batch: the message is dealt with, whatever happens to the others.
        error: In a batch: why this message failed.
        started: When the current attempt began, in seconds since the epoch.
        outcome: The label under which ``horoscope_messages_total`` counts it.
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
        # Copied, because the proxy looks up each attribute through a call, a thousand times a batch.
        self.actor_name = message.actor_name
        self.args = message.args
        self.kwargs = message.kwargs
        self.message_timestamp = message.message_timestamp
        self.consumer = consumer
        self.tag = tag
        self.redelivered = redelivered
        self.requeue = False
        self.done = False
        self.error: Exception | None = None
        self.started = 0.0
        self.outcome = "done"


class QueueConsumer(Consumer):
    """Receives the messages of one queue on a connection of its own.

    Iterate and close it in one thread; settle from any. While the queue is paused the connection stays open, so
    that handlers that have begun can finish and settle.

    Raises:
        ConnectionClosed: The connection, the channel or the consumer was closed.
    """

    def __init__(self, broker: Broker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self._timeout_s = timeout / 1000
        self._arrived: deque[tuple[Any, Any, bytes]] = deque()
        self._unsettled: set[int] = set()
        self._one_at_a_time = prefetch == 1
        #: RabbitMQ's tag of our consumer; None while the queue is paused.
        self._consuming: str | None = None
        self._cancelled = False
        self._running: set[concurrent.futures.Future[None]] = set()
        #: The connection is closed or closing.
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
        """The next message; None after the timeout, or when the message could not be decoded."""
        self._apply_pause()
        if not self._arrived:
            self._wait(self._timeout_s)
        return self._take() if self._arrived else None

    def _apply_pause(self) -> None:
        """Stop or start consuming when an operator has paused or resumed the queue."""
        paused = self.queue_name in self.broker.paused
        if paused is (self._consuming is None):
            return
        if paused and self._one_at_a_time and len(self._unsettled) > len(self._arrived):
            return  # one is being handled: if we cancelled now, another worker could start the next one beside it
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
        """Forget messages that Dramatiq did not receive yet; returns their tags, for the caller to put back."""
        tags = [method.delivery_tag for method, _, _ in self._arrived]
        self._arrived.clear()
        return tags

    @property
    def is_open(self) -> bool:
        """Messages can arrive, or could if the queue were not paused."""
        return self._channel.is_open and not self._cancelled and not self.closed

    def _wait(self, seconds: float) -> None:
        """Serve the connection until something happens, for ``seconds`` at most."""
        self.broker.turned[self.queue_name] = time.monotonic()
        try:
            self._connection.process_data_events(time_limit=seconds)
        except UNREACHABLE as error:
            raise ConnectionClosed(error) from None
        if self._cancelled or not self._channel.is_open:
            raise ConnectionClosed(f"RabbitMQ cancelled the consumer of {self.queue_name!r}")

    def _take(self) -> Delivered | None:
        """The oldest message that has arrived; a message that no actor here can answer becomes a dead letter."""
        self.broker.turned[self.queue_name] = time.monotonic()
        method, properties, body = self._arrived.popleft()
        dead_letters = self.broker.dead_letters
        try:
            message = self._read(method, properties, body)
        except InvalidEnvelope as fault:
            self._settle_dead(
                method.delivery_tag, partial(dead_letters.publish_bytes, self.queue_name, body, fault)
            )
            return None
        delivered = Delivered(message, self, method.delivery_tag, redelivered=method.redelivered)
        actor = self.broker.actors.get(message.actor_name)
        if actor is None or actor.queue_name != self.queue_name:
            unknown = UnknownActor(f"the queue {self.queue_name} has no actor {message.actor_name!r}")
            self._settle_dead(delivered.tag, partial(dead_letters.publish, delivered, unknown))
            return None
        return delivered

    def _read(self, _: Any, __: Any, body: bytes) -> dramatiq.Message[Any]:
        """Decode a body; raises InvalidEnvelope if it is not a Dramatiq message."""
        parts = decode(body)
        # Dramatiq would hold a message with an "eta" in memory, and its threads fail on "throws" that name no errors.
        parts["options"].pop("eta", None)
        parts["options"].pop("throws", None)
        parts["queue_name"] = self.queue_name  # where it arrived counts, not the queue that it names
        return dramatiq.Message[Any](**parts)

    def _settle_dead(self, tag: int, keep: Callable[[], None]) -> None:
        """Acknowledge a message after it was kept as a dead letter; put it back if that fails."""
        try:
            keep()
        except NotPublished as trouble:
            log.warning("dead_letter.not_published", reason=str(trouble))
            time.sleep(PAUSE_S)
            self._settle(tag, requeue=True)
        else:
            self._settle(tag, requeue=False)

    def run(self, work: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop) -> None:
        """Run a handler on the loop and wait for it.

        It is cancelled when this consumer closes: RabbitMQ then delivers the message to another worker at once. Raises
        DeliveryLost when the connection breaks.
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
        """Settle a message whose handler has finished: acknowledge it, or put it back if ``requeue`` is set."""
        assert isinstance(message, Delivered)
        if message.consumer is self:  # otherwise its connection is gone, and RabbitMQ delivers it again
            self._settle(message.tag, requeue=message.requeue)

    def nack(self, message: MessageProxy) -> None:
        """Never called: Dramatiq rejects only messages without an actor, and :meth:`_take` handles those."""
        raise NotImplementedError(f"a message is never rejected: {message}")

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
        """Schedule a call on the connection's own thread."""

        def guarded() -> None:
            if self._channel.is_open:
                call()

        try:
            self._connection.add_callback_threadsafe(guarded)
        except AMQPError:
            # The connection is gone, and RabbitMQ delivers the message again.
            log.info("message.unsettled", queue=self.queue_name)

    def requeue(self, messages: Any) -> None:
        """Do nothing: RabbitMQ requeues unsettled messages when the connection closes."""

    def close(self) -> None:
        """Cancel the running handlers, send pending acknowledgements, and disconnect."""
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
    """Declare a row of the table as an actor of a broker."""
    decorate = dramatiq.actor(broker=broker, actor_name=actor.name, queue_name=actor.queue, **options)
    return decorate(answer)


def run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on the process's event loop from another thread, and wait for its result."""
    return asyncio.run_coroutine_threadsafe(work, loop).result()


def blocking_publish(publisher: Publisher, loop: asyncio.AbstractEventLoop) -> Publish:
    """A thread-safe publish function that returns when RabbitMQ has confirmed."""

    def publish(queue: str | Queue, body: bytes, headers: dict[str, Any] | None) -> None:
        run_on(loop, publisher.send(queue, body, headers))

    return publish
