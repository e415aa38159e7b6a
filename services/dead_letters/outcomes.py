"""What became of replays: said by whoever answers their messages."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from services.database.pool import Database

#: A replay in one of these is over: a copy of its message has nothing left to do.
OVER = ("succeeded", "died_again", "superseded")

_ENDED = text("SELECT id FROM replays WHERE id = ANY(:ids) AND state = ANY(:over)")
_SUCCEEDED = text("""
    WITH done AS (
        UPDATE replays SET state = 'succeeded', ended_at = now(), published_at = COALESCE(published_at, now())
        WHERE id = ANY(ARRAY(SELECT id FROM replays WHERE id = ANY(:ids) ORDER BY id FOR UPDATE))
          AND state IN ('publishing', 'published')
        RETURNING letter
    )
    UPDATE dead_letters SET state = 'succeeded', state_since = now()
    WHERE id = ANY(ARRAY(SELECT letter FROM done)) AND state = 'waiting'
""")


class Outcomes:
    """The ends of replays; those that die are noted by the archive.

    Args:
        database: Where they are on record.

    Both methods raise :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def over(self, ids: Sequence[UUID]) -> set[UUID]:
        """Which of some replays are over."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(_ENDED, {"ids": list(ids), "over": list(OVER)})
            return set(rows.scalars())

    async def succeeded(self, ids: Sequence[UUID]) -> None:
        """The messages of some replays were answered."""
        async with self._database.transaction() as connection:
            await connection.execute(_SUCCEEDED, {"ids": sorted(ids)})


def replay_of(options: Mapping[str, Any]) -> UUID | None:
    """The replay that a message came by; None: it was published for the first time."""
    try:
        return UUID(options["replay"])
    except (KeyError, ValueError, AttributeError, TypeError):
        return None
