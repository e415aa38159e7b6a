"""Text that others wrote, as it may be shown: without secrets, and without characters that deceive the eye."""

from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

from services.process.logs import Mask

_Value = TypeVar("_Value")

#: Characters that move the cursor, turn the direction of writing or cannot be encoded; they are shown as in JSON.
_DECEIVING = (
    *range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),
    *range(0xD800, 0xE000), 0xFEFF,
)  # fmt: skip
_TOLD = {code: f"\\u{code:04x}" for code in _DECEIVING if chr(code) not in "\n\t"}


def plain(value: _Value, mask: Mask) -> _Value:
    """A text, or a dataclass, dictionary or list of such, for people to read."""
    found: object = value
    if isinstance(value, str):
        found = mask(value).translate(_TOLD)
    elif isinstance(value, bytes):
        found = mask.in_bytes(value)
    elif isinstance(value, dict):
        found = {plain(name, mask): plain(inner, mask) for name, inner in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(plain(inner, mask) for inner in value)
    elif is_dataclass(value) and not isinstance(value, type):
        found = replace(
            value, **{each.name: plain(getattr(value, each.name), mask) for each in fields(value)}
        )
    return found  # type: ignore[return-value]
