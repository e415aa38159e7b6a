"""A connection to RabbitMQ that publishes with confirms and never blocks the event loop.

pika's asynchronous connection works with callbacks; here each callback resolves a future. Every message is
published persistent and mandatory. It counts as published once RabbitMQ has confirmed that a queue holds it.
"""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import pika
import structlog
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.exceptions import AMQPError

from schema.errors import NotPublished
from services.process import metrics
from services.process.addresses import without_ca_file

log = structlog.get_logger(__name__)

CONFIRM_TIMEOUT_S = 5.0
#: What pika raises when a server is away or does not answer. AMQPConnectorException is not an AMQPError.
UNREACHABLE = (AMQPError, OSError, AMQPConnectorException)
#: Seconds that a process waits for RabbitMQ as it starts.
START_PATIENCE_S = 30.0
RECONNECT_DELAYS_S = (0.2, 0.5, 1.0, 2.0)
#: The label under which on-demand pause queues are counted.
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue. Every process must declare it with the same arguments, or RabbitMQ refuses."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


#: Publishes a body with headers to a queue, and returns when RabbitMQ has confirmed. A :class:`Queue` is declared first.
Publish = Callable[[str | Queue, bytes, dict[str, Any] | None], None]


def connection_parameters(urls: str) -> list[pika.URLParameters]:
    """The parameters for ``RABBITMQ_URL``: one address, or several with ``;`` between.

    Clients of ``amqps`` addresses verify the certificate and the host name, by the public authorities and those in the
    file that ``cacertfile`` in the address's query names. Raises OSError if that file cannot be read.
    """
    parameters = [_parameters(url) for url in urls.split(";")]
    for each in parameters:
        each.heartbeat = 30
        # Without a timeout, a broker that is out of memory or disk blocks its publishers for ever.
        each.blocked_connection_timeout = CONFIRM_TIMEOUT_S
        each.socket_timeout = each.stack_timeout = CONFIRM_TIMEOUT_S
    return parameters


def _parameters(url: str) -> pika.URLParameters:
    address, ca_file = without_ca_file(url)
    parameters = pika.URLParameters(address)
    if ca_file and parameters.ssl_options:
        parameters.ssl_options.context.load_verify_locations(ca_file)
    return parameters


class _Connection(AsyncioConnection):  # type: ignore[misc]  # pika has no types
    """A connection that sends everything of one turn of the event loop in one write.

    pika makes three writes for each message, and each write wakes the broker.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._unsent: list[bytes] = []
        super().__init__(*arguments, **options)

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        """[override] All of pika's outgoing frames pass here."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send_unsent)
        self._unsent += marshaled_frames

    def _on_connection_workflow_done(self, result: Any) -> None:
        """[override] After an aborted handshake, pika 1.4 passes the error's class and then fails on it."""
        super()._on_connection_workflow_done(result() if isinstance(result, type) else result)

    def _send_unsent(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.is_closed:
            return
        super()._output_marshaled_frames([b"".join(unsent)])


class Publisher:
    """Keeps one connection open, and reconnects when it breaks.

    ``urls`` are AMQP addresses with ``;`` between, tried in turn. ``queues`` are declared on every new connection.
    """

    def __init__(self, urls: str, queues: Sequence[Queue]) -> None:
        self._parameters = connection_parameters(urls)
        self._queues = queues
        self._channel: Any = None
        self._unconfirmed: dict[int, asyncio.Future[None]] = {}
        self._tags = itertools.count(1)
        self._closed: asyncio.Future[None] | None = None
        self._ready = asyncio.Event()
        self._why_not = "not connected yet"
        self._silent_since: float | None = None
        # Made beforehand: this is on the serving path.
        self._counted = {
            name: [metrics.PUBLISHED.labels(name, outcome) for outcome in ("confirmed", "failed")]
            for name in (*(queue.name for queue in queues), _OTHER)
        }

    async def __aenter__(self) -> Self:
        """Start connecting; :meth:`wait_ready` waits for the connection."""
        self._keeper = asyncio.create_task(self._keep_connected(), name="publisher")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait for pending confirms, then close."""
        if self._unconfirmed:
            await asyncio.wait(self._unconfirmed.values(), timeout=CONFIRM_TIMEOUT_S)
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    @property
    def connected(self) -> bool:
        """Messages can be published now."""
        return self._ready.is_set()

    @property
    def silent(self) -> bool:
        """The broker failed to confirm a message in time and has confirmed none since."""
        return self._silent_since is not None

    @property
    def trouble(self) -> str:
        """Why messages cannot be published now; empty when they can, as far as is known."""
        if not self.connected:
            return f"RabbitMQ cannot be reached: {self._why_not}"
        silent_s = time.monotonic() - self._silent_since if self._silent_since is not None else 0.0
        return f"RabbitMQ has confirmed nothing for {silent_s:.0f} s" if silent_s > CONFIRM_TIMEOUT_S else ""

    async def wait_ready(self, timeout: float) -> None:
        """Wait for a connection; raises NotPublished if there is none within ``timeout`` seconds."""
        try:
            await asyncio.wait_for(self._ready.wait(), timeout)
        except TimeoutError:
            raise NotPublished(f"{self.trouble}; check RABBITMQ_URL and the server") from None

    async def send(
        self,
        queue: str | Queue,
        body: bytes,
        headers: dict[str, Any] | None = None,
        *,
        patience: float = CONFIRM_TIMEOUT_S,
    ) -> None:
        """Publish one message and wait until RabbitMQ has confirmed it. A :class:`Queue` is declared first.

        Raises:
            NotPublished: No connection, no such queue, or no confirm within ``patience`` seconds. The message may
                still have arrived, so its handler must tolerate a second copy.
        """
        name = queue.name if isinstance(queue, Queue) else queue
        confirmed_count, failed = self._counted.get(name) or self._counted[_OTHER]
        if not self.connected:
            failed.inc()
            raise NotPublished(self.trouble)
        try:
            if isinstance(queue, Queue):
                await self._declare(queue)
            confirmed, expiry = self._publish(name, body, headers, patience)
            try:
                await confirmed
            finally:
                expiry.cancel()
        except NotPublished:
            failed.inc()
            raise
        confirmed_count.inc()

    def _publish(
        self, queue: str, body: bytes, headers: dict[str, Any] | None, patience: float
    ) -> tuple[asyncio.Future[None], asyncio.TimerHandle]:
        """Pass a message to the connection; returns its confirm, and the timer that ends the wait for it."""
        if not self._ready.is_set():
            raise NotPublished(self.trouble)
        tag = next(self._tags)
        loop = asyncio.get_running_loop()
        confirmed = self._unconfirmed[tag] = loop.create_future()
        try:
            self._channel.basic_publish(
                "", queue, body,
                # A returned message has no delivery tag, only this id. RabbitMQ reports the age of a queue's
                # oldest message by the timestamp.
                pika.BasicProperties(
                    delivery_mode=2, message_id=str(tag), headers=headers, timestamp=int(time.time())
                ),
                mandatory=True,
            )  # fmt: skip
        except AMQPError as error:
            del self._unconfirmed[tag]
            raise NotPublished(f"RabbitMQ did not take a message for {queue!r}: {error!r}") from error
        return confirmed, loop.call_later(patience, self._expire, tag)

    async def _declare(self, queue: Queue) -> None:
        if not self._ready.is_set():
            raise NotPublished(self.trouble)
        declared: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        assert self._closed is not None
        try:
            self._channel.queue_declare(
                queue.name, durable=True, arguments=queue.arguments, callback=declared.set_result
            )
        except AMQPError as error:
            raise NotPublished(f"RabbitMQ did not declare {queue.name!r}: {error!r}") from error
        await asyncio.wait(
            {declared, self._closed}, timeout=CONFIRM_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
        )
        if not declared.done():
            raise NotPublished(f"RabbitMQ did not declare {queue.name!r}: {self._why_not}")

    def _expire(self, tag: int) -> None:
        if tag in self._unconfirmed:
            self._silent_since = self._silent_since or time.monotonic()
            self._fail(tag, "the broker did not confirm in time")

    def _fail(self, tag: int, reason: str) -> None:
        confirmed = self._unconfirmed.pop(tag, None)
        if confirmed and not confirmed.done():
            confirmed.set_exception(NotPublished(f"RabbitMQ did not take a message: {reason}"))

    async def _keep_connected(self) -> None:
        delays = iter(RECONNECT_DELAYS_S)
        for parameters in itertools.cycle(self._parameters):
            try:
                connection = await self._connect(parameters)
            except Exception as error:  # noqa: BLE001  a DNS failure is not an AMQPError
                self._why_not = plain_reason(error)
                log.warning("rabbitmq.unreachable", reason=self._why_not)
                await asyncio.sleep(next(delays, RECONNECT_DELAYS_S[-1]))
                continue
            try:
                assert self._closed is not None
                await self._closed
            finally:
                self._ready.clear()
                if connection.is_open:
                    connection.close()
            log.warning("rabbitmq.connection_lost", reason=self._why_not)
            delays = iter(RECONNECT_DELAYS_S)

    async def _connect(self, parameters: pika.URLParameters) -> AsyncioConnection:
        loop = asyncio.get_running_loop()
        closed = self._closed = loop.create_future()
        opened: asyncio.Future[AsyncioConnection] = loop.create_future()

        def on_open_error(_: Any, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(error)

        def on_close(_: Any, error: BaseException) -> None:
            self._ready.clear()
            self._why_not = plain_reason(error)
            for tag in list(self._unconfirmed):
                self._fail(tag, self._why_not)
            if not closed.done():
                closed.set_result(None)

        connection = _Connection(
            parameters,
            on_open_callback=opened.set_result,
            on_open_error_callback=on_open_error,
            on_close_callback=on_close,
            custom_ioloop=loop,
        )
        try:
            await opened
            channel = await asyncio.wait_for(self._open_channel(connection, on_close), CONFIRM_TIMEOUT_S)
        except BaseException:
            if not (connection.is_closing or connection.is_closed):
                connection.close()
            raise
        self._channel = channel
        self._tags = itertools.count(1)
        self._silent_since = None
        self._ready.set()
        return connection

    async def _open_channel(self, connection: AsyncioConnection, on_close: Callable[..., None]) -> Any:
        async def answered(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            """Wait for the callback of ``call``, or for the channel to close."""
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            call(*arguments, **options, callback=answer.set_result)
            await asyncio.wait({answer, broken}, return_when=asyncio.FIRST_COMPLETED)
            return broken.result() if broken.done() else answer.result()

        broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_channel_close(closed_channel: Any, error: BaseException) -> None:
            if not broken.done():
                broken.set_exception(error)
                broken.exception()  # mark it as retrieved: nothing else may be waiting for it
            on_close(closed_channel, error)

        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        connection.channel(on_open_callback=opened.set_result)
        channel = await opened
        channel.add_on_close_callback(on_channel_close)
        for queue in self._queues:
            await answered(channel.queue_declare, queue.name, durable=True, arguments=queue.arguments)
        await answered(channel.confirm_delivery, self._on_confirm)
        channel.add_on_return_callback(self._on_return)
        return channel

    def _on_return(self, _: Any, method: Any, properties: Any, __: bytes) -> None:
        """Fail a mandatory message that no queue took; its confirm follows and is ignored.

        If it was for one of our queues, the queue was deleted: declare it for the next message.
        """
        self._fail(int(properties.message_id), f"no queue {method.routing_key!r} ({method.reply_text})")
        for queue in self._queues:
            if queue.name == method.routing_key:
                self._channel.queue_declare(
                    queue.name, durable=True, arguments=queue.arguments, callback=lambda _: None
                )

    def _on_confirm(self, frame: Any) -> None:
        self._silent_since = None
        last, multiple = frame.method.delivery_tag, frame.method.multiple
        tags = [tag for tag in self._unconfirmed if tag <= last] if multiple else [last]
        for tag in tags:
            if isinstance(frame.method, pika.spec.Basic.Ack):
                confirmed = self._unconfirmed.pop(tag, None)
                if confirmed and not confirmed.done():
                    confirmed.set_result(None)
            else:
                self._fail(tag, "the broker refused it")


def plain_reason(error: BaseException) -> str:
    """The plainest reason inside the exceptions that pika has wrapped around each other."""
    for attribute in ("exception", "error", "exceptions", "args"):
        inner = getattr(error, attribute, None)
        if isinstance(inner, list | tuple) and inner and isinstance(inner[0], BaseException):
            return plain_reason(inner[0])
        if isinstance(inner, BaseException):
            return plain_reason(inner)
    return str(error) or type(error).__name__
