"""Messages that may have killed their workers: attempts that began and never ended."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import text

from services.database.pool import Database
from services.process.heartbeats import HOST, PID, RELEASE

#: An attempt: the worker's ``at``, ``host``, ``pid`` and ``release``, and whether the message was answered ``alone``. In a
#: batch of a thousand, the message that killed the worker is unknown.
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
    """Records attempts while they run. A killed worker leaves its records behind.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lost(self, queue: str, ids: Sequence[str]) -> dict[str, list[Try]]:
        """The unfinished attempts of these messages, by message id; most have none."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(_LOST, {"queue": queue, "ids": list(ids)})
            return {row.message_id: row.begun for row in rows}

    async def begin(self, queue: str, ids: Sequence[str], *, alone: bool) -> Try:
        """Record that this process starts these messages; ``alone``: in a call of one."""
        begun: Try = {
            "at": datetime.now(UTC).isoformat(), "host": HOST, "pid": PID, "release": RELEASE, "alone": alone
        }  # fmt: skip
        async with self._database.transaction() as connection:
            await connection.execute(
                _BEGIN, {"queue": queue, "ids": sorted(set(ids)), "begun": orjson.dumps([begun]).decode()}
            )
        return begun

    async def withdraw(self, queue: str, ids: Sequence[str], begun: Try) -> None:
        """Remove this process's attempt: it was cancelled, and the process lives. Other attempts stay."""
        async with self._database.transaction() as connection:
            values = {"queue": queue, "ids": sorted(set(ids)), "begun": orjson.dumps(begun).decode()}
            await connection.execute(_WITHDRAW, values)
            await connection.execute(_FORGET, {"queue": queue, "ids": values["ids"]})

    async def end(self, queue: str, ids: Sequence[str]) -> None:
        """Delete the records of messages that were finished, whether they succeeded or failed."""
        async with self._database.transaction() as connection:
            await connection.execute(_END, {"queue": queue, "ids": sorted(set(ids))})

    async def prune(self) -> None:
        """Delete records that are a day old."""
        async with self._database.transaction() as connection:
            await connection.execute(_PRUNE)
