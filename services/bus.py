"""Publishing messages, without importing whoever answers them."""

import asyncio
import time
from collections import deque
from uuid import uuid4

import orjson
import structlog
from sqlalchemy import text

from schema.errors import DatabaseUnavailable, NotPublished
from schema.messages import Message
from services.database import Database
from services.publisher import Publisher

log = structlog.get_logger(__name__)

_PARK = text("INSERT INTO parked_messages (queue, body, reason) VALUES (:queue, :body, :reason)")

# Oldest first. A second process that sends at the same time finds these rows locked and takes others.
_UNPARK = text("""
    DELETE FROM parked_messages
    WHERE id IN (
        SELECT id FROM parked_messages ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING id, queue, body
""")

_UNPARK_AT_ONCE = 200

#: Seconds to wait for a confirm before a message is parked: replies wait as long. If it did arrive, its parked
#: copy does no harm.
PATIENCE_S = 0.4

#: Seconds between two tries to send what is parked.
UNPARK_S = 5

#: Messages held in memory while RabbitMQ and PostgreSQL are both away.
HELD_AT_MOST = 10_000


class Bus:
    """Publishes messages, confirmed; what RabbitMQ does not take is parked in PostgreSQL.

    Args:
        publisher: The connection to RabbitMQ.
        database: Where messages are parked.
    """

    def __init__(self, publisher: Publisher, database: Database) -> None:
        self._publisher = publisher
        self._database = database
        self._held: deque[tuple[str, bytes, str]] = deque()
        self._parking = asyncio.Lock()

    async def publish(self, message: Message) -> bool:
        """Publish a message; or park it; or, while both servers are away, hold it in memory.

        A message is held no longer than the process lives, and at most 10,000 are: past that the oldest is
        lost, which is logged. Whoever publishes need not know; :meth:`send_parked` sees to the rest.

        Returns:
            Whether RabbitMQ has confirmed it; otherwise it is kept until RabbitMQ is back.
        """
        body = encode(message)
        try:
            await self._publisher.send(message.queue, body, patience=PATIENCE_S)
        except NotPublished as error:
            self._hold(message.queue, body, str(error))
            try:
                await self._park_held()
            except DatabaseUnavailable:
                log.warning("message.held", message=message.actor, held=len(self._held))
            else:
                log.warning("message.parked", message=message.actor, reason=str(error))
            return False
        return True

    async def send_parked(self) -> int:
        """Park what is held; then, if the broker is back, send what is parked, oldest first.

        A message leaves the table in the transaction that saw it confirmed: a crash in between sends it a
        second time, which every handler stands.

        Returns:
            How many were sent.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
            NotPublished: RabbitMQ went away again; the rest stays parked.
        """
        await self._park_held()
        sent = 0
        while self._publisher.connected:
            async with self._database.transaction() as connection:
                parked = sorted(await connection.execute(_UNPARK, {"limit": _UNPARK_AT_ONCE}))
                for _, queue, body in parked:
                    await self._publisher.send(queue, _as_a_copy(body))
            if not parked:
                break
            sent += len(parked)
            log.info("parked_messages.sent", count=len(parked))
        return sent

    def _hold(self, queue: str, body: bytes, reason: str) -> None:
        if len(self._held) >= HELD_AT_MOST:
            lost, _, _ = self._held.popleft()
            log.error("message.lost", queue=lost, held=len(self._held))
        self._held.append((queue, body, reason))

    async def _park_held(self) -> None:
        async with self._parking:  # those who come meanwhile find theirs parked, or park all that came
            held = list(self._held)
            if not held:
                return
            async with self._database.transaction() as connection:
                await connection.execute(
                    _PARK, [{"queue": queue, "body": body, "reason": reason} for queue, body, reason in held]
                )
            for each in held:  # the oldest may have been lost meanwhile
                if each in self._held:
                    self._held.remove(each)


def _as_a_copy(body: bytes) -> bytes:
    """The same message under an id of its own.

    The first one may have arrived after all, and whoever has both must not take one for the other.
    """
    return orjson.dumps(orjson.loads(body) | {"message_id": str(uuid4())})


def encode(message: Message) -> bytes:
    """The Dramatiq message that carries ``message`` to its actor, as it goes over the wire.

    Written out here because this stands on the serving path; a test decodes it with Dramatiq's own class.
    """
    return orjson.dumps(
        {
            "queue_name": message.queue,
            "actor_name": message.actor,
            "args": (),
            "kwargs": message.arguments(),
            "options": {},
            "message_id": str(uuid4()),
            "message_timestamp": int(time.time() * 1000),
        }
    )
