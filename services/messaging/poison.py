"""Messages that may have killed their workers: which tries of theirs began and never ended."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import text

from services.database.pool import Database
from services.process.heartbeats import HOST, PID, RELEASE

#: A try of a message: ``at``, ``host``, ``pid`` and ``release`` of the worker that began it, and whether it was answered
#: ``alone``: among a thousand of a batch nobody knows which one killed the worker.
Try = dict[str, Any]

_LOST = text("SELECT message_id, begun FROM suspects WHERE queue = :queue AND message_id = ANY(:ids)")
_BEGIN = text("""
    INSERT INTO suspects (queue, message_id, begun)
    SELECT :queue, message_id, CAST(:begun AS jsonb) FROM unnest(CAST(:ids AS text[])) AS suspect (message_id)
    ON CONFLICT (queue, message_id) DO UPDATE SET begun = suspects.begun || excluded.begun, seen_at = now()
""")
_WITHDRAW = text("""
    UPDATE suspects SET begun = COALESCE(
        (SELECT jsonb_agg(each) FROM jsonb_array_elements(begun) AS each WHERE each <> CAST(:begun AS jsonb)), '[]')
    WHERE queue = :queue AND message_id = ANY(:ids)
""")
_FORGET = text("DELETE FROM suspects WHERE queue = :queue AND message_id = ANY(:ids) AND begun = '[]'")
_END = text("DELETE FROM suspects WHERE queue = :queue AND message_id = ANY(:ids)")
_PRUNE = text("DELETE FROM suspects WHERE seen_at < now() - interval '1 day'")


class PoisonMessages:
    """Tries that are on record from their beginning to their end; those of a worker that is killed stay.

    Args:
        database: Where they are.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lost(self, queue: str, ids: Sequence[str]) -> dict[str, list[Try]]:
        """The tries of some messages that never ended, by the messages' ids; none for most."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(_LOST, {"queue": queue, "ids": list(ids)})
            return {row.message_id: row.begun for row in rows}

    async def begin(self, queue: str, ids: Sequence[str], *, alone: bool) -> Try:
        """This process begins to answer these messages; alone: there are no others among them."""
        begun: Try = {
            "at": datetime.now(UTC).isoformat(), "host": HOST, "pid": PID, "release": RELEASE, "alone": alone
        }  # fmt: skip
        async with self._database.transaction() as connection:
            await connection.execute(
                _BEGIN, {"queue": queue, "ids": sorted(set(ids)), "begun": orjson.dumps([begun]).decode()}
            )
        return begun

    async def withdraw(self, queue: str, ids: Sequence[str], begun: Try) -> None:
        """This process was stopped in a try, and lives; what others began stays."""
        async with self._database.transaction() as connection:
            given = {"queue": queue, "ids": sorted(set(ids)), "begun": orjson.dumps(begun).decode()}
            await connection.execute(_WITHDRAW, given)
            await connection.execute(_FORGET, {"queue": queue, "ids": given["ids"]})

    async def end(self, queue: str, ids: Sequence[str]) -> None:
        """It has finished with them, however it went."""
        async with self._database.transaction() as connection:
            await connection.execute(_END, {"queue": queue, "ids": sorted(set(ids))})

    async def prune(self) -> None:
        """Forget messages that nobody has seen for a day."""
        async with self._database.transaction() as connection:
            await connection.execute(_PRUNE)
