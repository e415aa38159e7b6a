"""Structured logs, for the terminal or as JSON, without secrets."""

import json
import logging
import sys
from collections.abc import Iterable, MutableMapping
from datetime import date
from typing import Any

import structlog


class Mask:
    """Replaces secrets in text, except those shorter than 4 characters: they would mask ordinary words."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted((s for s in secrets if len(s) >= 4), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The text with every secret as ``***``."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "***")
        return text

    def in_bytes(self, body: bytes) -> bytes:
        """The bytes with every secret as ``***``, also where JSON has escaped it."""
        for secret in self._secrets:
            for form in {
                secret,
                *(json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)),
            }:
                body = body.replace(form.encode(errors="surrogateescape"), b"***")
        return body

    def in_json(self, value: Any) -> Any:
        """A JSON value with every secret in its strings as ``***``."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(name): self.in_json(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.in_json(inner) for inner in value]
        return value


def configure(log_format: str, mask: Mask, *, process: str) -> None:
    """Send all logs of this process, ours and the libraries', to the standard output, with every line masked."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        _plain_dates,
    ]
    renderer: Any
    if log_format == "json":
        shared += [structlog.processors.dict_tracebacks, _named(process)]
        renderer = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(),
            pad_event_to=30,
            exception_formatter=structlog.dev.plain_traceback,
        )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        _Masking(
            mask,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
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
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=True,
    )


class _Masking(structlog.stdlib.ProcessorFormatter):
    """Masks the finished line, so that a secret in any part of it is found."""

    def __init__(self, mask: Mask, **options: Any) -> None:
        super().__init__(**options)
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


def _plain_dates(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, date):  # a datetime is a date too
            event[name] = value.isoformat()
    return event


def _named(process: str) -> Any:
    def name(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    return name
