"""Which days are lived in, which texts must exist, which are out of date.

Every rule is stated by instants. The zones of the Earth span UTC-12 to UTC+14, so at any instant the days
lived in somewhere are those from the date at UTC-12 to the date at UTC+14.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

#: The time now, with its zone; a test hands in its own.
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
    """An instant as it is shown in a zone; None: the machine's own. At the ends of all time, in its own zone."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at


def instant_asked(written: str, now: datetime, zone: tzinfo | None) -> datetime:
    """The instant, in UTC, that a person means by an age such as «2h», or by «2026-11-22 14:00».

    Args:
        written: By the person.
        now: Ages count from here.
        zone: Of times that name none; None: the machine's own.

    Raises:
        ValueError: It is neither, or beyond all time.
    """
    try:
        if age := _AGE.fullmatch(written.lower()):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return _in_utc(written, zone)
    except OverflowError as error:
        raise ValueError(f"{written} is beyond all time") from error


def instant_noted(said: object) -> datetime | None:
    """The instant, in UTC, that a message notes in its options; None: it notes something else."""
    try:
        return _in_utc(said, UTC) if isinstance(said, str) else None
    except (ValueError, OverflowError):
        return None


def _in_utc(written: str, zone: tzinfo | None) -> datetime:
    at = datetime.fromisoformat(written)
    return (at if at.tzinfo else at.replace(tzinfo=zone)).astimezone(UTC)


def day_in(zone: ZoneInfo, now: datetime) -> date:
    """The date of ``now`` for somebody who lives in ``zone``."""
    return now.astimezone(zone).date()


def first_day_alive(now: datetime) -> date:
    """The earliest day that some zone is still living in: older texts are out of date."""
    return (now.astimezone(UTC) + WESTERNMOST).date()


def last_day_alive(now: datetime) -> date:
    """The latest day that has begun in some zone: nobody lives in a later one yet."""
    return (now.astimezone(UTC) + EASTERNMOST).date()


def begins(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which a day begins in a zone.

    Where clocks skip midnight, the day begins at the instant of the change.
    """
    return datetime.combine(day, time(), zone).astimezone(UTC)


def begins_first(day: date) -> datetime:
    """The instant at which a day begins in the easternmost zone."""
    return datetime.combine(day, time(), UTC) - EASTERNMOST


def next_night(now: datetime, home: ZoneInfo) -> datetime:
    """The instant after ``now`` at which the next day begins at home."""
    return begins(day_in(home, now) + ONE_DAY, home)


def days_to_write(now: datetime, home: ZoneInfo) -> list[date]:
    """The days whose texts must exist, in the order in which they are written.

    From today at home to the last day that begins anywhere until the next night, and at least tomorrow. A day
    that begins in the very instant of the next night counts: whoever asks then must find its text.
    Days that have begun everywhere and still last in the west were written by earlier nights.
    """
    today = day_in(home, now)
    last = max(today + ONE_DAY, last_day_alive(next_night(now, home)))
    return [today + ONE_DAY * ahead for ahead in range((last - today).days + 1)]
