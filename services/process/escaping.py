r"""Makes text that others wrote harmless to look at: what moves the cursor, turns the writing or hides is escaped.

That is every control character and with it every ANSI sequence, every mark of direction, every other character without a
shape of its own, private ones, and halves of a character. White space and the marks that make an emoji stay.
"""

import re
from typing import Final

# By Unicode's data: the categories Cc, Cf, Co, Cs, Zl and Zp, and what is shown as nothing by default (UAX 44), but for
# the two variation selectors of emoji. A test compares them; to read the data here would cost every command a third of
# a second.
_RANGES: Final = (
    (0x00, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x34F, 0x34F), (0x600, 0x605), (0x61C, 0x61C), (0x6DD, 0x6DD),
    (0x70F, 0x70F), (0x890, 0x891), (0x8E2, 0x8E2), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x2028, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xD800, 0xF8FF), (0xFE00, 0xFE0D),
    (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFB), (0x110BD, 0x110BD), (0x110CD, 0x110CD), (0x13430, 0x1343F),
    (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF), (0xF0000, 0x10FFFF),
)  # fmt: skip
_INVISIBLE = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in _RANGES)}]")


def visible(text: str, *, keep: str = "\n\t") -> str:
    r"""The text with every invisible character as Python escapes it, such as ``\x1b``, but for those to ``keep``."""
    return _INVISIBLE.sub(lambda found: _escaped(found[0], keep), text)


def visible_json(text: str, *, keep: str = "\n\t") -> str:
    r"""The same with JSON's escapes, such as ``\u001b``: inside of JSON they mean what they stand for."""
    return _INVISIBLE.sub(lambda found: _escaped_json(found[0], keep), text)


def _escaped(character: str, keep: str) -> str:
    return character if character in keep else character.encode("unicode_escape").decode()


def _escaped_json(character: str, keep: str) -> str:
    if character in keep:
        return character
    units = character.encode("utf-16-be", errors="surrogatepass").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))
