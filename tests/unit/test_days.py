"""Days, zones and instants."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.days import day_in, days_to_write, first_day_alive, next_night

MOSCOW = ZoneInfo("Europe/Moscow")
ZONES = sorted(zone for zone in available_timezones() if zone not in {"localtime", "Factory"})

instants = st.datetimes(datetime(2025, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
zones = st.sampled_from(ZONES).map(ZoneInfo)


@given(instants, zones)
@settings(max_examples=500)
def test_a_day_that_somebody_lives_in_is_never_out_of_date(now: datetime, zone: ZoneInfo) -> None:
    assert day_in(zone, now) >= first_day_alive(now)


@given(instants, zones, zones)
@settings(max_examples=500)
def test_every_day_that_begins_before_the_next_night_is_ordered_before_it_begins(
    now: datetime, home: ZoneInfo, zone: ZoneInfo
) -> None:
    ordered = days_to_write(now, home)
    instant = now
    while instant < next_night(now, home):
        day = day_in(zone, instant)
        assert day in ordered or day < ordered[0], "begun everywhere, and written by an earlier night"
        instant += timedelta(hours=1)


@given(instants, zones)
@settings(max_examples=300)
def test_the_next_night_begins_the_next_day_at_home(now: datetime, home: ZoneInfo) -> None:
    night = next_night(now, home)
    assert night > now
    assert day_in(home, night) > day_in(home, now)
    assert day_in(home, night - timedelta(seconds=1)) == day_in(home, now)


@given(instants, zones)
@settings(max_examples=300)
def test_today_and_tomorrow_at_home_are_always_ordered_today_first(now: datetime, home: ZoneInfo) -> None:
    ordered = days_to_write(now, home)
    assert ordered[0] == day_in(home, now)
    assert ordered == sorted(ordered)
    assert ordered[1] == ordered[0] + timedelta(days=1)
    assert len(ordered) <= 3


def test_a_night_in_moscow_orders_two_days_and_keeps_yesterday() -> None:
    midnight = datetime(2026, 11, 22, tzinfo=MOSCOW)
    assert days_to_write(midnight, MOSCOW) == [date(2026, 11, 22), date(2026, 11, 23)]
    assert first_day_alive(midnight) == date(2026, 11, 21)


def test_a_home_in_the_far_west_orders_the_day_that_begins_in_the_far_east_meanwhile() -> None:
    home = ZoneInfo("Etc/GMT+12")
    midnight = datetime(2026, 11, 22, tzinfo=home)
    assert days_to_write(midnight, home) == [date(2026, 11, day) for day in (22, 23, 24)]


@pytest.mark.parametrize(
    ("home", "day", "expected"),
    [
        ("Europe/Berlin", date(2026, 3, 28), datetime(2026, 3, 28, 23, tzinfo=UTC)),
        ("Europe/Berlin", date(2026, 3, 29), datetime(2026, 3, 29, 22, tzinfo=UTC)),
        # Midnight does not exist: clocks go from 23:59:59 to 01:00.
        ("Africa/Cairo", date(2026, 4, 23), datetime(2026, 4, 23, 22, tzinfo=UTC)),
    ],
)
def test_a_night_at_a_change_of_clocks_begins_when_the_date_does(
    home: str, day: date, expected: datetime
) -> None:
    zone = ZoneInfo(home)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone)
    assert next_night(noon, zone) == expected
