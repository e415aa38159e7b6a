"""Exports dead letters to a file and imports them elsewhere; a line of JSON for each."""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Row, text

from schema.errors import Refused
from services.database.pool import Database
from services.dead_letters.archive import COLUMNS, bound, insertion, storable
from services.dead_letters.filters import Filter, State
from services.process.logs import Mask

#: Letters that are held in memory at once.
PAGE = 100
#: Faults of a file that an error names at most.
_NAMED = 10

_PAGE = """
    SELECT letter.*,
           COALESCE((SELECT jsonb_agg(jsonb_build_object(
                         'actor', edit.actor, 'arguments', edit.arguments, 'edited_by', edit.edited_by,
                         'edited_at', edit.edited_at) ORDER BY edit.id)
                     FROM dead_letter_edits AS edit WHERE edit.letter = letter.id), '[]') AS edits,
           COALESCE((SELECT jsonb_agg(jsonb_build_object(
                         'run', replays.run, 'state', replays.state, 'edited', replays.edit IS NOT NULL,
                         'published_at', replays.published_at, 'ended_at', replays.ended_at,
                         'died_as', replays.died_as, 'asked_by', run.started_by, 'asked_at', run.started_at,
                         'why', run.why) ORDER BY run.id)
                     FROM replays JOIN replay_runs AS run ON run.id = replays.run
                     WHERE replays.letter = letter.id), '[]') AS history
    FROM dead_letters AS letter {where} ORDER BY letter.id LIMIT :page
"""
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


@dataclass(frozen=True, slots=True)
class _Edit:
    __pydantic_config__ = ConfigDict(extra="forbid")

    actor: str
    arguments: dict[str, Any]
    edited_by: str
    edited_at: _Instant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of a file. Fields with a default describe the letter's life where it was exported; they are not imported.

    The fingerprint is imported: the functions that the error came through are not kept, so it cannot be computed anew.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    death: UUID
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    state: Literal[State, "succeeded"]  # the name of did_it and nothing_to_do in older files
    message_id: str | None
    actor: str | None
    queue: str
    arguments: dict[str, Any] | None
    zodiac_sign: Annotated[str, Field(max_length=20)] | None
    day: date | None
    masked: bool
    cause: Annotated[str, Field(max_length=30)]
    error_type: str
    error: str
    traceback: str | None
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    attempts: list[dict[str, Any]]
    release: str
    host: str
    published_at: _Instant | None
    died_at: _Instant
    replays: Annotated[int, Field(ge=0, lt=1 << 31)]
    dropped_by: str | None
    dropped_why: str | None
    edits: list[_Edit]
    body: str | None = None
    body_base64: str | None = None
    id: int | None = None
    state_since: datetime | None = None
    archived_at: datetime | None = None
    imported_at: datetime | None = None
    parent: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


_lines = TypeAdapter(_Line)
_IMPORTED = {*COLUMNS, "replays", "dropped_by", "dropped_why", "edits"}


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: letters that were new, and letters that were here already and stay as they are."""

    new: int
    known: int


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
                rows = (await connection.execute(statement, asked)).all()
            for row in rows:
                yield self._line(row)
            if len(rows) < PAGE:
                return
            after = rows[-1].id

    def _line(self, row: Row[Any]) -> bytes:
        letter = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's own name for it
        body = self.mask.in_bytes(letter.pop("body"))
        letter |= {
            "digest": letter["digest"].hex(),
            "masked": letter["masked"] or body != row.body,
            "dropped_by": letter.pop("said_by"),
            "dropped_why": letter.pop("said"),
        }
        del letter["done"]
        line = self.mask.in_json(letter) | body_as_json(body)
        return json.dumps(line, default=_as_json, ensure_ascii=False).encode() + b"\n"

    async def import_(self, lines: Iterable[bytes]) -> Imported:
        """Import letters, each once; all of them, or none if a line is wrong.

        A letter arrives dead, or dropped if it was dropped; its replays stay where they were. A letter whose death is
        known here stays as it is.

        Raises:
            Refused: Some lines are no letters; the error names them.
        """
        total = new = 0
        faults: list[str] = []
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        async with self.database.transaction() as connection:
            while page := list(islice(numbered, PAGE)):
                letters: dict[str, tuple[dict[str, Any], bytes]] = {}
                for number, line in page:
                    try:
                        letter, body = self._read(line)
                        letters.setdefault(letter["death"], (letter, body))
                    except ValueError as error:
                        faults.append(f"line {number}: {error}")
                total += len(page)
                if not faults:
                    new += (await connection.execute(_IMPORT, bound(letters.values()))).scalar_one()
            if faults:
                more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
                raise Refused(self.mask("\n".join(["nothing was imported:", *faults[:_NAMED], *more])))
        return Imported(new, total - new)

    def _read(self, content: bytes) -> tuple[dict[str, Any], bytes]:
        """The columns of a letter's row, and its body.

        Raises:
            ValueError: The line is no letter; the message says why.
        """
        try:
            line = _lines.validate_json(content)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(
                ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"]]))
            ) from None
        body = self.mask.in_bytes(_body(line))
        letter = storable(json.loads(_lines.dump_json(line, include=_IMPORTED)))
        row: dict[str, Any] = self.mask.in_json(letter)
        row |= {
            "masked": line.masked or body != _body(line) or row["arguments"] != letter["arguments"],
            "state": "dropped" if line.state == "dropped" else "dead",
            "said_by": row.pop("dropped_by"),
            "said": row.pop("dropped_why"),
        }
        return row, body


def body_as_json(body: bytes) -> dict[str, str]:
    """A body as fields of JSON: ``body`` if it is text, or else ``body_base64``."""
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode()}


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
