"""What the model is asked. The words stand in ``prompts/``, one file a version."""

from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Final

from openai.types.chat import ChatCompletionMessageParam

from schema.signs import Language, Sign
from services.horoscopes.rules import MAX_LENGTH, MIN_LENGTH

#: Stored with every text. A change of words is a new file.
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
    """A text that broke a rule, told to the model with the order for a new one.

    Args:
        reason: Which rule, and how.
        text: The text; None when there was none.
    """

    reason: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Angle:
    """What makes a text unlike the others of its day, and unlike its sign's of the days around it."""

    theme: str
    opening: str


def angle(sign: Sign, day: date) -> Angle:
    """The angle of a sign on a day: always the same one.

    Themes and openings are dealt out to text after text in turn. Twelve texts a day from 31 themes: two days
    running never share one. 31 and 13 have no common divisor, nor one with 12: a sign meets the same theme
    with the same opening again after 31 x 13 = 403 days.
    """
    number = day.toordinal() * len(_SIGNS) + _SIGNS.index(sign)
    return Angle(theme=_THEMES[number % len(_THEMES)], opening=_OPENINGS[number % len(_OPENINGS)])


def messages(
    sign: Sign, day: date, language: Language, rejected: Rejected | None = None
) -> list[ChatCompletionMessageParam]:
    """The conversation that asks for one text, in the form of the Chat Completions API.

    Args:
        sign: The sign.
        day: The day.
        language: The language of the text.
        rejected: What the model wrote before and why nobody will read it; the conversation goes on from there.
    """
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
    """A text as it may go back to the model: no longer than it needs, nothing that cannot be sent."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text[: 2 * MAX_LENGTH])
