"""Replies to readers: texts with their buttons.

Nothing is sent with a parse mode: the text is plain, and an entity makes the heading bold. So markup in a model's text
has no effect.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from schema.signs import Language, Sign
from services.readers.strings import STRINGS

#: The callback data of the buttons.
TODAY = "today"
AGAIN = "again"
CHOOSE_SIGN = "sign"
SIGN_PREFIX = "sign:"
ZONE_PREFIX = "zone:"
FORGET_PREFIX = "forget:"
KEEP = f"{FORGET_PREFIX}no"

#: Rows of inline buttons, each a pair (label, callback data).
Buttons = tuple[tuple[tuple[str, str], ...], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to a reader."""

    text: str
    buttons: Buttons = ()  #: The buttons below the text
    bold: int = 0  #: The length of the bold beginning, in UTF-16 code units


def horoscope(sign: Sign, day: date, text: str, language: Language) -> Reply:
    """A day's text below its heading."""
    heading, length = _heading(sign, day, language)
    return Reply(f"{heading}\n\n{text}", _UNDER_A_TEXT[language], bold=length)


@lru_cache(maxsize=256)
def _heading(sign: Sign, day: date, language: Language) -> tuple[str, int]:
    """The heading, and its length in UTF-16 code units, as Telegram counts it."""
    heading = f"{sign.symbol} {sign.name_in(language)} · {STRINGS[language].date(day)}"
    return heading, len(heading.encode("utf-16-le")) // 2


def generating(language: Language) -> Reply:
    """The progress message."""
    return Reply(STRINGS[language].generating)


def failed(language: Language, again_in: float | None = None) -> Reply:
    """An error message with a button that asks again; ``again_in``: the seconds until that is of use."""
    strings = STRINGS[language]
    text = (
        strings.failed if again_in is None else strings.failed_until.format(minutes=math.ceil(again_in / 60))
    )
    return Reply(text, _UNDER_AN_ERROR[language])


def slow_down(language: Language) -> Reply:
    """The answer to a reader who writes faster than the bot answers."""
    return Reply(STRINGS[language].slow_down)


def sign_picker(text: str, language: Language, signs: Iterable[Sign] = Sign) -> Reply:
    """Buttons of signs, three in a row."""
    buttons = [(f"{sign.symbol} {sign.name_in(language)}", f"{SIGN_PREFIX}{sign.value}") for sign in signs]
    return Reply(text, _rows(buttons, columns=3))


def zone_picker(text: str, zones: Mapping[str, str]) -> Reply:
    """Buttons of time zones, given as {IANA name: label}, two in a row."""
    buttons = [(label, f"{ZONE_PREFIX}{zone}") for zone, label in zones.items()]
    return Reply(text, _rows(buttons, columns=2))


def with_today_button(text: str, language: Language) -> Reply:
    """A text with a button for today's horoscope."""
    return Reply(text, (((STRINGS[language].today, TODAY),),))


def forget_question(text: str, asked: str, language: Language) -> Reply:
    """A text with the buttons that agree to be forgotten, or not; ``asked`` comes back with a press of the first one."""
    strings = STRINGS[language]
    return Reply(text, (((strings.forget_yes, f"{FORGET_PREFIX}{asked}"),), ((strings.forget_no, KEEP),)))


def _rows(buttons: list[tuple[str, str]], columns: int) -> Buttons:
    return tuple(tuple(buttons[start : start + columns]) for start in range(0, len(buttons), columns))


_UNDER_A_TEXT: dict[Language, Buttons] = {
    language: (((STRINGS[language].today, TODAY),), ((STRINGS[language].change_sign, CHOOSE_SIGN),))
    for language in Language
}
_UNDER_AN_ERROR: dict[Language, Buttons] = {
    language: (((STRINGS[language].try_again, AGAIN),),) for language in Language
}
