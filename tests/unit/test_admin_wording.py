"""Numbers, times and dates on the operators' page, in both languages; and where its lines and bars go."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.admin.charts import ceiling, curves, part
from services.admin.i18n import Wording
from services.readers.analytics import HourViews

NOW = datetime(2026, 11, 22, 21, 30, tzinfo=UTC)  # half past midnight of the 23rd in Moscow
MOSCOW = ZoneInfo("Europe/Moscow")
RU, EN = (Wording(language, NOW, MOSCOW) for language in ("ru", "en"))


def said(text: str) -> str:
    return text.replace("\u00a0", " ")


def test_numbers_are_written_as_the_language_has_them() -> None:
    assert (said(RU.number(1234567)), EN.number(1234567)) == ("1 234 567", "1,234,567")
    assert (RU.number(0.25, 2), EN.number(0.25, 2)) == ("0,25", "0.25")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 %"), (0.0004, "< 0,1 %"), (0.004, "0,4 %"), (0.5, "50 %"), (0.9996, "99,9 %"), (1, "100 %"), (12.5, "1 250 %")],
)  # fmt: skip
def test_a_share_that_is_not_all_is_not_shown_as_all(value: float, expected: str) -> None:
    assert said(RU.share(value)) == expected


@pytest.mark.parametrize(
    ("value", "direction", "share"),
    [(0.12, "up", "12%"), (-0.084, "down", "8%"), (0.004, "same", "0%"), (-0.004, "same", "0%"), (-1, "down", "100%"),
     (0.005, "up", "1%"), (0.99, "up", "99%"), (-0.9996, "down", "99%"), (0.9996, "up", "100%"), (12.5, "up", "1,250%")],
)  # fmt: skip
def test_a_change_has_a_direction_and_no_sign(value: float, direction: str, share: str) -> None:
    assert EN.change(value) == {"direction": direction, "share": share}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0004, "0.4 ms"), (0.00996, "10 ms"), (0.0123, "12 ms"), (0.9994, "999 ms"), (0.9996, "1.0 sec"), (9.94, "9.9 sec"), (9.96, "10 sec")],
)  # fmt: skip
def test_a_short_duration_has_two_figures(value: float, expected: str) -> None:
    assert said(EN.seconds(value)) == expected


def test_thousands_have_one_digit_until_they_are_a_hundred_and_little_is_not_nothing() -> None:
    values = (0, 49, 50, 1234, 99_949, 99_951, 123_456)
    assert [said(EN.scaled(value, 123_456)) for value in values] == [
        "0.0", "< 0.1", "0.1", "1.2", "99.9", "100", "123",
    ]  # fmt: skip
    assert EN.scaled(1234, 9999) == "1,234"


def test_a_rate_that_is_not_nothing_is_not_shown_as_nothing() -> None:
    assert [said(RU.rate(value)) for value in (0, 0.02, 1.25, 250.4)] == ["0", "< 0,1", "1,2", "250"]


@pytest.mark.parametrize(
    ("seconds", "one", "two"),
    [(-5, "0 с", "0 с"), (59, "59 с", "59 с"), (60, "1 мин", "1 мин"), (3725, "1 ч", "1 ч 2 мин"), (90000, "1 дн.", "1 дн. 1 ч")],
)  # fmt: skip
def test_ages_are_told_in_one_unit_or_two(seconds: int, one: str, two: str) -> None:
    since = NOW - timedelta(seconds=seconds)
    assert said(RU.age(since)) == one
    assert said(RU.age(since, parts=2)) == two


def test_a_time_of_another_day_comes_with_its_date_and_all_are_at_home() -> None:
    assert RU.time(NOW) == "00:30"
    assert RU.time(NOW - timedelta(hours=1)) == "22 ноября, 23:30"
    assert EN.time(NOW - timedelta(hours=1)) == "November 22, 23:30"
    assert RU.day(date(2026, 11, 23)) == "сегодня, 23 ноября"
    assert EN.day_word(date(2026, 11, 25)) == "Wednesday"
    assert RU.zone == "Europe/Moscow (UTC+3)"
    assert Wording("en", NOW, ZoneInfo("America/St_Johns")).zone == "America/St_Johns (UTC−3:30)"


@pytest.mark.parametrize(
    ("most", "expected"), [(0, 2), (1, 2), (3, 4), (10, 10), (11, 12), (95, 100), (2150, 2400)]
)
def test_a_chart_ends_at_a_round_number_above_everything(most: int, expected: int) -> None:
    assert ceiling(most) == expected
    assert ceiling(most) % 2 == 0


def test_todays_line_ends_where_the_day_has_got_to() -> None:
    lines = curves([HourViews(hour, hour if hour < 3 else None, 4) for hour in range(24)])
    assert lines.top == 4
    assert lines.today == "5.0,100.0 15.0,75.0"
    assert lines.running == "15.0,75.0 25.0,50.0"
    assert lines.last == (25.0, 50.0)
    assert lines.yesterday.count(",") == 24


def test_a_bar_of_little_is_still_seen() -> None:
    assert [part(0, 1000), part(1, 1000), part(500, 1000), part(3, 0)] == [0, 1, 50, 0]
