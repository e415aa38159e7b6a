"""Moves dead letters from their queue into PostgreSQL, each once, and deletes old ones that were dealt with."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import structlog
from sqlalchemy import TextClause, text

from schema.errors import InvalidEnvelope
from schema.messages import DEAD_LETTERS, DeadLetter
from services.database.pool import Database
from services.days import iso_instant
from services.dead_letters.contents import NAME, Contents, attempts_of, cut
from services.dead_letters.death import CAUSES_OF_RABBITMQ, ERROR_LIMIT, TRACEBACK_LIMIT, Death, fingerprint
from services.dead_letters.outcomes import replay_of
from services.messaging.envelope import decode
from services.process.logs import Mask

log = structlog.get_logger(__name__)

#: Dropped letters can be restored for this long.
DROPPED_KEPT = timedelta(days=30)
#: Replayed letters are kept for this long. Letters that are dead are never deleted.
RESOLVED_KEPT = timedelta(days=90)

#: Letters that one statement deletes; the rest are deleted next time.
_PRUNED_AT_ONCE = 20_000
#: Characters of a row's values. Actors and releases are part of an index, and PostgreSQL refuses long entries.
_LONGEST = {
    "actor": NAME,
    "queue": 255,
    "error_type": NAME,
    "error": ERROR_LIMIT,
    "release": NAME,
    "host": 255,
}

#: Options of a message that describe its life so far; they are not published again.
_OF_ITS_LIFE = ("attempts", "traceback", "death", "held", "replay")

#: The columns that a dead letter has on arrival, from its queue or from a file, with their types. Its body is apart.
_TYPED = """
    death uuid, digest bytea, state text, message_id text, actor text, queue text, arguments jsonb, zodiac_sign text,
    day date, masked boolean, cause text, error_type text, error text, traceback text, fingerprint text,
    attempts jsonb, release text, host text, published_at timestamptz, died_at timestamptz
"""
COLUMNS = tuple(column.split()[0] for column in _TYPED.split(","))


def insertion(more: str, fresh: str, inserted: Sequence[str], then: str) -> TextClause:
    """A statement that inserts the letters bound by :func:`bound` whose deaths are new; it returns their number.

    Letters that are known are left out before the insert, so that they take no ids.

    Args:
        more: Further columns of a bound row beside :data:`COLUMNS`, with their types.
        fresh: A query of the rows to insert, from the table ``arrived`` of all rows.
        inserted: Columns of ``fresh`` that are inserted beside :data:`COLUMNS`.
        then: Further steps of the WITH clause; ``kept`` has the id and the death of each inserted letter.
    """
    columns = ", ".join(("body", *COLUMNS, *inserted))
    return text(f"""
        WITH arrived AS (
            SELECT * FROM jsonb_to_recordset(CAST(:letters AS jsonb)) AS letter (place integer, {_TYPED}, {more})
            JOIN unnest(CAST(:bodies AS bytea[])) WITH ORDINALITY AS body (body, place) USING (place)
        ), fresh AS (
            {fresh}
        ), kept AS (
            INSERT INTO dead_letters ({columns})
            SELECT {columns} FROM fresh
            WHERE NOT EXISTS (SELECT FROM dead_letters AS known WHERE known.death = fresh.death)
            ORDER BY place
            ON CONFLICT (death) DO NOTHING
            RETURNING id, death
        ), {then}
        SELECT count(*) FROM kept
    """)


def bound(letters: Iterable[tuple[dict[str, Any], bytes]]) -> dict[str, Any]:
    """The parameters of an :func:`insertion`: each letter's row, with its digest in hexadecimal, and its body."""
    letters = list(letters)
    rows = [
        row | {"place": place, "digest": f"\\x{row['digest']}"} for place, (row, _) in enumerate(letters, 1)
    ]
    try:
        written = orjson.dumps(rows).decode()
    except TypeError:  # orjson is five times as fast, but writes no integers beyond 64 bits
        written = json.dumps(rows, default=str)
    return {"letters": written, "bodies": [body for _, body in letters]}


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('dead_letters'))")

# A copy of a known letter is left out. That is a letter with the same death; with the same message and as many attempts,
# while the known letter is dead or waits for its replay; or one whose replay was answered by another copy or was
# superseded. A message whose workers were lost starts anew when it is replayed, under the same id.
_KEEP = insertion(
    "again boolean, replay uuid",
    """
        SELECT arrived.*, parent.id AS parent, COALESCE(parent.replays + 1, 0) AS replays
        FROM arrived
        LEFT JOIN replays ON replays.id = arrived.replay
        LEFT JOIN dead_letters AS parent ON parent.id = replays.letter
        WHERE (replays.state IS NULL OR replays.state NOT IN ('did_it', 'nothing_to_do', 'superseded'))
          AND NOT EXISTS (
              SELECT FROM dead_letters AS known WHERE known.digest = arrived.digest
                 AND (arrived.again OR arrived.message_id IS NOT NULL AND known.state IN ('dead', 'waiting')))
    """,
    ("parent", "replays"),
    """
        forgotten AS (
            DELETE FROM suspects USING arrived
            WHERE suspects.queue = arrived.queue AND suspects.message_id = arrived.message_id
        ), ended AS (
            UPDATE replays
            SET state = 'died_again', died_as = kept.id, ended_at = fresh.died_at
            FROM fresh JOIN kept USING (death)
            WHERE replays.id = fresh.replay AND replays.id = ANY(ARRAY(
                SELECT id FROM replays WHERE id IN (SELECT replay FROM arrived) ORDER BY id FOR UPDATE))
            RETURNING replays.letter
        ), died_again AS (
            UPDATE dead_letters SET state = 'died_again', state_since = now()
            WHERE id = ANY(ARRAY(SELECT letter FROM ended)) AND state = 'waiting'
        )
    """,
)
_PRUNE = text("""
    DELETE FROM dead_letters WHERE id IN (
        SELECT id FROM dead_letters
        WHERE state = 'dropped' AND state_since < now() - CAST(:dropped AS interval)
           OR state IN ('did_it', 'nothing_to_do', 'died_again') AND state_since < now() - CAST(:resolved AS interval)
        LIMIT :at_once)
""")
_PRUNE_RUNS = text("""
    DELETE FROM replay_runs AS run
    WHERE ended_at < now() - CAST(:resolved AS interval) AND NOT EXISTS (SELECT FROM replays WHERE run = run.id)
""")
_PRUNE_NOTES = text("""
    DELETE FROM dead_letter_notes AS note
    WHERE noted_at < now() - CAST(:resolved AS interval)
      AND NOT EXISTS (SELECT FROM dead_letters WHERE fingerprint = note.fingerprint)
""")


@dataclass(frozen=True, slots=True, eq=False)
class Archive:
    """Keeps dead letters in PostgreSQL."""

    database: Database
    mask: Mask  #: Takes secrets out of messages that no worker has masked

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep each letter once, whatever its bytes are; a replay whose message is among them has died again.

        Raises:
            DatabaseUnavailable: PostgreSQL is away; it is unknown whether they were kept.
        """
        rows: dict[Any, tuple[dict[str, Any], bytes]] = {}
        for letter in letters:
            row, body = _row(letter, self.mask)
            twin = row["digest"] if row["again"] or row["message_id"] is not None else row["death"]
            rows.setdefault(twin, (row, body))
        async with self.database.transaction() as connection:
            # Two copies that arrive at once must see each other.
            await connection.execute(_ONE_AT_A_TIME)
            kept = (await connection.execute(_KEEP, bound(rows.values()))).scalar_one()
        log.info("dead_letters.archived", count=kept, copies=len(letters) - kept)

    async def prune(self) -> None:
        """Delete letters that were dropped or replayed long ago, and what belongs to them; never dead ones.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        async with self.database.transaction() as connection:
            kept = {"dropped": DROPPED_KEPT, "resolved": RESOLVED_KEPT, "at_once": _PRUNED_AT_ONCE}
            await connection.execute(_PRUNE, kept)
            await connection.execute(_PRUNE_RUNS, {"resolved": RESOLVED_KEPT})
            await connection.execute(_PRUNE_NOTES, {"resolved": RESOLVED_KEPT})


def _row(letter: DeadLetter, mask: Mask) -> tuple[dict[str, Any], bytes]:
    """The columns of a letter's row, as JSON has them, and the body that is kept."""
    noted = Death.read(letter.headers)
    parts = None
    with suppress(InvalidEnvelope):
        parts = None if noted and noted.cause == InvalidEnvelope.cause else decode(letter.body)
    death = noted or _unnoted_death(letter, parts)
    options = parts["options"] if parts else {}
    arguments = parts["kwargs"] if parts else None
    actor = parts["actor_name"] if parts else None
    asked = [parts["args"], parts["kwargs"]] if parts else None
    body = _as_published(parts, mask) if parts else mask.in_bytes(letter.body)
    contents = Contents(arguments=arguments)
    row = {
        "death": death.id,
        "digest": digest_of(parts, letter.body),
        # Without the id of a noted death, a redelivered letter may have been kept before.
        "again": letter.redelivered and noted is None,
        "state": "dead",
        "message_id": parts["message_id"] if parts else None,
        "actor": actor,
        "queue": death.queue,
        "arguments": arguments,
        "zodiac_sign": contents.sign,
        "day": contents.day,
        "masked": death.masked or mask.in_json(asked) != asked or (parts is None and body != letter.body),
        "cause": death.cause[:30],
        "error_type": death.error_type,
        "error": death.error,
        "traceback": options.get("traceback") if isinstance(options.get("traceback"), str) else None,
        "fingerprint": fingerprint(death, actor),
        "attempts": options.get("attempts", []),
        "release": death.release,
        "host": death.host,
        "published_at": datetime.fromtimestamp(parts["message_timestamp"] / 1000, UTC) if parts else None,
        "died_at": death.at,
        "replay": replay_of(options),
    }
    return _short(storable(mask.in_json(row))), body


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """The row, already masked, with no value that is too long to be kept, listed or exported."""
    short = {
        name: row[name] if row[name] is None else cut(row[name], most) for name, most in _LONGEST.items()
    }
    trace = row["traceback"]
    return row | short | {
        "traceback": trace[-TRACEBACK_LIMIT:] if trace else trace,
        "attempts": attempts_of(row["attempts"]),
    }  # fmt: skip


def _as_published(parts: dict[str, Any], mask: Mask) -> bytes:
    """The message as it was first published."""
    options = {name: value for name, value in parts["options"].items() if name not in _OF_ITS_LIFE}
    return orjson.dumps(mask.in_json(parts | {"options": options}))


def digest_of(parts: dict[str, Any] | None, body: bytes) -> str:
    """A digest that copies of one message share while they have the same number of attempts; or one of the bytes."""
    if parts:
        options = parts["options"]
        what = [parts["message_id"], parts["actor_name"], parts["args"], parts["kwargs"]]
        lived = [len(options.get("attempts", [])), replay_of(options)]
        body = orjson.dumps([*what, *lived], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()


def _unnoted_death(letter: DeadLetter, parts: dict[str, Any] | None) -> Death:
    """The death of a letter without the header of :class:`Death`: RabbitMQ's, release 0.1's or a person's."""
    at = letter.published_at or datetime.now(UTC)
    said = parts["options"].get("death") if parts else None
    if isinstance(said, dict):  # as release 0.1 noted it
        cause, error = str(said.get("cause")), str(said.get("reason"))
        queue = letter.headers.get("queue") or (parts or {}).get("queue_name")
        return Death(
            id=uuid4(), at=iso_instant(said.get("at")) or at, queue=str(queue), cause=cause,
            error_type=error.partition(":")[0], error=error, release=str(said.get("release")),
            host=str(said.get("host")),
        )  # fmt: skip
    rejections = letter.headers.get("x-death")
    by_rabbitmq = rejections[0] if isinstance(rejections, list) and rejections else None
    if isinstance(by_rabbitmq, dict):
        reason = str(by_rabbitmq.get("reason"))
        cause = CAUSES_OF_RABBITMQ.get(reason, "rejected")
        queue, error = str(by_rabbitmq.get("queue")), f"RabbitMQ gave it up: {reason}"
    else:
        cause = str(letter.headers.get("cause") or (InvalidEnvelope.cause if parts is None else "rejected"))
        queue = str(letter.headers.get("queue") or DEAD_LETTERS)
        error = str(letter.headers.get("reason") or "somebody put it among the dead letters")
    return Death(id=uuid4(), at=at, queue=queue, cause=cause, error=error)


def storable(value: Any) -> Any:
    """The value without NUL, which PostgreSQL keeps in no text."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {storable(name): storable(inner) for name, inner in value.items()}
    return [storable(inner) for inner in value] if isinstance(value, list) else value
