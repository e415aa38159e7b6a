"""Writing one text: under its lease, held against the rules, stored together with where it came from."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from services.process.logs import Mask

log = structlog.get_logger(__name__)

#: Seconds that a new reader is left to wait for a model that is known to be down.
HOPE_S = 5.0

# Signs of one day that are stored at once wait for each other here, so that each is held against the others.
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


class Writer:
    """Turns an order into a stored text, and tells those who wait.

    Args:
        database: Where the texts are.
        leases: The right to write one.
        author: Who writes it.
        usage: What the model costs.
        outages: What is known of the model's being away.
        waiters: Who waits for a text.
        bus: How they are told.
        clock: The time.
        mask: Applied to errors before they are kept.
    """

    def __init__(
        self,
        database: Database,
        leases: Leases,
        author: Author,
        usage: Usage,
        outages: Outages,
        waiters: Waiters,
        bus: Bus,
        clock: Clock,
        mask: Mask,
    ) -> None:
        self._database = database
        self._leases = leases
        self._author = author
        self._usage = usage
        self._outages = outages
        self._waiters = waiters
        self._bus = bus
        self._clock = clock
        self._mask = mask

    async def write(self, sign: Sign, day: date, order: Order) -> Refusal | None:
        """Write the text of a sign and a day, unless it exists or somebody else is at it.

        Whoever waits is answered in any case: with the text; or with the error once a reader's ladder has
        ended, or the next try is far away, or, if they came while the model was known to be down, soon. Where
        the night fails while somebody waits, the readers' own, shorter ladder begins.

        Returns:
            None when this call wrote the text; otherwise why it did not need to.

        Raises:
            PassingError: It failed and may be tried again, if the order has another try.
            PermanentError: Another try would fail the same way.
        """
        if day < first_day_alive(self._clock()):
            log.info("order.passed_over", sign=sign, day=day, reason=Refusal.OVER)
            await self._tell_all(sign, day)
            return Refusal.OVER
        if order.ladder is Ladder.NIGHT and not order.replaces and (reason := await self._usage.exhausted()):
            log.warning("order.passed_over", sign=sign, day=day, reason=reason)
            return Refusal.LIMITED
        lease = await self._leases.acquire(sign, day, order)
        if isinstance(lease, Refusal):
            await self._refused(sign, day, order, lease)
            return lease
        try:
            async with self._leases.kept(lease), self._newcomers_told(lease, order):
                draft = await self._write(lease)
        except LeaseLost:
            raise
        except DatabaseUnavailable:
            raise  # the order goes back to its queue, and enters its lease again
        except Exception as error:
            await self._failed(lease, order, error)
            raise
        log.info(
            "horoscope.written", sign=sign, day=day, attempt=order.attempt.number, latency_ms=draft.latency_ms
        )
        await self._bus.publish(DeliverHoroscope(sign, day))
        return None

    async def give_up(self, sign: Sign, day: date, holder: str, error: Exception) -> None:
        """The message that held a lease will not be tried again; tell those who wait."""
        since = await self._leases.give_up(sign, day, holder, self._mask(str(error)))
        if since is not None:
            log.warning("horoscope.given_up", sign=sign, day=day, reason=str(error))
            await self._bus.publish(DeliverHoroscope(sign, day, given_up_at=since))

    async def _write(self, lease: Lease) -> Draft:
        """One call to the model, and one more with the reason told if its text breaks a rule."""
        try:
            return await self._draft(lease)
        except TextRejected as error:
            log.info("text.rejected", sign=lease.sign, day=lease.day, reason=str(error))
            return await self._draft(lease, Rejected(error.reason, error.text))

    async def _draft(self, lease: Lease, rejected: Rejected | None = None) -> Draft:
        try:
            draft = await self._author.write(lease.sign, lease.day, rejected)
        except TextRejected as error:
            if error.answer:
                await self._answered(lease, error.answer)
            raise
        await self._answered(lease, draft)
        await self._store(lease, draft)
        return draft

    async def _answered(self, lease: Lease, answer: Answer) -> None:
        """Whatever it says, the model has answered, and that has its price."""
        await self._outages.over()
        await self._usage.add(lease.sign, lease.day, answer)

    async def _store(self, lease: Lease, draft: Draft) -> None:
        key = {"sign": lease.sign, "day": lease.day}
        async with self._database.transaction() as connection:
            await connection.execute(_ONE_OF_A_DAY, {"day": lease.day})
            await self._leases.finish(connection, lease)
            around = {"day_before": lease.day - ONE_DAY, "day_after": lease.day + ONE_DAY}
            rows = await connection.execute(_NEIGHBOURS, key | around)
            neighbours = [rules.Neighbour(Sign(sign), day, content) for sign, day, content in rows]
            rules.check(draft.text, self._author.language, neighbours)
            await connection.execute(_STORE, key | {"content": draft.text})
            provenance = {"model": draft.model, "prompt_version": draft.prompt_version}
            await connection.execute(_PROVENANCE, key | provenance)

    async def _refused(self, sign: Sign, day: date, order: Order, refusal: Refusal) -> None:
        """There is no lease: what does that mean for those who wait?"""
        if refusal is Refusal.WRITTEN:
            await self._bus.publish(DeliverHoroscope(sign, day))
        elif order.ladder is Ladder.REQUEST and refusal is Refusal.FAR_OFF:
            await self._tell_all(sign, day)
        elif order.ladder is Ladder.REQUEST:
            await self._tell_newcomers(sign, day, await self._outages.current())

    @asynccontextmanager
    async def _newcomers_told(self, lease: Lease, order: Order) -> AsyncIterator[None]:
        """While the model is known to be down, its call is not waited for to the end."""

        async def tell() -> None:
            await asyncio.sleep(HOPE_S)
            await self._tell_newcomers(lease.sign, lease.day, await self._outages.current())

        telling = asyncio.create_task(tell(), name="newcomers") if order.ladder is Ladder.REQUEST else None
        try:
            yield
        finally:
            if telling:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)

    async def _tell_all(self, sign: Sign, day: date) -> None:
        """Whoever waits at this moment is told that there will be no text soon."""
        async with self._database.transaction() as connection:
            now: datetime = (await connection.execute(_NOW)).scalar_one()
        await self._bus.publish(DeliverHoroscope(sign, day, given_up_at=now))

    async def _tell_newcomers(self, sign: Sign, day: date, outage: Outage | None) -> None:
        if outage and outage.known_at:
            await self._bus.publish(
                DeliverHoroscope(sign, day, given_up_at=outage.now, came_after=outage.known_at)
            )

    async def _failed(self, lease: Lease, order: Order, error: Exception) -> None:
        retry_in = seconds_before_retry(error, order.attempt.retry_in)
        reason = self._mask(str(error) or type(error).__name__).replace("\0", "")
        outage = None
        if isinstance(error, ModelUnavailable | ModelRefused):
            outage = await self._outages.failed(error, reason)
        refused_by = None
        if isinstance(error, ModelRefused) and outage:
            error.on_record = outage.repeated  # one dead letter says so for all
            refused_by = self._outages.endpoint if error.everything else None
        since = await self._leases.fail(lease, reason, retry_in, refused_by=refused_by)
        log.warning(
            "horoscope.failed", sign=lease.sign, day=lease.day, attempt=order.attempt.number,
            retry_in=retry_in, reason=reason,
        )  # fmt: skip
        if since is not None:
            await self._tell(lease, order, since, outage, retry_in)

    async def _tell(
        self, lease: Lease, order: Order, since: datetime, outage: Outage | None, retry_in: int | None
    ) -> None:
        """Tell those who wait what the failure means for them."""
        if order.ladder is Ladder.REQUEST:
            if retry_in is None or retry_in > PATIENCE_S:
                await self._bus.publish(DeliverHoroscope(lease.sign, lease.day, given_up_at=since))
            else:
                await self._tell_newcomers(lease.sign, lease.day, outage)
        elif waiter := await self._waiters.oldest(lease.sign, lease.day):
            await self._bus.publish(
                HoroscopeRequested(
                    waiter.request_id, lease.sign, lease.day, answered=False, at=waiter.created_at
                )
            )
