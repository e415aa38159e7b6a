"""Changes dead letters on a person's behalf: edit, drop, restore, and notes on groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from sqlalchemy import text

from schema.errors import NotFound, Refused
from schema.sentences import Sentence
from services.database.pool import Database
from services.dead_letters.outcomes import OPEN
from services.dead_letters.preflight import NOT_DEAD, Preflight
from services.dead_letters.records import Letter, Records
from services.dead_letters.replays import in_turn

log = structlog.get_logger(__name__)

# A letter that a run has planned is still dead, but is published as it was when the run was planned.
_FREE = f"""
    state = 'dead' AND NOT EXISTS (
        SELECT FROM replays
        WHERE letter = dead_letters.id AND replays.state IN {OPEN})
"""
_EDIT = text(f"""
    INSERT INTO dead_letter_edits (letter, actor, arguments, edited_by)
    SELECT id, :actor, CAST(:arguments AS jsonb), :by FROM dead_letters WHERE id = :id AND {_FREE}
    RETURNING id
""")
_DROP = text(f"""
    UPDATE dead_letters SET state = 'dropped', state_since = now(), said_by = :by, said = :why
    WHERE id = ANY(:ids) AND {_FREE}
""")
_RESTORE = text("""
    UPDATE dead_letters SET state = 'dead', state_since = now(), said_by = NULL, said = NULL
    WHERE id = ANY(:ids) AND state = 'dropped'
""")
_NOTE = text("""
    INSERT INTO dead_letter_notes (fingerprint, note, noted_by)
    SELECT CAST(:group AS text), :note, :by
    WHERE EXISTS (SELECT FROM dead_letters WHERE fingerprint = CAST(:group AS text))
    ON CONFLICT (fingerprint) DO UPDATE SET note = excluded.note, noted_by = excluded.noted_by, noted_at = now()
""")
_NOTED = text("SELECT note FROM dead_letter_notes WHERE fingerprint = :group")
_UNNOTE = text("DELETE FROM dead_letter_notes WHERE fingerprint = :group")


@dataclass(frozen=True, slots=True, eq=False)
class Edits:
    """Changes letters, and records who did it.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    database: Database
    records: Records
    preflight: Preflight

    async def edit(
        self, number: int, *, by: str, arguments: dict[str, Any] | None = None, actor: str | None = None
    ) -> Letter:
        """Change what a replay of a letter publishes; the message as it died is kept, and so is every edit.

        ``arguments`` are all of them, ``actor`` is the one to answer it; None leaves them as they are.

        Raises:
            InvalidMessage: The arguments do not fit the actor.
            Refused: There is no such letter, it is not dead any more, or a run has planned to replay it.
        """
        letter = await self.records.whole(number)
        now = letter.edit or letter
        actor = actor or now.actor
        asked = now.arguments if arguments is None else arguments
        fit = self.preflight.message(actor, asked or {}).arguments()
        given = {"id": number, "actor": actor, "arguments": orjson.dumps(fit).decode(), "by": by}
        async with self.database.transaction() as connection:
            await in_turn(connection)
            if (await connection.execute(_EDIT, given)).scalar() is None:
                if letter.state == "dead":
                    raise Refused(
                        Sentence(
                            "letter %(number)s is about to be replayed; cancel that run first",
                            number=str(number),
                        )
                    )
                raise Refused(NOT_DEAD[letter.state])
        log.info("dead_letter.edited", letter=number, by=by)
        return await self.records.whole(number)

    async def drop(self, ids: Sequence[int], *, by: str, why: str) -> int:
        """Give letters up; they can be restored until they are pruned.

        Returns:
            How many were dropped; letters that are not dead, or are about to be replayed, stay as they are.
        """
        async with self.database.transaction() as connection:
            await in_turn(connection)
            dropped = await connection.execute(_DROP, {"ids": sorted(ids), "by": by, "why": why})
        log.info("dead_letters.dropped", count=dropped.rowcount, by=by, why=why)
        return dropped.rowcount

    async def restore(self, ids: Sequence[int], *, by: str) -> int:
        """Make dropped letters dead again; returns how many were dropped."""
        async with self.database.transaction() as connection:
            restored = await connection.execute(_RESTORE, {"ids": sorted(ids)})
        log.info("dead_letters.restored", count=restored.rowcount, by=by)
        return restored.rowcount

    async def note(self, group: str, note: str, *, by: str) -> str | None:
        """Replace the note on a group of letters; an empty note deletes it. Returns the note before.

        Raises:
            Refused: There is no such group.
        """
        async with self.database.transaction() as connection:
            before: str | None = (await connection.execute(_NOTED, {"group": group})).scalar()
            if not note:
                await connection.execute(_UNNOTE, {"group": group})
            elif not (await connection.execute(_NOTE, {"group": group, "note": note, "by": by})).rowcount:
                raise NotFound(f"there is no group {group}")
        return before
