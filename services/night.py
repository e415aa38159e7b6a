"""What should exist, held against what does: the night's orders, and those of every five minutes."""

from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import text

from schema.messages import DeliverHoroscope, GenerateDay, GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.bus import Bus
from services.database import Database
from services.days import Clock, day_in, days_to_write, first_day_alive
from services.views import Views
from services.waiters import Waiters

log = structlog.get_logger(__name__)

_PRUNE_TEXTS = text("DELETE FROM horoscope_cache WHERE horoscope_date < :first")
_PRUNE_GENERATIONS = text("DELETE FROM generations WHERE horoscope_date < :first")
_WRITTEN = text("SELECT zodiac_sign FROM horoscope_cache WHERE horoscope_date = :day")
# Somebody deals with these: a live lease, a ladder about to try again, or a night that gave up on them and
# leaves them to the next.
_ATTENDED = text("""
    SELECT zodiac_sign FROM generations
    WHERE horoscope_date = :day
      AND (state = 'writing' AND expires_at > now()
           OR state = 'retrying' AND retry_at > now() - interval '1 minute'
           OR state = 'given_up' AND since >= :this_night)
""")


class Night:
    """Orders the texts that must exist and deletes those that nobody lives in any more.

    Args:
        database: Where the texts are.
        waiters: Who waits for one.
        views: Whose receipts are pruned with the texts.
        bus: How the orders go out.
        clock: The time.
        home: The zone whose midnight begins the night.
    """

    def __init__(
        self, database: Database, waiters: Waiters, views: Views, bus: Bus, clock: Clock, home: ZoneInfo
    ) -> None:
        self._database = database
        self._waiters = waiters
        self._views = views
        self._bus = bus
        self._clock = clock
        self._home = home

    async def begin(self) -> None:
        """Order every day that must exist before the next night, today first."""
        for day in days_to_write(self._clock(), self._home):
            await self._bus.publish(GenerateDay(day))

    async def order(self, day: date) -> None:
        """Delete what is out of date, then order the signs that a day still misses."""
        await self.prune()
        missing = await self._missing(day)
        log.info("day.ordered", day=day, missing=len(missing))
        for sign in missing:
            await self._bus.publish(GenerateHoroscope(sign, day))

    async def prune(self) -> None:
        """Delete the texts of days in which no zone can still be living, and what belongs to them."""
        now = self._clock()
        first = first_day_alive(now)
        async with self._database.transaction() as connection:
            deleted = await connection.execute(_PRUNE_TEXTS, {"first": first})
            await connection.execute(_PRUNE_GENERATIONS, {"first": first})
        await self._waiters.prune()
        await self._views.prune(day_in(self._home, now))
        if deleted.rowcount:
            log.info("texts.pruned", before=first, count=deleted.rowcount)

    async def reconcile(self) -> None:
        """Order what is missing and nobody deals with; see to those whom nobody answered."""
        now = self._clock()
        unattended = [
            GenerateHoroscope(sign, day)
            for day in days_to_write(now, self._home)
            for sign in await self._missing(day, unattended_since=self._night_began(now))
        ]
        if unattended:
            log.info("texts.missing", count=len(unattended))
            await self.prune()
        for order in unattended:
            await self._bus.publish(order)
        for waiter, out_of_time in await self._waiters.overdue():
            if out_of_time:
                log.error("waiter.out_of_time", sign=waiter.sign, day=waiter.day, since=waiter.created_at)
                await self._bus.publish(
                    DeliverHoroscope(waiter.sign, waiter.day, given_up_at=waiter.created_at)
                )
            else:
                log.warning("waiter.overdue", sign=waiter.sign, day=waiter.day, since=waiter.created_at)
                await self._bus.publish(
                    HoroscopeRequested(
                        waiter.request_id, waiter.sign, waiter.day, answered=False, at=waiter.created_at
                    )
                )

    async def _missing(self, day: date, unattended_since: datetime | None = None) -> list[Sign]:
        """Signs without a text, in the order of the year; those that somebody deals with left out."""
        async with self._database.transaction() as connection:
            present = set((await connection.execute(_WRITTEN, {"day": day})).scalars())
            if unattended_since is not None:
                attended = {"day": day, "this_night": unattended_since}
                present |= set((await connection.execute(_ATTENDED, attended)).scalars())
        return [sign for sign in Sign if sign not in present]

    def _night_began(self, now: datetime) -> datetime:
        return datetime.combine(day_in(self._home, now), time(), self._home)
