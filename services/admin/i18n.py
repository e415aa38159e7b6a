"""Numbers, times and dates as people who read one language write them."""

import math
from collections.abc import Iterable
from datetime import date, datetime
from typing import TypedDict
from zoneinfo import ZoneInfo

from schema.signs import Language, Sign
from services.admin.strings import STRINGS
from services.days import shown_in
from services.readers.strings import STRINGS as READERS_STRINGS

_NO_BREAK = "\u00a0"
_MANY = 10_000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Change(TypedDict):
    """A change as it is shown: a direction (``up``, ``down`` or ``same``) and a share without a sign."""

    direction: str
    share: str


class Wording:
    """One language, at one moment, in one time zone.

    Args:
        language: The language.
        now: The moment.
        zone: Every time is shown in it.
    """

    def __init__(self, language: Language, now: datetime, zone: ZoneInfo) -> None:
        self.language = language
        self.strings = STRINGS[language]
        self.now = now.astimezone(zone)
        self._zone = zone
        self._russian = language is Language.RU

    def number(self, value: float, digits: int = 0) -> str:
        """Such as «1 234,5» and “1,234.5”."""
        text = f"{value:,.{digits}f}"
        if not self._russian:
            return text
        return text.replace(",", _NO_BREAK).replace(".", ",")

    def scale(self, most: int) -> str:
        """The unit for numbers up to so many where there is little room; empty: they are written in full."""
        return self.strings.units["thousands"] if most >= _MANY else ""

    def scaled(self, value: int, most: int) -> str:
        """A number in that unit; what is more than none is never shown as none."""
        if most < _MANY:
            return self.number(value)
        if 0 < value < 50:
            return f"<{_NO_BREAK}{self.number(0.1, 1)}"
        return self.number(value / 1000, 1 if value < 99_950 else 0)

    def count(self, value: int, forms: tuple[str, ...]) -> str:
        """A number with its noun in the right form.

        Args:
            value: The number.
            forms: For 1, for 2 and for 5 in Russian; for 1 and for 2 in English.
        """
        return f"{self.number(value)}{_NO_BREAK}{self.form(value, forms)}"

    def form(self, value: int, forms: tuple[str, ...]) -> str:
        """The form of a noun that goes with a number."""
        if not self._russian:
            return forms[0] if value == 1 else forms[1]
        if value % 10 == 1 and value % 100 != 11:
            return forms[0]
        if value % 10 in {2, 3, 4} and value % 100 not in {12, 13, 14}:
            return forms[1]
        return forms[2]

    def share(self, value: float) -> str:
        """A share as a percentage; what is not all is never shown as 100 %, what is not nothing not as 0 %."""
        percent = value * 100
        if 0 < percent < 0.1:
            return f"<{_NO_BREAK}{self.share(0.001)}"
        digits = 1 if 99 <= percent < 100 or 0 < percent < 1 else 0
        if digits:
            percent = math.floor(percent * 10) / 10
        return self._percent(percent, digits)

    def _percent(self, percent: float, digits: int = 0) -> str:
        return f"{self.number(percent, digits)}{_NO_BREAK if self._russian else ''}%"

    def change(self, value: float) -> Change:
        """A change of a share, such as 0.123, in whole percents; what has not lost all is never shown as if it had."""
        direction = "same" if abs(value) < 0.005 else "up" if value > 0 else "down"
        percent = math.floor(abs(value) * 100 + 0.5)
        if -1 < value < 0:
            percent = min(percent, 99)
        return {"direction": direction, "share": self._percent(percent)}

    def seconds(self, value: float) -> str:
        """A short duration, from milliseconds on, to two figures."""
        unit = "s"
        if value < 0.9995:
            value, unit = value * 1000, "ms"
        return f"{self.number(value, 0 if value >= 9.95 else 1)}{_NO_BREAK}{self.strings.units[unit]}"

    def rate(self, value: float) -> str:
        """Messages a second; what is more than none is never shown as none."""
        if 0 < value < 0.1:
            return f"<{_NO_BREAK}{self.number(0.1, 1)}"
        return self.number(value, 1 if 0 < value < 100 else 0)

    def age(self, since: datetime, *, parts: int = 1) -> str:
        """How long ago something was, in one unit or two; «0 с» for what is yet to come."""
        left = max(0, int((self.now - since).total_seconds()))
        units = self.strings.units
        found: list[str] = []
        for length, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
            if left >= length or (unit == "s" and not found):
                found.append(f"{self.number(left // length)}{_NO_BREAK}{units[unit]}")
                left %= length
        return " ".join(found[:parts])

    def wait(self, seconds: int) -> str:
        """How long somebody has to wait: in seconds, or in whole minutes, of which the last has begun."""
        if seconds < 2 * _MINUTE:
            return f"{seconds}{_NO_BREAK}{self.strings.units['s']}"
        return f"{math.ceil(seconds / _MINUTE)}{_NO_BREAK}{self.strings.units['min']}"

    def time(self, at: datetime, *, seconds: bool = False) -> str:
        """The time of the day, with the date before it when that is another one than now."""
        at = shown_in(self._zone, at)
        clock = f"{at:%H:%M:%S}" if seconds else f"{at:%H:%M}"
        return clock if at.date() == self.now.date() else f"{self.on(at.date())}, {clock}"

    def on(self, day: date) -> str:
        """Such as «22 ноября» and “November 22”."""
        return READERS_STRINGS[self.language].date(day)

    def on_short(self, day: date) -> str:
        """The same where there is little room, such as «22 ноя» and “Nov 22”."""
        words = READERS_STRINGS[self.language]
        return words.date_pattern.format(day=day.day, month=words.months[day.month - 1][:3])

    def weekday(self, day: date, *, short: bool = False) -> str:
        """The day of the week."""
        return (self.strings.weekdays_short if short else self.strings.weekdays)[day.weekday()]

    def day(self, day: date) -> str:
        """A day as it is seen from today: its date, and what it is if there is a word for that."""
        word = self.strings.days.get((day - self.now.date()).days)
        return f"{word}, {self.on(day)}" if word else self.on(day)

    def day_word(self, day: date) -> str:
        """Such as «сегодня»; the day of the week where there is no such word."""
        return self.strings.days.get((day - self.now.date()).days) or self.weekday(day)

    def sign(self, sign: str) -> str:
        """A sign's name."""
        return Sign(sign).name_in(self.language)

    def signs(self, signs: Iterable[str]) -> str:
        """Several signs' names."""
        return ", ".join(map(self.sign, signs))

    def symbol(self, sign: str) -> str:
        """A sign's symbol as a letter, not as an emoji."""
        return Sign(sign).symbol.removesuffix("\ufe0f") + "\ufe0e"

    @property
    def zone(self) -> str:
        """The zone's name, and how far it is from UTC now."""
        minutes = int((self.now.utcoffset() or self.now - self.now).total_seconds() // 60)
        hours, rest = divmod(abs(minutes), 60)
        return f"{self._zone.key} (UTC{'−' if minutes < 0 else '+'}{hours}{f':{rest:02}' if rest else ''})"
