"""Finding the zone that a reader means."""

import pytest

from services.bot.zones import find, looks_like_a_zone, suggest


@pytest.mark.parametrize(
    ("typed", "zone"),
    [
        ("Europe/Moscow", "Europe/Moscow"),
        ("  europe/moscow ", "Europe/Moscow"),
        ("america/new york", "America/New_York"),
        ("Tokyo", "Asia/Tokyo"),
        ("Владивосток", "Asia/Vladivostok"),
        ("UTC", "UTC"),
        ("Mars/Crater", None),
        ("", None),
        ("/etc/passwd", None),
        ("../../etc/passwd", None),
        ("x" * 10_000, None),
    ],
)
def test_a_zone_is_found_by_what_people_type(typed: str, zone: str | None) -> None:
    assert find(typed) == zone


def test_a_mistyped_zone_gets_suggestions() -> None:
    assert suggest("Asia/Tokio")[0] == "Asia/Tokyo"
    assert "Asia/Yekaterinburg" in suggest("Ekaterinburg")
    assert suggest("qqqqqqqq") == []


@pytest.mark.parametrize("typed", ["привет", "/unknown", "как дела?", "1/2", "a\nEurope/Moscow"])
def test_small_talk_is_not_taken_for_a_zone(typed: str) -> None:
    assert not looks_like_a_zone(typed)
