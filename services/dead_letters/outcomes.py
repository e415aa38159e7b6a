"""The outcomes of replays, noted by the worker that answers the replayed message."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from services.database.pool import Database

#: The states of a replay whose outcome is not known yet, as SQL has them.
OPEN = "('planned', 'publishing', 'published')"
#: The states of a replay that is over: a further copy of its message is not handled.
OVER = ("did_it", "nothing_to_do", "died_again", "superseded")

_OVER = text("SELECT id FROM replays WHERE id = ANY(:ids) AND state = ANY(:over)")
# Of two copies that are answered at once one may have had the effect and the other say so first.
_ANSWERED = text("""
    WITH answered AS (
        UPDATE replays SET state = CAST(:state AS varchar), ended_at = now(), published_at = COALESCE(published_at, now())
        WHERE id = ANY(ARRAY(SELECT id FROM replays WHERE id = ANY(:ids) ORDER BY id FOR UPDATE))
          AND (state IN ('publishing', 'published') OR state = 'nothing_to_do' AND CAST(:state AS varchar) = 'did_it')
        RETURNING letter
    )
    UPDATE dead_letters SET state = CAST(:state AS varchar), state_since = now()
    WHERE id = ANY(ARRAY(SELECT letter FROM answered)) AND state IN ('waiting', 'nothing_to_do')
""")


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Notes the outcomes of replays; the archive notes those that died again.

    Both methods raise :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    database: Database

    async def over(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the replays whose outcome is known."""
        async with self.database.transaction() as connection:
            rows = await connection.execute(_OVER, {"ids": list(ids), "over": list(OVER)})
            return set(rows.scalars())

    async def answered(self, effects: Mapping[UUID, bool]) -> None:
        """The messages of replays were answered: each had an effect, or there was nothing to do.

        If a worker is lost after the effect, the next delivery of its message finds nothing to do: that is the outcome.
        """
        for state, effect in (("did_it", True), ("nothing_to_do", False)):
            if ids := sorted(replay for replay, had_effect in effects.items() if had_effect is effect):
                async with self.database.transaction() as connection:
                    await connection.execute(_ANSWERED, {"ids": ids, "state": state})


def replay_of(options: Mapping[str, Any]) -> UUID | None:
    """The replay that published a message; None: the message is no replay."""
    try:
        return UUID(options["replay"])
    except (KeyError, ValueError, AttributeError, TypeError):
        return None
