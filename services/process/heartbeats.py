"""Heartbeats: each process records in PostgreSQL, every few seconds, that it runs."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from uuid import uuid4

import structlog

from schema.errors import DatabaseUnavailable
from services.database.pool import STATEMENT_TIMEOUT_S, Database
from services.process.periodic import periodic

log = structlog.get_logger(__name__)

#: The release of this code.
RELEASE = version("horoscope")
HOST = socket.gethostname()
PID = os.getpid()

#: Seconds between two heartbeats.
BEAT_S = 10
#: Seconds that a stopping process has to delete its row.
LEAVE_S = 2
#: Seconds without a heartbeat after which a process counts as lost.
LOST_S = 35

# Each heartbeat also deletes processes that have been lost for a day.
_BEAT = """
    WITH forgotten AS (
        DELETE FROM processes WHERE seen_at < now() - interval '1 day' AND id <> $1
    )
    INSERT INTO processes (id, kind, host, pid, release, started_at) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (id) DO UPDATE SET seen_at = now()
"""
_LEAVE = "DELETE FROM processes WHERE id = $1"
_ALL = """
    SELECT kind, host, pid, release, started_at, seen_at,
           seen_at < now() - make_interval(secs => $1) AS lost
    FROM processes ORDER BY kind, started_at, id
"""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process that runs, or was lost within the last day."""

    kind: str  #: bot, worker, scheduler or admin
    host: str  #: Its machine
    pid: int  #: Its process id there
    release: str  #: The release of its code
    started_at: datetime  #: When it started
    seen_at: datetime  #: Its last heartbeat
    lost: bool  #: Its last heartbeat is too old; it did not stop cleanly


@asynccontextmanager
async def present(database: Database, kind: str) -> AsyncIterator[None]:
    """Send heartbeats while the block runs, then sign off. PostgreSQL may be away; a process then counts as lost."""
    row = (uuid4(), kind, HOST, PID, RELEASE, datetime.now(UTC))

    async def beat() -> None:
        await database.asides.fetch(_BEAT, *row, timeout=BEAT_S / 2)

    try:
        async with periodic({beat: BEAT_S}, at_once=True):
            yield
    finally:
        try:
            await database.asides.fetch(_LEAVE, row[0], timeout=LEAVE_S)
        except DatabaseUnavailable as error:
            log.warning("process.not_signed_off", reason=str(error))


async def read_processes(database: Database) -> list[ProcessStatus]:
    """The processes that run and those lost within the last day, by kind and age.

    Raises DatabaseUnavailable while PostgreSQL is away.
    """
    rows = await database.asides.fetch(_ALL, LOST_S, timeout=STATEMENT_TIMEOUT_S)
    return [ProcessStatus(*row) for row in rows]
