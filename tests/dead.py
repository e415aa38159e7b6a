"""A look at the dead letters: into their archive, and at what is on its way there."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import asyncpg

from schema.messages import DEAD_LETTERS
from tests.queues import Queues
from tests.waiting import DEADLINE_S

_NEXT = """
    SELECT id, state, cause, queue, actor, arguments, error_type, error, attempts, traceback, body
    FROM dead_letters WHERE id > $1 ORDER BY id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Archived:
    """A dead letter as the archive keeps it."""

    id: int
    state: str
    cause: str
    queue: str
    actor: str | None
    arguments: dict[str, Any] | None
    error_type: str
    error: str
    attempts: list[dict[str, Any]]
    traceback: str | None
    body: bytes


class Dead:
    """The dead letters of a test's own service.

    Args:
        sql: A connection to its database; another may take its place.
        queues: A look into its RabbitMQ.
    """

    def __init__(self, sql: asyncpg.Connection, queues: Queues) -> None:
        self.sql = sql
        self._queues = queues
        self._last = 0

    async def next(self, within: float = DEADLINE_S) -> Archived:
        """Wait for a dead letter in the archive: the oldest that was not asked for yet."""
        async with asyncio.timeout(within):
            while (row := await self.sql.fetchrow(_NEXT, self._last)) is None:
                await asyncio.sleep(0.03)
        self._last = row["id"]
        parsed = {name: json.loads(row[name] or "null") for name in ("arguments", "attempts")}
        return Archived(**{**row, **parsed})

    async def count(self) -> int:
        """How many there are, archived or waiting to be; the few that a worker has just received stand in neither."""
        waiting = self._queues.count(DEAD_LETTERS)  # first: one that moves meanwhile is not missed
        archived: int = await self.sql.fetchval("SELECT count(*) FROM dead_letters")
        return waiting + archived
