"""Exports dead letters to a file and imports them elsewhere; a line of JSON for each."""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Any, BinaryIO, Literal
from uuid import UUID

import orjson
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import InvalidEnvelope, Refused
from services.database.pool import Database
from services.dead_letters.archive import bound, digest_of, insertion, storable
from services.dead_letters.contents import (
    ATTEMPT_VALUE,
    ATTEMPTS,
    NAME,
    SMALL,
    Contents,
    attempts_of,
    cut,
    read_contents,
)
from services.dead_letters.death import ERROR_LIMIT, TRACEBACK_LIMIT
from services.dead_letters.filters import Filter, State
from services.messaging.envelope import decode
from services.process.logs import Mask

#: Letters that are held in memory at once, and bytes of their lines.
PAGE, PAGE_BYTES = 100, 1 << 20
#: Letters of one file, bytes of one line, and bytes of the body in it, at the most.
LETTERS, LARGEST_LINE, LARGEST_BODY = 100_000, 1 << 20, 1 << 16
#: Values in the objects and lists of one line, at the most.
_PARTS = 10_000
#: Edits of one letter, and characters of the arguments of each as JSON, at the most.
_EDITS, _ARGUMENTS = 20, 1 << 14
#: Bytes of a file that are read at once.
_CHUNK = 1 << 16
#: Faults of a file that an error names at most, and characters of a value in it.
_NAMED = 10
_TOLD = 100

_PAGE = f"""
    SELECT letter.id, letter.death, letter.digest, letter.state, letter.state_since, letter.queue, letter.masked,
           letter.cause, left(letter.error_type, {NAME}) AS error_type, left(letter.error, {ERROR_LIMIT}) AS error,
           right(letter.traceback, {TRACEBACK_LIMIT}) AS traceback, letter.fingerprint,
           CASE WHEN octet_length(letter.attempts::text) <= {1 << 18} THEN letter.attempts ELSE '[]' END AS attempts,
           left(letter.release, {NAME}) AS release, left(letter.host, {NAME}) AS host, letter.died_at,
           letter.archived_at, letter.replays, letter.parent, left(letter.said_by, {NAME}) AS dropped_by,
           left(letter.said, {ERROR_LIMIT}) AS dropped_why, letter.imported_at,
           CASE WHEN octet_length(letter.body) <= {SMALL} THEN letter.body END AS body,
           COALESCE((SELECT jsonb_agg(jsonb_build_object(
                         'actor', edit.actor, 'arguments', edit.arguments, 'edited_by', left(edit.edited_by, {NAME}),
                         'edited_at', edit.edited_at) ORDER BY edit.id)
                     FROM dead_letter_edits AS edit WHERE edit.letter = letter.id), '[]') AS edits,
           COALESCE((SELECT jsonb_agg(jsonb_build_object(
                         'run', replays.run, 'state', replays.state, 'edited', replays.edit IS NOT NULL,
                         'published_at', replays.published_at, 'ended_at', replays.ended_at,
                         'died_as', replays.died_as, 'asked_by', run.started_by, 'asked_at', run.started_at,
                         'why', run.why) ORDER BY run.id)
                     FROM replays JOIN replay_runs AS run ON run.id = replays.run
                     WHERE replays.letter = letter.id), '[]') AS history
    FROM dead_letters AS letter {{where}} ORDER BY letter.id LIMIT :page
"""
_BODY = text("SELECT body FROM dead_letters WHERE id = :id")
_IMPORT = insertion(
    "replays integer, said_by text, said text, edits jsonb",
    "SELECT arrived.*, now() AS imported_at FROM arrived",
    ("replays", "said_by", "said", "imported_at"),
    """
        edited AS (
            INSERT INTO dead_letter_edits (letter, actor, arguments, edited_by, edited_at)
            SELECT kept.id, edit.value ->> 'actor', edit.value -> 'arguments', edit.value ->> 'edited_by',
                   CAST(edit.value ->> 'edited_at' AS timestamptz)
            FROM kept JOIN arrived USING (death)
            CROSS JOIN LATERAL jsonb_array_elements(arrived.edits) WITH ORDINALITY AS edit (value, place)
            ORDER BY kept.id, edit.place
        )
    """,
)


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("UTC has no such time: its year is before 1 or after 9999") from None


#: PostgreSQL would keep times that Python cannot read back.
_Instant = Annotated[AwareDatetime, AfterValidator(_in_utc)]


def _is_short(arguments: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(arguments, ensure_ascii=False)) > _ARGUMENTS:
        raise ValueError(f"expected at most {_ARGUMENTS} characters of JSON")
    return arguments


#: A text of at most so many characters.
_Name = Annotated[str, Field(max_length=NAME)]
_Words = Annotated[str, Field(max_length=ERROR_LIMIT)]
_Value = Annotated[str, Field(max_length=ATTEMPT_VALUE)] | bool | int | float | None


@dataclass(frozen=True, slots=True)
class _Edit:
    __pydantic_config__ = ConfigDict(extra="forbid")

    actor: _Name
    arguments: Annotated[dict[str, Any], AfterValidator(_is_short)]
    edited_by: Annotated[str, Field(min_length=1, max_length=NAME)]
    edited_at: _Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of a file.

    Fields with a default describe the letter's life where it was exported; they are not imported. What the body says is
    only compared with it. The digest is computed anew. The fingerprint is imported: the functions that the error came
    through are not kept, so it cannot be computed.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    death: UUID
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    state: Literal[State, "succeeded"]  # the name of did_it and nothing_to_do in older files
    message_id: str | None
    actor: str | None
    queue: Annotated[str, Field(max_length=255)]
    arguments: dict[str, Any] | None
    zodiac_sign: Annotated[str, Field(max_length=20)] | None
    day: date | None
    masked: bool
    cause: Annotated[str, Field(max_length=30)]
    error_type: _Name
    error: _Words
    traceback: Annotated[str, Field(max_length=TRACEBACK_LIMIT)] | None
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    attempts: Annotated[list[dict[_Name, _Value]], Field(max_length=ATTEMPTS)]
    release: _Name
    host: Annotated[str, Field(max_length=255)]
    published_at: _Instant | None
    died_at: _Instant
    replays: Annotated[int, Field(ge=0, lt=1 << 31)]
    dropped_by: _Name | None
    dropped_why: _Words | None
    edits: Annotated[list[_Edit], Field(max_length=_EDITS)]
    body: str | None = None
    body_base64: str | None = None
    id: int | None = None
    state_since: datetime | None = None
    archived_at: datetime | None = None
    imported_at: datetime | None = None
    parent: int | None = None

    @property
    def is_decided(self) -> bool:
        """Somebody has edited or dropped it, or the file says so."""
        return bool(self.edits or self.state == "dropped" or self.dropped_by or self.dropped_why)


_lines = TypeAdapter(_Line)
#: The columns that are imported as the line says; the body says the others.
_IMPORTED = {
    "death", "masked", "cause", "error_type", "error", "traceback", "fingerprint", "attempts", "release", "host",
    "died_at", "replays", "dropped_by", "dropped_why", "edits",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: letters that were new, and letters that were here already and stay as they are."""

    new: int
    known: int


@dataclass(slots=True)
class _Faults:
    """What is wrong with a file: the first faults, and the number of all."""

    named: list[str] = field(default_factory=list)
    count: int = 0

    def note(self, number: int, fault: object) -> None:
        self.count += 1
        if len(self.named) < _NAMED:
            self.named.append(f"line {number}: {fault}")

    def __str__(self) -> str:
        more = [f"and {self.count - _NAMED} more"] if self.count > _NAMED else []
        return "\n".join(["nothing was imported:", *self.named, *more])


@dataclass(frozen=True, slots=True, eq=False)
class Transfer:
    """Exports and imports dead letters.

    Both methods raise :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    database: Database
    mask: Mask  #: Takes this deployment's secrets out, both ways

    async def export(self, wanted: Filter) -> AsyncIterator[bytes]:
        """The selected letters, each in full as a line of JSON, earliest first; :data:`PAGE` at a time in memory.

        Args:
            wanted: Selects them; one with a verdict comes from :meth:`services.dead_letters.records.Records.judged`.
        """
        conditions = wanted.where()
        where = f"{conditions} {'AND' if conditions else 'WHERE'} letter.id > :after"
        statement = text(_PAGE.format(where=where))
        after = 0
        while True:
            async with self.database.transaction() as connection:
                asked = wanted.asked | {"after": after, "page": PAGE}
                rows = (await connection.execute(statement, asked)).mappings().all()
            for row in rows:
                yield await self._line(row)
            if len(rows) < PAGE:
                return
            after = rows[-1]["id"]

    async def _line(self, row: RowMapping) -> bytes:
        letter = dict(row)
        kept: bytes | None = letter.pop("body")
        if kept is None:  # a large one is read alone
            async with self.database.transaction() as connection:
                kept = (await connection.execute(_BODY, {"id": row["id"]})).scalar_one()
        body = self.mask.in_bytes(kept)
        letter = self.mask.in_json(letter | {"digest": letter["digest"].hex()})
        letter |= _told_by(read_contents(body), letter["queue"])
        letter |= {
            "masked": letter["masked"] or body != kept,
            "attempts": attempts_of(letter["attempts"]),
            "edits": letter["edits"][-_EDITS:],
        }
        return json.dumps(letter | body_as_json(body), default=_as_json, ensure_ascii=False).encode() + b"\n"

    async def import_(self, lines: Iterable[bytes], *, adopted_by: str | None = None) -> Imported:
        """Import letters, each once; all of them, or none if a line is wrong.

        A letter arrives dead, or dropped if it was dropped; its replays stay where they were. A letter whose death is
        known here stays as it is.

        Args:
            lines: See :func:`lines_of` for those of a file.
            adopted_by: Takes over the edits and drops in the file, and is named beside each: nobody can check what a
                file says of others. None: a file with any is refused.

        Raises:
            Refused: Some lines are no letters, or not what they say; the error names them.
        """
        total = new = 0
        faults = _Faults()
        page: dict[str, tuple[dict[str, Any], bytes]] = {}
        size = 0
        async with self.database.transaction() as connection:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                total += 1
                if total > LETTERS:
                    faults.note(number, f"the file has more than {LETTERS} letters; split it")
                    break
                try:
                    letter, body = self._read(line, adopted_by)
                except ValueError as error:
                    faults.note(number, error)
                if faults.count:
                    page.clear()
                    continue
                page.setdefault(letter["death"], (letter, body))
                size += len(line)
                if len(page) == PAGE or size > PAGE_BYTES:
                    new += await _insert(connection, page)
                    size = 0
            if faults.count:
                raise Refused(self.mask(str(faults)))
            new += await _insert(connection, page)
        return Imported(new, total - new)

    def _read(self, content: bytes, adopted_by: str | None) -> tuple[dict[str, Any], bytes]:
        """The columns of a letter's row, and its body.

        Raises:
            ValueError: The line is no letter, or its body is not what the line says; the message says why.
        """
        try:
            line = _lines.validate_python(_parsed(content))
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(cut(str(part), _TOLD) for part in fault["loc"])
            raise ValueError(": ".join(filter(None, [place, fault["msg"]]))) from None
        if line.is_decided and adopted_by is None:
            raise ValueError(_undecided(line))
        came = _body(line)
        _compare(line, came)
        body = self.mask.in_bytes(came)
        contents = read_contents(body)
        letter = json.loads(_lines.dump_json(line, include=_IMPORTED))
        row: dict[str, Any] = self.mask.in_json(storable(letter | _told_by(contents, line.queue)))
        said_by, said = row.pop("dropped_by"), row.pop("dropped_why")
        if adopted_by is not None:
            for edit in row["edits"]:
                edit["edited_by"] = _adopted(edit["edited_by"], adopted_by)
            said_by = _adopted(said_by, adopted_by) if line.state == "dropped" else None
        row |= {
            "digest": _digest(body, len(line.attempts)),
            "actor": contents.actor and cut(row["actor"], NAME),
            "masked": line.masked or body != came,
            "state": "dropped" if line.state == "dropped" else "dead",
            "said_by": said_by,
            "said": said if line.state == "dropped" else None,
        }
        return row, body


def _parsed(content: bytes) -> dict[str, Any]:
    """A line's object, without its history; ValueError if it is none, or has more parts than any letter.

    Checked before pydantic sees it, which takes a thousand times the memory of the text for each part that is wrong.
    """
    if len(content) > LARGEST_LINE:
        raise ValueError(f"it is longer than {LARGEST_LINE} bytes")
    try:
        line = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"Invalid JSON: {error}") from None
    if not isinstance(line, dict):
        raise ValueError("Input should be an object")  # noqa: TRY004  what is wrong with a line is a ValueError
    line.pop("history", None)
    level: list[Any] = [line]
    count = 0
    while level:
        inner = level.pop()
        count += len(inner)
        if count > _PARTS:
            raise ValueError(f"it has more than {_PARTS} parts")
        level += (
            each
            for each in (inner.values() if isinstance(inner, dict) else inner)
            if isinstance(each, dict | list)
        )
    return line


async def _insert(connection: AsyncConnection, page: dict[str, tuple[dict[str, Any], bytes]]) -> int:
    """Insert letters and forget them here; how many were new."""
    inserted: int = (await connection.execute(_IMPORT, bound(page.values()))).scalar_one()
    page.clear()
    return inserted


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; of one that is too long for a letter, a beginning that is too long as well."""
    while line := file.readline(LARGEST_LINE + 2):
        yield line
        rest = line
        while rest and not rest.endswith(b"\n"):  # only a line that is too long, or the last one
            rest = file.readline(_CHUNK)


def body_as_json(body: bytes) -> dict[str, str]:
    """A body as fields of JSON: ``body`` if it is text, or else ``body_base64``."""
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


def _told_by(contents: Contents, died_in: str) -> dict[str, Any]:
    """The columns that a body says."""
    return {
        "message_id": contents.message_id,
        "actor": contents.actor,
        "queue": contents.queue(died_in),
        "arguments": contents.arguments,
        "zodiac_sign": contents.sign,
        "day": contents.day.isoformat() if contents.day else None,
        "published_at": contents.published_at.isoformat() if contents.published_at else None,
    }


def _compare(line: _Line, body: bytes) -> None:
    """Raise ValueError if the line shows something else than what a replay of its body would publish."""
    if len(body) > LARGEST_BODY:
        raise ValueError(f"body: it has {len(body)} bytes; expected {LARGEST_BODY} at the most")
    contents = read_contents(body)
    if contents.actor is not None and contents.message_id is None:
        raise ValueError("body: its message has no id or no time")
    meant = {
        "message_id": contents.message_id,
        "actor": contents.actor,
        "queue": contents.queue(line.queue),
        "arguments": contents.arguments,
        "zodiac_sign": contents.sign,
        "day": contents.day,
        "published_at": contents.published_at,
    }
    for name, value in meant.items():
        told = getattr(line, name)
        if name == "queue" and told.startswith(f"{value}."):
            continue  # it died on a rung of that queue's ladder
        if told != value or _types(told) != _types(value):
            raise ValueError(f"{name}: the line says {_shown(told)}, its body says {_shown(value)}")


def _types(value: Any) -> Any:
    """What tells apart values that Python takes for equal, such as 1 and true."""
    if isinstance(value, dict):
        return {name: _types(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_types(inner) for inner in value]
    return isinstance(value, bool)


def _shown(value: Any) -> str:
    return cut(json.dumps(value, ensure_ascii=False, default=_as_json), _TOLD)


def _undecided(line: _Line) -> str:
    by = line.edits[0].edited_by if line.edits else line.dropped_by or "somebody"
    what, field_ = ("edited", "edits.0.edited_by") if line.edits else ("dropped", "dropped_by")
    return (
        f"{field_}: nobody can check that {cut(by, _TOLD)!r} {what} it; with --adopt you take over what the file says "
        "was decided, under your name"
    )


def _adopted(name: str | None, by: str) -> str:
    return f"{cut(by, NAME)}, from a file that says {cut(name or 'nobody', NAME)}"


def _digest(body: bytes, attempts: int) -> str:
    """The digest that an arriving copy of this letter would have, unless that was a replay."""
    try:
        parts = decode(body)
    except InvalidEnvelope:
        return digest_of(None, body)
    return digest_of(parts | {"options": {"attempts": [{}] * attempts}}, body)


def _body(line: _Line) -> bytes:
    if (line.body is None) == (line.body_base64 is None):
        raise ValueError("expected either body or body_base64")
    if line.body is not None:
        return line.body.encode()
    try:
        return base64.b64decode(line.body_base64 or "", validate=True)
    except binascii.Error as error:
        raise ValueError(f"body_base64: {error}") from None


def _as_json(value: Any) -> str:
    """A value that JSON has no type for."""
    return value.isoformat() if isinstance(value, date) else str(value)
