"""RabbitMQ's queues for operators: status, peek, purge."""

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import pika
import structlog
from pika.exceptions import ChannelClosedByBroker

from schema.errors import InvalidEnvelope, ManagementUnavailable, NotPublished, Refused, UnknownQueue
from schema.messages import DEAD_LETTERS
from schema.sentences import Sentence
from services.messaging.envelope import decode
from services.messaging.management import ManagementApi, QueueFlow
from services.messaging.pauses import Pause
from services.messaging.publisher import UNREACHABLE, Queue, connection_parameters
from services.process.logs import Mask

log = structlog.get_logger(__name__)

#: ``work`` queues; rungs and pauses, where messages are ``waiting`` for their time; and the queue of the ``dead``.
QueueKind = Literal["work", "waiting", "dead"]

_WAITING = re.compile(r"\.(retry|pause)\.\d+s$")

#: The most messages that a peek returns.
MOST_SHOWN = 100
#: The most bytes shown of a body that is not a message.
_GARBAGE_SHOWN = 200


def queue_kind(name: str) -> QueueKind:
    """The kind of a queue, by its name in ``actors.topology``."""
    if name == DEAD_LETTERS:
        return "dead"
    return "waiting" if _WAITING.search(name) else "work"


@dataclass(frozen=True, slots=True)
class QueueStatus:
    """A queue's depth and consumers."""

    name: str
    messages: int  #: Messages that wait
    consumers: int
    flow: QueueFlow | None = None  #: From the management API; None: that API was not asked or is unavailable

    @property
    def kind(self) -> QueueKind:
        """The queue's kind."""
        return queue_kind(self.name)

    def to_json(self, pauses: Mapping[str, Pause] | None) -> dict[str, Any]:
        """The same for scripts; unknown values are None, and so are unknown ``pauses``."""
        flow = self.flow
        pause = pauses.get(self.name) if pauses else None
        return {
            "name": self.name,
            "kind": self.kind,
            "messages": self.messages,
            "consumers": self.consumers,
            "unacknowledged": flow.unacknowledged if flow else None,
            "rate_in": flow.rate_in if flow else None,
            "rate_out": flow.rate_out if flow else None,
            "oldest_at": flow.oldest_at if flow else None,
            "paused": None if pauses is None else pause is not None,
            "paused_by": pause.by if pause else None,
            "paused_since": pause.since if pause else None,
            "paused_why": pause.why if pause else None,
        }


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message as it lies in a queue."""

    message_id: str | None  #: The message's id; None: the body is not one of our messages
    actor: str | None  #: The actor that it is for
    published_at: datetime | None  #: When it was first published
    arguments: dict[str, Any] | None  #: Its arguments, without secrets
    attempts: int  #: How often it has failed
    redelivered: bool  #: It was delivered before and put back; a peek counts too
    garbage: str | None = None  #: The beginning of a body that is not a message, as ``repr`` of the bytes

    def shown(self, most: int) -> str:
        """The arguments as JSON, cut after ``most`` characters."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return arguments if len(arguments) <= most else f"{arguments[:most]}…"


class Queues:
    """The queues of one RabbitMQ.

    Every method that calls RabbitMQ raises :class:`schema.errors.NotPublished` when it cannot be reached, and
    :class:`schema.errors.UnknownQueue` when we have no queue of that name.
    """

    def __init__(self, urls: str, declared: Sequence[Queue], api: ManagementApi, mask: Mask) -> None:
        self._urls = urls
        self._declared = declared
        self._api = api
        self._mask = mask

    async def figures(self) -> tuple[list[QueueStatus], str | None]:
        """Every queue, and why the management API is unavailable; None: it answered."""
        depths = await asyncio.to_thread(read_queues, self._urls, self._declared)
        try:
            return joined(depths, await self._api.queues()), None
        except ManagementUnavailable as error:
            return joined(depths, []), self._mask(f"{error}, at {', '.join(self._api.addresses)}")

    async def find(self, name: str) -> QueueStatus:
        """One of our queues."""
        return await asyncio.to_thread(self._find, name)

    def is_ours(self, name: str) -> bool:
        """Every process declares it, or it is a pause's queue or a rung of an older ladder."""
        names = {queue.name for queue in self._declared}
        return name in names or _WAITING.sub("", name) in names

    def check_pausable(self, name: str) -> None:
        """Raise UnknownQueue if no worker consumes a queue of this name, so that it cannot be paused."""
        names = [queue.name for queue in self._declared if queue_kind(queue.name) != "waiting"]
        if name not in names:
            why = (
                "has no consumers: its messages go back by themselves"
                if self.is_ours(name)
                else "is not one of our queues"
            )
            raise UnknownQueue(f"{name!r} {why}; there are {', '.join(names)}")

    async def purge(self, name: str, *, at_most: int | None, by: str) -> int:
        """Delete all messages that wait in a queue, and return their number; delivered messages are not touched.

        The person agreed to delete ``at_most`` messages; None: any number.

        Raises:
            Refused: The queue holds more than ``at_most`` messages now.
        """
        return await asyncio.to_thread(self._purge, name, at_most, by)

    async def peek(self, name: str, limit: int) -> list[QueuedMessage]:
        """Read the oldest messages of a queue without removing them.

        They are taken and put back. A classic queue restores their places, but a consumer would meanwhile get
        the messages behind them. They count as redelivered afterwards, but not as attempted.

        Raises:
            Refused: It has consumers, or is a quorum queue.
        """
        try:
            types = {flow.name: flow.type for flow in await self._api.queues()}
        except ManagementUnavailable:
            types = {}
        declared = {queue.name: queue.arguments.get("x-queue-type") for queue in self._declared}
        if (kind := types.get(name) or declared.get(name) or "classic") != "classic":
            raise Refused(
                Sentence(
                    "%(queue)s is a %(kind)s queue: before RabbitMQ 4.3 each look would count towards its delivery "
                    "limit, after which messages are dropped; look at its figures instead",
                    queue=name,
                    kind=kind,
                )
            )
        return await asyncio.to_thread(self._peek, name, limit)

    def _find(self, name: str) -> QueueStatus:
        found = read_queues(self._urls, [Queue(name)] if self.is_ours(name) else [])
        if not found:
            names = ", ".join(queue.name for queue in read_queues(self._urls, self._declared))
            raise UnknownQueue(f"no queue {name!r}; there are {names or 'none: no process has been started'}")
        return found[0]

    def _purge(self, name: str, at_most: int | None, by: str) -> int:
        waiting = self._find(name).messages
        if at_most is not None and waiting > at_most:
            raise Refused(
                Sentence(
                    "%(queue)s holds %(count)s messages by now, not %(shown)s; nothing was deleted",
                    queue=name,
                    count=waiting,
                    shown=at_most,
                )
            )
        with _connected(self._urls) as connection:
            count: int = connection.channel().queue_purge(name).method.message_count
        log.warning("queue.purged", queue=name, count=count, by=by)
        return count

    def _peek(self, name: str, limit: int) -> list[QueuedMessage]:
        if consumers := self._find(name).consumers:
            raise Refused(
                Sentence(
                    "%(queue)s has %(consumers)s consumers, which would get its messages out of order during the peek; "
                    "first: horoscope queues pause %(queue)s, and wait until it has no consumers",
                    queue=name,
                    consumers=consumers,
                )
            )
        seen: list[QueuedMessage] = []
        with _connected(self._urls) as connection:
            channel = connection.channel()
            while len(seen) < min(limit, MOST_SHOWN):
                method, _, body = channel.basic_get(name)
                if method is None:
                    break
                seen.append(self._seen(body, redelivered=method.redelivered))
            channel.close()  # puts all of them back
        return seen

    def _seen(self, body: bytes, *, redelivered: bool) -> QueuedMessage:
        try:
            message = decode(body)
        except InvalidEnvelope:
            masked = self._mask.in_bytes(body)  # before it is cut: half a secret is still a secret
            beginning = repr(masked[:_GARBAGE_SHOWN]) + ("…" if len(masked) > _GARBAGE_SHOWN else "")
            return QueuedMessage(None, None, None, None, 0, redelivered, beginning)
        return QueuedMessage(
            message_id=self._mask(message["message_id"]),
            actor=self._mask(message["actor_name"]),
            published_at=datetime.fromtimestamp(message["message_timestamp"] / 1000, UTC),
            arguments=self._mask.in_json(message["kwargs"]),
            attempts=len(message["options"].get("attempts", ())),
            redelivered=redelivered,
        )


def read_queues(urls: str, queues: Sequence[Queue]) -> list[QueueStatus]:
    """The depth and consumers of each queue; queues that were never declared are left out.

    It blocks, and raises NotPublished when RabbitMQ cannot be reached.
    """
    found = []
    with _connected(urls) as connection:
        for queue in queues:
            channel = connection.channel()
            try:
                state = channel.queue_declare(queue.name, passive=True).method
            except ChannelClosedByBroker:
                continue
            found.append(QueueStatus(queue.name, state.message_count, state.consumer_count))
            channel.close()
    return found


@contextmanager
def _connected(urls: str) -> Iterator[Any]:
    try:
        connection = pika.BlockingConnection(connection_parameters(urls))
        try:
            yield connection
        finally:
            if connection.is_open:
                connection.close()
    except UNREACHABLE as error:
        raise NotPublished(f"RabbitMQ cannot be reached: {error!r}; check RABBITMQ_URL") from error


def joined(queues: Sequence[QueueStatus], flows: Sequence[QueueFlow]) -> list[QueueStatus]:
    """Our own queues in the order of their declaration, then other queues by name, each with its flow."""
    by_name = {flow.name: flow for flow in flows}
    own = {queue.name for queue in queues}
    found = [replace(queue, flow=by_name.get(queue.name)) for queue in queues]
    found += [
        QueueStatus(flow.name, flow.messages, flow.consumers, flow) for flow in flows if flow.name not in own
    ]
    return found
