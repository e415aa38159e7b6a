"""What the body of a dead letter says, and how much of a letter is kept, shown and imported.

A replay publishes the body. So whatever people are shown of a letter's message, and whatever selects it, is read from the
body and from nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from schema.errors import InvalidEnvelope
from schema.signs import Sign
from services.messaging.envelope import LARGEST, decode

#: Characters of a name, such as an actor's or a host's.
NAME: Final = 200
#: Attempts that are kept of one message, the last ones, and characters of each value in them.
ATTEMPTS, ATTEMPT_VALUE = 50, 2_000
#: Bytes of bodies that are held in memory at once; parsed JSON takes thirty times the memory of its text.
AT_ONCE: Final = 1 << 20
#: A body with more bytes is read alone.
SMALL: Final = 4_096

#: Arguments of one letter, and characters of each, that a list shows.
_SHOWN, _SHOWN_VALUE = 20, 500
_FIELDS_OF_ATTEMPT = ("at", "seconds", "host", "pid", "release", "error")


@dataclass(frozen=True, slots=True)
class Contents:
    """What a body says; all of it is None for bytes that are no message."""

    message_id: str | None = None  #: None also for a message without one
    actor: str | None = None
    arguments: dict[str, Any] | None = None
    published_at: datetime | None = None

    @property
    def sign(self) -> str | None:
        """The sign among the arguments."""
        sign = (self.arguments or {}).get("sign")
        return sign if isinstance(sign, str) and sign in set(Sign) else None

    @property
    def day(self) -> date | None:
        """The day among the arguments."""
        try:
            return date.fromisoformat((self.arguments or {}).get("day"))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None

    def queue(self, died_in: str) -> str:
        """The queue that a replay publishes into; for a message that no replay can publish, where it died."""
        queue, dot, _ = (self.actor or "").partition(".")
        return queue if dot else died_in


def read_contents(body: bytes) -> Contents:
    """What a body says, as a replay reads it."""
    with suppress(InvalidEnvelope):
        parts = decode(body, whole=True)
        published_at = datetime.fromtimestamp(parts["message_timestamp"] / 1000, UTC)
        return Contents(parts["message_id"], parts["actor_name"], _in_order(parts["kwargs"]), published_at)
    with suppress(InvalidEnvelope):  # a replay makes up what is missing
        parts = decode(body)
        return Contents(None, parts["actor_name"], _in_order(parts["kwargs"]), None)
    return Contents()


def _in_order(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments in the order in which PostgreSQL's jsonb has those of edits."""
    return dict(sorted(arguments.items(), key=lambda item: (len(item[0].encode()), item[0])))


def too_large(size: int) -> bool:
    """Whether a body of so many bytes is no message for its size alone."""
    return size > LARGEST


def shortened(arguments: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Arguments as a list shows them: long and nested values are cut JSON, and of many arguments the first are left."""
    if arguments is None:
        return None
    found = {cut(name, NAME): _shortened(value) for name, value in list(arguments.items())[:_SHOWN]}
    if len(arguments) > _SHOWN:
        found["…"] = f"{len(arguments) - _SHOWN} more"
    return found


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return cut(value, _SHOWN_VALUE)
    if isinstance(value, dict | list):
        written = json.dumps(value, ensure_ascii=False)
        return value if len(written) <= _SHOWN_VALUE else cut(written, _SHOWN_VALUE)
    return value


def attempts_of(options: Mapping[str, Any] | Sequence[Any]) -> list[dict[str, Any]]:
    """The last attempts of a message, each with its known fields; anybody can publish a message with anything in them.

    Args:
        options: The message's options, or the list of its attempts.
    """
    tries = options.get("attempts", []) if isinstance(options, Mapping) else options
    return [
        {name: _plain(each[name]) for name in _FIELDS_OF_ATTEMPT if name in each}
        for each in list(tries)[-ATTEMPTS:]
        if isinstance(each, dict)
    ]


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return cut(written, ATTEMPT_VALUE)


def cut(text: str, most: int) -> str:
    """The text, or its beginning of ``most`` characters with three dots behind it."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
