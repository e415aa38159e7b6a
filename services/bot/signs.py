"""Finds the sign that a reader types: its name in either language, or its symbol."""

import re

from rapidfuzz.distance import OSA

from schema.signs import Language, Sign

_NAMES = {sign.name_in(language).casefold(): sign for sign in Sign for language in Language}
_SYMBOLS = {sign.symbol[0]: sign for sign in Sign}
_WORD = re.compile(r"\w+")
#: Names are shorter; longer messages are not searched for one.
_LONGEST = 64


def find(typed: str) -> Sign | None:
    """The sign whose name or symbol is all that a reader typed; case and punctuation do not matter."""
    words = _words(typed)
    found = {_NAMES.get(word) for word in words} | {_SYMBOLS[mark] for mark in typed if mark in _SYMBOLS}
    return found.pop() if len(found) == 1 and len(words) <= 1 else None


def suggest(typed: str) -> list[Sign]:
    """The signs that a reader may mean: those named in a short message, otherwise those with a similar name."""
    words = _words(typed)
    if named := {_NAMES[word] for word in words if word in _NAMES}:
        return [sign for sign in Sign if sign in named]
    if len(words) != 1 or len(words[0]) < 3:
        return []
    most = 1 if len(words[0]) < 6 else 2
    near = {name: OSA.distance(words[0], name, score_cutoff=most) for name in _NAMES}
    return list(
        dict.fromkeys(_NAMES[name] for name in sorted(near, key=near.__getitem__) if near[name] <= most)
    )


def _words(typed: str) -> list[str]:
    return _WORD.findall(typed.casefold()) if len(typed) <= _LONGEST else []
