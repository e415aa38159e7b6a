"""Writes one text under a lease, from the order to the row."""

from datetime import date

import structlog
from sqlalchemy import text

from schema.errors import DatabaseUnavailable, LeaseLost, PermanentError
from schema.messages import DeliverHoroscope, HoroscopeRequested
from schema.signs import Sign
from services import text_rules
from services.author import Author, Draft
from services.bus import Bus
from services.database import Database
from services.days import ONE_DAY
from services.leases import Lease, Leases, Order, Refusal
from services.logs import Mask
from services.waiters import Waiters

log = structlog.get_logger(__name__)

_NEIGHBOURS = text("""
    SELECT zodiac_sign, horoscope_date, content FROM horoscope_cache
    WHERE horoscope_date = :day AND zodiac_sign <> :sign
       OR horoscope_date IN (:day_before, :day_after) AND zodiac_sign = :sign
""")
_STORE = text("""
    INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES (:sign, :day, :content)
    ON CONFLICT ON CONSTRAINT uq_horoscope_cache_sign_date
    DO UPDATE SET content = excluded.content, generated_at = now()
""")
_PROVENANCE = text("""
    UPDATE generations SET model = :model, prompt_version = :prompt_version, prompt_tokens = :prompt_tokens,
        completion_tokens = :completion_tokens, latency_ms = :latency_ms
    WHERE zodiac_sign = :sign AND horoscope_date = :day
""")


class Writer:
    """Turns an order into a stored text, and tells those who wait."""

    def __init__(
        self, database: Database, leases: Leases, author: Author, waiters: Waiters, bus: Bus, mask: Mask
    ) -> None:
        self._database = database
        self._leases = leases
        self._author = author
        self._waiters = waiters
        self._bus = bus
        self._mask = mask

    async def write(self, sign: Sign, day: date, order: Order) -> Refusal | None:
        """Write the text of a sign and a day, unless it exists or somebody else is at it.

        Whoever waits is answered in any case: with the text; or with the error once a reader's ladder has
        ended. Where the night fails while somebody waits, the readers' own, shorter ladder begins.

        Returns:
            None when this call wrote the text; otherwise why it did not need to.

        Raises:
            PassingError: It failed and may be tried again, if the order has another try.
            PermanentError: Another try would fail the same way.
        """
        lease = await self._leases.acquire(sign, day, order)
        if isinstance(lease, Refusal):
            if lease is Refusal.WRITTEN:
                await self._bus.publish(DeliverHoroscope(sign, day))
            return lease
        try:
            async with self._leases.kept(lease):
                draft = await self._author.write(sign, day)
                await self._store(lease, draft)
        except LeaseLost:
            raise
        except DatabaseUnavailable:
            raise  # the order goes back to its queue, and enters its lease again
        except Exception as error:
            await self._failed(lease, order, error)
            raise
        log.info("horoscope.written", sign=sign, day=day, attempt=order.attempt, latency_ms=draft.latency_ms)
        await self._bus.publish(DeliverHoroscope(sign, day))
        return None

    async def _store(self, lease: Lease, draft: Draft) -> None:
        key = {"sign": lease.sign, "day": lease.day}
        async with self._database.transaction() as connection:
            await self._leases.finish(connection, lease)
            around = {"day_before": lease.day - ONE_DAY, "day_after": lease.day + ONE_DAY}
            rows = await connection.execute(_NEIGHBOURS, key | around)
            neighbours = [text_rules.Neighbour(Sign(sign), day, content) for sign, day, content in rows]
            text_rules.check(draft.text, self._author.language, neighbours)
            await connection.execute(_STORE, key | {"content": draft.text})
            await connection.execute(
                _PROVENANCE,
                key
                | {
                    "model": draft.model,
                    "prompt_version": draft.prompt_version,
                    "prompt_tokens": draft.prompt_tokens,
                    "completion_tokens": draft.completion_tokens,
                    "latency_ms": draft.latency_ms,
                },
            )

    async def _failed(self, lease: Lease, order: Order, error: Exception) -> None:
        retry_in = None if isinstance(error, PermanentError) else order.retry_in
        reason = self._mask(str(error) or type(error).__name__).replace("\0", "")
        since = await self._leases.fail(lease, reason, retry_in)
        log.warning(
            "horoscope.failed", sign=lease.sign, day=lease.day, attempt=order.attempt,
            retry_in=retry_in, reason=reason,
        )  # fmt: skip
        if since is None:
            return
        if order.ladder == "request" and retry_in is None:
            await self._bus.publish(DeliverHoroscope(lease.sign, lease.day, given_up_at=since))
        elif order.ladder == "night" and (waiter := await self._waiters.oldest(lease.sign, lease.day)):
            await self._bus.publish(
                HoroscopeRequested(
                    waiter.request_id, lease.sign, lease.day, answered=False, at=waiter.created_at
                )
            )
