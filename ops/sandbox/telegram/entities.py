"""Formatted text as Telegram understands it: HTML in, plain text and entities out.

Source: "Formatting options" of the Bot API's documentation and the error texts of TDLib.
"""

import re
from typing import Any

from ops.sandbox.telegram.calls import ApiError, bad_request

LONGEST = 4096  # UTF-16 code units after entities parsing

Entity = dict[str, Any]

_TAGS = {
    "bold": ("b", "strong"),
    "italic": ("i", "em"),
    "underline": ("u", "ins"),
    "strikethrough": ("s", "strike", "del"),
    "spoiler": ("span", "tg-spoiler"),
    "custom_emoji": ("tg-emoji",),
    "text_link": ("a",),
    **{tag: (tag,) for tag in ("code", "pre", "blockquote")},
}
_KINDS = {tag: kind for kind, tags in _TAGS.items() for tag in tags}
_CHARACTERS = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_CHARACTER = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#(\d{1,7})|([a-zA-Z]+));?")
_START = re.compile(r"<([^\s>]*)")
_ATTRIBUTE = re.compile(r"\s+([^\s=>]+)(?:\s*=\s*(\"[^\"]*\"|'[^']*'|[\w.-]+))?")
_END = re.compile(r"</([^\s>]*)\s*>")
_COMMAND = re.compile(r"(?<![\w/<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/])")


def utf16_length(text: str) -> int:
    """The length of a text in UTF-16 code units, as Telegram counts."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


class _Html:
    """One pass over one HTML text."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.at = 0
        self.length = 0
        self.parts: list[str] = []
        self.open: list[tuple[str, dict[str, str], int]] = []
        self.entities: list[Entity] = []

    def parse(self) -> tuple[str, list[Entity]]:
        while self.at < len(self.source):
            character = self.source[self.at]
            if character == "&":
                self._character()
            elif character != "<":
                self._plain()
            elif self.source.startswith("</", self.at):
                self._end_tag()
            else:
                self._start_tag()
        if self.open:
            raise self._error(f'Can\'t find end tag corresponding to start tag "{self.open[-1][0]}"')
        return "".join(self.parts), self.entities

    def _error(self, what: str) -> ApiError:
        return bad_request(f"can't parse entities: {what}")

    def _here(self) -> str:
        return f"at byte offset {len(self.source[: self.at].encode())}"

    def _append(self, text: str) -> None:
        self.parts.append(text)
        self.length += utf16_length(text)

    def _plain(self) -> None:
        found = re.compile(r"[<&]").search(self.source, self.at)
        end = found.start() if found else len(self.source)
        self._append(self.source[self.at : end])
        self.at = end

    def _character(self) -> None:
        found = _CHARACTER.match(self.source, self.at)
        decoded = ""
        if found:
            hexadecimal, decimal, name = found.groups()
            if name:
                decoded = _CHARACTERS.get(name, "")
            else:
                code = int(hexadecimal, 16) if hexadecimal else int(decimal)
                decoded = chr(code) if 0 < code < 0x10FFFF and not 0xD800 <= code <= 0xDFFF else ""
        # An unknown character stays as it was written.
        self._append(decoded or "&")
        self.at = found.end() if found and decoded else self.at + 1

    def _start_tag(self) -> None:
        found = _START.match(self.source, self.at)
        if not found or found.end() == len(self.source):
            raise self._error(f"Unclosed start tag {self._here()}")
        tag = found[1].lower()
        if tag not in _KINDS:
            raise self._error(f'Unsupported start tag "{tag}" {self._here()}')
        at, attributes = found.end(), {}
        while attribute := _ATTRIBUTE.match(self.source, at):
            name, value = attribute.groups()
            if value is None and (tag, name) != ("blockquote", "expandable"):
                raise self._error(
                    f'Expected equal sign in declaration of an attribute of the tag "{tag}" {self._here()}'
                )
            attributes[name] = (value or "").strip("\"'").replace("&amp;", "&").replace("&quot;", '"')
            at = attribute.end()
        closed = re.compile(r"\s*>").match(self.source, at)
        if not closed:
            raise self._error(f"Unclosed start tag {self._here()}")
        if tag == "span" and attributes.get("class") != "tg-spoiler":
            raise self._error(f'Tag "span" must have class "tg-spoiler" {self._here()}')
        self.open.append((tag, attributes, self.length))
        self.at = closed.end()

    def _end_tag(self) -> None:
        if not self.open:
            raise self._error(f"Unexpected end tag {self._here()}")
        found = _END.match(self.source, self.at)
        if not found:
            raise self._error(f"Unclosed end tag {self._here()}")
        tag, attributes, offset = self.open[-1]
        if found[1] and found[1].lower() != tag:
            raise self._error(
                f'Unmatched end tag {self._here()}, expected "</{tag}>", found "</{found[1].lower()}>"'
            )
        self.open.pop()
        self.at = found.end()
        entity: Entity = {"type": _KINDS[tag], "offset": offset, "length": self.length - offset}
        if tag == "a":
            entity["url"] = attributes.get("href", "")
        if tag == "tg-emoji":
            entity["custom_emoji_id"] = attributes.get("emoji-id", "")
        if tag == "blockquote" and "expandable" in attributes:
            entity["type"] = "expandable_blockquote"
        if entity["length"] and entity.get("url", "-"):
            self.entities.append(entity)


def formatted(
    text: str, parse_mode: str = "", entities: list[Entity] | None = None
) -> tuple[str, list[Entity]]:
    """The text that a reader sees, and its entities: bold, links, commands.

    `parse_mode` is `HTML`, or empty for plain text; the sandbox knows no Markdown. `entities` stand instead of it.

    Raises:
        ApiError: The HTML is wrong, the text empty, or the mode unknown.
    """
    found = list(entities or [])
    if parse_mode.lower() == "html":
        text, found = _Html(text).parse()
    elif parse_mode:
        raise bad_request("unsupported parse_mode (the sandbox knows HTML)")
    stripped = text.strip()
    shift = utf16_length(text[: len(text) - len(text.lstrip())])
    if not stripped:
        raise bad_request("message text is empty")
    longest = utf16_length(stripped)
    kept = []
    for entity in found:
        start = max(0, entity["offset"] - shift)
        end = min(longest, entity["offset"] - shift + entity["length"])
        if end > start:
            kept.append({**entity, "offset": start, "length": end - start})
    kept += commands(stripped)
    return stripped, sorted(kept, key=lambda entity: (entity["offset"], -entity["length"]))


def commands(text: str) -> list[Entity]:
    """The `bot_command` entities Telegram finds by itself."""
    if "/" not in text:
        return []
    return [
        {
            "type": "bot_command",
            "offset": utf16_length(text[: found.start()]),
            "length": len(found[0]),
        }
        for found in _COMMAND.finditer(text)
    ]
