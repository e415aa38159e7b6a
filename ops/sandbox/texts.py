"""Composes horoscopes: seven topics, a sentence each, every gap filled by the dice of sign and day."""

import random
import re
from dataclasses import replace

from ops.sandbox.english import ENGLISH
from ops.sandbox.language import Language
from ops.sandbox.prompts import Prompt
from ops.sandbox.russian import RUSSIAN

SHORTEST, LONGEST = 450, 900  # characters
_LANGUAGES = {"ru": RUSSIAN, "en": ENGLISH}
_OTHER = {"ru": "en", "en": "ru"}
_GAP = re.compile(r"\{(\w+)\}")


def compose(prompt: Prompt, attempt: int = 1) -> str:
    """The text for a sign and a day: the same for the same attempt, another for every other.

    Between 450 and 900 characters, two paragraphs of plain text.
    """
    dice = random.Random(f"{prompt.language}:{prompt.sign}:{prompt.day}:{attempt}")
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


def spoilt(kind: str, prompt: Prompt) -> str:
    """What a model gives that misunderstands, declines or rambles.

    Args:
        kind: `empty`, `refusal`, `english`, `too_long`, `short`, `html` or `same`.
        prompt: What was asked for.
    """
    language = _LANGUAGES[prompt.language]
    good = compose(prompt)
    return {
        "empty": "",
        "refusal": language.refusal,
        "english": compose(replace(prompt, language=_OTHER[prompt.language])),
        "too_long": good + "\n\n" + language.rambling * 80,
        "short": language.short,
        "html": f"<h1>1 < 2 & 3</h1><script>alert(1)</script><p>{good} <b>",
        "same": compose(Prompt(None, None, prompt.language)),
    }[kind]
