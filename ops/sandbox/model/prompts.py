"""Reads the sign, the day and the language from a prompt."""

import re
from dataclasses import dataclass
from typing import Any

# Stems of the Russian names in all their cases; the English names stand as keys.
_STEMS = {
    "aries": "ов(?:ен|на|ну|ном|не|ны|нов|нам|нами|нах)",
    "taurus": "тел(?:ец|ьца|ьцу|ьцом|ьце|ьцы|ьцов|ьцам|ьцами|ьцах)",
    "gemini": "близнец(?:ы|ов|ам|ами|ах)?",
    "cancer": "рак(?:а|у|ом|е|и|ов|ам|ами|ах)?",
    "leo": "(?:лев|льв(?:а|у|ом|е|ы|ов|ам|ами|ах))",
    "virgo": "дев(?:а|ы|е|у|ой|ам|ами|ах)?",
    "libra": "вес(?:ы|ов|ам|ами|ах)",
    "scorpio": "скорпион(?:а|у|ом|е|ы|ов|ам|ами|ах)?",
    "sagittarius": "стрел(?:ец|ьца|ьцу|ьцом|ьце|ьцы|ьцов|ьцам|ьцами|ьцах)",
    "capricorn": "козерог(?:а|у|ом|е|и|ов|ам|ами|ах)?",
    "aquarius": "водоле(?:й|я|ю|ем|е|и|ев|ям|ями|ях)",
    "pisces": "рыб(?:ы|ам|ами|ах)?",
}
SIGNS = tuple(_STEMS)
_SYMBOLS = dict(zip("♈♉♊♋♌♍♎♏♐♑♒♓", SIGNS, strict=True))
_SIGN = re.compile(
    "|".join(f"(?P<{sign}>\\b(?:{sign}|{stem})\\b)" for sign, stem in _STEMS.items())
    + f"|[{''.join(_SYMBOLS)}]",
    re.IGNORECASE,
)
_DAY = re.compile(r"\b\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b")
_ENGLISH_WANTED = re.compile(
    r"\bin english\b|\benglish language\b|language:\s*(?:en\b|english)|на английском", re.IGNORECASE
)
_RUSSIAN_WANTED = re.compile(r"\bin russian\b|language:\s*(?:ru\b|russian)|на русском", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request for a text.

    Attributes:
        sign: English name in lower case; None where the messages name none.
        day: ISO date; None where the messages name none.
        language: `ru` or `en`.
        messages: The number of messages.
    """

    sign: str | None
    day: str | None
    language: str
    messages: int = 1

    @property
    def repair(self) -> bool:
        """Whether it asks for another text in place of a rejected one."""
        return self.messages > 2


def content_text(content: Any) -> str:
    """The text of a message's content: a string, or a list of parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def read_prompt(messages: list[dict[str, Any]]) -> Prompt:
    """Read a request. The last message is the most specific, so it wins."""
    texts = [content_text(message.get("content")) for message in reversed(messages)]
    sign = day = None
    for text in texts:
        if not sign and (found := _SIGN.search(text)):
            sign = _SYMBOLS.get(found[0]) or found.lastgroup
        if not day and (dated := _DAY.search(text)):
            day = dated[0]
    everything = "\n".join(texts)
    if _ENGLISH_WANTED.search(everything):
        language = "en"
    elif _RUSSIAN_WANTED.search(everything):
        language = "ru"
    else:
        language = "ru" if re.search("[а-яё]", everything, re.IGNORECASE) else "en"
    return Prompt(sign, day, language, len(messages))
