"""Analytics: what readers did, compared with earlier days."""

from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import text

from schema.signs import Sign
from services.database.pool import Database
from services.days import ONE_DAY, Clock, day_in
from services.readers.activity import CACHE, MEMORY, percentile
from services.readers.views import BUCKET

#: Days in the series, today included.
SERIES_DAYS = 7

_BY_DAY = text("""
    SELECT series.day, COALESCE(views.total, 0) AS views, COALESCE(active.readers, 0) AS readers
    FROM unnest(CAST(:days AS date[])) WITH ORDINALITY AS series (day, place)
    LEFT JOIN (
        SELECT view_date, sum(view_count) AS total FROM horoscope_views
        WHERE view_date = ANY(:days) GROUP BY view_date
    ) AS views ON views.view_date = series.day
    LEFT JOIN reader_days AS active ON active.day = series.day
    ORDER BY series.place
""")
# Today and yesterday are each cut off at the same time of the day.
_BY_SIGN = text("""
    SELECT zodiac_sign,
           COALESCE(sum(view_count) FILTER (WHERE view_date = :today AND at < :until), 0) AS today_until,
           COALESCE(sum(view_count) FILTER (WHERE view_date = :yesterday AND at < :until_yesterday), 0)
               AS yesterday_until
    FROM view_times WHERE view_date IN (:today, :yesterday) GROUP BY zodiac_sign
""")
_SIGN_TOTALS = text("SELECT zodiac_sign, view_count FROM horoscope_views WHERE view_date = :today")
_BY_HOUR = text("""
    SELECT view_date AS day, CAST(extract(hour FROM at AT TIME ZONE :home) AS int) AS hour, sum(view_count) AS views
    FROM view_times WHERE view_date IN (:today, :yesterday) AND CAST(at AT TIME ZONE :home AS date) = view_date
    GROUP BY 1, 2
""")
_ANSWERS = text("SELECT source, bucket, answers FROM answer_times WHERE day = :today")


@dataclass(frozen=True, slots=True)
class Trend:
    """A number of today beside yesterday's, both up to the same time of day."""

    until: datetime  #: The cut-off, at most five minutes ago
    today: int  #: Today's number up to the cut-off
    yesterday: int  #: Yesterday's number up to the same time of day

    @property
    def change(self) -> float | None:
        """Today's increase as a share, such as 0.1 for 10 %; None: yesterday's number is 0."""
        return self.today / self.yesterday - 1 if self.yesterday else None


@dataclass(frozen=True, slots=True)
class SignViews:
    """The views of one sign."""

    sign: Sign
    views: int  #: Views of today's text
    trend: Trend  #: Today beside yesterday


@dataclass(frozen=True, slots=True)
class HourViews:
    """The views of a day's texts that were shown in one hour of that day at home."""

    hour: int  #: From 0 to 23
    today: int | None  #: None: the hour has not begun yet
    yesterday: int  #: The same hour of yesterday


@dataclass(frozen=True, slots=True)
class DayViews:
    """One day of the series."""

    day: date  #: The readers' own day
    views: int  #: How often its texts were shown
    readers: int  #: How many readers asked for one


@dataclass(frozen=True, slots=True)
class Analytics:
    """What readers did today.

    A view belongs to the day of its text, which is the reader's own day. "Today" is the present date in home time.
    """

    day: date  #: Today in home time
    horoscopes_today: int  #: How often today's texts were shown; each view counts once
    trend: Trend  #: Today beside yesterday
    yesterday: int  #: All of yesterday's views
    signs: list[SignViews]  #: By sign, in the order of the zodiac
    hours: list[HourViews]  #: By hour
    week: list[DayViews]  #: The last seven days, the oldest first and today last
    readers_today: int  #: Readers who asked for today's text
    answered: int  #: Requests that were answered at once
    waited: int  #: Requests whose text had to be written first
    #: The median seconds of the answers given at once, as the bots measured them; None: there were none.
    p50_s: float | None
    p99_s: float | None  #: The 99th percentile of the same

    @property
    def from_cache(self) -> float | None:
        """The share of requests that were answered at once; None: there were no requests."""
        total = self.answered + self.waited
        return self.answered / total if total else None


async def read_analytics(database: Database, clock: Clock, home: ZoneInfo) -> Analytics:
    """Read the analytics of this moment; raises DatabaseUnavailable while PostgreSQL is away."""
    now = clock()
    today = day_in(home, now)
    yesterday = today - ONE_DAY
    until = cut(now)
    until_yesterday = day_before(until, home)
    async with database.transaction() as connection:

        async def rows(statement: Any, **values: Any) -> list[Any]:
            return list(await connection.execute(statement, values))

        days = [today - ONE_DAY * ago for ago in reversed(range(SERIES_DAYS))]
        week = [DayViews(*row) for row in await rows(_BY_DAY, days=days)]
        totals = {row.zodiac_sign: row.view_count for row in await rows(_SIGN_TOTALS, today=today)}
        by_sign = {
            row.zodiac_sign: row
            for row in await rows(
                _BY_SIGN, today=today, yesterday=yesterday, until=until, until_yesterday=until_yesterday
            )
        }
        by_hour = {
            (row.day, row.hour): row.views
            for row in await rows(_BY_HOUR, home=home.key, today=today, yesterday=yesterday)
        }
        answers = await rows(_ANSWERS, today=today)

    def trend(*names: str) -> Trend:
        found = [by_sign[name] for name in names if name in by_sign]
        return Trend(until, sum(row.today_until for row in found), sum(row.yesterday_until for row in found))

    this_hour = now.astimezone(home).hour
    at_once: Counter[int] = Counter()
    for row in answers:
        if row.source in {CACHE, MEMORY}:
            at_once[row.bucket] += row.answers
    return Analytics(
        day=today,
        horoscopes_today=week[-1].views,
        trend=trend(*by_sign),
        yesterday=week[-2].views,
        signs=[SignViews(sign, totals.get(sign.value, 0), trend(sign.value)) for sign in Sign],
        hours=[
            HourViews(
                hour,
                by_hour.get((today, hour), 0) if hour <= this_hour else None,
                by_hour.get((yesterday, hour), 0),
            )
            for hour in range(24)
        ],
        week=week,
        readers_today=week[-1].readers,
        answered=at_once.total(),
        waited=sum(row.answers for row in answers) - at_once.total(),
        p50_s=percentile(at_once, 0.5),
        p99_s=percentile(at_once, 0.99),
    )


def cut(now: datetime) -> datetime:
    """The last boundary of the five-minute intervals by which views are recorded."""
    return now - timedelta(seconds=now.timestamp() % BUCKET.total_seconds())


def day_before(instant: datetime, home: ZoneInfo) -> datetime:
    """The same time of day in home time, one day earlier; not always 24 hours earlier."""
    return (instant.astimezone(home) - ONE_DAY).astimezone(instant.tzinfo)
