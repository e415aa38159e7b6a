"""The prompt. Its words are in ``prompts/``, one file for each version."""

from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Final

from openai.types.chat import ChatCompletionMessageParam

from schema.signs import Language, Sign
from services.horoscopes.rules import MAX_LENGTH, MIN_LENGTH

#: Stored with every text. New words need a new file.
VERSION: Final = "v2"

_LANGUAGE_NAMES = {Language.RU: "Russian", Language.EN: "English"}
_SIGNS = tuple(Sign)
_WORDS = {
    heading: words.strip()
    for heading, _, words in (
        part.partition("\n")
        for part in files("services.horoscopes")
        .joinpath(f"prompts/{VERSION}.md")
        .read_text("utf-8")
        .split("# ")
    )
}


def _list(heading: str) -> tuple[str, ...]:
    return tuple(line.removeprefix("- ") for line in _WORDS[heading].splitlines())


_TEMPERAMENTS = dict(line.split(": ", 1) for line in _list("temperaments"))
_THEMES = _list("themes")
_OPENINGS = _list("openings")


@dataclass(frozen=True, slots=True)
class Rejected:
    """A text that broke a rule. The model is told why when it is asked for another."""

    reason: str  #: The rule, and how the text breaks it
    text: str | None = None  #: The text; None: there was none


@dataclass(frozen=True, slots=True)
class Angle:
    """A theme and an opening, so that a text differs from the others of its day and from its sign's texts of other days."""

    theme: str
    opening: str


def angle(sign: Sign, day: date) -> Angle:
    """The angle of a sign on a day; always the same one.

    Themes and openings are assigned to one text after another in turn. With twelve texts a day and 31 themes, two
    consecutive days never share a theme. As 31, 13 and 12 have no common divisor, a sign gets the same theme with the
    same opening again after 31 x 13 = 403 days.
    """
    number = day.toordinal() * len(_SIGNS) + _SIGNS.index(sign)
    return Angle(theme=_THEMES[number % len(_THEMES)], opening=_OPENINGS[number % len(_OPENINGS)])


def messages(
    sign: Sign, day: date, language: Language, rejected: Rejected | None = None
) -> list[ChatCompletionMessageParam]:
    """The conversation that asks for one text; it continues after the model's text that was ``rejected``."""
    chosen = angle(sign, day)
    values = {
        "sign": sign.value,
        "sign_name": sign.name_in(language),
        "day": day.isoformat(),
        "weekday": f"{day:%A}",
        "language": language.value,
        "language_name": _LANGUAGE_NAMES[language],
        "min_length": MIN_LENGTH,
        "max_length": MAX_LENGTH,
        "temperament": _TEMPERAMENTS[sign.value],
        "theme": chosen.theme,
        "opening": chosen.opening,
    }
    conversation: list[ChatCompletionMessageParam] = [
        {"role": "system", "content": _WORDS["system"].format_map(values)},
        {"role": "user", "content": _WORDS["user"].format_map(values)},
    ]
    if rejected and rejected.text:
        conversation.append({"role": "assistant", "content": _quoted(rejected.text)})
    if rejected:
        values["reason"] = _quoted(rejected.reason)
        conversation.append({"role": "user", "content": _WORDS["repair"].format_map(values)})
    return conversation


def _quoted(text: str) -> str:
    """A text that can be sent back to the model: cut to twice the longest length, without unprintable characters."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text[: 2 * MAX_LENGTH])
