"""Paused queues: no worker consumes them until a person resumes them.

Every function here raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import structlog

from schema.errors import DatabaseUnavailable
from services.database.pool import STATEMENT_TIMEOUT_S, Database
from services.process.periodic import periodic

log = structlog.get_logger(__name__)

#: Seconds between two reads of the pauses.
LOOK_S = 1.0
#: Seconds that a worker waits for the first read, and for each later one; that must end before the next begins.
_FIRST_LOOK_S = 10.0
_PATIENCE_S = 0.8
#: Seconds after which a pause raises an alarm: somebody may have forgotten it.
FORGOTTEN_S = 3600
#: The most characters kept of a reason or a name.
_LONGEST = 300

# The first pause stays: the next person needs to know who paused the queue, and why.
_PAUSE = """
    INSERT INTO paused_queues (queue, paused_by, why) VALUES ($1, $2, $3)
    ON CONFLICT (queue) DO NOTHING RETURNING queue
"""
_RESUME = "DELETE FROM paused_queues WHERE queue = $1 RETURNING queue"
_ALL = """
    SELECT queue, paused_by, why, paused_at, extract(epoch FROM now() - paused_at)::float AS age_s
    FROM paused_queues ORDER BY queue
"""
_NAMES = "SELECT queue FROM paused_queues"


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of a queue."""

    queue: str
    by: str  #: The person who paused it
    why: str  #: That person's reason; may be empty
    since: datetime  #: When it was paused
    age_s: float  #: Seconds since then, by PostgreSQL's clock

    def __str__(self) -> str:
        line = f"paused since {self.since:%Y-%m-%d %H:%M} UTC by {self.by}"
        return f"{line}: {self.why}" if self.why else line


class Pauses:
    """The paused queues, as a worker last read them: ``queue in pauses``."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queues: frozenset[str] = frozenset()

    def __contains__(self, queue: object) -> bool:
        return queue in self._queues

    async def look(self, timeout: float) -> None:
        """Read the pauses within ``timeout`` seconds."""
        rows = await self._database.asides.fetch(_NAMES, timeout=timeout)
        self._queues = frozenset(row["queue"] for row in rows)

    async def follow(self) -> None:
        """Read the pauses; keep the last known ones while PostgreSQL is away."""
        with suppress(DatabaseUnavailable):
            await self.look(_PATIENCE_S)


@asynccontextmanager
async def followed(database: Database) -> AsyncIterator[Pauses]:
    """Keep the pauses up to date while the block runs; they are read once before it begins."""
    pauses = Pauses(database)
    await pauses.look(_FIRST_LOOK_S)
    async with periodic({pauses.follow: LOOK_S}):
        yield pauses


async def read_pauses(database: Database) -> dict[str, Pause]:
    """Every pause, by queue."""
    rows = await database.asides.fetch(_ALL, timeout=STATEMENT_TIMEOUT_S)
    return {row["queue"]: Pause(*row) for row in rows}


async def pause(database: Database, queue: str, *, by: str, why: str = "") -> bool:
    """Make all workers stop consuming a queue; they finish the messages that they have started.

    Returns False if the queue was paused already; that pause stays as it is.
    """
    by, why = _line(by), _line(why)
    paused = bool(await database.asides.fetch(_PAUSE, queue, by, why, timeout=STATEMENT_TIMEOUT_S))
    if paused:
        log.info("queue.paused", queue=queue, by=by, why=why)
    return paused


async def resume(database: Database, queue: str, *, by: str) -> bool:
    """Make all workers consume a queue again; returns False if it was not paused."""
    resumed = bool(await database.asides.fetch(_RESUME, queue, timeout=STATEMENT_TIMEOUT_S))
    if resumed:
        log.info("queue.resumed", queue=queue, by=_line(by))
    return resumed


def _line(text: str) -> str:
    """A person's text as one printable line."""
    return "".join(each for each in " ".join(text.split()) if each.isprintable())[:_LONGEST]
