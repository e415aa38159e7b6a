"""Messages on the wire: Dramatiq's own format, as JSON."""

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson

from schema.errors import InvalidEnvelope
from schema.messages import Message

#: The most bytes of a message. Ours have hundreds, a dead letter tens of thousands; parsed JSON takes thirty times the
#: memory of its text.
LARGEST = 1 << 20
#: The most levels of nesting; deeper JSON would exhaust the stack of a recursive function.
_DEEPEST = 100
#: Message ids are stored in PostgreSQL, which refuses rows with long keys.
_LONGEST_ID = 200


def encode(message: Message) -> bytes:
    """The Dramatiq message that carries ``message`` to its actor.

    Encoded here without Dramatiq, because this is on the serving path; a test decodes it with Dramatiq's own class.
    """
    return orjson.dumps(
        {
            "queue_name": message.queue,
            "actor_name": message.actor,
            "args": (),
            "kwargs": message.arguments(),
            "options": {},
            "message_id": str(uuid4()),
            "message_timestamp": now(),
        }
    )


def decode(body: bytes, *, whole: bool = False) -> dict[str, Any]:
    """Decode a Dramatiq message; raises InvalidEnvelope if a part is missing, unknown or of a wrong type.

    A missing id is made up, and so is a missing time; with ``whole`` neither may be missing.
    """
    if len(body) > LARGEST:
        raise too_many_bytes(len(body))
    try:
        parts: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        fault = "it is not UTF-8" if "UTF-8" in error.msg else f"it is not JSON: {error}"
        raise InvalidEnvelope(fault) from None
    if not isinstance(parts, dict):
        raise InvalidEnvelope(f"expected a JSON object, not {type(parts).__name__}")
    if parts.keys() != _SOUND.keys():
        if not whole:
            parts = {"message_id": str(uuid4()), "message_timestamp": now()} | parts
        if odd := parts.keys() ^ _SOUND.keys():
            raise InvalidEnvelope(f"missing or unknown parts: {', '.join(sorted(odd))}")
    if body.count(b"[") + body.count(b"{") > _DEEPEST and _is_too_deep(parts):
        raise InvalidEnvelope(f"it is nested more than {_DEEPEST} levels deep")
    for name, is_sound in _SOUND.items():
        if not is_sound(parts[name]):
            raise InvalidEnvelope(f"this part has a wrong form: {name}")
    message: dict[str, Any] = parts
    return message


def too_many_bytes(size: int) -> InvalidEnvelope:
    """The error of a body that is too large to be a message."""
    return InvalidEnvelope(f"it has {size} bytes; expected {LARGEST} at the most")


def as_a_copy(body: bytes) -> bytes:
    """The same message under a new id.

    The first copy may have arrived after all, and a worker must not take one for a redelivery of the other.
    """
    try:
        message = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    return orjson.dumps(message | {"message_id": str(uuid4())}) if isinstance(message, dict) else body


def now() -> int:
    """The time as a message carries it: milliseconds since the epoch."""
    return int(time.time() * 1000)


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return bool(level)


def _are_options(options: Any) -> bool:
    attempts = options.get("attempts", []) if isinstance(options, dict) else None
    return isinstance(attempts, list) and all(isinstance(each, dict) for each in attempts)


#: The parts of a message, each with a check of its form.
_SOUND: dict[str, Callable[[Any], bool]] = {
    "queue_name": lambda name: isinstance(name, str),
    "actor_name": lambda name: isinstance(name, str),
    "args": lambda args: isinstance(args, list),
    "kwargs": lambda kwargs: isinstance(kwargs, dict),
    "options": _are_options,
    "message_id": lambda name: isinstance(name, str) and len(name) <= _LONGEST_ID and "\0" not in name,
    "message_timestamp": lambda at: type(at) is int and 0 <= at < 1 << 43,
}
