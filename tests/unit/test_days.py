"""Days, zones and instants."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.days import (
    day_in,
    days_to_write,
    first_day_alive,
    iso_instant,
    next_night,
    parse_instant,
)

MOSCOW = ZoneInfo("Europe/Moscow")
#: Every zone of the database, UTC-12 to UTC+14 among them.
ZONES = sorted(zone for zone in available_timezones() if zone not in {"localtime", "Factory"})
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)


@cache
def changes(zone: ZoneInfo) -> list[datetime]:
    """The instants at which a zone's clocks are changed, to the second."""
    found = []
    before = FIRST
    while before < LAST:
        after = before + timedelta(days=7)
        if before.astimezone(zone).utcoffset() != after.astimezone(zone).utcoffset():
            early, late = before, after
            while late - early > timedelta(seconds=1):
                middle = early + (late - early) // 2
                if middle.astimezone(zone).utcoffset() == early.astimezone(zone).utcoffset():
                    early = middle
                else:
                    late = middle
            found.append(late.replace(microsecond=0))
        before = after
    return found


CHANGING = [zone for zone in ZONES if changes(ZoneInfo(zone))]

zones = st.sampled_from(ZONES).map(ZoneInfo)
some_instants = st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None), timezones=st.just(UTC))


@st.composite
def instants_around_changes(draw: st.DrawFn) -> datetime:
    """Within two days of a change of clocks somewhere, often to the second, often at a full hour."""
    change = draw(st.sampled_from(changes(ZoneInfo(draw(st.sampled_from(CHANGING))))))
    return change + timedelta(hours=draw(st.integers(-48, 48)), seconds=draw(st.integers(-1, 1)))


instants = st.one_of(some_instants, instants_around_changes())


def days_begun(zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[tuple[datetime, date]]:
    """The day that a zone lives in at ``since``, and those that begin there before ``until``, with their beginning."""
    instant = since
    while instant < until:
        yield instant, day_in(zone, instant)
        instant = next_night(instant, zone)


@given(instants, zones)
@settings(max_examples=500)
def test_at_each_instant_a_zone_lives_in_exactly_one_day(now: datetime, zone: ZoneInfo) -> None:
    day = day_in(zone, now)
    (yesterday, _), *_ = days_begun(zone, now - timedelta(hours=30), now)
    beginning = next_night(yesterday, zone)
    while day_in(zone, beginning) < day:
        beginning = next_night(beginning, zone)
    assert beginning <= now < next_night(now, zone)
    assert day_in(zone, beginning) == day == day_in(zone, next_night(now, zone) - timedelta(seconds=1))


@given(instants, zones)
@settings(max_examples=500)
def test_a_day_that_somebody_lives_in_is_never_out_of_date(now: datetime, zone: ZoneInfo) -> None:
    assert first_day_alive(now) <= day_in(zone, now)


@given(instants)
@settings(max_examples=500)
def test_what_is_kept_is_lived_in_at_the_western_end_of_the_earth(now: datetime) -> None:
    """Or else texts would outlive their day."""
    assert first_day_alive(now) == min(day_in(ZoneInfo(zone), now) for zone in ZONES)


@given(instants, zones, zones, st.data())
@settings(max_examples=500)
def test_whenever_in_the_day_at_home_a_run_is_each_day_is_written_before_it_begins_and_deleted_after_it_ended(
    now: datetime, home: ZoneInfo, zone: ZoneInfo, data: st.DataObject
) -> None:
    """Three days at home, each with one run: at midnight, or whenever in the day the service comes back."""
    texts: set[date] = set()
    for number in range(3):
        night = next_night(now, home)
        run = now if number else now + (night - now) * data.draw(st.floats(0, 0.999))
        texts = {text for text in texts if text >= first_day_alive(run)} | set(days_to_write(run, home))
        for begins, day in days_begun(zone, run, night):
            # On the first day what began everywhere before belongs to runs before.
            assert day in texts or (number == 0 and day < day_in(home, run)), (begins, day)
        now = night


@given(instants, zones)
@settings(max_examples=500)
def test_the_next_night_is_when_the_next_day_begins_at_home(now: datetime, home: ZoneInfo) -> None:
    night = next_night(now, home)
    # In Antarctica/Troll clocks are changed by two hours.
    assert now < night <= now + timedelta(hours=26)
    assert day_in(home, night) == day_in(home, now) + timedelta(days=1)
    just_before = night - timedelta(seconds=1)
    assert day_in(home, just_before) == day_in(home, now)
    skipped = night.astimezone(home).utcoffset() != just_before.astimezone(home).utcoffset()
    assert night.astimezone(home).time() == time() or skipped, "midnight does not exist that day"


@given(instants, zones)
@settings(max_examples=500)
def test_no_day_is_ordered_in_which_nobody_lives_until_the_next_night_save_tomorrow(
    now: datetime, home: ZoneInfo
) -> None:
    ordered = days_to_write(now, home)
    today = day_in(home, now)
    assert ordered == [today + timedelta(days=ahead) for ahead in range(len(ordered))]
    lived_in = max(day_in(ZoneInfo("Etc/GMT-14"), next_night(now, home)), today + timedelta(days=1))
    assert ordered[-1] == lived_in


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("90s", datetime(2026, 11, 22, 11, 58, 30, tzinfo=UTC)),
        ("2 H", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("1w", datetime(2026, 11, 15, 12, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 21, 21, tzinfo=UTC)),
        ("2026-11-22 06:30", datetime(2026, 11, 22, 3, 30, tzinfo=UTC)),
        ("2026-11-22T06:30+01:00", datetime(2026, 11, 22, 5, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_is_asked_for_by_an_age_or_by_a_time_at_home(written: str, meant: datetime) -> None:
    assert parse_instant(written, datetime(2026, 11, 22, 12, tzinfo=UTC), MOSCOW) == meant


@pytest.mark.parametrize(
    "written", ["", "yesterday", "2 y", "-2h", "1.5h", "999999999w", "0001-01-01", "9999-12-31T23:59-01:00"]
)
def test_what_is_no_moment_or_beyond_all_time_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_instant(written, datetime(2026, 11, 22, 12, tzinfo=UTC), MOSCOW)


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ("2026-11-22T06:30:00+03:00", datetime(2026, 11, 22, 3, 30, tzinfo=UTC)),
        ("2026-11-22T06:30:00", datetime(2026, 11, 22, 6, 30, tzinfo=UTC)),
        ("9999-12-31T23:59-01:00", None),
        ("2h", None),
        (17, None),
        (None, None),
    ],
)
def test_what_a_message_notes_is_an_instant_or_nothing(said: object, noted: datetime | None) -> None:
    assert iso_instant(said) == noted


def test_a_night_in_moscow_orders_two_days_and_keeps_yesterday() -> None:
    midnight = datetime(2026, 11, 22, tzinfo=MOSCOW)
    assert days_to_write(midnight, MOSCOW) == [date(2026, 11, 22), date(2026, 11, 23)]
    assert first_day_alive(midnight) == date(2026, 11, 21)


def test_a_home_in_the_far_west_orders_the_day_that_begins_in_the_far_east_meanwhile() -> None:
    home = ZoneInfo("Etc/GMT+12")
    midnight = datetime(2026, 11, 22, tzinfo=home)
    assert days_to_write(midnight, home) == [date(2026, 11, day) for day in (22, 23, 24)]


def test_a_day_that_begins_elsewhere_in_the_very_instant_of_a_night_was_ordered_by_the_one_before() -> None:
    home, kiritimati = ZoneInfo("Pacific/Honolulu"), ZoneInfo("Pacific/Kiritimati")
    evening = datetime(2026, 11, 22, 20, tzinfo=home)
    night = next_night(evening, home)
    assert night.astimezone(kiritimati).time() == time()
    assert day_in(kiritimati, night) in days_to_write(evening, home)


@pytest.mark.parametrize(
    ("home", "day", "expected"),
    [
        ("Europe/Berlin", date(2026, 3, 28), datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 3, 29), datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 10, 24), datetime(2026, 10, 24, 22, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 10, 25), datetime(2026, 10, 25, 23, tzinfo=UTC)),
        # Midnight does not exist: clocks go from 23:59:59 to 01:00.
        ("Africa/Cairo", date(2026, 4, 23), datetime(2026, 4, 23, 22, tzinfo=UTC)),
        ("Asia/Beirut", date(2026, 3, 28), datetime(2026, 3, 28, 22, tzinfo=UTC)),
        ("America/Santiago", date(2026, 9, 5), datetime(2026, 9, 6, 4, tzinfo=UTC)),
        # Midnight comes twice: clocks go from 01:00 back to 00:00. The day begins with the first.
        ("Atlantic/Azores", date(2026, 10, 24), datetime(2026, 10, 25, 0, tzinfo=UTC)),
        # One o'clock in the night comes at once with midnight's second hour: clocks go from 24:00 back to 23:00.
        ("America/Santiago", date(2026, 4, 4), datetime(2026, 4, 5, 4, tzinfo=UTC)),
    ],
)
def test_a_night_at_a_change_of_clocks_begins_when_the_date_does(
    home: str, day: date, expected: datetime
) -> None:
    zone = ZoneInfo(home)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone)
    assert next_night(noon, zone) == expected
