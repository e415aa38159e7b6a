"""Orders missing texts: every night, and every five minutes for any that are missing then."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import text

from schema.messages import DeliverHoroscope, GenerateDay, GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.days import Clock, begins, day_in, days_to_write, first_day_alive
from services.horoscopes.outages import Outages
from services.horoscopes.usage import Usage
from services.horoscopes.waiters import Waiters
from services.messaging.bus import Bus

log = structlog.get_logger(__name__)

#: Names of the ticks in the table ``ticks``.
MIDNIGHT, RECONCILE = "midnight", "reconcile"
#: Seconds between two reconcile ticks.
RECONCILE_EVERY_S = 300

_PRUNE_TEXTS = text("DELETE FROM horoscope_cache WHERE horoscope_date < :first")
_PRUNE_GENERATIONS = text("DELETE FROM generations WHERE horoscope_date < :first")

# Records and returns the signs of a day that must be ordered: those without a text that are not being handled. A sign
# is being handled while it has a live lease; while its ladder is about to retry; shortly after an order; or until the
# next night if it was given up this night, unless the model refused an endpoint that we no longer use. A person's order
# (:anew) skips only texts that are being written now.
_ORDER = text("""
    INSERT INTO generations AS generation (zodiac_sign, horoscope_date, state, token, ladder)
    SELECT sign.name, :day, 'pending', 0, 'night'
    FROM unnest(CAST(:signs AS text[])) AS sign (name)
    WHERE NOT EXISTS (
        SELECT FROM horoscope_cache WHERE zodiac_sign = sign.name AND horoscope_date = :day)
    ORDER BY sign.name
    ON CONFLICT (zodiac_sign, horoscope_date) DO UPDATE
    SET state = 'pending', since = now(), expires_at = NULL, retry_at = NULL, refused_by = NULL
    WHERE (generation.state = 'writing' AND generation.expires_at > now()) IS NOT TRUE
      AND (:anew OR NOT (
          generation.state = 'retrying' AND generation.retry_at > now() - interval '1 minute'
          OR generation.state = 'pending' AND generation.since > now() - make_interval(secs => :pending)
          OR generation.state = 'given_up' AND generation.since >= :this_night
             AND COALESCE(generation.refused_by, :endpoint) = :endpoint))
    RETURNING zodiac_sign
""")
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('night'))")
_GENERATED = text("SELECT zodiac_sign, generated_at FROM horoscope_cache WHERE horoscope_date = :day")
_TICKED = text("""
    INSERT INTO ticks (name, did) VALUES (:name, :did)
    ON CONFLICT (name) DO UPDATE SET at = now(), did = excluded.did
""")

#: Seconds for which an order counts as on its way. Less than the interval of reconcile ticks, so that the next tick
#: repeats a lost order.
_PENDING_S = RECONCILE_EVERY_S - 60


@dataclass(frozen=True, slots=True, eq=False)
class Night:
    """Orders the texts that must exist, and deletes out-of-date ones."""

    database: Database
    waiters: Waiters
    outages: Outages
    usage: Usage
    bus: Bus
    clock: Clock
    home: ZoneInfo

    async def begin(self) -> None:
        """Order every day that must exist before the next night, today first."""
        days = days_to_write(self.clock(), self.home)
        for day in days:
            await self.bus.publish(GenerateDay(day))
        await self._ticked(MIDNIGHT, f"ordered {_listed(days)}")

    async def order(self, day: date, *, anew: bool = False, again: bool = False) -> int:
        """Delete out-of-date texts, then order the missing texts of a day; returns the number of both.

        ``anew``, a person's order: also texts that were given up, or that a ladder is retrying. ``again``: the message
        was handled before and may have died before it published its orders.
        """
        deleted = await self.prune()
        if day < first_day_alive(self.clock()):
            log.info("day.over", day=day)
            return deleted
        orders = await self._record_orders([day], anew=anew, again=again)
        log.info("day.ordered", day=day, missing=len(orders))
        for order in orders:
            await self.bus.publish(order)
        return deleted + len(orders)

    async def prune(self) -> int:
        """Delete the texts of days that are over everywhere on Earth, and their records; returns the number of texts."""
        now = self.clock()
        first = first_day_alive(now)
        async with self.database.transaction() as connection:
            deleted = await connection.execute(_PRUNE_TEXTS, {"first": first})
            await connection.execute(_PRUNE_GENERATIONS, {"first": first})
        await self.waiters.prune()
        await self.outages.prune()
        if deleted.rowcount:
            log.info("texts.pruned", before=first, count=deleted.rowcount)
        return deleted.rowcount

    async def reconcile(self, *, again: bool = False) -> int:
        """Order missing texts that no worker handles, and answer overdue waiters; ``again`` as for :meth:`order`.

        Returns the number of texts that were ordered, or asked for again because readers wait for them.
        """
        did = await self.usage.exhausted()
        orders = []
        if did is None:
            did = "nothing was missing"
            orders = await self._record_orders(days_to_write(self.clock(), self.home), again=again)
        if orders:
            did = f"ordered {len(orders)} missing texts of {_listed({order.day for order in orders})}"
            log.info("texts.missing", count=len(orders))
            await self.prune()
        for order in orders:
            await self.bus.publish(order)
        if nudged := await self.nudge_waiters():
            did += f"; asked again for {nudged} texts that readers wait for"
        await self._ticked(RECONCILE, did)
        return len(orders) + nudged

    async def nudge_waiters(self) -> int:
        """Ask again for texts whose waiters are overdue, and end too long waits; returns the number of texts."""
        for waiter in await self.waiters.abandon():
            log.error("waiter.abandoned", request=waiter.request_id, since=waiter.created_at)
        overdue = await self.waiters.overdue()
        for waiter, bound in overdue:
            if waiter.created_at < bound:
                log.error("waiter.timed_out", sign=waiter.sign, day=waiter.day, since=waiter.created_at)
                await self.bus.publish(DeliverHoroscope(waiter.sign, waiter.day, given_up_at=bound))
            else:
                log.warning("waiter.overdue", sign=waiter.sign, day=waiter.day, since=waiter.created_at)
                await self.bus.publish(
                    HoroscopeRequested(
                        waiter.request_id, waiter.sign, waiter.day, answered=False, at=waiter.created_at
                    )
                )
        return len(overdue)

    async def _record_orders(
        self, days: Sequence[date], *, anew: bool = False, again: bool = False
    ) -> list[GenerateHoroscope]:
        """The orders to publish, by day and sign. Concurrent callers never receive the same order."""
        now = self.clock()
        values = {
            "signs": [sign.value for sign in Sign],
            "anew": anew,
            "pending": 0 if again else _PENDING_S,
            "this_night": begins(day_in(self.home, now), self.home),
            "endpoint": self.outages.endpoint,
        }
        orders = []
        async with self.database.transaction() as connection:
            # One caller receives all orders, so that the days keep their order in the queue.
            await connection.execute(_ONE_AT_A_TIME)
            for day in days:
                ordered = set((await connection.execute(_ORDER, values | {"day": day})).scalars())
                orders += [GenerateHoroscope(sign, day) for sign in Sign if sign in ordered]
        return orders

    async def _ticked(self, name: str, did: str) -> None:
        async with self.database.transaction() as connection:
            await connection.execute(_TICKED, {"name": name, "did": did})


def _listed(days: Iterable[date]) -> str:
    return ", ".join(str(day) for day in sorted(days))


async def generated(database: Database, day: date) -> dict[Sign, datetime]:
    """When the texts of a day were generated, by sign; raises DatabaseUnavailable while PostgreSQL is away."""
    async with database.transaction() as connection:
        rows = await connection.execute(_GENERATED, {"day": day})
        return {Sign(row.zodiac_sign): row.generated_at for row in rows}
