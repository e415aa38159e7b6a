"""What errors say and where they come from, without anything personal: for logs, dead letters and records.

An error's own text may hold a reader's name or words: a row that PostgreSQL refuses, an answer of Telegram that cannot be
read, an argument that a library quotes. None of that leaves the process.
"""

import re
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from pydantic import ValidationError

from services.database.reasons import quotes_a_value, reason_of, without_values
from services.process.escaping import visible
from services.process.spellings import Decoded

#: Faults of an invalid object that are named.
_FAULTS = 3
#: Words of an update that are searched for in so many characters, and characters of all its texts. While an update with
#: more is handled, nothing is shown: no reader may keep the bot busy with this.
_WORDS, _SEARCHED, _OF_AN_UPDATE = 300, 4_000, 20_000
#: Members of a group of errors that are traced.
_MEMBERS = 3
#: Exceptions that caused each other, and are traced.
_CHAIN = 6
#: Characters of one error in a traceback.
_LONGEST = 1_000
_HIDDEN = "***"

#: Parts of an update that are no reader's own words.
_NOT_PERSONAL: Final = frozenset({"type", "status", "language_code"})
#: Not imported: a command needs no aiogram.
_AIOGRAM: Final = "aiogram.exceptions"
# As pydantic and aiogram write them into longer texts.
_INPUTS = re.compile(r"input_value=.*?(?=, input_type=|\]|$)|Content: .*", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"]*\"|«[^«»]*»")

_update: ContextVar[Any] = ContextVar("update", default=None)


def hide(update: Any) -> None:
    """Hide the words of a raw update in everything that this task says from now on."""
    _update.set(update)


def described(error: BaseException) -> str:
    """The error's class and what it says, in one line."""
    return f"{type(error).__name__}: {said(error)}"


def said(error: BaseException) -> str:
    """What an error says, in one line; its class if it says nothing."""
    if (reason := reason_of(error)) is not None:
        found = reason
    elif isinstance(error, ValidationError):
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        named = [f"{'.'.join(map(str, each['loc']))}: {each['type']}" for each in faults[:_FAULTS]]
        found = "; ".join(named) + (f"; and {len(faults) - _FAULTS} more" if len(faults) > _FAULTS else "")
    elif type(error).__module__ == _AIOGRAM:
        # Telegram quotes what it does not understand.
        found = _QUOTED.sub(f'"{_HIDDEN}"', without_personal(str(error)))
    else:
        found = str(error)
    return visible(without_personal(found), keep="") or type(error).__name__


def without_personal(text: str) -> str:
    """The text without values that errors quote, and without the words of the update that is being handled."""
    text = _INPUTS.sub("", without_values(text)).rstrip()
    update = _update.get()
    if update is None or not text:
        return text
    own = list(_texts(update))
    words = {word for part in own for word in _words(part)} if sum(map(len, own)) <= _OF_AN_UPDATE else None
    if words is None or len(words) > _WORDS:
        return _HIDDEN
    if not words:
        return text
    text = text[:_SEARCHED]
    pattern = "|".join(_bounded(word) for word in sorted(words, key=len, reverse=True))
    decoded = Decoded(text)
    spans = [decoded.span(*found.span()) for found in re.finditer(pattern, decoded.text, re.IGNORECASE)]
    for first, after in reversed(spans):
        text = f"{text[:first]}{_HIDDEN}{text[after:]}"
    return text


def traced(error: BaseException, mask: Callable[[str], str], most: int) -> str:
    """An error with its causes as Python prints them, each described as above, without the secrets that ``mask`` knows.

    Of a longer one the end is left: ``most`` characters, from the beginning of a line.
    """
    text = "".join(_traced(error, mask, 0)).rstrip("\n")
    return text if len(text) <= most else f"…\n{text[-most:].partition(chr(10))[2]}"


def _traced(
    error: BaseException, mask: Callable[[str], str], depth: int, *, quotes: bool = False
) -> Iterator[str]:
    """The lines of a traceback; with ``quotes``, what the error says is left out."""
    cause, context = error.__cause__, error.__context__
    earlier = cause or (None if error.__suppress_context__ else context)
    if earlier is not None and depth < _CHAIN:
        yield from _traced(earlier, mask, depth + 1, quotes=quotes_a_value(error))
        link = (
            "The above exception was the direct cause of the following exception:"
            if cause
            else "During handling of the above exception, another exception occurred:"
        )
        yield f"\n{link}\n\n"
    if error.__traceback__:
        yield "Traceback (most recent call last):\n"
        yield from traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__)).format()
    yield f"{type(error).__name__ if quotes else mask(described(error))[:_LONGEST]}\n"
    if isinstance(error, BaseExceptionGroup) and depth < _CHAIN:
        for member in error.exceptions[:_MEMBERS]:
            yield "\nOne of them:\n"
            yield from _traced(member, mask, depth + 1)


def _texts(part: Any) -> Iterator[str]:
    """Every text in an update, but for those that are no reader's own."""
    level = [part]
    while level:
        each = level.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            level += [inner for name, inner in each.items() if name not in _NOT_PERSONAL]
        elif isinstance(each, list):
            level += each


def _words(text: str) -> Iterator[str]:
    """A text as a whole, and its words; the names of the bot's commands are none."""
    for word in (text.strip(), *text.split(), *re.findall(r"\w+", text)):
        is_short = len(word) < 2 and word.isascii()
        if not is_short and not word.startswith("/") and not (text.startswith("/") and f"/{word}" in text):
            yield word
            if "ё" in word.lower():
                yield word.lower().replace("ё", "е")


def _bounded(word: str) -> str:
    """A pattern of the word where it stands alone."""
    before = r"(?<!\w)" if word[0].isalnum() else ""
    after = r"(?!\w)" if word[-1].isalnum() else ""
    return f"{before}{re.escape(word)}{after}"
