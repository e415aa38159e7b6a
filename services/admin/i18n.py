"""The page in one language: messages from a gettext catalogue; numbers, dates and units from Unicode's CLDR."""

import gettext
import math
from datetime import date, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TypedDict
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_skeleton, get_relative_name
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency, format_decimal, format_percent
from babel.units import format_unit

from schema.sentences import Sentence
from schema.signs import Language, Sign
from services.days import shown_in

#: One catalogue a language, such as ``ru.po``; the messages themselves are English.
CATALOGUES = Path(__file__).with_name("locale")
#: The codes of the page's languages.
LANGUAGES = ("en", *sorted(file.stem for file in CATALOGUES.glob("*.po")))

_NO_BREAK = "\u00a0"
_MANY = 10_000
_MINUTE = 60
_UNITS = ((86400, "day"), (3600, "hour"), (_MINUTE, "minute"), (1, "second"))


@cache
def catalogue(language: str) -> gettext.NullTranslations:
    """The messages of a language, compiled in memory."""
    if language == "en":
        return gettext.NullTranslations()
    compiled = BytesIO()
    with (CATALOGUES / f"{language}.po").open("rb") as file:
        write_mo(compiled, read_po(file, locale=language))
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


@cache
def language_names() -> dict[str, str]:
    """What each language calls itself, by its code."""
    return {code: str(Locale.parse(code).get_display_name(code)).capitalize() for code in LANGUAGES}


class Change(TypedDict):
    """A change as it is shown: a direction (``up``, ``down`` or ``same``) and a percentage without a sign."""

    direction: str
    share: str


class Wording:
    """One language, at one moment, in one time zone.

    Args:
        language: One of :data:`LANGUAGES`.
        now: The moment.
        zone: Every time is shown in it.
    """

    def __init__(self, language: str, now: datetime, zone: ZoneInfo) -> None:
        self.language = language
        self.now = now.astimezone(zone)
        self._locale = Locale.parse(language)
        self._zone = zone
        self._catalogue = catalogue(language)

    def gettext(self, message: str, **values: object) -> str:
        """A message in this language, with its values filled in."""
        return self._catalogue.gettext(message) % values

    def sentence(self, sentence: Sentence) -> str:
        """A sentence about the service in this language."""
        if sentence.plural:
            count = int(str(sentence.values["count"]))
            message = self._catalogue.ngettext(sentence.message, sentence.plural, count)
        else:
            message = self._catalogue.gettext(sentence.message)
        return message % {name: self._value(value) for name, value in sentence.values.items()}

    def _value(self, value: object) -> str:
        """A value of a sentence as this language writes it."""
        match value:
            case int():
                return self.number(value)
            case datetime():
                return self.time(value)
            case date():
                return self.on(value)
            case Sign():
                return self.sign(value)
            case tuple():
                return ", ".join(map(self._value, value))
        return str(value)

    def number(self, value: float, digits: int = 0) -> str:
        """Such as «1 234,5» and “1,234.5”."""
        return format_decimal(value, _digits("#,##0", digits), self._locale)

    def dollars(self, value: float) -> str:
        """An amount in US dollars."""
        return format_currency(value, "USD", locale=self._locale)

    def scale(self, most: int) -> str:
        """The unit for numbers up to ``most`` where there is little room; empty: they are written in full."""
        return self.gettext("thousands") if most >= _MANY else ""

    def scaled(self, value: int, most: int) -> str:
        """A number in that unit; a number above zero is never shown as zero."""
        if most < _MANY:
            return self.number(value)
        if 0 < value < 50:
            return f"<{_NO_BREAK}{self.number(0.1, 1)}"
        return self.number((value + 50) // 100 / 10, 1) if value < 99_950 else self.number(value / 1000)

    def share(self, value: float) -> str:
        """A share as a percentage; less than all is never shown as 100 %, more than none never as 0 %."""
        percent = value * 100
        if 0 < percent < 0.1:
            return f"<{_NO_BREAK}{self.share(0.001)}"
        digits = 1 if 99 <= percent < 100 or 0 < percent < 1 else 0
        return self._percent(math.floor(percent * 10) / 10 if digits else percent, digits)

    def _percent(self, percent: float, digits: int = 0) -> str:
        pattern = self._locale.percent_formats[None].pattern
        return format_percent(percent / 100, _digits(pattern, digits), self._locale)

    def change(self, value: float) -> Change:
        """A change of a share, such as 0.123, in whole percents; -99.9 % is not shown as -100 %."""
        direction = "same" if abs(value) < 0.005 else "up" if value > 0 else "down"
        percent = math.floor(abs(value) * 100 + 0.5)
        if -1 < value < 0:
            percent = min(percent, 99)
        return {"direction": direction, "share": self._percent(percent)}

    def seconds(self, value: float) -> str:
        """A short duration, from milliseconds on, to two figures."""
        unit = "second"
        if value < 0.9995:
            value, unit = value * 1000, "millisecond"
        return self._unit(self.number(value, 0 if value >= 9.95 else 1), unit)

    def _unit(self, value: int | str, unit: str) -> str:
        shown = format_unit(value, f"duration-{unit}", length="short", locale=self._locale)
        return shown.replace(" ", _NO_BREAK)

    def rate(self, value: float) -> str:
        """Messages a second; a rate above zero is never shown as zero."""
        if 0 < value < 0.1:
            return f"<{_NO_BREAK}{self.number(0.1, 1)}"
        return self.number(value, 1 if 0 < value < 100 else 0)

    def age(self, since: datetime, *, parts: int = 1) -> str:
        """How long ago something was, in one unit or two; zero seconds for a time to come."""
        left = max(0, int((self.now - since).total_seconds()))
        found: list[str] = []
        for length, unit in _UNITS:
            if left >= length or (unit == "second" and not found):
                found.append(self._unit(left // length, unit))
                left %= length
        return " ".join(found[:parts])

    def wait(self, seconds: int) -> str:
        """A time to wait: in seconds, or in minutes rounded up."""
        if seconds < 2 * _MINUTE:
            return self._unit(seconds, "second")
        return self._unit(math.ceil(seconds / _MINUTE), "minute")

    def time(self, at: datetime, *, seconds: bool = False) -> str:
        """The time of the day, after its date when that is not today's."""
        at = shown_in(self._zone, at)
        clock = f"{at:%H:%M:%S}" if seconds else f"{at:%H:%M}"
        return clock if at.date() == self.now.date() else f"{self.on(at.date())}, {clock}"

    def on(self, day: date) -> str:
        """Such as «22 ноября» and “November 22”."""
        return format_skeleton("MMMMd", day, locale=self._locale)

    def on_short(self, day: date) -> str:
        """The same where there is little room, such as «22 нояб.» and “Nov 22”."""
        return format_skeleton("MMMd", day, locale=self._locale)

    def weekday(self, day: date, *, short: bool = False) -> str:
        """The day of the week."""
        return format_date(day, "ccc" if short else "cccc", self._locale)

    def day(self, day: date) -> str:
        """A date, after a word such as “tomorrow” if the language has one for it."""
        word = self._relative(day)
        return f"{word}, {self.on(day)}" if word else self.on(day)

    def day_word(self, day: date) -> str:
        """Such as «сегодня»; the day of the week where the language has no such word."""
        return self._relative(day) or self.weekday(day)

    def _relative(self, day: date) -> str | None:
        return get_relative_name("day", (day - self.now.date()).days, locale=self._locale)

    def sign(self, sign: str) -> str:
        """A sign's name."""
        return self._catalogue.gettext(Sign(sign).name_in(Language.EN))

    def symbol(self, sign: str) -> str:
        """A sign's symbol as a letter, not as an emoji."""
        return Sign(sign).symbol.removesuffix("\ufe0f") + "\ufe0e"

    @property
    def zone(self) -> str:
        """The zone's name, and how far it is from UTC now."""
        minutes = int((self.now.utcoffset() or self.now - self.now).total_seconds() // 60)
        hours, rest = divmod(abs(minutes), 60)
        return f"{self._zone.key} (UTC{'−' if minutes < 0 else '+'}{hours}{f':{rest:02}' if rest else ''})"


def _digits(pattern: str, digits: int) -> str:
    """A pattern of CLDR with a number of decimal places."""
    return pattern.replace("0", f"0.{'0' * digits}", 1) if digits else pattern
