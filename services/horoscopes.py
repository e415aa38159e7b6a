"""The serving path: from a reader to the text of their own day, in one round trip or from memory."""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import text

from schema.errors import DatabaseUnavailable
from schema.signs import Sign
from services.database import Database
from services.days import Clock, day_in, first_day_alive

log = structlog.get_logger(__name__)

#: Seconds that a reply waits for PostgreSQL if it could come from memory instead, and if it could not.
PATIENCE_S = 0.3
LONG_PATIENCE_S = 5.0
#: After PostgreSQL was found away, replies come from memory for this long before it is tried again.
BREAK = timedelta(seconds=1)
#: Readers kept in memory; the one not seen for longest goes first.
READERS_REMEMBERED = 50_000

# The zone is applied by PostgreSQL, so that reader, day and text come back together.
_TODAY = """
    SELECT reader.zodiac_sign, reader.time_zone, today.day, cache.content,
           EXISTS (SELECT FROM waiters WHERE request_id = $4) AS asked_before
    FROM readers AS reader
    CROSS JOIN LATERAL (
        SELECT CAST($2::timestamptz AT TIME ZONE COALESCE(reader.time_zone, $3) AS date) AS day
    ) AS today
    LEFT JOIN horoscope_cache AS cache
        ON cache.zodiac_sign = reader.zodiac_sign AND cache.horoscope_date = today.day
    WHERE reader.telegram_id = $1 AND reader.zodiac_sign IS NOT NULL
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
    """

    sign: Sign
    day: date
    text: str | None
    asked_before: bool = False


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
            row = await self._database.fetch_row(
                _TODAY,
                reader,
                now,
                self._home.key,
                request_id,
                timeout=PATIENCE_S if recalled else LONG_PATIENCE_S,
            )
        except DatabaseUnavailable as error:
            if self._away_until is None:
                log.warning("database.away", reason=str(error))
            self._away_until = now + BREAK
            if recalled:
                return recalled
            raise
        if self._away_until is not None:
            log.info("database.back")
            self._away_until = None
        if row is None:
            return None
        sign, day, content = Sign(row["zodiac_sign"]), row["day"], row["content"]
        self._remember(reader, sign, row["time_zone"])
        if content is not None:
            self._texts[sign, day] = content
        return Today(sign, day, content, row["asked_before"])

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
        return Today(sign, day, text) if text is not None else None
