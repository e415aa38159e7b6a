"""Which processes run: each says so itself, in PostgreSQL, every few seconds."""

import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from uuid import uuid4

from sqlalchemy import text

from services.database import Database

#: The release of this code.
RELEASE = version("horoscope")
HOST = socket.gethostname()

#: Seconds between two signs of life.
BEAT_S = 10
#: Seconds without one after which a process counts as lost.
LOST_S = 35

# Whoever says that it lives also forgets those who have been lost for a day.
_BEAT = text("""
    WITH forgotten AS (
        DELETE FROM processes WHERE seen_at < now() - interval '1 day' AND id <> :id
    )
    INSERT INTO processes (id, kind, host, pid, release, started_at)
    VALUES (:id, :kind, :host, :pid, :release, :started_at)
    ON CONFLICT (id) DO UPDATE SET seen_at = now()
""")
_LEAVE = text("DELETE FROM processes WHERE id = :id")
_ALL = text("""
    SELECT kind, host, pid, release, started_at, seen_at,
           seen_at < now() - make_interval(secs => :lost) AS lost
    FROM processes ORDER BY kind, started_at, id
""")


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process that runs, or was lost within the last day.

    Args:
        kind: bot, worker, scheduler or admin.
        host: Where it runs.
        pid: Its number there.
        release: Of its code.
        started_at: When it started.
        seen_at: When it last said that it lives.
        lost: That was too long ago; it did not stop as it should.
    """

    kind: str
    host: str
    pid: int
    release: str
    started_at: datetime
    seen_at: datetime
    lost: bool


class Presence:
    """One process's sign of life.

    Args:
        database: Where it is put down.
        kind: What the process is.
    """

    def __init__(self, database: Database, kind: str) -> None:
        self._database = database
        self._row = {
            "id": uuid4(),
            "kind": kind,
            "host": HOST,
            "pid": os.getpid(),
            "release": RELEASE,
            "started_at": datetime.now(UTC),
        }

    async def beat(self) -> None:
        """Say that this process lives.

        Raises:
            DatabaseUnavailable: Nobody heard.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_BEAT, self._row)

    async def leave(self) -> None:
        """Say that this process ends.

        Raises:
            DatabaseUnavailable: Nobody heard; it will count as lost.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_LEAVE, {"id": self._row["id"]})


async def read_processes(database: Database) -> list[ProcessStatus]:
    """The processes that run, and those that were lost within the last day, by kind and age.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot be reached.
    """
    async with database.transaction() as connection:
        rows = await connection.execute(_ALL, {"lost": LOST_S})
        return [ProcessStatus(*row) for row in rows]
