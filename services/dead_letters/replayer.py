"""Carries out runs of replays: no letter is lost, and no effect comes twice.

The process that has the lease of a run publishes its letters, a few at a time:

    planned ──► publishing ──► published ──► did_it | nothing_to_do | died_again
                 recorded       confirmed     noted by the worker that answers it, or by the archive

A crash midway leaves letters in state ``publishing``: it is unknown whether they were sent. They are published again
under the same id; of two copies the worker handles the first and skips the second.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import structlog
from sqlalchemy import Row, text

from schema.errors import DatabaseUnavailable, InvalidEnvelope, NotPublished
from services.database.pool import Database
from services.dead_letters.contents import read_contents
from services.messaging.envelope import LARGEST, decode, now
from services.messaging.publisher import Publisher
from services.process.heartbeats import HOST, PID

log = structlog.get_logger(__name__)

#: Seconds after which another process takes over a run whose lease was not renewed.
LEASE_S = 10
#: Seconds between two looks for a run without a process.
LOOK_S = 1.0
#: Messages published side by side, at most; and seconds of the rate that one batch takes up.
AT_ONCE = 250
_BEAT_S = 0.1
#: Bytes of a body that is read together with others.
_SMALL = 1 << 16

#: The name of this process in ``replay_runs``.
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
# Every statement that changes several replays locks them in the order of their ids first, or two of them deadlock.
#
# Replays that a crash left in state publishing come first: a cancelled run has nothing else to do. Arrays, not joins:
# without statistics of a burst, PostgreSQL may take every state for rare and choose a slow join.
_NEXT = text("""
    WITH due AS (
        SELECT id FROM replays WHERE run = :run AND state = 'publishing'
        UNION ALL
        (SELECT id FROM replays WHERE run = :run AND state = 'planned' ORDER BY letter LIMIT :limit)
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
    SELECT begun.id, begun.letter, letter.death, edit.actor, edit.arguments,
           CASE WHEN octet_length(letter.body) <= :small THEN letter.body END AS body
    FROM begun JOIN dead_letters AS letter ON letter.id = begun.letter
    LEFT JOIN dead_letter_edits AS edit ON edit.id = begun.edit
    ORDER BY begun.letter
""")
_BODY = text("SELECT substring(body FOR CAST(:most AS integer)) FROM dead_letters WHERE id = :id")
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


@dataclass(frozen=True, slots=True, eq=False)
class Replayer:
    """Carries out the runs that no other process has."""

    database: Database
    publisher: Publisher

    async def work(self) -> None:
        """Look for runs and carry them out side by side, until this is cancelled."""
        async with asyncio.TaskGroup() as runs:
            while True:
                try:
                    while run := await self._take_over():
                        runs.create_task(self._guarded(run), name=f"replay-run-{run.id}")
                except DatabaseUnavailable:
                    pass  # the commands and the page report it
                except Exception:  # the next look may succeed
                    log.exception("replay.failed")
                await asyncio.sleep(LOOK_S)

    async def _guarded(self, run: Row[Any]) -> None:
        try:
            await self._carry_out(run)
        except Exception:  # the fault of one run must not end the others
            log.exception("replay.failed")

    async def _take_over(self) -> Row[Any] | None:
        async with self.database.transaction() as connection:
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
                async with self.database.transaction() as connection:
                    await connection.execute(_LET_GO, key)

    async def _next(self, key: dict[str, int], confirmed: Sequence[UUID], limit: int) -> Sequence[Row[Any]]:
        """Record which letters are published, and return the next ones; none if the run is over or was taken over."""
        async with self.database.transaction() as connection:
            if (await connection.execute(_RENEW, key | {"lease": LEASE_S})).scalar() is None:
                return []
            await connection.execute(_PUBLISHED, {"ids": sorted(confirmed)})
            asked = {"run": key["run"], "limit": limit, "small": _SMALL}
            letters = (await connection.execute(_NEXT, asked)).all()
            if not letters:
                state = (await connection.execute(_FINISH, key)).scalar()
                log.info("replay.ended", run=key["run"], state=state)
        return letters

    async def _publish(self, letters: Sequence[Row[Any]]) -> tuple[list[UUID], NotPublished | None]:
        """Publish letters; returns the replays that RabbitMQ confirmed, and the first error of the others."""
        sent: list[BaseException | None] = await asyncio.gather(
            *(
                self.publisher.send(*_again(letter, letter.body))
                for letter in letters
                if letter.body is not None
            ),
            return_exceptions=True,
        )
        letters = sorted(letters, key=lambda letter: letter.body is None)
        sent += [await self._publish_large(letter) for letter in letters[len(sent) :]]
        confirmed = [letter.id for letter, failed in zip(letters, sent, strict=True) if failed is None]
        failures = [failed for failed in sent if failed is not None]
        for failed in failures:
            if not isinstance(failed, NotPublished):
                raise failed
        return confirmed, failures[0] if failures else None  # type: ignore[return-value]

    async def _publish_large(self, letter: Row[Any]) -> BaseException | None:
        """Publish a letter whose body is read alone, so that few of them are in memory; returns its error."""
        try:
            async with self.database.transaction() as connection:
                asked = {"id": letter.letter, "most": LARGEST + 1}
                body: bytes = (await connection.execute(_BODY, asked)).scalar_one()
            await self.publisher.send(*_again(letter, body))
        except DatabaseUnavailable as error:
            return NotPublished(str(error))
        except NotPublished as error:
            return error
        return None


@asynccontextmanager
async def replaying(database: Database, publisher: Publisher) -> AsyncIterator[None]:
    """Carry out runs while the block runs; a run that is not finished then is left to another process."""
    working = asyncio.create_task(Replayer(database, publisher).work(), name="replayer")
    try:
        yield
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def _again(letter: Row[Any], body: bytes) -> tuple[str, bytes]:
    """The queue of a letter and the message to publish: a new one, but for its id and its replay.

    No options of the message are published: nobody who looks at a letter sees them.
    """
    parts: dict[str, Any] = {}
    with suppress(InvalidEnvelope):  # then an edit made a message of it
        parts = decode(body)
    # An id that is made up must be the same in every copy.
    parts["message_id"] = read_contents(body).message_id or str(letter.death)
    if letter.actor is not None:
        parts |= {"actor_name": letter.actor, "args": [], "kwargs": letter.arguments}
    queue = parts["actor_name"].partition(".")[0]
    parts |= {
        "queue_name": queue,
        "message_timestamp": now(),
        "options": {"replay": str(letter.id)},
    }
    return queue, orjson.dumps(parts)
