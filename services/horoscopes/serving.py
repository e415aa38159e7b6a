"""The serving path: a reader's text of today, in one query or from memory."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog

from schema.errors import DatabaseUnavailable
from schema.signs import Sign
from services.database.coalescing import Coalescer
from services.database.pool import Database
from services.days import Clock, day_in, first_day_alive

log = structlog.get_logger(__name__)

#: Seconds that a reply waits for PostgreSQL: if memory has the answer, and if it does not.
PATIENCE_S = 0.2
LONG_PATIENCE_S = 5.0
#: The same if memory does not have it, and PostgreSQL was away a moment ago.
SHORT_PATIENCE_S = 1.0
#: While PostgreSQL is away, replies come from memory for this long between two attempts to reach it.
BREAK = timedelta(seconds=1)
#: The most readers kept in memory; the least recently seen one is dropped first.
READERS_REMEMBERED = 50_000
#: Seconds between two looks whether readers were forgotten, and readers in one query about it.
FORGOTTEN_S = 2
_CHECKED_AT_ONCE = 5_000

# PostgreSQL applies the time zone, so that one query returns the reader, the day and the text.
_TODAY = """
    SELECT asked.place, reader.zodiac_sign, reader.time_zone, today.day, cache.content,
           EXISTS (SELECT FROM waiters WHERE request_id = asked.request_id) AS asked_before
    FROM unnest($1::bigint[], $2::uuid[]) WITH ORDINALITY AS asked (telegram_id, request_id, place)
    JOIN readers AS reader USING (telegram_id)
    CROSS JOIN LATERAL (
        SELECT CAST($3::timestamptz AT TIME ZONE COALESCE(reader.time_zone, $4) AS date) AS day
    ) AS today
    LEFT JOIN horoscope_cache AS cache
        ON cache.zodiac_sign = reader.zodiac_sign AND cache.horoscope_date = today.day
    WHERE reader.zodiac_sign IS NOT NULL
"""
_FORGOTTEN = "SELECT COALESCE(sum(readers), 0)::bigint FROM forgotten_readers"
_KNOWN = """
    SELECT telegram_id, zodiac_sign, time_zone FROM readers
    WHERE telegram_id = ANY($1::bigint[]) AND zodiac_sign IS NOT NULL
"""
_TEXT = "SELECT content FROM horoscope_cache WHERE zodiac_sign = $1 AND horoscope_date = $2"
_CURRENT = "SELECT zodiac_sign, horoscope_date, content FROM horoscope_cache WHERE horoscope_date >= $1"


@dataclass(frozen=True, slots=True)
class Today:
    """The answer to a reader's request."""

    sign: Sign
    day: date  #: Today, in the reader's time zone
    text: str | None  #: The text; None: it must be written first
    asked_before: bool = False  #: The same request was seen before and may have a waiter
    from_memory: bool = False  #: PostgreSQL was not asked


class Horoscopes:
    """Finds texts; keeps the current ones and recent readers in memory for when PostgreSQL is away."""

    def __init__(self, database: Database, home: ZoneInfo, clock: Clock) -> None:
        self._database = database
        self._home = home
        self._clock = clock
        self._texts: dict[tuple[Sign, date], str] = {}
        self._readers: OrderedDict[int, tuple[Sign, ZoneInfo]] = OrderedDict()
        self._forgotten = 0
        self._away_until: datetime | None = None
        self._lookups = Coalescer(self._look_up)

    async def today(self, reader: int, request_id: UUID) -> Today | None:
        """The reader's text of today; None: the reader has not chosen a sign.

        Raises DatabaseUnavailable if PostgreSQL is away, and the reader or the text is not in memory.
        """
        now = self._clock()
        recalled = self._recall(reader, now)
        if recalled and self._away_until and now < self._away_until:
            return recalled
        patience = PATIENCE_S if recalled else SHORT_PATIENCE_S if self._away_until else LONG_PATIENCE_S
        try:
            async with asyncio.timeout(patience):
                today = await self._lookups.ask((reader, request_id))
        except (TimeoutError, DatabaseUnavailable) as error:
            if self._away_until is None:
                log.warning("database.away", reason=str(error) or "no answer in time")
            self._away_until = now + BREAK
            if recalled:
                return recalled
            if isinstance(error, DatabaseUnavailable):
                raise
            raise DatabaseUnavailable("PostgreSQL did not answer in time") from error
        if self._away_until is not None:
            log.info("database.back")
            self._away_until = None
        return today

    async def _look_up(self, requests: Sequence[tuple[int, UUID]]) -> list[Today | None]:
        """Answer several calls of :meth:`today`, given as (reader, request id)."""
        readers, request_ids = zip(*requests, strict=True)
        rows = await self._database.reads.fetch(
            _TODAY, readers, request_ids, self._clock(), self._home.key, timeout=LONG_PATIENCE_S
        )
        found: list[Today | None] = [None] * len(requests)
        for place, name, zone, day, content, asked_before in rows:
            sign = Sign(name)
            self._remember(readers[place - 1], sign, zone)
            if content is not None:
                self._texts[sign, day] = content
            found[place - 1] = Today(sign, day, content, asked_before)
        for reader, today in zip(readers, found, strict=True):
            if today is None:
                self.forget(reader)
        return found

    def forget(self, reader: int) -> None:
        """Drop a reader from memory: the tables know them no more."""
        self._readers.pop(reader, None)

    async def follow_forgotten(self) -> None:
        """Drop the readers from memory whom some process has forgotten; while PostgreSQL is away, do nothing.

        Every statement here and every lookup use one connection in turn, so no earlier lookup can bring a reader back.
        """
        with suppress(DatabaseUnavailable):
            ((forgotten,),) = await self._database.reads.fetch(_FORGOTTEN, timeout=LONG_PATIENCE_S)
            if forgotten == self._forgotten:
                return
            remembered = list(self._readers)
            for start in range(0, len(remembered), _CHECKED_AT_ONCE):
                asked = remembered[start : start + _CHECKED_AT_ONCE]
                rows = await self._database.reads.fetch(_KNOWN, asked, timeout=LONG_PATIENCE_S)
                known = {reader: (Sign(sign), self._zone(zone)) for reader, sign, zone in rows}
                for reader in asked:
                    if reader not in known:
                        self.forget(reader)
                    elif reader in self._readers:  # perhaps forgotten, and come anew
                        self._readers[reader] = known[reader]
            log.info("memory.readers_checked", before=len(remembered), left=len(self._readers))
            self._forgotten = forgotten

    async def text(self, sign: Sign, day: date) -> str | None:
        """The text of a sign and a day; None: it does not exist."""
        rows = await self._database.reads.fetch(_TEXT, sign, day, timeout=LONG_PATIENCE_S)
        return rows[0]["content"] if rows else None

    async def refresh(self) -> None:
        """Keep in memory exactly the texts of days that are current somewhere on Earth."""
        first = first_day_alive(self._clock())
        rows = await self._database.asides.fetch(_CURRENT, first, timeout=LONG_PATIENCE_S)
        self._texts = {(Sign(sign), day): content for sign, day, content in rows}

    def _remember(self, reader: int, sign: Sign, zone: str | None) -> None:
        self._readers[reader] = (sign, self._zone(zone))
        self._readers.move_to_end(reader)
        if len(self._readers) > READERS_REMEMBERED:
            self._readers.popitem(last=False)

    def _zone(self, name: str | None) -> ZoneInfo:
        return ZoneInfo(name) if name else self._home

    def _recall(self, reader: int, now: datetime) -> Today | None:
        """The answer from memory; None: the reader or the text is not there."""
        if reader not in self._readers:
            return None
        sign, zone = self._readers[reader]
        day = day_in(zone, now)
        text = self._texts.get((sign, day))
        return Today(sign, day, text, from_memory=True) if text is not None else None
