"""Structured logs, for the terminal or as JSON: without secrets, without anything personal, and never long."""

import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import date
from typing import Any, Final, TextIO

import structlog

from services.process.descriptions import described, traced, without_personal
from services.process.escaping import visible
from services.process.spellings import Decoded, has_escapes

#: Characters of one value of an event, of all its values, and of its traceback.
VALUE, VALUES, TRACEBACK = 1_000, 3_000, 4_000
#: Values of one event, and entries of one value; characters of a value's name.
_ENTRIES = 30
_NAME = 100
#: Characters that are masked before a value is cut; far more than are kept, so that no secret is cut.
_MASKED = 1 << 16

#: A secret of so many characters is also found when it was cut before it came here, as long as so many are left of its
#: beginning or its end.
_CUT_LENGTH, _CUT_LEFT = 16, 12
_MASK: Final = "***"

#: What holds no reader's words: what structlog puts into an event, and the name of an event of ours.
_OURS: Final = frozenset({"level", "logger", "timestamp"})
_EVENT = re.compile(r"[a-z_]+(\.[a-z_]+)+")


class Mask:
    """Replaces secrets in text, except those shorter than 4 characters: they would mask ordinary words.

    A secret is found in every spelling: as it is, as JSON, Python's repr, an address or HTML escape it, and escaped
    several times. Of a long one the beginning or the end is enough. Call it before a text is cut.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {secret for secret in secrets if len(secret) >= 4}
        meant = found | {secret.replace(" ", "+") for secret in found}
        self._plain = sorted(found, key=len, reverse=True)
        decoded = {Decoded(secret, bytewise=bytewise).text for secret in meant for bytewise in (True, False)}
        self._decoded = sorted((secret for secret in decoded if len(secret) >= 4), key=len, reverse=True)
        self._long = [secret for secret in self._decoded if len(secret) >= _CUT_LENGTH]

    def __call__(self, text: str) -> str:
        """The text with every secret as ``***``."""
        if not self._plain:
            return text
        for secret in self._plain:
            if secret in text:
                text = text.replace(secret, _MASK)
        spans: list[tuple[int, int]] = []
        for bytewise in (True, False) if has_escapes(text) else (True,):
            decoded = Decoded(text, bytewise=bytewise)
            spans += (decoded.span(*place) for place in self._places(decoded.text))
        spans.sort()
        if not spans:
            return text
        parts, at = [], 0
        for first, after in spans:
            if first >= at:
                parts += [text[at:first], _MASK]
            at = max(at, after)
        return "".join([*parts, text[at:]])

    def _places(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets stand, and the beginnings and ends of long ones."""
        for secret in self._decoded:
            for place in _places_of(secret, text):
                yield place, place + len(secret)
        for secret in self._long:
            for place in _places_of(secret[:_CUT_LEFT], text):
                yield place, place + _shared(secret, text[place : place + len(secret)])
            for place in _places_of(secret[-_CUT_LEFT:], text):
                end = place + _CUT_LEFT
                before = text[max(0, end - len(secret)) : end]
                yield end - _shared(secret[::-1], before[::-1]), end

    def in_bytes(self, body: bytes) -> bytes:
        """The bytes with every secret as ``***``."""
        text = body.decode(errors="surrogateescape")
        masked = self(text)
        return body if masked is text else masked.encode(errors="surrogateescape")

    def in_json(self, value: Any) -> Any:
        """A JSON value with every secret in its strings as ``***``."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(name): self.in_json(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.in_json(inner) for inner in value]
        return value


def _places_of(part: str, text: str) -> Iterator[int]:
    place = text.find(part)
    while place >= 0:
        yield place
        place = text.find(part, place + 1)


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    for place, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return place
    return min(len(one), len(other))


def configure(log_format: str, mask: Mask, *, process: str) -> None:
    """Send all logs of this process, ours and the libraries', to the standard output, harmless as they are then."""
    logging.basicConfig(
        handlers=[_handler(log_format, mask, sys.stdout, process)], level=logging.INFO, force=True
    )
    # Our own lines say this better, or the library logs a line for each request.
    for name in (
        "aiogram.event",
        "aiohttp.access",
        "httpx2",
        "httpx",
        "alembic",
        "dramatiq",
        "periodiq",
        "uvicorn",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # APScheduler warns when it skips a run because the one before it still runs: on a busy machine, every second.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    # pika logs each failed step of a reconnection; the publisher and the consumers log the reconnection itself.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


@contextmanager
def warnings_only(mask: Mask, output: TextIO) -> Iterator[None]:
    """While the block runs, send warnings and errors to ``output`` as lines for people, and nothing else anywhere."""
    before = structlog.get_config()
    lines = _handler("console", mask, output, "")
    lines.setLevel(logging.WARNING)
    lines.addFilter(lambda record: not record.name.startswith("pika"))  # what it says, our errors say better
    root = logging.getLogger()
    root.addHandler(lines)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
        root.removeHandler(lines)


def _handler(log_format: str, mask: Mask, output: TextIO, process: str) -> logging.Handler:
    """What writes harmless lines of a format: ``console`` or ``json``."""
    renderer: Any
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=output.isatty(),
            pad_event_to=30,
            exception_formatter=structlog.dev.plain_traceback,
        )
    harmless = _Harmless(mask, process if log_format == "json" else "")
    found = logging.StreamHandler(output)
    found.setFormatter(
        _Masking(
            mask,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, harmless, renderer],
            foreign_pre_chain=_SHARED,
        )
    )
    return found


class _Masking(structlog.stdlib.ProcessorFormatter):
    """Masks the finished line, so that a secret in any part of it is found."""

    def __init__(self, mask: Mask, **options: Any) -> None:
        super().__init__(**options)
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


class _Harmless:
    """Makes the values of an event plain ones: masked, without personal data and control characters, then cut."""

    def __init__(self, mask: Mask, process: str) -> None:
        self._mask = mask
        self._process = process

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        """The event with plain values, and its traceback as text."""
        error = _error(event.pop("exc_info", None))
        left = VALUES
        told: dict[str, Any] = {}
        for name, value in list(event.items())[:_ENTRIES]:
            if name in _OURS or (name == "event" and _EVENT.fullmatch(str(value))):
                told[name] = self._text(str(value), VALUE, ours=True)
            else:
                key = self._text(name, _NAME, ours=True)
                told[key] = plain = self._plain(value, min(VALUE, left))
                left = max(0, left - len(key) - len(str(plain)))
        if self._process:
            told["process"] = self._process
        if error is not None:
            told["exception"] = visible(traced(error, self._mask, TRACEBACK))
        return told

    def _plain(self, value: Any, most: int) -> Any:
        if isinstance(value, int) and abs(value) >= 1 << 64:
            return self._text(hex(value), most)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            entries = list(value.items())[:_ENTRIES]
            each = most // max(1, len(entries))
            return {self._text(str(name), each): self._plain(inner, each) for name, inner in entries}
        if isinstance(value, list | tuple | set | frozenset):
            entries = list(value)[:_ENTRIES]
            return [self._plain(inner, most // max(1, len(entries))) for inner in entries]
        if isinstance(value, date):  # a datetime is a date too
            return value.isoformat()
        return self._text(described(value) if isinstance(value, BaseException) else str(value), most)

    def _text(self, text: str, most: int, *, ours: bool = False) -> str:
        length = len(text)
        text = self._mask(text[:_MASKED])
        text = visible(text if ours else without_personal(text), keep="")
        return text if len(text) <= most else f"{text[:most]}… ({length} characters)"


def _error(about: Any) -> BaseException | None:
    """The exception of a log call, in whatever form it was handed over."""
    if isinstance(about, BaseException):
        return about
    if isinstance(about, tuple):
        return about[1] if len(about) == 3 and isinstance(about[1], BaseException) else None
    return sys.exception() if about else None


_SHARED: Final[list[Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.ExtraAdder(),
]
