"""Writes a text: under its lease, checked against the rules, stored together with its origin."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime

import structlog
from sqlalchemy import text

from schema.errors import (
    Answer,
    DatabaseUnavailable,
    LeaseLost,
    ModelRefused,
    ModelUnavailable,
    TextRejected,
    seconds_before_retry,
)
from schema.messages import DeliverHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.days import ONE_DAY, Clock, first_day_alive
from services.horoscopes import rules
from services.horoscopes.leases import PATIENCE_S, Lease, Leases, Order, Refusal
from services.horoscopes.model import Author, Draft
from services.horoscopes.outages import Outage, Outages
from services.horoscopes.prompt import Rejected
from services.horoscopes.usage import Usage
from services.horoscopes.waiters import Waiters
from services.messaging.attempts import Ladder
from services.messaging.bus import Bus
from services.process.descriptions import said
from services.process.logs import Mask

log = structlog.get_logger(__name__)

#: Seconds that a new reader waits for a model that is known to be down.
HOPE_S = 5.0

# Concurrent writers of one day take turns here, so that each text is checked against the others.
_ONE_OF_A_DAY = text(
    "SELECT pg_advisory_xact_lock(hashtext('horoscopes'), CAST(:day AS date) - DATE '2000-01-01')"
)
_NEIGHBOURS = text("""
    SELECT zodiac_sign, horoscope_date, content FROM horoscope_cache
    WHERE horoscope_date = :day AND zodiac_sign <> :sign
       OR horoscope_date IN (:day_before, :day_after) AND zodiac_sign = :sign
""")
_NOW = text("SELECT now()")
_STORE = text("""
    INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES (:sign, :day, :content)
    ON CONFLICT ON CONSTRAINT uq_horoscope_cache_sign_date
    DO UPDATE SET content = excluded.content, generated_at = now()
""")
_PROVENANCE = text("""
    UPDATE generations SET model = :model, prompt_version = :prompt_version
    WHERE zodiac_sign = :sign AND horoscope_date = :day
""")


@dataclass(frozen=True, slots=True, eq=False)
class Writer:
    """Turns an order into a stored text, and has the waiting readers answered."""

    database: Database
    leases: Leases
    author: Author
    usage: Usage
    outages: Outages
    waiters: Waiters
    bus: Bus
    clock: Clock
    mask: Mask

    async def write(self, sign: Sign, day: date, order: Order) -> Refusal | None:
        """Write the text of a sign and day, unless it exists or another worker is writing it.

        Waiting readers always get an answer: the text, or an error. They get the error when the reader's ladder has ended,
        when the next attempt is far off, or soon, if they came while the model was known to be down. If the night fails
        while a reader waits, the shorter ladder of requests begins.

        Returns:
            None: this call wrote the text. Otherwise, why it did not.

        Raises:
            PassingError: It failed; the order may have another attempt.
            PermanentError: It failed, and another attempt would fail too.
        """
        if day < first_day_alive(self.clock()):
            log.info("order.skipped", sign=sign, day=day, reason=Refusal.OVER)
            await self._tell_all(sign, day)
            return Refusal.OVER
        if order.ladder is Ladder.NIGHT and not order.replaces and (reason := await self.usage.exhausted()):
            log.warning("order.skipped", sign=sign, day=day, reason=reason)
            return Refusal.LIMITED
        lease = await self.leases.acquire(sign, day, order)
        if isinstance(lease, Refusal):
            await self._refused(sign, day, order, lease)
            return lease
        try:
            async with self.leases.kept(lease), self._answering_newcomers(lease, order):
                draft = await self._write(lease)
        except (LeaseLost, DatabaseUnavailable):
            raise  # while PostgreSQL is away, the order goes back to its queue and re-enters its lease
        except Exception as error:
            await self._failed(lease, order, error)
            raise
        log.info(
            "horoscope.written", sign=sign, day=day, attempt=order.attempt.number, latency_ms=draft.latency_ms
        )
        await self.bus.publish(DeliverHoroscope(sign, day))
        return None

    async def give_up(self, sign: Sign, day: date, holder: str, error: Exception) -> None:
        """Give up the text whose lease a message held, and tell the waiting readers."""
        since = await self.leases.give_up(sign, day, holder, self.mask(said(error)))
        if since is not None:
            log.warning("horoscope.given_up", sign=sign, day=day, reason=str(error))
            await self.bus.publish(DeliverHoroscope(sign, day, given_up_at=since))

    async def _write(self, lease: Lease) -> Draft:
        """Call the model, and once more with the reason if a rule rejects the text."""
        try:
            return await self._draft(lease)
        except TextRejected as error:
            log.info("text.rejected", sign=lease.sign, day=lease.day, reason=str(error))
            return await self._draft(lease, Rejected(error.reason, error.text))

    async def _draft(self, lease: Lease, rejected: Rejected | None = None) -> Draft:
        try:
            draft = await self.author.write(lease.sign, lease.day, rejected)
        except TextRejected as error:
            if error.answer:
                await self._answered(lease, error.answer)
            raise
        await self._answered(lease, draft)
        await self._store(lease, draft)
        return draft

    async def _answered(self, lease: Lease, answer: Answer) -> None:
        """Record an answer of the model and its cost, whether its text is good or not."""
        await self.outages.over()
        await self.usage.add(lease.sign, lease.day, answer)

    async def _store(self, lease: Lease, draft: Draft) -> None:
        key = {"sign": lease.sign, "day": lease.day}
        async with self.database.transaction() as connection:
            await connection.execute(_ONE_OF_A_DAY, {"day": lease.day})
            await self.leases.finish(connection, lease)
            around = {"day_before": lease.day - ONE_DAY, "day_after": lease.day + ONE_DAY}
            rows = await connection.execute(_NEIGHBOURS, key | around)
            neighbours = [rules.Neighbour(Sign(sign), day, content) for sign, day, content in rows]
            rules.check(draft.text, self.author.language, neighbours)
            await connection.execute(_STORE, key | {"content": draft.text})
            provenance = {"model": draft.model, "prompt_version": draft.prompt_version}
            await connection.execute(_PROVENANCE, key | provenance)

    async def _refused(self, sign: Sign, day: date, order: Order, refusal: Refusal) -> None:
        """Answer the waiting readers when no lease was given."""
        if refusal is Refusal.WRITTEN:
            await self.bus.publish(DeliverHoroscope(sign, day))
        elif order.ladder is Ladder.REQUEST and refusal in {Refusal.FAR_OFF, Refusal.TOO_SOON}:
            await self._tell_all(sign, day)
        elif order.ladder is Ladder.REQUEST:
            await self._tell_newcomers(sign, day, await self.outages.current())

    @asynccontextmanager
    async def _answering_newcomers(self, lease: Lease, order: Order) -> AsyncIterator[None]:
        """During an outage, tell new readers after a few seconds instead of when the model's call ends."""

        async def tell() -> None:
            await asyncio.sleep(HOPE_S)
            await self._tell_newcomers(lease.sign, lease.day, await self.outages.current())

        telling = asyncio.create_task(tell(), name="newcomers") if order.ladder is Ladder.REQUEST else None
        try:
            yield
        finally:
            if telling:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def _tell_all(self, sign: Sign, day: date) -> None:
        """Tell all readers who wait now that there will be no text soon."""
        async with self.database.transaction() as connection:
            now: datetime = (await connection.execute(_NOW)).scalar_one()
        await self.bus.publish(DeliverHoroscope(sign, day, given_up_at=now))

    async def _tell_newcomers(self, sign: Sign, day: date, outage: Outage | None) -> None:
        if outage and outage.known_at:
            await self.bus.publish(
                DeliverHoroscope(sign, day, given_up_at=outage.now, came_after=outage.known_at)
            )

    async def _failed(self, lease: Lease, order: Order, error: Exception) -> None:
        retry_in = seconds_before_retry(error, order.attempt.retry_in)
        reason = self.mask(said(error))
        outage = None
        if isinstance(error, ModelUnavailable | ModelRefused):
            outage = await self.outages.failed(error, reason)
        refused_by = None
        if isinstance(error, ModelRefused) and outage:
            error.on_record = outage.repeated  # the first failure's dead letter stands for all
            refused_by = self.outages.endpoint if error.everything else None
        nonsense = isinstance(error, TextRejected)
        since = await self.leases.fail(lease, reason, retry_in, refused_by=refused_by, nonsense=nonsense)
        log.warning(
            "horoscope.failed", sign=lease.sign, day=lease.day, attempt=order.attempt.number,
            retry_in=retry_in, reason=reason,
        )  # fmt: skip
        if since is not None:
            await self._tell(lease, order, since, outage, retry_in)

    async def _tell(
        self, lease: Lease, order: Order, since: datetime, outage: Outage | None, retry_in: int | None
    ) -> None:
        """Tell the waiting readers what the failure means for them."""
        if order.ladder is Ladder.REQUEST:
            if retry_in is None or retry_in > PATIENCE_S:
                await self.bus.publish(DeliverHoroscope(lease.sign, lease.day, given_up_at=since))
            else:
                await self._tell_newcomers(lease.sign, lease.day, outage)
        elif waiter := await self.waiters.oldest(lease.sign, lease.day):
            await self.bus.publish(
                HoroscopeRequested(
                    waiter.request_id, lease.sign, lease.day, answered=False, at=waiter.created_at
                )
            )
