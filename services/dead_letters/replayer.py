"""Carrying out runs of replays: without loss, and without an effect twice.

Whichever process has a run's lease publishes its letters, a few at a time:

    planned ──► publishing ──► published ──► succeeded | died_again
                 on record       confirmed     said by whoever answers it, or by the archive

Who dies in the middle of it leaves letters that are ``publishing``: nobody knows whether they went out. They are
published again, under the same id, and of two copies the worker passes over the one that comes second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import Row, text

from schema.errors import DatabaseUnavailable, InvalidEnvelope, NotPublished
from services.database.pool import Database
from services.messaging.envelope import decode, now
from services.messaging.publisher import Publisher
from services.process.heartbeats import HOST, PID

log = structlog.get_logger(__name__)

#: Seconds after which a run whose process says nothing is taken over.
LEASE_S = 10
#: Seconds between two looks for a run that nobody carries out.
LOOK_S = 1.0
#: Messages that are published at once at the most, and seconds in which as many are sent as the rate allows.
AT_ONCE = 250
_BEAT_S = 0.1

#: Who carries a run out, as people find it.
HOLDER = f"{HOST} {PID}"

_TAKE_OVER = text("""
    UPDATE replay_runs SET holder = :holder, token = token + 1, expires_at = now() + make_interval(secs => :lease)
    WHERE id = (
        SELECT id FROM replay_runs WHERE state IN ('running', 'cancelling') AND expires_at <= now()
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING id, token, rate
""")
_RENEW = text("""
    UPDATE replay_runs SET expires_at = now() + make_interval(secs => :lease)
    WHERE id = :run AND token = :token AND state IN ('running', 'cancelling')
    RETURNING id
""")
_LET_GO = text("UPDATE replay_runs SET expires_at = now() WHERE id = :run AND token = :token")
# Whoever changes several replays locks them in the order of their ids first, or two who do so deadlock.
#
# Those that somebody left half-way come first: a cancelled run has nothing else to do. Arrays, not joins: as long as
# PostgreSQL has no statistics of a burst it may take every state for rare, and join by that.
_NEXT = text("""
    WITH due AS (
        SELECT id FROM replays WHERE run = :run AND state = 'publishing'
        UNION ALL
        SELECT id FROM (SELECT id FROM replays WHERE run = :run AND state = 'planned' ORDER BY letter LIMIT :limit)
        LIMIT :limit
    ), begun AS (
        UPDATE replays SET state = 'publishing'
        WHERE id = ANY(ARRAY(SELECT id FROM replays WHERE id IN (SELECT id FROM due) ORDER BY id FOR UPDATE))
          AND state IN ('planned', 'publishing')
        RETURNING id, letter, edit
    ), waiting AS (
        UPDATE dead_letters SET state = 'waiting', state_since = now()
        WHERE id = ANY(ARRAY(SELECT letter FROM begun)) AND state = 'dead'
    )
    SELECT begun.id, letter.death, letter.body, edit.actor, edit.arguments
    FROM begun JOIN dead_letters AS letter ON letter.id = begun.letter
    LEFT JOIN dead_letter_edits AS edit ON edit.id = begun.edit
    ORDER BY begun.letter
""")
_PUBLISHED = text("""
    UPDATE replays SET state = 'published', published_at = now()
    WHERE id = ANY(ARRAY(SELECT id FROM replays WHERE id = ANY(:ids) ORDER BY id FOR UPDATE)) AND state = 'publishing'
""")
_FINISH = text("""
    UPDATE replay_runs SET state = CASE state WHEN 'running' THEN 'finished' ELSE 'cancelled' END, ended_at = now()
    WHERE id = :run AND token = :token
      AND NOT EXISTS (SELECT FROM replays WHERE run = :run AND state IN ('planned', 'publishing'))
    RETURNING state
""")


class Replayer:
    """Carries out runs that no other process does.

    Args:
        database: Where they are on record.
        publisher: The connection to RabbitMQ.
    """

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher

    async def work(self) -> None:
        """Look for runs and carry them out, those of different queues beside each other, until this is cancelled."""
        async with asyncio.TaskGroup() as runs:
            while True:
                try:
                    while run := await self._take_over():
                        runs.create_task(self._see_to(run), name=f"replay-run-{run.id}")
                except DatabaseUnavailable:
                    pass  # whoever shows the runs says so
                except Exception:  # nor must a look that fails be the last
                    log.exception("replay.failed")
                await asyncio.sleep(LOOK_S)

    async def _see_to(self, run: Row[Any]) -> None:
        try:
            await self._carry_out(run)
        except Exception:  # one run's fault must not end them all
            log.exception("replay.failed")

    async def _take_over(self) -> Row[Any] | None:
        async with self._database.transaction() as connection:
            found = await connection.execute(_TAKE_OVER, {"holder": HOLDER, "lease": LEASE_S})
            return found.one_or_none()

    async def _carry_out(self, run: Row[Any]) -> None:
        key = {"run": run.id, "token": run.token}
        log.info("replay.begun", run=run.id, rate=run.rate)
        confirmed: list[UUID] = []
        due = time.monotonic()
        limit = min(AT_ONCE, max(1, int(run.rate * _BEAT_S)))
        try:
            while True:
                try:
                    letters = await self._next(key, confirmed, limit)
                except DatabaseUnavailable as error:
                    log.warning("replay.waits", run=run.id, reason=str(error))
                    await asyncio.sleep(LOOK_S)
                    continue
                if not letters:
                    return
                confirmed, failed = await self._publish(letters)
                if failed:
                    log.warning("replay.waits", run=run.id, reason=str(failed))
                    await asyncio.sleep(LOOK_S)
                due = max(due, time.monotonic() - 1) + len(letters) / run.rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            with suppress(DatabaseUnavailable):  # then its lease runs out
                async with self._database.transaction() as connection:
                    await connection.execute(_LET_GO, key)

    async def _next(self, key: dict[str, int], confirmed: Sequence[UUID], limit: int) -> Sequence[Row[Any]]:
        """Put on record what is published, and what is about to be; none when the run is over or another's."""
        async with self._database.transaction() as connection:
            if (await connection.execute(_RENEW, key | {"lease": LEASE_S})).scalar() is None:
                return []
            await connection.execute(_PUBLISHED, {"ids": sorted(confirmed)})
            letters = (await connection.execute(_NEXT, {"run": key["run"], "limit": limit})).all()
            if not letters:
                state = (await connection.execute(_FINISH, key)).scalar()
                log.info("replay.ended", run=key["run"], state=state)
        return letters

    async def _publish(self, letters: Sequence[Row[Any]]) -> tuple[list[UUID], NotPublished | None]:
        """Publish letters; the replays that are confirmed, and why others are not."""
        sent = await asyncio.gather(
            *(self._publisher.send(*_again(letter)) for letter in letters), return_exceptions=True
        )
        confirmed = [letter.id for letter, failed in zip(letters, sent, strict=True) if failed is None]
        failures = [failed for failed in sent if failed is not None]
        for failed in failures:
            if not isinstance(failed, NotPublished):
                raise failed
        return confirmed, failures[0] if failures else None  # type: ignore[return-value]


@asynccontextmanager
async def replaying(database: Database, publisher: Publisher) -> AsyncIterator[None]:
    """Carry out runs while the block runs; one that is not at its end then is left to another process."""
    working = asyncio.create_task(Replayer(database, publisher).work(), name="replayer")
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _again(letter: Row[Any]) -> tuple[str, bytes]:
    """Where a letter goes, and its message as it is published again: as new, but for its id and its replay."""
    try:
        parts = decode(letter.body)
    except InvalidEnvelope:  # somebody made a message of it
        parts = {"options": {}, "message_id": str(letter.death)}
    if letter.actor is not None:
        parts |= {"actor_name": letter.actor, "args": [], "kwargs": letter.arguments}
    queue = parts["actor_name"].partition(".")[0]
    parts |= {
        "queue_name": queue,
        "message_timestamp": now(),
        "options": parts["options"] | {"replay": str(letter.id)},
    }
    return queue, orjson.dumps(parts)
