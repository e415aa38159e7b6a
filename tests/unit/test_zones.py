"""Finding the zone that a reader means, and naming it."""

from datetime import UTC, datetime
from zoneinfo import available_timezones

import pytest

from schema.signs import Language
from services.bot.zones import COMMON, find, label, suggest

WINTER = datetime(2026, 11, 27, 12, tzinfo=UTC)
SUMMER = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("typed", "zone"),
    [
        ("Europe/Moscow", "Europe/Moscow"),
        ("  europe/moscow ", "Europe/Moscow"),
        ("america/new york", "America/New_York"),
        ("New York", "America/New_York"),
        ("Нью-Йорк", "America/New_York"),
        ("нью йорк", "America/New_York"),
        ("Берлин", "Europe/Berlin"),
        ("Tokyo", "Asia/Tokyo"),
        ("Владивосток", "Asia/Vladivostok"),
        ("Питер", "Europe/Moscow"),
        ("Санкт-Петербург", "Europe/Moscow"),
        ("Киев", "Europe/Kyiv"),
        ("Пекин", "Asia/Shanghai"),
        ("UTC", "UTC"),
        ("utc+0", "UTC"),
        ("UTC+3", "Etc/GMT-3"),
        ("+3", "Etc/GMT-3"),
        ("GMT -5", "Etc/GMT+5"),
        ("GMT−5", "Etc/GMT+5"),
        ("UTC+05:30", "Asia/Kolkata"),
        ("МСК+2", "Etc/GMT-5"),
        ("UTC+15", None),
        ("UTC+3:20", None),
        ("Etc/GMT-3", "Etc/GMT-3"),
        ("Mars/Crater", None),
        ("привет", None),
        ("как дела?", None),
        ("1/2", None),
        ("", None),
        ("/etc/passwd", None),
        ("../../etc/passwd", None),
        ("a\nEurope/Moscow", None),
        ("x" * 10_000, None),
    ],
)
def test_a_zone_is_found_by_what_people_type(typed: str, zone: str | None) -> None:
    assert find(typed) == zone


def test_a_mistyped_zone_gets_suggestions() -> None:
    assert suggest("Asia/Tokio")[0] == "Asia/Tokyo"
    assert suggest("Берлн")[0] == "Europe/Berlin"
    assert "Asia/Yekaterinburg" in suggest("Ekaterinburg")
    assert suggest("qqqqqqqq") == suggest("привет") == suggest("") == []


def test_a_zone_is_called_by_its_city_and_its_present_offset() -> None:
    assert label("Europe/Moscow", Language.RU, WINTER) == "Москва, UTC+3"
    assert label("Europe/Moscow", Language.EN, WINTER) == "Moscow, UTC+3"
    assert label("Europe/London", Language.RU, WINTER) == "Лондон, UTC+0"
    assert label("Europe/London", Language.RU, SUMMER) == "Лондон, UTC+1"
    assert label("America/New_York", Language.RU, WINTER) == "Нью-Йорк, UTC-5"
    assert label("Asia/Kolkata", Language.EN, WINTER) == "Kolkata, UTC+5:30"
    assert label("Pacific/Marquesas", Language.EN, WINTER) == "Marquesas Islands, UTC-9:30"
    assert label("Etc/GMT-3", Language.RU, WINTER) == "UTC+3"


@pytest.mark.parametrize("language", Language)
def test_whatever_the_bot_calls_a_zone_it_understands(language: Language) -> None:
    for zone in COMMON:
        city, _, _ = label(zone, language, WINTER).partition(",")
        assert find(city) == zone
    for zone in available_timezones() - {"localtime", "Factory"}:
        assert find(zone)
        assert label(zone, language, WINTER)
