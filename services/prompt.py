"""What the model is asked. The words stand in ``prompts/``, one file a version."""

from datetime import date
from importlib.resources import files
from typing import Final

from openai.types.chat import ChatCompletionMessageParam

from schema.signs import Language, Sign
from services.text_rules import MAX_LENGTH, MIN_LENGTH

#: Stored with every text. A change of words is a new file.
VERSION: Final = "v1"

_LANGUAGE_NAMES = {Language.RU: "Russian", Language.EN: "English"}
_SYSTEM, _USER = (
    part.partition("\n")[2].strip()
    for part in files("services").joinpath(f"prompts/{VERSION}.md").read_text("utf-8").split("# ")
    if part.partition("\n")[0] in {"system", "user"}
)


def messages(sign: Sign, day: date, language: Language) -> list[ChatCompletionMessageParam]:
    """The conversation that asks for one text, in the form of the Chat Completions API."""
    values = {
        "sign": sign.value,
        "sign_name": sign.name_in(language),
        "day": day.isoformat(),
        "weekday": f"{day:%A}",
        "language": language.value,
        "language_name": _LANGUAGE_NAMES[language],
        "min_length": MIN_LENGTH,
        "max_length": MAX_LENGTH,
    }
    return [
        {"role": "system", "content": _SYSTEM.format_map(values)},
        {"role": "user", "content": _USER.format_map(values)},
    ]
