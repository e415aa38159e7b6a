"""Horoscopes made of the sentences in `horoscopes.LANGUAGE.txt`."""

import random
import re
from dataclasses import replace
from datetime import date
from importlib.resources import files

from ops.sandbox.model.prompts import SIGNS, Prompt

SHORTEST, LONGEST = 450, 900  # characters
_LANGUAGES = ("ru", "en")
_MIDDLE = ("work", "people", "self")
# How far each topic moves on in a day. The topics have different numbers of sentences, so a sign meets the same
# combination again only after years.
_STEPS = {"opening": 3, "work": 5, "people": 7, "self": 2, "closing": 9}
_WORD = re.compile(r"(\w+)")


def _sections(language: str) -> dict[str, list[str]]:
    text = (files("ops.sandbox.model") / f"horoscopes.{language}.txt").read_text("utf-8")
    paragraphs = (paragraph.splitlines() for paragraph in text.split("\n\n"))
    return {heading.removeprefix("# "): lines for heading, *lines in paragraphs}


def _pairs(lines: list[str]) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in lines)


_SENTENCES = {language: _sections(language) for language in _LANGUAGES}
_NAMES = {language: _pairs(sections["signs"]) for language, sections in _SENTENCES.items()}
_BAD = {language: _pairs(sections["bad texts"]) for language, sections in _SENTENCES.items()}


def compose(prompt: Prompt, attempt: int = 1) -> str:
    """The text for a sign and a day: two paragraphs of plain text, 450 to 900 characters.

    An opening, two or three sentences on work, people and oneself, and a closing. The texts of one day share no
    sentence, nor do those of one sign on two days running. The same attempt gives the same text.
    """
    sentences = _SENTENCES[prompt.language]
    sign = SIGNS.index(prompt.sign) if prompt.sign else len(SIGNS)
    day = date.fromisoformat(prompt.day).toordinal() if prompt.day else 0
    # Another attempt takes the text of a far-off day, one that shares few sentences with any text near this one.
    day += 645 * (attempt - 1) + (101 * prompt.messages if prompt.repair else 0)

    def pick(topic: str) -> str:
        choices = sentences[topic]
        chosen = choices[(sign + day * _STEPS[topic]) % len(choices)]
        return chosen.replace("{sign}", _NAMES[prompt.language][prompt.sign or "nobody"])

    turn = (sign + day) % len(_MIDDLE)
    middle = [pick(topic) for topic in _MIDDLE[turn:] + _MIDDLE[:turn]]
    opening, closing = pick("opening"), pick("closing")
    if turn == 0 and len(" ".join([opening, *middle[:2], closing])) >= SHORTEST:
        middle.pop()
    return f"{opening} {middle[0]}\n\n{' '.join(middle[1:])} {closing}"


def alike(text: str, prompt: Prompt) -> str:
    """A copy of another text with the sign's name and three words exchanged, as a lazy model writes it."""
    names = _NAMES[prompt.language]
    for name in names.values():
        text = text.replace(name, names.get(prompt.sign or "", name))
    dice = random.Random(f"{prompt.sign}:{prompt.day}:{prompt.messages}")
    new = [word.lower() for word in _WORD.findall(compose(prompt)) if len(word) > 3]
    parts = _WORD.split(text)  # the words stand at odd places
    for place in dice.sample(range(1, len(parts), 2), 3):
        parts[place] = dice.choice(new)
    return "".join(parts)


def spoilt(kind: str, prompt: Prompt, neighbour: str | None = None) -> str:
    """A bad text of a kind of :class:`ops.sandbox.faults.ModelFaults`; ``neighbour`` is the text that `alike` copies."""
    bad = _BAD[prompt.language]
    good = compose(prompt)
    if neighbour is None:
        following = SIGNS[(SIGNS.index(prompt.sign) + 1) % len(SIGNS)] if prompt.sign else None
        neighbour = compose(replace(prompt, sign=following))
    (other_language,) = set(_LANGUAGES) - {prompt.language}
    return {
        "empty": "",
        "refusal": bad["refusal"],
        "english": compose(replace(prompt, language=other_language)),
        "too_long": f"{good}\n\n" + f"{bad['rambling']} " * 80,
        "short": bad["short"],
        "html": f"<h1>1 < 2 & 3</h1><script>alert(1)</script><p>{good} <b>",
        "same": compose(Prompt(None, None, prompt.language)),
        "alike": alike(neighbour, prompt),
        "cut": good[: len(good) * 2 // 3],
    }[kind]
