"""Calendar rules: the days that are current somewhere on Earth, and the days whose texts must exist.

Every rule is stated by instants. Time zones span UTC-12 to UTC+14. So at any instant, the days that are current
somewhere reach from the date at UTC-12 to the date at UTC+14.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

#: The present time, with its zone; tests pass their own.
Clock = Callable[[], datetime]

WESTERNMOST = timedelta(hours=-12)
EASTERNMOST = timedelta(hours=14)
ONE_DAY = timedelta(days=1)

_AGE = re.compile(r"(\d{1,9}) ?([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def system_clock() -> datetime:
    """The machine's time, in UTC."""
    return datetime.now(UTC)


def shown_in(zone: tzinfo | None, at: datetime) -> datetime:
    """An instant in a zone; None: the machine's own. At the limits of the calendar it keeps its own zone."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at


def parse_instant(written: str, now: datetime, zone: tzinfo | None) -> datetime:
    """The instant, in UTC, of an age such as «2h» before ``now``, or of a time in ``zone``: «2026-11-22 14:00».

    A zone of None is the machine's own. Raises ValueError for any other form, and outside the calendar.
    """
    try:
        if age := _AGE.fullmatch(written.lower()):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return _in_utc(written, zone)
    except OverflowError as error:
        raise ValueError(f"{written} is outside the calendar") from error


def iso_instant(value: object) -> datetime | None:
    """The instant, in UTC, of an ISO 8601 string in a message's options; None: it is not one."""
    try:
        return _in_utc(value, UTC) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


def _in_utc(written: str, zone: tzinfo | None) -> datetime:
    at = datetime.fromisoformat(written)
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


def day_in(zone: ZoneInfo, now: datetime) -> date:
    """The date of ``now`` in a zone."""
    return now.astimezone(zone).date()


def first_day_alive(now: datetime) -> date:
    """The earliest day that is still current in some zone; older texts are out of date."""
    return (now.astimezone(UTC) + WESTERNMOST).date()


def last_day_alive(now: datetime) -> date:
    """The latest day that has begun in some zone."""
    return (now.astimezone(UTC) + EASTERNMOST).date()


def begins(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which a day begins in a zone; where a clock change skips midnight, the instant of the change."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def begins_first(day: date) -> datetime:
    """The instant at which a day begins in the easternmost zone."""
    return datetime.combine(day, time(), UTC) - EASTERNMOST


def next_night(now: datetime, home: ZoneInfo) -> datetime:
    """The instant after ``now`` at which the next day begins in home time."""
    return begins(day_in(home, now) + ONE_DAY, home)


def days_to_write(now: datetime, home: ZoneInfo) -> list[date]:
    """The days whose texts must exist, in the order in which they are written.

    They reach from today in home time to the last day that begins in any zone until the next night, and at least to
    tomorrow. A day that begins in the same instant as the next night counts: its readers must find its text. Days that
    are over at home and still current in the west were written by earlier nights.
    """
    today = day_in(home, now)
    last = max(today + ONE_DAY, last_day_alive(next_night(now, home)))
    return [today + ONE_DAY * ahead for ahead in range((last - today).days + 1)]
