"""The rules that a text must follow before a reader sees it."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date

from rapidfuzz.distance import Indel

from schema.errors import TextRejected
from schema.signs import Language, Sign

MIN_LENGTH = 300
MAX_LENGTH = 2000

_MARKUP = re.compile(
    r"</?[a-zA-Z!][^>]*>|&(?:[a-z]+|#\d+);|```|\*\*|__|^\s*#{1,6}\s|\]\(|https?://", re.MULTILINE
)
_REFUSALS = {
    Language.RU: re.compile(
        r"как (?:\w+ )?(?:ИИ\b|искусственный интеллект|языковая модель)|языков\w+ модел"
        r"|я не могу (?:выполнить|помочь|предоставить|написать|составить|создать|ответить)"
        r"|не могу (?:выполнить|обработать) (?:этот|ваш|данный) запрос|к сожалению, я не могу",
        re.IGNORECASE,
    ),
    Language.EN: re.compile(
        r"\bas an? (?:\w+ )?(?:AI|language model)\b|language model"
        r"|I (?:can't|can’t|cannot|am unable to|'m unable to|’m unable to) (?:help|assist|fulfil|comply|write|provide|create)"
        r"|I'm sorry, but|I’m sorry, but",
        re.IGNORECASE,
    ),
}
_LETTERS = {
    Language.RU: re.compile(r"[а-яё]", re.IGNORECASE),
    Language.EN: re.compile(r"[a-z]", re.IGNORECASE),
}
# A good text may contain a foreign name or word, but no foreign sentence.
_OWN_SCRIPT_SHARE = 0.9

_WORD = re.compile(r"\w+")
# Measured on the sandbox's texts: two different ones have at most 0.25; a copy in which every twentieth word is
# exchanged has at least 0.85.
_TOO_ALIKE = 0.85


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A text that is read beside the new one: of the same day, or of the same sign on the day before or after."""

    sign: Sign
    day: date
    text: str


def _length(text: str, _: Language, __: Collection[Neighbour]) -> str | None:
    if not text:
        return "it is empty"
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        return f"it has {len(text)} characters, not {MIN_LENGTH} to {MAX_LENGTH}"
    return None


def _characters(text: str, _: Language, __: Collection[Neighbour]) -> str | None:
    strange = next((c for c in text if not c.isprintable() and c != "\n"), None)
    return f"it contains the control character {strange!r}" if strange else None


def _markup(text: str, _: Language, __: Collection[Neighbour]) -> str | None:
    found = _MARKUP.search(text)
    return f"it contains markup: {found.group()[:40]!r}" if found else None


def _refusal(text: str, _: Language, __: Collection[Neighbour]) -> str | None:
    for pattern in _REFUSALS.values():
        if found := pattern.search(text):
            return f"it reads like a refusal: {found.group()[:60]!r}"
    return None


def _script(text: str, language: Language, _: Collection[Neighbour]) -> str | None:
    letters = [c for c in text if c.isalpha()]
    own = sum(1 for c in letters if _LETTERS[language].match(c))
    if not letters or own / len(letters) < _OWN_SCRIPT_SHARE:
        return f"only {own} of its {len(letters)} letters are of the language {language.value!r}"
    return None


def _likeness(text: str, _: Language, neighbours: Collection[Neighbour]) -> str | None:
    words = _words(text)
    shares = [
        (Indel.normalized_similarity(words, _words(neighbour.text)), neighbour) for neighbour in neighbours
    ]
    share, nearest = max(shares, key=lambda pair: pair[0], default=(0.0, None))
    if nearest is None or share < _TOO_ALIKE:
        return None
    return f"{share:.0%} of it is the text of {nearest.sign} for {nearest.day}"


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("ё", "е"))


_RULES: dict[str, Callable[[str, Language, Collection[Neighbour]], str | None]] = {
    "length": _length,
    "characters": _characters,
    "markup": _markup,
    "refusal": _refusal,
    "script": _script,
    "likeness": _likeness,
}


def check(text: str, language: Language, neighbours: Collection[Neighbour] = ()) -> None:
    """Check a text against every rule.

    The likeness of two texts is measured on their words, without case and punctuation: twice the length of the longest
    common subsequence, divided by the number of words of both. 1 means the same words in the same order, 0 no common
    words. The same sentences in another order count as different.

    Raises TextRejected, which names the rule and the reason, if the text breaks a rule.
    """
    for name, rule in _RULES.items():
        if reason := rule(text, language, neighbours):
            raise TextRejected(name, reason, text=text)
