"""Lines of the log: harmless, short, and without anything of a reader."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
import structlog
from aiogram.exceptions import ClientDecodeError, TelegramBadRequest
from aiogram.methods import GetMe
from pydantic import BaseModel, ValidationError

from services.process import descriptions
from services.process.descriptions import described, hide, said
from services.process.logs import TRACEBACK, VALUES, Mask, configure

SECRET = "sk-a-model-key-0123456789"
HOSTILE = "\x1b[31mred\x9b2J\u202egnp.exe\u2066[bold]\r\nforged line\u200b\U000e0041"
NAMES = {"first_name": "Ánna-Мари", "last_name": "O'Hara 🦄", "username": "anna_private_77"}
TEXT = 'моя тайна "4711" и ещё ёлка'
UPDATE = {"update_id": 5, "message": {"text": TEXT, "from": {"id": 7, **NAMES}, "chat": {"type": "private"}}}

Log = Callable[[], str]


@pytest.fixture(params=["console", "json"])
def log_format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def logged(log_format: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Log]:
    """What was logged so far."""
    before, handlers, level = structlog.get_config(), logging.root.handlers[:], logging.root.level
    output = io.StringIO()
    monkeypatch.setattr("sys.stdout", output)
    configure(log_format, Mask([SECRET]), process="test")
    hide(None)
    yield output.getvalue
    hide(None)
    structlog.configure(**before)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def only(logged: Log, log_format: str) -> dict[str, Any]:
    """The only line, as values."""
    assert log_format == "json"
    told: dict[str, Any] = json.loads(logged())
    return told


def test_nothing_hostile_reaches_the_terminal(logged: Log, log_format: str) -> None:
    log = structlog.get_logger("ours")
    log.info(
        "thing.happened", remote=HOSTILE, names=[HOSTILE], told={HOSTILE: HOSTILE}, error=ValueError(HOSTILE)
    )
    logging.getLogger("foreign").warning("it said %s", HOSTILE, extra={"more": HOSTILE})
    try:
        _fail(ValueError(HOSTILE))
    except ValueError:
        log.exception("thing.failed")
    lines = logged().splitlines()
    assert all(character.isprintable() or character == "\n" for character in logged())
    assert "[bold]" in logged(), "markup is text"
    assert not any(line.startswith("forged line") for line in lines)
    if log_format == "json":
        assert [json.loads(line)["process"] for line in lines] == ["test"] * 3


def test_no_secret_and_no_half_of_one_is_in_a_line(logged: Log) -> None:
    log = structlog.get_logger("ours")
    for padding in range(960, 1010):  # a value is cut somewhere in here
        log.info("thing.happened", reason="x" * padding + SECRET)
    try:
        _fail(ValueError(f"{SECRET} \\u0073k-a-model-key-0123456789"))
    except ValueError:
        log.exception("thing.failed", key={SECRET: [SECRET.encode(), SECRET]})
    assert "sk-a" not in logged()
    assert "0123456789" not in logged()
    assert "***" in logged()


def test_a_line_is_a_few_kilobytes_whatever_it_is_about(logged: Log, log_format: str) -> None:
    log = structlog.get_logger("ours")
    huge = "ж" * 300_000
    log.info(
        "one",
        reason=huge,
        inner={"a": [huge] * 50, "b": {"c": huge}},
        **{f"name_{n}": huge for n in range(99)},
    )
    try:
        _fall(huge, 50)
    except ValueError:
        log.exception("two", number=10**4000)
    for line in (lines := logged().split("\n2" if log_format == "console" else "\n")):
        assert len(line) < VALUES + TRACEBACK + 3_000
    assert len(logged()) < 2 * (VALUES + TRACEBACK + 3_000)
    assert len(lines) >= 2
    assert "_fall" in logged()


def _fail(error: Exception) -> None:
    raise error


def _fall(what: str, depth: int) -> None:
    try:
        _fall(what, depth - 1) if depth else int(what)
    except ValueError as error:
        raise ValueError(f"{depth}: {what}") from error


def test_a_traceback_shows_no_variables(logged: Log) -> None:
    personal = NAMES["username"]
    try:
        len(personal + str(1 / int("0" * len(personal))))
    except ZeroDivisionError:
        structlog.get_logger("ours").exception("thing.failed")
    assert "ZeroDivisionError: division by zero" in logged()
    assert NAMES["username"] not in logged()


def test_nothing_of_the_update_that_is_handled_is_in_a_line(logged: Log, log_format: str) -> None:
    hide(UPDATE)
    log = structlog.get_logger("ours")
    for words in (TEXT, *NAMES.values(), *TEXT.split(), TEXT.upper(), TEXT.replace("ё", "е"), ascii(TEXT)):
        try:
            _fail(KeyError(words))
        except KeyError as error:
            log.exception("update.failed", update_id=5, reason=str(error), error=error)
            logging.getLogger("foreign").error("this failed: %s", words)
    found = logged().lower()
    for word in ("анна", "мари", "hara", "anna_private", "тайна", "4711", "елка", "ёлка", "\\u0430\\u0439"):
        assert word not in found
    assert "update.failed" in found
    assert '"update_id": 5' in found if log_format == "json" else "update_id=5" in found


def test_a_reader_cannot_hide_the_name_of_an_event(logged: Log) -> None:
    hide({"message": {"from": {"first_name": "update.failed", "last_name": "error"}}})
    structlog.get_logger("ours").error("update.failed", update_id=5)
    assert "update.failed" in logged()
    assert "error" in logged()


def test_of_a_very_long_update_nothing_is_searched_and_nothing_shown(logged: Log) -> None:
    hide({"message": {"text": "слово " * 4_000}})
    structlog.get_logger("ours").error("update.failed", reason="a word of it: слово")
    assert "слово" not in logged()
    assert "update.failed" in logged()


class _Model(BaseModel):
    kind: Literal["a", "b"]
    number: int


def test_errors_are_described_without_the_values_that_they_quote() -> None:
    with pytest.raises(ValidationError) as invalid:
        _Model.model_validate({"kind": TEXT, "number": TEXT})
    assert said(invalid.value) == "kind: literal_error; number: int_parsing"
    wrapped = RuntimeError(f"it failed: {invalid.value}")
    assert TEXT not in said(wrapped)
    assert described(ValueError("a\nb\x1b")) == "ValueError: a\\nb\\x1b"
    assert described(ValueError()) == "ValueError: ValueError"
    unread = ClientDecodeError("Failed to decode object", ValueError("x"), {"result": UPDATE})
    assert said(unread) == "Failed to decode object\\nCaused from error: builtins.ValueError: x"
    assert said(ValueError("what it said")) == "what it said"
    assert said(RuntimeError("x: y\nDETAIL:  Failing row contains (7, Anna).")) == "x: y"
    refused = TelegramBadRequest(GetMe(), f'can\'t parse "{TEXT}"')
    assert "тайна" not in said(refused)


def test_a_cause_is_shown_and_every_member_of_a_group() -> None:
    def mask(text: str) -> str:
        return text.replace("hidden", "***")

    group = ExceptionGroup("two", [ValueError("the first hidden"), KeyError("the second")])
    try:
        try:
            raise group
        except ExceptionGroup as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        text = descriptions.traced(error, mask, 100_000)
    assert "ValueError: the first ***" in text
    assert "KeyError: 'the second'" in text
    assert "direct cause" in text
    assert text.splitlines()[-1] == "RuntimeError: outer"
    assert descriptions.traced(group, mask, 60).startswith("…\n")
