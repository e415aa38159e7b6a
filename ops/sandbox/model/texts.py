"""Composes horoscopes: seven topics, a sentence each, every gap filled by the dice of sign and day."""

import random
import re
from dataclasses import replace

from ops.sandbox.model.english import ENGLISH
from ops.sandbox.model.language import Language
from ops.sandbox.model.prompts import SIGNS, Prompt
from ops.sandbox.model.russian import RUSSIAN

SHORTEST, LONGEST = 450, 900  # characters
_LANGUAGES = {"ru": RUSSIAN, "en": ENGLISH}
_OTHER = {"ru": "en", "en": "ru"}
_WORD = re.compile(r"(\w+)")
_GAP = re.compile(r"\{(\w+)\}")


def compose(prompt: Prompt, attempt: int = 1) -> str:
    """The text for a sign and a day: the same for the same attempt, another for every other and every repair.

    Between 450 and 900 characters, two paragraphs of plain text.
    """
    turn = f":{prompt.messages}" if prompt.repair else ""
    dice = random.Random(f"{prompt.language}:{prompt.sign}:{prompt.day}:{attempt}{turn}")
    language = _LANGUAGES[prompt.language]
    while True:
        middle = ["work", "money", "love", "health"]
        dice.shuffle(middle)
        sentences = [
            _sentence(language, topic, prompt.sign, dice) for topic in ("mood", *middle, "advice", "luck")
        ]
        text = " ".join(sentences[:3]) + "\n\n" + " ".join(sentences[3:])
        if SHORTEST <= len(text) <= LONGEST:
            return text


def _sentence(language: Language, topic: str, sign: str | None, dice: random.Random) -> str:
    def fill(gap: re.Match[str]) -> str:
        if gap[1] == "sign":
            return language.names.get(sign or "", language.nobody)
        return dice.choice(language.fillings[gap[1]])

    sentence = _GAP.sub(fill, dice.choice(language.sentences[topic]))
    return sentence[0].upper() + sentence[1:]


def alike(text: str, prompt: Prompt) -> str:
    """Another's text with its sign's name and three words exchanged, as a model does that is short of ideas."""
    names = _LANGUAGES[prompt.language].names
    for name in names.values():
        text = text.replace(name, names.get(prompt.sign or "", name))
    dice = random.Random(f"{prompt.sign}:{prompt.day}:{prompt.messages}")
    new = [word.lower() for word in _WORD.findall(compose(prompt)) if len(word) > 3]
    parts = _WORD.split(text)  # the words at odd places
    for place in dice.sample(range(1, len(parts), 2), 3):
        parts[place] = dice.choice(new)
    return "".join(parts)


def spoilt(kind: str, prompt: Prompt, neighbour: str | None = None) -> str:
    """What a model gives that misunderstands, declines or rambles.

    Args:
        kind: `empty`, `refusal`, `english`, `too_long`, `short`, `html`, `same`, `alike` or `cut`.
        prompt: What was asked for.
        neighbour: A text beside which this one will be read, for `alike`; None: that of the next sign.
    """
    language = _LANGUAGES[prompt.language]
    good = compose(prompt)
    if neighbour is None:
        following = SIGNS[(SIGNS.index(prompt.sign) + 1) % len(SIGNS)] if prompt.sign else None
        neighbour = compose(replace(prompt, sign=following))
    return {
        "empty": "",
        "refusal": language.refusal,
        "english": compose(replace(prompt, language=_OTHER[prompt.language])),
        "too_long": good + "\n\n" + language.rambling * 80,
        "short": language.short,
        "html": f"<h1>1 < 2 & 3</h1><script>alert(1)</script><p>{good} <b>",
        "same": compose(Prompt(None, None, prompt.language)),
        "alike": alike(neighbour, prompt),
        "cut": good[: len(good) * 2 // 3],
    }[kind]
