"""Publishes messages; those that RabbitMQ does not confirm are parked in PostgreSQL and sent later."""

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

# One process at a time sends parked messages: two would mix up their order.
_MY_TURN = text("SELECT pg_try_advisory_xact_lock(hashtext('parked_messages'))")
_NEXT = text("SELECT id, queue, body FROM parked_messages WHERE id > :after ORDER BY id LIMIT :limit")
_SENT = text("DELETE FROM parked_messages WHERE id = ANY(:ids)")

_UNPARK_AT_ONCE = 500
_PARK_AT_ONCE = 1000

#: Seconds to wait for a confirm before a message is parked, and then for PostgreSQL before it is held in memory. A
#: reply waits for both and must take less than half a second. A message that arrived after all is only duplicated.
PATIENCE_S = 0.2
PARKING_PATIENCE_S = 0.08
#: Seconds that PostgreSQL has to insert messages.
PARKING_S = 2.0

#: Seconds between two attempts to send parked messages.
UNPARK_S = 5

#: The most messages held in memory while RabbitMQ and PostgreSQL are both away.
HELD_AT_MOST = 10_000

#: Seconds that a stopping process has to park the messages it holds.
CLOSING_S = 5.0

_Row = dict[str, Any]


class Bus:
    """Publishes messages with confirms; parks those that RabbitMQ does not take."""

    def __init__(self, publisher: Publisher, database: Database) -> None:
        self._publisher = publisher
        self._database = database
        self._parking = Coalescer(self._park)
        #: Messages that are not parked yet, in their order of arrival; they are parked in this order.
        self._unparked: dict[int, _Row] = {}
        #: Those of them whose publishers no longer wait: PostgreSQL did not take them in time.
        self._held: set[int] = set()
        self._places = itertools.count()
        self._emptying: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        #: While RabbitMQ does not confirm, only one message at a time is sent to it, to find out if it works again.
        self._probing = False
        self._parked = _Tally(lambda **about: log.warning("message.parked", **about))
        self._kept = _Tally(lambda **about: log.warning("message.held", **about))
        self._lost = _Tally(lambda **about: log.error("message.lost", **about))

    async def publish(self, message: Message) -> bool:
        """Publish a message. If that fails, park it; if PostgreSQL is away too, hold it in memory.

        Held messages are lost when the process is killed. At most 10,000 are held; beyond that the oldest is lost,
        which is counted and logged. :meth:`send_parked` sends parked and held messages later.

        Returns True if RabbitMQ has confirmed the message, False if it is kept until RabbitMQ is back.
        """
        body = encode(message)
        # No reader waits for other messages, and a duplicate of those costs more than a duplicate request.
        hurried = isinstance(message, HoroscopeRequested)
        try:
            await self._send(message.queue, body, PATIENCE_S if hurried else CONFIRM_TIMEOUT_S)
        except NotPublished as error:
            # PostgreSQL stores no lone surrogate and no NUL; one refused message would stop all that follow.
            reason = str(error).encode(errors="replace").decode().replace("\0", "")
            row = {"queue": message.queue, "body": body, "reason": reason}
            await self._keep(row, PARKING_PATIENCE_S if hurried else None)
            return False
        return True

    async def _keep(self, row: _Row, patience: float | None) -> None:
        """Park a message; hold it if that fails or takes longer than ``patience`` seconds."""
        place = next(self._places)
        self._unparked[place] = row
        try:
            async with asyncio.timeout(patience):
                await self._parking.ask(place)
        except Exception as error:
            if isinstance(error, TimeoutError) and self._emptying is None:
                # PostgreSQL may be slow but not away: do not wait for the next round of send_parked.
                self._emptying = asyncio.create_task(self._empty(), name="parking")
            if not isinstance(error, DatabaseUnavailable | TimeoutError):
                log.exception("message.not_parked")
        finally:
            if place in self._unparked:
                self._hold(place)

    async def _empty(self) -> None:
        try:
            with suppress(Exception):  # the next round of send_parked reports it
                while self._held:
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
        """Park held messages; then, if RabbitMQ is back, send the parked ones in order. Returns their number.

        A message is deleted in the transaction that saw it confirmed. A crash in between sends it twice, which
        every handler tolerates. Raises DatabaseUnavailable while PostgreSQL is away.
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
        """Open nothing."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Park held messages; log those that are lost."""
        with suppress(Exception):  # whatever fails, the loss is logged below
            async with asyncio.timeout(CLOSING_S):
                if self._emptying:
                    await asyncio.wait({self._emptying})
                await self._park_held()
        if self._emptying:
            self._emptying.cancel()
        self._lose(
            [self._unparked.pop(place) for place in self._held],
            "the process ends while RabbitMQ and PostgreSQL are both away",
        )
        for tally in (self._parked, self._lost):
            tally.say()

    async def _send_next(self, after: int) -> tuple[int, int]:
        """Send the oldest parked messages with an id above ``after``; only one while RabbitMQ does not confirm.

        Returns how many were sent, and the last id read; 0 when none are left or another process is sending.
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
        """Insert messages, and before them every older one that is not parked yet.

        Each stays in memory until that is done, so that none is lost when it is cancelled.
        """
        async with self._one_at_a_time:  # two calls would park some messages twice
            last = max(places)
            while rows := self._oldest(last):
                await self._insert([*rows.values()])
                for place in rows:
                    self._unparked.pop(place, None)
                    self._held.discard(place)
            metrics.HELD.set(len(self._held))
        return [None] * len(places)

    def _oldest(self, last: int) -> dict[int, _Row]:
        """The oldest messages that are not parked yet, up to one of them."""
        oldest = itertools.islice(self._unparked.items(), _PARK_AT_ONCE)
        return {place: row for place, row in oldest if place <= last}

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

    def _hold(self, place: int) -> None:
        self._held.add(place)
        if len(self._held) > HELD_AT_MOST:
            oldest = next(place for place in self._unparked if place in self._held)
            self._held.remove(oldest)
            self._lose(
                [self._unparked.pop(oldest)], "RabbitMQ and PostgreSQL are both away, and memory is full"
            )
        self._kept.add(1, held=len(self._held))
        metrics.HELD.set(len(self._held))

    def _lose(self, rows: Sequence[_Row], reason: str) -> None:
        for row in rows:
            metrics.LOST.labels(row["queue"]).inc()
        self._lost.add(len(rows), reason=reason)

    async def _park_held(self) -> None:
        if self._held:
            await self._park([max(self._held)])  # messages that arrive now are parked in the next round


class _Tally:
    """Logs how often something happened: the first time at once, then at most once a second."""

    def __init__(self, say: Callable[..., object]) -> None:
        self._say = say
        self._count = 0
        self._about: dict[str, Any] = {}
        self._said_at = -1.0

    def add(self, count: int, **about: Any) -> None:
        """Count ``count`` more, and log them if the last log is a second old."""
        self._count += count
        self._about = about
        if time.monotonic() - self._said_at >= 1:
            self.say()

    def say(self) -> None:
        """Log the events that were not logged yet."""
        if self._count:
            self._say(count=self._count, **self._about)
            self._count = 0
            self._said_at = time.monotonic()
