"""Looks dead letters up: as a list, grouped by the kind of their failure, or one in full."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import NotFound, Refused
from schema.sentences import Sentence
from services.database.pool import Database
from services.dead_letters.contents import NAME, SMALL, Contents, cut, read_contents, shortened, too_large
from services.dead_letters.death import ERROR_LIMIT, TRACEBACK_LIMIT
from services.dead_letters.filters import Filter, State
from services.dead_letters.preflight import Preflight
from services.messaging.envelope import LARGEST

#: Letters in one list at most.
PAGE = 1000
#: Letters that are judged at most to select those with a verdict.
JUDGED_AT_MOST = 100_000

# What Listed has beside the contents of the body, by its names there. Letters that an older release imported may hold
# values of any length. A larger body is read alone, so that many of them are never in memory at once.
_OF_LIST = f"""
    letter.id, letter.state, letter.state_since, letter.queue, letter.masked, letter.cause,
    left(letter.error_type, {NAME}) AS error_type, left(letter.error, {ERROR_LIMIT}) AS error,
    letter.fingerprint AS group, left(letter.release, {NAME}) AS release, left(letter.host, {NAME}) AS host,
    letter.published_at, letter.died_at, letter.replays, letter.parent, jsonb_array_length(letter.attempts) AS attempts,
    CASE WHEN octet_length(letter.body) <= {SMALL} THEN letter.body END AS body, octet_length(letter.body) AS size
"""
_BODY = text("SELECT body FROM dead_letters WHERE id = :id")
_LISTED = f"SELECT {_OF_LIST} FROM dead_letters AS letter"
_COUNT = "SELECT count(*) FROM dead_letters AS letter"
_IDS = "SELECT letter.id FROM dead_letters AS letter"
_GROUPS = """
    WITH narrow AS (
        SELECT fingerprint, release, state, count(*) AS letters, min(died_at) AS first_seen,
               max(died_at) AS last_seen, max(id) AS latest
        FROM dead_letters AS letter {where} GROUP BY fingerprint, release, state
    ), kinds AS (
        SELECT fingerprint, sum(letters) AS letters,
               COALESCE(sum(letters) FILTER (WHERE state = 'dead'), 0) AS dead,
               min(first_seen) AS first_seen, max(last_seen) AS last_seen, max(latest) AS latest,
               array_agg(DISTINCT release ORDER BY release) AS releases
        FROM narrow GROUP BY fingerprint
    )
    SELECT kinds.fingerprint, kinds.letters, kinds.dead, kinds.first_seen, kinds.last_seen, kinds.releases,
           letter.cause, left(letter.error_type, {name}) AS error_type, left(letter.error, {error}) AS error,
           letter.queue, kinds.latest, note.note, note.noted_by, note.noted_at, letter.id,
           CASE WHEN octet_length(letter.body) <= {small} THEN letter.body END AS body,
           octet_length(letter.body) AS size
    FROM kinds JOIN dead_letters AS letter ON letter.id = kinds.latest
    LEFT JOIN dead_letter_notes AS note ON note.fingerprint = kinds.fingerprint
    ORDER BY kinds.dead DESC, kinds.last_seen DESC LIMIT :limit
"""
#: Characters of the JSON of a letter's attempts; those of an older release may have more, and are left out.
_MOST_OF_ATTEMPTS = 1 << 18
_WHOLE = text(f"""
    SELECT {_OF_LIST}, right(letter.traceback, {TRACEBACK_LIMIT}) AS trace,
           CASE WHEN octet_length(letter.attempts::text) <= {_MOST_OF_ATTEMPTS} THEN letter.attempts ELSE '[]' END
               AS tries,
           substring(letter.body FOR {4 * LARGEST}) AS whole_body,
           letter.death, letter.archived_at, letter.imported_at, left(letter.said_by, {NAME}) AS dropped_by,
           left(letter.said, {ERROR_LIMIT}) AS dropped_why, note.note
    FROM dead_letters AS letter LEFT JOIN dead_letter_notes AS note USING (fingerprint)
    WHERE letter.id = :id
""")
_EDITS = text("""
    SELECT id, actor, arguments, edited_by, edited_at FROM dead_letter_edits WHERE letter = :id ORDER BY id
""")
_REPLAYS = text("""
    SELECT replays.id, replays.run, replays.state, replays.edit, replays.published_at, replays.ended_at,
           replays.died_as, run.started_by, run.started_at, run.why
    FROM replays JOIN replay_runs AS run ON run.id = replays.run
    WHERE replays.letter = :id ORDER BY run.id
""")
_DIED_AGAIN = text("""
    SELECT letter, died_as FROM replays WHERE run = :run AND state = 'died_again' ORDER BY letter LIMIT :limit
""")
_COUNTS = text("""
    SELECT count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE state = 'waiting') AS waiting
    FROM dead_letters WHERE state IN ('dead', 'waiting')
""")


@dataclass(frozen=True, slots=True)
class Listed:
    """A dead letter in a list."""

    id: int
    state: State
    state_since: datetime
    #: What its body says, as are the next three; None for bytes that are no message, as are the actor and the arguments
    message_id: str | None
    actor: str | None
    queue: str  #: The queue that a replay publishes into; where it died, if no replay can publish it
    arguments: dict[str, Any] | None  #: In a list, long values are cut
    masked: bool  #: It held a secret, which is not kept: it cannot be replayed as it is
    cause: str
    error_type: str  #: The exception's class; empty if RabbitMQ gave the message up
    error: str
    group: str  #: The fingerprint of its failure
    release: str  #: Of the code that gave the message up
    host: str
    published_at: datetime | None
    died_at: datetime
    replays: int  #: How often it had been replayed before it died
    parent: int | None  #: The dead letter whose replay died as this one
    attempts: int  #: How many failed


@dataclass(frozen=True, slots=True)
class Edit:
    """The actor and the arguments that a replay publishes instead of those of the message as it died."""

    id: int
    actor: str
    arguments: dict[str, Any]
    edited_by: str
    edited_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """One replay of a letter."""

    id: UUID  #: Travels with the message
    run: int
    state: str  #: planned, publishing, published, did_it, nothing_to_do, died_again, cancelled or superseded
    edit: int | None  #: The edit that was published; None: the message as it died
    published_at: datetime | None  #: When RabbitMQ confirmed it
    ended_at: datetime | None  #: When its outcome was known
    died_as: int | None  #: The dead letter that it became
    asked_by: str
    asked_at: datetime
    why: str


@dataclass(frozen=True, slots=True)
class Letter(Listed):
    """A dead letter in full."""

    #: The message as it would be published again, or the bytes that are no message; of more than four MiB, the beginning
    body: bytes
    size: int  #: Of the whole body, in bytes
    trace: str | None  #: The end of the last traceback; None: nothing was raised
    tries: list[dict[str, Any]]  #: Every attempt: at, seconds, host, pid, release, error
    death: UUID  #: The id of this death, wherever the letter is kept
    archived_at: datetime
    imported_at: datetime | None
    dropped_by: str | None
    dropped_why: str | None
    note: str | None  #: The note on its group
    edits: list[Edit] = field(default_factory=list)  #: Oldest first
    history: list[Replayed] = field(default_factory=list)  #: Its replays, oldest first

    @property
    def edit(self) -> Edit | None:
        """The edit that a replay would publish."""
        return self.edits[-1] if self.edits else None


@dataclass(frozen=True, slots=True)
class Group:
    """The selected letters whose failures are of one kind."""

    fingerprint: str
    letters: int
    dead: int  #: How many of the letters are dead
    first_seen: datetime  #: When the first died
    last_seen: datetime  #: When the last died
    releases: list[str]  #: Of the code that gave them up
    cause: str  #: Of the latest letter, as are the next fields
    error_type: str
    error: str
    actor: str | None
    queue: str
    latest: int  #: The id of the latest letter
    note: str | None
    noted_by: str | None
    noted_at: datetime | None


@dataclass(frozen=True, slots=True)
class Counts:
    """Letters that are dead, and letters that wait for the outcome of their replay."""

    dead: int
    waiting: int


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """Looks dead letters up.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away. A method that takes a
    filter raises :class:`schema.errors.Refused` as :meth:`judged` does.
    """

    database: Database
    preflight: Preflight

    async def judged(self, wanted: Filter) -> Filter:
        """The filter, with the letters that have its verdict at this moment; unchanged if it names none.

        Raises:
            Refused: The other conditions select more than :data:`JUDGED_AT_MOST` letters.
        """
        if wanted.verdict is None or wanted.judged is not None:
            return wanted
        ids = await self.ids(replace(wanted, verdict=None), limit=JUDGED_AT_MOST + 1)
        if len(ids) > JUDGED_AT_MOST:
            raise Refused(
                Sentence(
                    "more than %(count)s letters would have to be judged; add a condition, such as a group",
                    count=JUDGED_AT_MOST,
                )
            )
        verdicts = await self.preflight.verdicts(ids)
        return replace(wanted, judged=tuple(each.id for each in verdicts if each.judgement == wanted.verdict))

    async def listed(
        self, wanted: Filter, *, limit: int | None = 50, before: int | None = None
    ) -> list[Listed]:
        """The selected letters, latest first; at most ``limit``, None: all; only ids below ``before``: the next page."""
        wanted = await self.judged(wanted)
        where = wanted.where()
        if before is not None:
            where += f" {'AND' if where else 'WHERE'} letter.id < :before"
        asked = wanted.asked | {"limit": limit} | ({} if before is None else {"before": before})
        async with self.database.transaction() as connection:
            rows = await connection.execute(
                text(f"{_LISTED} {where} ORDER BY letter.id DESC LIMIT :limit"), asked
            )
            return [await _listed(connection, row) for row in rows.mappings()]

    async def ids(self, wanted: Filter, *, limit: int | None = None) -> list[int]:
        """The ids of the selected letters, earliest first; at most ``limit``, None: all."""
        wanted = await self.judged(wanted)
        async with self.database.transaction() as connection:
            statement = text(f"{_IDS} {wanted.where()} ORDER BY letter.id LIMIT :limit")
            return list((await connection.execute(statement, wanted.asked | {"limit": limit})).scalars())

    async def count(self, wanted: Filter) -> int:
        """How many letters are selected."""
        wanted = await self.judged(wanted)
        async with self.database.transaction() as connection:
            found = await connection.execute(text(f"{_COUNT} {wanted.where()}"), wanted.asked)
            return int(found.scalar_one())

    async def groups(self, wanted: Filter, *, limit: int | None = None) -> list[Group]:
        """The selected letters by the kind of their failure, most dead first; at most ``limit`` groups, None: all."""
        wanted = await self.judged(wanted)
        async with self.database.transaction() as connection:
            asked = wanted.asked | {"limit": limit}
            statement = _GROUPS.format(where=wanted.where(), name=NAME, error=ERROR_LIMIT, small=SMALL)
            rows = await connection.execute(text(statement), asked)
            return [await _group(connection, row) for row in rows.mappings()]

    async def whole(self, number: int) -> Letter:
        """One letter in full.

        Raises:
            NotFound: No letter has this number.
        """
        async with self.database.transaction() as connection:
            row = (await connection.execute(_WHOLE, {"id": number})).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no dead letter {number}")
            edits = [Edit(*edit) for edit in await connection.execute(_EDITS, {"id": number})]
            history = [Replayed(*replay) for replay in await connection.execute(_REPLAYS, {"id": number})]
        told = dict(row)
        body = told.pop("whole_body")
        contents = Contents() if too_large(told["size"]) else read_contents(body)
        return Letter(**_shown(told | {"body": body}, contents), edits=edits, history=history)

    async def died_again(self, run: int, *, limit: int) -> list[tuple[int, int]]:
        """Letters whose replay in a run died again, each with the letter that it became; at most ``limit``."""
        async with self.database.transaction() as connection:
            rows = await connection.execute(_DIED_AGAIN, {"run": run, "limit": limit})
            return [(row.letter, row.died_as) for row in rows]

    async def counts(self) -> Counts:
        """The numbers of dead and of waiting letters."""
        async with self.database.transaction() as connection:
            return Counts(*(await connection.execute(_COUNTS)).one())


async def _listed(connection: AsyncConnection, row: RowMapping) -> Listed:
    told = dict(row)
    contents = await _contents_of(connection, told)
    del told["body"], told["size"]
    told = _shown(told, contents)
    actor, arguments = contents.actor, shortened(contents.arguments)
    return Listed(**told | {"actor": None if actor is None else cut(actor, NAME), "arguments": arguments})


async def _group(connection: AsyncConnection, row: RowMapping) -> Group:
    told = dict(row)
    contents = await _contents_of(connection, told)
    del told["body"], told["size"], told["id"]
    actor = None if contents.actor is None else cut(contents.actor, NAME)
    counts = {name: int(told[name]) for name in ("letters", "dead")}
    return Group(**told | counts | {"actor": actor, "queue": contents.queue(told["queue"])})


async def _contents_of(connection: AsyncConnection, told: dict[str, Any]) -> Contents:
    """What the body of a row says; a body that is not there for its size is read now, and forgotten again."""
    if told["body"] is not None:
        return read_contents(told["body"])
    if too_large(told["size"]):
        return Contents()
    return read_contents((await connection.execute(_BODY, {"id": told["id"]})).scalar_one())


def _shown(told: dict[str, Any], contents: Contents) -> dict[str, Any]:
    """A row's values with those that the body says."""
    return told | {
        "message_id": contents.message_id,
        "actor": contents.actor,
        "queue": contents.queue(told["queue"]),
        "arguments": contents.arguments,
    }
