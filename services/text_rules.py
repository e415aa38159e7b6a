"""What a text must be like before anyone is shown it: small rules, each with a reason."""

import re
from collections.abc import Callable, Collection

from schema.errors import TextRejected
from schema.signs import Language

MIN_LENGTH = 300
MAX_LENGTH = 2000

_MARKUP = re.compile(
    r"</?[a-zA-Z!][^>]*>|&(?:[a-z]+|#\d+);|```|\*\*|__|^\s*#{1,6}\s|\]\(|https?://", re.MULTILINE
)
_REFUSALS = {
    Language.RU: re.compile(
        r"как (?:\w+ )?(?:ИИ|искусственный интеллект|языковая модель)|языков\w+ модел"
        r"|я не могу (?:выполнить|помочь|предоставить|написать|составить|создать|ответить)"
        r"|не могу (?:выполнить|обработать) (?:этот|ваш|данный) запрос|к сожалению, я не могу",
        re.IGNORECASE,
    ),
    Language.EN: re.compile(
        r"as an? (?:\w+ )?(?:AI|language model)|language model"
        r"|I (?:can't|can’t|cannot|am unable to|'m unable to|’m unable to) (?:help|assist|fulfil|comply|write|provide|create)"
        r"|I'm sorry, but|I’m sorry, but",
        re.IGNORECASE,
    ),
}
_LETTERS = {
    Language.RU: re.compile(r"[а-яё]", re.IGNORECASE),
    Language.EN: re.compile(r"[a-z]", re.IGNORECASE),
}
# A foreign name or word may appear in a good text, a foreign sentence may not.
_OWN_SCRIPT_SHARE = 0.9


def _length(text: str, _: Language, __: Collection[str]) -> str | None:
    if not text:
        return "it is empty"
    if not MIN_LENGTH <= len(text) <= MAX_LENGTH:
        return f"it has {len(text)} characters, not {MIN_LENGTH} to {MAX_LENGTH}"
    return None


def _characters(text: str, _: Language, __: Collection[str]) -> str | None:
    strange = next((c for c in text if not c.isprintable() and c != "\n"), None)
    return f"it contains the control character {strange!r}" if strange else None


def _markup(text: str, _: Language, __: Collection[str]) -> str | None:
    found = _MARKUP.search(text)
    return f"it contains markup: {found.group()[:40]!r}" if found else None


def _refusal(text: str, _: Language, __: Collection[str]) -> str | None:
    for pattern in _REFUSALS.values():
        if found := pattern.search(text):
            return f"it reads like a refusal: {found.group()[:60]!r}"
    return None


def _script(text: str, language: Language, _: Collection[str]) -> str | None:
    letters = [c for c in text if c.isalpha()]
    own = sum(1 for c in letters if _LETTERS[language].match(c))
    if not letters or own / len(letters) < _OWN_SCRIPT_SHARE:
        return f"only {own} of its {len(letters)} letters are of the language {language.value!r}"
    return None


def _distinct(text: str, _: Language, others: Collection[str]) -> str | None:
    return "another sign has the same text that day" if text in others else None


_RULES: dict[str, Callable[[str, Language, Collection[str]], str | None]] = {
    "length": _length,
    "characters": _characters,
    "markup": _markup,
    "refusal": _refusal,
    "script": _script,
    "distinct": _distinct,
}


def check(text: str, language: Language, others: Collection[str] = ()) -> None:
    """Hold a text against every rule.

    Args:
        text: What the model wrote, stripped.
        language: The language it must be in.
        others: The texts of the other signs of that day.

    Raises:
        TextRejected: It breaks a rule; the rule is named, with the reason.
    """
    for name, rule in _RULES.items():
        if reason := rule(text, language, others):
            raise TextRejected(name, reason)
