"""Queues that are paused: no worker consumes them until a person says so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import DatabaseUnavailable
from services.database.pool import Database
from services.process.periodic import periodic

log = structlog.get_logger(__name__)

#: Seconds between two looks of a worker.
LOOK_S = 1.0
#: Seconds that the first look takes at the most, and each of the others, which must not run into the next.
_FIRST_LOOK_S = 10.0
_PATIENCE_S = 0.8
#: Seconds after which a pause may have been forgotten, and needs a person.
FORGOTTEN_S = 3600
#: Characters of a reason or a name that are kept.
_LONGEST = 300

# The first pause stays: whoever paused the queue, and why, is what the next person needs to know.
_PAUSE = text("""
    INSERT INTO paused_queues (queue, paused_by, why) VALUES (:queue, :by, :why)
    ON CONFLICT (queue) DO NOTHING RETURNING queue
""")
_RESUME = text("DELETE FROM paused_queues WHERE queue = :queue RETURNING queue")
_ALL = text("""
    SELECT queue, paused_by, why, paused_at, extract(epoch FROM now() - paused_at)::float AS age_s
    FROM paused_queues ORDER BY queue
""")
_NAMES = "SELECT queue FROM paused_queues"


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue that is paused.

    Args:
        queue: Its name.
        by: Who paused it.
        why: In that person's words; may be empty.
        since: When.
        age_s: Seconds since then, by PostgreSQL's clock.
    """

    queue: str
    by: str
    why: str
    since: datetime
    age_s: float

    def __str__(self) -> str:
        said = f"paused since {self.since:%Y-%m-%d %H:%M} UTC by {self.by}"
        return f"{said}: {self.why}" if self.why else said


class Pauses:
    """Which queues are paused, as a worker last heard: ``queue in pauses``.

    Args:
        database: Where it is put down.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: frozenset[str] = frozenset()

    def __contains__(self, queue: object) -> bool:
        return queue in self._queues

    async def look(self, timeout: float) -> None:
        """Hear what is paused now.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached, or not within so many seconds.
        """
        rows = await self._database.asides.fetch(_NAMES, timeout=timeout)
        self._queues = frozenset(row["queue"] for row in rows)

    async def follow(self) -> None:
        """The same; while PostgreSQL is away, which others tell, what was known stays."""
        with suppress(DatabaseUnavailable):
            await self.look(_PATIENCE_S)


@asynccontextmanager
async def followed(database: Database) -> AsyncIterator[Pauses]:
    """Know which queues are paused: from the block's beginning, and as long as it runs.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached at the beginning.
    """
    pauses = Pauses(database)
    await pauses.look(_FIRST_LOOK_S)
    async with periodic({pauses.follow: LOOK_S}):
        yield pauses


async def read_pauses(connection: AsyncConnection) -> dict[str, Pause]:
    """Every pause, by queue."""
    return {row.queue: Pause(*row) for row in await connection.execute(_ALL)}


async def pause(database: Database, queue: str, *, by: str, why: str = "") -> bool:
    """Have all workers stop consuming a queue; what they are at they finish.

    Returns:
        False: somebody has paused it already, and that stays.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    by, why = _line(by), _line(why)
    async with database.transaction() as connection:
        done = await connection.execute(_PAUSE, {"queue": queue, "by": by, "why": why})
        paused = done.scalar() is not None
    if paused:
        log.info("queue.paused", queue=queue, by=by, why=why)
    return paused


async def resume(database: Database, queue: str, *, by: str) -> bool:
    """Have all workers consume a queue again.

    Returns:
        False: it was not paused.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    async with database.transaction() as connection:
        resumed = (await connection.execute(_RESUME, {"queue": queue})).scalar() is not None
    if resumed:
        log.info("queue.resumed", queue=queue, by=_line(by))
    return resumed


def _line(text: str) -> str:
    """What somebody typed, as one line that any terminal and PostgreSQL can stand."""
    return "".join(each for each in " ".join(text.split()) if each.isprintable())[:_LONGEST]
