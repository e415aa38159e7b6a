"""Publishing messages, without importing whoever answers them."""

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import structlog
from sqlalchemy import text

from schema.errors import DatabaseUnavailable, NotPublished
from schema.messages import HoroscopeRequested, Message
from services.database.coalescing import Coalescer
from services.database.pool import Database
from services.messaging.envelope import as_a_copy, encode
from services.messaging.publisher import CONFIRM_TIMEOUT_S, Publisher
from services.process import metrics

log = structlog.get_logger(__name__)

_PARK = text("""
    INSERT INTO parked_messages (queue, body, reason)
    SELECT queue, body, reason
    FROM unnest(CAST(:queues AS text[]), CAST(:bodies AS bytea[]), CAST(:reasons AS text[]))
         WITH ORDINALITY AS row (queue, body, reason, place)
    ORDER BY place
""")

# One process at a time sends what is parked: two would mix up the order.
_MY_TURN = text("SELECT pg_try_advisory_xact_lock(hashtext('parked_messages'))")
_NEXT = text("SELECT id, queue, body FROM parked_messages WHERE id > :after ORDER BY id LIMIT :limit")
_SENT = text("DELETE FROM parked_messages WHERE id = ANY(:ids)")

_UNPARK_AT_ONCE = 500
_PARK_AT_ONCE = 1000

#: Seconds to wait for a confirm before a message is parked, and for it to be parked before it is held in memory:
#: replies wait as long, and must not take longer than half a second. If a message did arrive after all, its parked
#: copy does no harm.
PATIENCE_S = 0.2
PARKING_PATIENCE_S = 0.08
#: Seconds that PostgreSQL is given to take what is parked.
PARKING_S = 2.0

#: Seconds between two tries to send what is parked.
UNPARK_S = 5

#: Messages held in memory while RabbitMQ and PostgreSQL are both away.
HELD_AT_MOST = 10_000

#: Seconds that a stopping process tries to park what it holds, behind what is being parked already.
CLOSING_S = 5.0

_Row = dict[str, Any]


class Bus:
    """Publishes messages, confirmed; what RabbitMQ does not take is parked in PostgreSQL.

    Args:
        publisher: The connection to RabbitMQ.
        database: Where messages are parked.
    """

    def __init__(self, publisher: Publisher, database: Database) -> None:
        self._publisher = publisher
        self._database = database
        self._parking = Coalescer(self._park)
        #: What PostgreSQL is asked to take, and what it did not take, by the order of its coming.
        self._asked: dict[int, _Row] = {}
        self._held: dict[int, _Row] = {}
        self._places = itertools.count()
        self._emptying: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        #: While RabbitMQ is silent, one message at a time finds out whether it still is.
        self._probing = False
        self._parked = _Tally(lambda **about: log.warning("message.parked", **about))
        self._kept = _Tally(lambda **about: log.warning("message.held", **about))
        self._lost = _Tally(lambda **about: log.error("message.lost", **about))

    async def publish(self, message: Message) -> bool:
        """Publish a message; or park it; or, while both servers are away, hold it in memory.

        A message is held no longer than the process lives, and at most 10,000 are: past that the oldest is
        lost, which is counted and logged. Whoever publishes need not know; :meth:`send_parked` sees to the rest.

        Returns:
            Whether RabbitMQ has confirmed it; otherwise it is kept until RabbitMQ is back.
        """
        body = encode(message)
        # Nobody waits for the others, and a second copy of an order costs more than of a reader's request.
        hurried = isinstance(message, HoroscopeRequested)
        try:
            await self._send(message.queue, body, PATIENCE_S if hurried else CONFIRM_TIMEOUT_S)
        except NotPublished as error:
            row = {"queue": message.queue, "body": body, "reason": str(error)}
            await self._keep(row, PARKING_PATIENCE_S if hurried else None)
            return False
        return True

    async def _keep(self, row: _Row, patience: float | None) -> None:
        """Park a message; or hold it, if that fails or takes longer than so many seconds."""
        place = next(self._places)
        self._asked[place] = row
        try:
            async with asyncio.timeout(patience):
                await self._parking.ask(place)
        except Exception as error:
            if isinstance(error, TimeoutError) and self._emptying is None:
                # PostgreSQL may be slow and not away: that is soon over.
                self._emptying = asyncio.create_task(self._empty(), name="parking")
            if not isinstance(error, DatabaseUnavailable | TimeoutError):
                log.exception("message.not_parked")
        finally:
            if place in self._asked:
                self._hold(place, self._asked.pop(place))

    async def _empty(self) -> None:
        try:
            with suppress(Exception):  # the next round of the chores will say it
                await self._park_held()
        finally:
            self._emptying = None

    async def _send(self, queue: str, body: bytes, patience: float) -> None:
        if not self._publisher.silent:
            await self._publisher.send(queue, body, patience=patience)
            return
        if self._probing:
            raise NotPublished("RabbitMQ does not confirm in time")
        self._probing = True
        try:
            await self._publisher.send(queue, body, patience=patience)
        finally:
            self._probing = False

    async def send_parked(self) -> int:
        """Park what is held; then, if the broker is back, send what is parked, oldest first.

        A message leaves the table in the transaction that saw it confirmed: a crash in between sends it a
        second time, which every handler stands.

        Returns:
            How many were sent.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        for tally in (self._parked, self._kept, self._lost):
            tally.say()
        await self._park_held()
        total = last = 0
        while self._publisher.connected:
            sent, last = await self._send_next(after=last)
            if sent:
                log.info("parked_messages.sent", count=sent)
            total += sent
            if not last:
                break
        return total

    async def __aenter__(self) -> Self:
        """Nothing is opened."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Park what is held; say what cannot be kept."""
        with suppress(Exception):  # whatever it is, what is lost for it is said
            async with asyncio.timeout(CLOSING_S):
                if self._emptying:
                    await asyncio.wait({self._emptying})
                await self._park_held()
        if self._emptying:
            self._emptying.cancel()
        self._lose([*self._held.values()], "the process ends while RabbitMQ and PostgreSQL are both away")
        for tally in (self._parked, self._lost):
            tally.say()

    async def _send_next(self, after: int) -> tuple[int, int]:
        """Send the oldest parked messages after one of them; of a silent broker one is enough to ask.

        Returns:
            How many were sent, and the last that was looked at; 0 when there are no more, or it is another's turn.
        """
        limit = 1 if self._publisher.silent else _UNPARK_AT_ONCE
        async with self._database.transaction() as connection:
            if not (await connection.execute(_MY_TURN)).scalar_one():
                return 0, 0
            parked = (await connection.execute(_NEXT, {"after": after, "limit": limit})).all()
            confirmed = await asyncio.gather(
                *(self._publisher.send(row.queue, as_a_copy(row.body)) for row in parked),
                return_exceptions=True,
            )
            sent = [row for row, failed in zip(parked, confirmed, strict=True) if failed is None]
            await connection.execute(_SENT, {"ids": [row.id for row in sent]})
        for row in sent:
            metrics.UNPARKED.labels(row.queue).inc()
        for failed in confirmed:
            if failed is not None and not isinstance(failed, NotPublished):
                raise failed
        return len(sent), 0 if self._publisher.silent or not parked else parked[-1].id

    async def _park(self, places: Sequence[int]) -> list[None]:
        """Until they are parked they stay where they are: what is stopped half-way must find all of them."""
        async with self._one_at_a_time:  # two would park some of them twice
            found = {place: self._asked.get(place) or self._held.get(place) for place in places}
            rows = {place: row for place, row in found.items() if row}
            if rows:
                await self._insert([*rows.values()])
            for place in rows:
                self._asked.pop(place, None)
                self._held.pop(place, None)
            metrics.HELD.set(len(self._held))
        return [None] * len(places)

    async def _insert(self, rows: Sequence[_Row]) -> None:
        try:
            async with asyncio.timeout(PARKING_S), self._database.transaction() as connection:
                await connection.execute(
                    _PARK,
                    {
                        "queues": [row["queue"] for row in rows],
                        "bodies": [row["body"] for row in rows],
                        "reasons": [row["reason"] for row in rows],
                    },
                )
        except TimeoutError as error:
            raise DatabaseUnavailable("PostgreSQL did not park messages in time") from error
        for row in rows:
            metrics.PARKED.labels(row["queue"]).inc()
        self._parked.add(len(rows), reason=rows[-1]["reason"])

    def _hold(self, place: int, row: _Row) -> None:
        self._held[place] = row
        if len(self._held) > HELD_AT_MOST:
            oldest = self._held.pop(next(iter(self._held)))
            self._lose([oldest], "RabbitMQ and PostgreSQL are both away, and memory is full")
        self._kept.add(1, held=len(self._held))
        metrics.HELD.set(len(self._held))

    def _lose(self, rows: Sequence[_Row], reason: str) -> None:
        for row in rows:
            metrics.LOST.labels(row["queue"]).inc()
        self._lost.add(len(rows), reason=reason)

    async def _park_held(self) -> None:
        held = sorted(self._held)  # what comes meanwhile has its turn next time
        for first in range(0, len(held), _PARK_AT_ONCE):
            await self._park(held[first : first + _PARK_AT_ONCE])


class _Tally:
    """Says how often something happened: the first time at once, then no more than once a second."""

    def __init__(self, say: Callable[..., object]) -> None:
        self._say = say
        self._count = 0
        self._about: dict[str, Any] = {}
        self._said_at = -1.0

    def add(self, count: int, **about: Any) -> None:
        """It happened so many times more."""
        self._count += count
        self._about = about
        if time.monotonic() - self._said_at >= 1:
            self.say()

    def say(self) -> None:
        """Say what was not said yet."""
        if self._count:
            self._say(count=self._count, **self._about)
            self._count = 0
            self._said_at = time.monotonic()
