"""Finding the time zone that a reader means."""

from difflib import get_close_matches
from functools import cache
from zoneinfo import available_timezones

#: What Russian readers call the zones, beside the IANA names.
_RUSSIAN = {
    "калининград": "Europe/Kaliningrad",
    "москва": "Europe/Moscow",
    "мск": "Europe/Moscow",
    "петербург": "Europe/Moscow",
    "санкт-петербург": "Europe/Moscow",
    "минск": "Europe/Minsk",
    "киев": "Europe/Kyiv",
    "самара": "Europe/Samara",
    "тбилиси": "Asia/Tbilisi",
    "ереван": "Asia/Yerevan",
    "баку": "Asia/Baku",
    "екатеринбург": "Asia/Yekaterinburg",
    "алматы": "Asia/Almaty",
    "ташкент": "Asia/Tashkent",
    "омск": "Asia/Omsk",
    "новосибирск": "Asia/Novosibirsk",
    "красноярск": "Asia/Krasnoyarsk",
    "иркутск": "Asia/Irkutsk",
    "якутск": "Asia/Yakutsk",
    "владивосток": "Asia/Vladivostok",
    "магадан": "Asia/Magadan",
    "камчатка": "Asia/Kamchatka",
    "лондон": "Europe/London",
    "берлин": "Europe/Berlin",
    "париж": "Europe/Paris",
    "стамбул": "Europe/Istanbul",
    "дубай": "Asia/Dubai",
    "токио": "Asia/Tokyo",
    "нью-йорк": "America/New_York",
}
_LONGEST_NAME = 64


@cache
def _by_name() -> dict[str, str]:
    """Zones by their lower-case names: the whole one, and the city alone."""
    names: dict[str, str] = {}
    for zone in sorted(available_timezones()):
        if zone.startswith(("SystemV/", "posix/", "right/")) or zone in {"localtime", "Factory"}:
            continue
        names[zone.lower()] = zone
        # «Tokyo» means Asia/Tokyo; an abbreviation such as «Etc/GMT+3» has no city.
        if "/" in zone and not zone.startswith("Etc/"):
            names.setdefault(zone.rpartition("/")[2].lower(), zone)
    return names | _RUSSIAN


def find(typed: str) -> str | None:
    """The IANA name for what a reader typed: any case, spaces for underscores, the city alone will do."""
    return _by_name().get(_plain(typed))


def suggest(typed: str, limit: int = 6) -> list[str]:
    """IANA names that look like what a reader typed, the likeliest first."""
    names = _by_name()
    plain = _plain(typed)
    close = get_close_matches(plain, names, n=limit * 2, cutoff=0.65)
    if city := plain.rpartition("/")[2]:
        close += get_close_matches(city, names, n=limit, cutoff=0.75)
    return list(dict.fromkeys(names[name] for name in close))[:limit]


def looks_like_a_zone(typed: str) -> bool:
    """Whether somebody who typed this probably meant a time zone."""
    if len(typed) > _LONGEST_NAME or "\n" in typed:
        return False
    area, slash, _ = typed.partition("/")
    return find(typed) is not None or (bool(slash) and area.replace("_", "").isalpha())


def _plain(typed: str) -> str:
    return typed.strip()[:_LONGEST_NAME].lower().replace(" ", "_")
