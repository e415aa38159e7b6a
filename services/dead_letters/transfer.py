"""Dead letters as a file, a line of JSON each: taken out here, brought in elsewhere."""

import base64
import binascii
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import Refused
from services.database.pool import Database
from services.dead_letters.archive import storable
from services.dead_letters.filters import Filter, State
from services.process.logs import Mask

#: Letters that are held in memory at once.
PAGE = 100
#: Faults of a file that are named at the most.
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
_BRING_IN = text("""
    WITH brought AS (
        SELECT * FROM jsonb_to_recordset(CAST(:letters AS jsonb)) AS letter (
            place integer, death uuid, digest text, state text, message_id text, actor text, queue text,
            arguments jsonb, zodiac_sign text, day date, masked boolean, cause text, error_type text, error text,
            traceback text, fingerprint text, attempts jsonb, release text, host text, published_at timestamptz,
            died_at timestamptz, replays integer, dropped_by text, dropped_why text, edits jsonb)
        JOIN unnest(CAST(:bodies AS bytea[])) WITH ORDINALITY AS body (body, place) USING (place)
    ), kept AS (
        INSERT INTO dead_letters (
            death, digest, state, message_id, actor, queue, arguments, zodiac_sign, day, body, masked, cause,
            error_type, error, traceback, fingerprint, attempts, release, host, published_at, died_at, replays,
            said_by, said, imported_at)
        SELECT death, decode(digest, 'hex'), state, message_id, actor, queue, arguments, zodiac_sign, day, body,
               masked, cause, error_type, error, traceback, fingerprint, attempts, release, host, published_at,
               died_at, replays, dropped_by, dropped_why, now()
        FROM brought ORDER BY place
        ON CONFLICT (death) DO NOTHING
        RETURNING id, death
    ), edited AS (
        INSERT INTO dead_letter_edits (letter, actor, arguments, edited_by, edited_at)
        SELECT kept.id, edit.value ->> 'actor', edit.value -> 'arguments', edit.value ->> 'edited_by',
               CAST(edit.value ->> 'edited_at' AS timestamptz)
        FROM kept JOIN brought USING (death)
        CROSS JOIN LATERAL jsonb_array_elements(brought.edits) WITH ORDINALITY AS edit (value, place)
        ORDER BY kept.id, edit.place
    )
    SELECT count(*) FROM kept
""")


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("there is no such moment in UTC") from None


#: PostgreSQL keeps moments that nobody could read back.
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
    """One line of a file. What has a default here tells of the life that the letter had there, and is not brought in.

    The fingerprint is: the functions that an error came through are not kept, so that nobody could tell it anew.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    death: UUID
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    state: State
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
_BROUGHT_IN = (
    "death", "digest", "state", "message_id", "actor", "queue", "arguments", "zodiac_sign", "day", "masked",
    "cause", "error_type", "error", "traceback", "fingerprint", "attempts", "release", "host", "published_at",
    "died_at", "replays", "dropped_by", "dropped_why", "edits",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Brought:
    """What came of a file.

    Args:
        new: Letters that were not here.
        known: Letters that were here already, by their deaths; they stay as they are.
    """

    new: int
    known: int


class Transfer:
    """Takes letters out and brings them in.

    Args:
        database: Where they are kept.
        mask: Takes secrets of this deployment out, both ways.

    Both methods raise :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database, mask: Mask) -> None:
        self._database = database
        self._mask = mask

    async def export(self, wanted: Filter) -> AsyncIterator[bytes]:
        """The letters that a filter asks for, each in full as a line of JSON, earliest first.

        A few are held at a time, however many there are.
        """
        conditions = wanted.where()
        where = f"{conditions} {'AND' if conditions else 'WHERE'} letter.id > :after"
        statement = text(_PAGE.format(where=where))
        after = 0
        while True:
            async with self._database.transaction() as connection:
                asked = wanted.asked | {"after": after, "page": PAGE}
                rows = (await connection.execute(statement, asked)).all()
            for row in rows:
                yield self._line(row)
            if len(rows) < PAGE:
                return
            after = rows[-1].id

    def _line(self, row: Row[Any]) -> bytes:
        told = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's own name for it
        body = self._mask.in_bytes(told.pop("body"))
        told |= {
            "digest": told["digest"].hex(),
            "masked": told["masked"] or body != row.body,
            "dropped_by": told.pop("said_by"),
            "dropped_why": told.pop("said"),
        }
        line = self._mask.in_json(told) | body_told(body)
        return json.dumps(line, default=_told, ensure_ascii=False).encode() + b"\n"

    async def import_(self, lines: Iterable[bytes]) -> Brought:
        """Bring letters in, each once; all of them, or none where a line is at fault.

        They are dead here, or dropped where they were; a replay of theirs elsewhere is none of here. A letter that
        is here already, by its death, stays as it is.

        Args:
            lines: As :meth:`export` gives them; empty ones are passed over.

        Raises:
            Refused: Some lines are no letters; each is named with its fault.
        """
        total = new = 0
        faults: list[str] = []
        numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
        async with self._database.transaction() as connection:
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
                    new += await _bring_in(connection, letters)
            if faults:
                more = [f"and {len(faults) - _NAMED} more"] if len(faults) > _NAMED else []
                told = "\n".join(["nothing was imported:", *faults[:_NAMED], *more])
                raise Refused(self._mask(told))
        return Brought(new, total - new)

    def _read(self, content: bytes) -> tuple[dict[str, Any], bytes]:
        """A line as the columns of a row, and its body.

        Raises:
            ValueError: It is no letter; the message says why.
        """
        try:
            line = _lines.validate_json(content)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(
                ": ".join(filter(None, [".".join(map(str, fault["loc"])), fault["msg"]]))
            ) from None
        body = self._mask.in_bytes(_body(line))
        # Through JSON's own types, as the statement takes them.
        told: dict[str, Any] = json.loads(_lines.dump_json(line, include=set(_BROUGHT_IN)))
        kept = self._mask.in_json(storable(told))
        altered = body != _body(line) or kept["arguments"] != storable(told["arguments"])
        kept["masked"] = line.masked or altered
        kept["state"] = "dropped" if line.state == "dropped" else "dead"
        return kept, body


async def _bring_in(connection: AsyncConnection, letters: Mapping[str, tuple[dict[str, Any], bytes]]) -> int:
    told = [row | {"place": place} for place, (row, _) in enumerate(letters.values(), 1)]
    given = {"letters": json.dumps(told), "bodies": [body for _, body in letters.values()]}
    new: int = (await connection.execute(_BRING_IN, given)).scalar_one()
    return new


def body_told(body: bytes) -> dict[str, str]:
    """A body as JSON can hold it: as text where it is text, and else in Base64."""
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


def _told(value: Any) -> str:
    """What JSON has no form for."""
    return value.isoformat() if isinstance(value, date) else str(value)
