"""The serving path: from a reader to the text of their own day, in one round trip or from memory."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import text

from schema.errors import DatabaseUnavailable
from schema.signs import Sign
from services.database.coalescing import Coalescer
from services.database.pool import Database
from services.days import Clock, day_in, first_day_alive

log = structlog.get_logger(__name__)

#: Seconds that a reply waits for PostgreSQL if it could come from memory instead, and if it could not.
PATIENCE_S = 0.2
LONG_PATIENCE_S = 5.0
#: After PostgreSQL was found away, replies come from memory for this long before it is tried again.
BREAK = timedelta(seconds=1)
#: Readers kept in memory; the one not seen for longest goes first.
READERS_REMEMBERED = 50_000

# The zone is applied by PostgreSQL, so that reader, day and text come back together.
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
_TEXT = text("SELECT content FROM horoscope_cache WHERE zodiac_sign = :sign AND horoscope_date = :day")
_CURRENT = text("""
    SELECT zodiac_sign, horoscope_date, content FROM horoscope_cache WHERE horoscope_date >= :first
""")


@dataclass(frozen=True, slots=True)
class Today:
    """What a reader is shown when they ask.

    Args:
        sign: The reader's sign.
        day: The date where the reader lives.
        text: The text; None when it has to be written first.
        asked_before: This very request was seen before and somebody may be answering it.
        from_memory: PostgreSQL was not asked.
    """

    sign: Sign
    day: date
    text: str | None
    asked_before: bool = False
    from_memory: bool = False


class Horoscopes:
    """Finds texts; keeps the current ones and the latest readers in memory for when PostgreSQL is away.

    Args:
        database: Where texts and readers are kept.
        home: The zone of a reader who never named one.
        clock: The time.
    """

    def __init__(self, database: Database, home: ZoneInfo, clock: Clock) -> None:
        self._database = database
        self._home = home
        self._clock = clock
        self._texts: dict[tuple[Sign, date], str] = {}
        self._readers: OrderedDict[int, tuple[Sign, ZoneInfo]] = OrderedDict()
        self._away_until: datetime | None = None
        self._lookups = Coalescer(self._look_up)

    async def today(self, reader: int, request_id: UUID) -> Today | None:
        """The reader's text of the reader's today; None when the reader has not chosen a sign.

        Raises:
            DatabaseUnavailable: PostgreSQL is away, and the reader or the text is not remembered.
        """
        now = self._clock()
        recalled = self._recall(reader, now)
        if recalled and self._away_until and now < self._away_until:
            return recalled
        try:
            async with asyncio.timeout(PATIENCE_S if recalled else LONG_PATIENCE_S):
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

    async def _look_up(self, asked: Sequence[tuple[int, UUID]]) -> list[Today | None]:
        """What :meth:`today` answers to several readers, each with a request."""
        readers, request_ids = zip(*asked, strict=True)
        rows = await self._database.reads.fetch(
            _TODAY, readers, request_ids, self._clock(), self._home.key, timeout=LONG_PATIENCE_S
        )
        found: list[Today | None] = [None] * len(asked)
        for place, name, zone, day, content, asked_before in rows:
            sign = Sign(name)
            self._remember(readers[place - 1], sign, zone)
            if content is not None:
                self._texts[sign, day] = content
            found[place - 1] = Today(sign, day, content, asked_before)
        return found

    async def text(self, sign: Sign, day: date) -> str | None:
        """The text of a sign and a day, if it exists."""
        async with self._database.transaction() as connection:
            found: str | None = (
                await connection.execute(_TEXT, {"sign": sign, "day": day})
            ).scalar_one_or_none()
        return found

    async def refresh(self) -> None:
        """Read the texts that somebody on Earth may ask for today; forget the others."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(_CURRENT, {"first": first_day_alive(self._clock())})
            self._texts = {(Sign(row.zodiac_sign), row.horoscope_date): row.content for row in rows}

    def _remember(self, reader: int, sign: Sign, zone: str | None) -> None:
        self._readers[reader] = (sign, ZoneInfo(zone) if zone else self._home)
        self._readers.move_to_end(reader)
        if len(self._readers) > READERS_REMEMBERED:
            self._readers.popitem(last=False)

    def _recall(self, reader: int, now: datetime) -> Today | None:
        """The answer without PostgreSQL, if both the reader and the text are remembered."""
        if reader not in self._readers:
            return None
        sign, zone = self._readers[reader]
        day = day_in(zone, now)
        text = self._texts.get((sign, day))
        return Today(sign, day, text, from_memory=True) if text is not None else None
