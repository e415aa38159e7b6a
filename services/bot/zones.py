"""Time zones by the names that people use: cities in both languages, IANA names and UTC offsets.

The names of cities are CLDR's exemplar cities, as Babel has them.
"""

import re
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale
from babel.core import get_global
from rapidfuzz import fuzz, process

from schema.signs import Language

#: The time zones of most readers, from west to east.
COMMON = (
    "America/Los_Angeles", "America/New_York", "Europe/London", "Europe/Berlin",
    "Europe/Kaliningrad", "Europe/Moscow", "Europe/Samara", "Asia/Yekaterinburg",
    "Asia/Omsk", "Asia/Krasnoyarsk", "Asia/Irkutsk", "Asia/Yakutsk",
    "Asia/Vladivostok", "Asia/Magadan", "Asia/Kamchatka", "Asia/Almaty",
)  # fmt: skip

#: Names that CLDR lacks, by zone.
_MORE_NAMES = {
    "Europe/Moscow": "мск, msk, питер, спб, петербург, санкт-петербург, saint petersburg, казань, нижний новгород, "
    "сочи, краснодар, ростов-на-дону, воронеж, ярославль, калуга, тула",
    "Asia/Yekaterinburg": "екб, уфа, челябинск, пермь, тюмень, сургут, оренбург",
    "Asia/Krasnoyarsk": "абакан, кызыл",
    "Asia/Vladivostok": "хабаровск",
    "Asia/Kamchatka": "петропавловск-камчатский",
    "Asia/Almaty": "астана, astana",
    "Europe/Berlin": "мюнхен, гамбург, франкфурт, munich, hamburg, frankfurt",
    "America/New_York": "вашингтон, бостон, майами, washington, boston, miami",
    "America/Los_Angeles": "сан-франциско, сиэтл, san francisco, seattle",
    "Asia/Shanghai": "пекин, beijing",
    "Asia/Jerusalem": "тель-авив, tel aviv",
}
#: Zones without daylight saving time for the offsets, in minutes, that are not whole hours.
_ODD_OFFSETS = {
    210: "Asia/Tehran", 270: "Asia/Kabul", 330: "Asia/Kolkata", 345: "Asia/Kathmandu", 390: "Asia/Yangon",
    525: "Australia/Eucla", 570: "Australia/Darwin", -570: "Pacific/Marquesas",
}  # fmt: skip
_OFFSET = re.compile(r"(utc|gmt|мск|msk)? ?([+−–-]) ?(\d{1,2})(?::?([0-5]\d))?")
_LONGEST = 64


def find(typed: str) -> str | None:
    """The IANA name of the zone that a reader typed: a city, an IANA name or an offset such as «UTC+3»."""
    if len(typed) > _LONGEST:
        return None
    if match := _OFFSET.fullmatch(typed.strip().lower()):
        base, sign, hours, minutes = match.groups(default="0")
        offset = (int(hours) * 60 + int(minutes)) * (1 if sign == "+" else -1)
        return _at_offset(offset + (180 if base in {"мск", "msk"} else 0))
    return _by_name().get(_plain(typed))


def suggest(typed: str, limit: int = 6) -> list[str]:
    """IANA names of the zones whose names resemble what a reader typed, the most similar first."""
    plain = _plain(typed[:_LONGEST])
    names = _by_name()
    near = process.extract(plain, names.keys(), scorer=fuzz.ratio, score_cutoff=70, limit=2 * limit)
    if "/" in plain:
        city = plain.rpartition("/")[2]
        near += process.extract(city, names.keys(), scorer=fuzz.ratio, score_cutoff=75, limit=limit)
    return list(dict.fromkeys(names[name] for name, *_ in near))[:limit]


def label(zone: str, language: Language, now: datetime) -> str:
    """A zone as readers see it, such as «Москва, UTC+3», with its offset at ``now``."""
    minutes = int((now.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()).total_seconds()) // 60
    hours, rest = divmod(abs(minutes), 60)
    offset = f"UTC{'-' if minutes < 0 else '+'}{hours}" + (f":{rest:02}" if rest else "")
    return offset if zone == "UTC" or zone.startswith("Etc/") else f"{_city(zone, language)}, {offset}"


def _at_offset(minutes: int) -> str | None:
    hours, rest = divmod(minutes, 60)
    if rest:
        return _ODD_OFFSETS.get(minutes)
    if not -12 <= hours <= 14:
        return None
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"  # IANA's signs are the reverse of everybody else's


def _city(zone: str, language: Language) -> str:
    canonical = get_global("zone_aliases").get(zone, zone)
    names = _locale(language).time_zones.get(canonical, {})
    return str(names.get("city") or zone.rpartition("/")[2].replace("_", " "))


@cache
def _locale(language: Language) -> Locale:
    return Locale(language.value)


@cache
def _by_name() -> dict[str, str]:
    """IANA names by their lower-case form, by city in both languages and by the names above."""
    names: dict[str, str] = {}
    zones = sorted(available_timezones() - {"localtime", "Factory"})
    for zone in zones:
        names[_plain(zone)] = zone
    for zone in sorted(zones, key=lambda zone: (zone in get_global("zone_aliases"), zone)):
        if "/" in zone and not zone.startswith("Etc/"):
            for city in (zone.rpartition("/")[2], *(_city(zone, language) for language in Language)):
                names.setdefault(_plain(city), zone)
    for zone, more in _MORE_NAMES.items():
        names |= dict.fromkeys(map(_plain, more.split(", ")), zone)
    return names


def _plain(typed: str) -> str:
    return re.sub(r"[\s_-]+", " ", typed.strip().lower().replace("ё", "е"))
