"""Taking dead letters out of their queue and into PostgreSQL, each once."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import orjson
import structlog
from sqlalchemy import text

from schema.errors import InvalidEnvelope
from schema.messages import DEAD_LETTERS, DeadLetter
from schema.signs import Sign
from services.database.pool import Database
from services.days import iso_instant
from services.dead_letters.death import CAUSES_OF_RABBITMQ, TRACEBACK_LIMIT, Death, fingerprint
from services.dead_letters.outcomes import replay_of
from services.messaging.envelope import decode
from services.process.logs import Mask

log = structlog.get_logger(__name__)

#: What was dropped can be taken back for so long.
DROPPED_KEPT = timedelta(days=30)
#: What a replay dealt with is history for so long. What is dead is kept until somebody has dealt with it.
RESOLVED_KEPT = timedelta(days=90)

#: Letters that are thrown away by one statement; the rest go next time.
_PRUNED_AT_ONCE = 20_000
#: An index holds the names of actors and releases, and PostgreSQL refuses a row whose part of it is long.
_NAME_LIMIT = 200

#: Options of a message that are about the life that it has had, not about what it asks for.
_OF_ITS_LIFE = ("attempts", "traceback", "death", "held", "replay")

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('dead_letters'))")

# A copy of a letter that is here already is left out: one that has the same death; one of the same message, with as
# many attempts behind it, that waits for a person or for what its replay comes to; one whose replay has succeeded
# by another copy, or gave way to another replay. Whose workers were lost begins anew when it is replayed, under the same id.
_KEEP = text("""
    WITH arrived AS (
        SELECT * FROM jsonb_to_recordset(CAST(:letters AS jsonb)) AS letter (
            place integer, death uuid, digest text, again boolean, message_id text, actor text, queue text,
            arguments jsonb, zodiac_sign text, day date, masked boolean, cause text, error_type text, error text,
            traceback text, fingerprint text, attempts jsonb, release text, host text, published_at timestamptz,
            died_at timestamptz, replay uuid)
        JOIN unnest(CAST(:bodies AS bytea[])) WITH ORDINALITY AS body (body, place) USING (place)
    ), fresh AS (
        SELECT arrived.*, parent.id AS parent, COALESCE(parent.replays + 1, 0) AS replays
        FROM arrived
        LEFT JOIN replays ON replays.id = arrived.replay
        LEFT JOIN dead_letters AS parent ON parent.id = replays.letter
        WHERE (replays.state IS NULL OR replays.state NOT IN ('succeeded', 'superseded'))
          AND NOT EXISTS (
              SELECT FROM dead_letters AS known WHERE known.digest = decode(arrived.digest, 'hex')
                 AND (arrived.again OR arrived.message_id IS NOT NULL AND known.state IN ('dead', 'waiting')))
    ), forgotten AS (
        DELETE FROM suspects USING arrived
        WHERE suspects.queue = arrived.queue AND suspects.message_id = arrived.message_id
    ), kept AS (
        INSERT INTO dead_letters (
            death, digest, state, message_id, actor, queue, arguments, zodiac_sign, day, body, masked, cause,
            error_type, error, traceback, fingerprint, attempts, release, host, published_at, died_at, replays,
            parent)
        SELECT death, decode(digest, 'hex'), 'dead', message_id, actor, queue, arguments, zodiac_sign, day, body,
               masked, cause, error_type, error, traceback, fingerprint, attempts, release, host, published_at,
               died_at, replays, parent
        FROM fresh ORDER BY place
        ON CONFLICT (death) DO NOTHING
        RETURNING id, death
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
    SELECT count(*) FROM kept
""")
_PRUNE = text("""
    DELETE FROM dead_letters WHERE id IN (
        SELECT id FROM dead_letters
        WHERE state = 'dropped' AND state_since < now() - CAST(:dropped AS interval)
           OR state IN ('succeeded', 'died_again') AND state_since < now() - CAST(:resolved AS interval)
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


class Archive:
    """Where dead letters are kept.

    Args:
        database: Where that is.
        mask: Takes secrets out of whatever nobody took them out of before.
    """

    def __init__(self, database: Database, mask: Mask) -> None:
        self._database = database
        self._mask = mask

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep dead letters, whatever they are, each once; note of replays that they have died.

        Raises:
            DatabaseUnavailable: PostgreSQL is away; whether they were kept is not known.
        """
        rows: dict[Any, tuple[dict[str, Any], bytes]] = {}
        for letter in letters:
            row, body = _row(letter, self._mask)
            twin = row["digest"] if row["again"] or row["message_id"] is not None else row["death"]
            rows.setdefault(twin, (row, body))
        told = [row | {"place": place} for place, (row, _) in enumerate(rows.values(), 1)]
        given = {"letters": orjson.dumps(told).decode(), "bodies": [body for _, body in rows.values()]}
        async with self._database.transaction() as connection:
            # Of two copies that come at once, one must see the other.
            await connection.execute(_ONE_AT_A_TIME)
            kept = (await connection.execute(_KEEP, given)).scalar_one()
        log.info("dead_letters.archived", count=kept, copies=len(letters) - kept)

    async def prune(self) -> None:
        """Throw away what was dealt with long ago; never what is dead.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        async with self._database.transaction() as connection:
            kept = {"dropped": DROPPED_KEPT, "resolved": RESOLVED_KEPT, "at_once": _PRUNED_AT_ONCE}
            await connection.execute(_PRUNE, kept)
            await connection.execute(_PRUNE_RUNS, {"resolved": RESOLVED_KEPT})
            await connection.execute(_PRUNE_NOTES, {"resolved": RESOLVED_KEPT})


def _row(letter: DeadLetter, mask: Mask) -> tuple[dict[str, Any], bytes]:
    """A letter as the columns of its row, each as PostgreSQL takes it, and the body that is kept."""
    told = Death.read(letter.headers)
    parts = None if told and told.cause == InvalidEnvelope.cause else _parts(letter.body)
    death = told or _death_untold(letter, parts)
    options = parts["options"] if parts else {}
    arguments = parts["kwargs"] if parts else None
    actor = parts["actor_name"] if parts else None
    asked = [parts["args"], parts["kwargs"]] if parts else None
    body = _as_it_was_asked(parts, mask) if parts else mask.in_bytes(letter.body)
    trace = options.get("traceback")
    row = {
        "death": death.id,
        "digest": _digest(parts, letter.body),
        # Where nobody named the death, only this tells that the letter may have been kept before.
        "again": letter.redelivered and told is None,
        "message_id": parts["message_id"] if parts else None,
        "actor": actor[:_NAME_LIMIT] if actor is not None else None,
        "queue": death.queue,
        "arguments": arguments,
        "zodiac_sign": _sign(arguments),
        "day": _day(arguments),
        "masked": death.masked or mask.in_json(asked) != asked or (parts is None and body != letter.body),
        "cause": death.cause[:30],
        "error_type": death.error_type,
        "error": death.error,
        "traceback": trace[-TRACEBACK_LIMIT:] if isinstance(trace, str) else None,
        "fingerprint": fingerprint(death, actor),
        "attempts": options.get("attempts", []),
        "release": death.release[:_NAME_LIMIT],
        "host": death.host,
        "published_at": datetime.fromtimestamp(parts["message_timestamp"] / 1000, UTC) if parts else None,
        "died_at": death.at,
        "replay": replay_of(options),
    }
    return storable(mask.in_json(row)), body


def _parts(body: bytes) -> dict[str, Any] | None:
    try:
        return decode(body)
    except InvalidEnvelope:
        return None


def _as_it_was_asked(parts: dict[str, Any], mask: Mask) -> bytes:
    """The message as somebody first published it."""
    options = {name: value for name, value in parts["options"].items() if name not in _OF_ITS_LIFE}
    return orjson.dumps(mask.in_json(parts | {"options": options}))


def _digest(parts: dict[str, Any] | None, body: bytes) -> str:
    """The same for copies of one message that have as many attempts behind them; of bytes, for the same bytes."""
    if parts:
        options = parts["options"]
        what = [parts["message_id"], parts["actor_name"], parts["args"], parts["kwargs"]]
        lived = [len(options.get("attempts", [])), replay_of(options)]
        body = orjson.dumps([*what, *lived], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()


def _death_untold(letter: DeadLetter, parts: dict[str, Any] | None) -> Death:
    """The death of a letter that no worker of this release buried: RabbitMQ's own, an older release's, or anybody's."""
    said = parts["options"].get("death") if parts else None
    if isinstance(said, dict):  # as release 0.1 noted it
        cause, error = str(said.get("cause")), str(said.get("reason"))
        queue = letter.headers.get("queue") or (parts or {}).get("queue_name")
        return Death(
            id=uuid4(), at=iso_instant(said.get("at")) or _arrival(letter), queue=str(queue), cause=cause,
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
    return Death(id=uuid4(), at=_arrival(letter), queue=queue, cause=cause, error=error)


def _arrival(letter: DeadLetter) -> datetime:
    return letter.published_at or datetime.now(UTC)


def _sign(arguments: dict[str, Any] | None) -> str | None:
    sign = (arguments or {}).get("sign")
    return sign if isinstance(sign, str) and sign in set(Sign) else None


def _day(arguments: dict[str, Any] | None) -> date | None:
    try:
        return date.fromisoformat((arguments or {}).get("day"))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def storable(value: Any) -> Any:
    """PostgreSQL keeps no NUL in a text."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {storable(name): storable(inner) for name, inner in value.items()}
    return [storable(inner) for inner in value] if isinstance(value, list) else value
