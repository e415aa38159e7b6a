"""Sentences about the service: in English everywhere, and in the operator's language on the page."""

from datetime import datetime
from typing import Self


class Sentence(str):
    """An English sentence that keeps its parts, so that the page can translate it.

    Logs, JSON and the command line use it as an ordinary string.

    Attributes:
        message: What the catalogues translate, such as ``%(count)s text is missing``.
        plural: The message for every ``count`` but 1; empty for a message with a single form.
        values: The values of the message, by name.
    """

    __slots__ = ("message", "plural", "values")

    message: str
    plural: str
    values: dict[str, object]

    def __new__(cls, message: str, /, **values: object) -> Self:
        """A sentence with a single form."""
        return cls.counted(message, "", **values)

    @classmethod
    def counted(cls, message: str, plural: str, /, **values: object) -> Self:
        """A sentence whose form depends on the value ``count``."""
        form = plural if plural and values["count"] != 1 else message
        shown = {name: _in_english(value) for name, value in values.items()}
        sentence = super().__new__(cls, form % shown if values else form)
        sentence.message, sentence.plural, sentence.values = message, plural, values
        return sentence


def _in_english(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M} UTC"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
