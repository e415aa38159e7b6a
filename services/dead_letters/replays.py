"""Publishing dead letters again: without loss, without an effect twice, and with an answer to what became of it.

A run is an order of a person's for some letters. Whichever process has its lease publishes them, a few at a time:

    planned ──► publishing ──► published ──► succeeded | died_again
                 on record       confirmed     said by whoever answers it, or by the archive

Who dies in the middle of it leaves letters that are ``publishing``: nobody knows whether they went out. They are
published again, under the same id, and of two copies the worker passes over the one that comes second.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import DatabaseUnavailable, InvalidEnvelope, NotPublished, Refused
from services.database import Database
from services.dead_letters.verdicts import FORCED, Judge, Verdict
from services.envelope import decode, now
from services.processes import HOST
from services.publisher import Publisher

log = structlog.get_logger(__name__)

#: Messages a second, unless somebody says otherwise.
RATE = 100
FASTEST = 100_000

#: Seconds after which a run whose process says nothing is taken over.
LEASE_S = 10
#: Seconds between two looks for a run that nobody carries out.
LOOK_S = 1.0
#: Messages that are published at once at the most, and seconds in which as many are sent as the rate allows.
AT_ONCE = 250
_BEAT_S = 0.1
#: Verdicts that are asked for by one statement.
_JUDGED_AT_ONCE = 1000

#: Who carries a run out, as people find it.
HOLDER = f"{HOST} {os.getpid()}"

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('replay_runs'))")
_BUSY = text("""
    SELECT id, queues, started_by FROM replay_runs
    WHERE state IN ('running', 'cancelling') AND queues && CAST(:queues AS text[]) LIMIT 1
""")
_BEGIN = text("""
    INSERT INTO replay_runs (state, queues, rate, what, why, started_by, token, holder, expires_at)
    VALUES ('running', :queues, :rate, :what, :why, :by, 0, '', now()) RETURNING id
""")
_SUPERSEDE = text("""
    UPDATE replays SET state = 'superseded', ended_at = now()
    WHERE letter = ANY(:letters) AND state IN ('planned', 'publishing', 'published')
""")
_PLAN = text("""
    INSERT INTO replays (id, run, letter, edit, state)
    SELECT planned.id, :run, planned.letter, planned.edit, 'planned'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:letters AS bigint[]), CAST(:edits AS bigint[]))
         AS planned (id, letter, edit)
    JOIN dead_letters ON dead_letters.id = planned.letter AND dead_letters.state = ANY(:states)
    ORDER BY planned.letter
    ON CONFLICT DO NOTHING
""")
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
# Those that somebody left half-way come first: a cancelled run has nothing else to do. Arrays, not joins: as long as
# PostgreSQL has no statistics of a burst it may take every state for rare, and join by that.
_NEXT = text("""
    WITH due AS (
        SELECT id FROM replays WHERE run = :run AND state = 'publishing'
        UNION ALL
        SELECT id FROM (SELECT id FROM replays WHERE run = :run AND state = 'planned' ORDER BY letter LIMIT :limit)
        LIMIT :limit
    ), begun AS (
        UPDATE replays SET state = 'publishing' WHERE id = ANY(ARRAY(SELECT id FROM due))
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
    UPDATE replays SET state = 'published', published_at = now() WHERE id = ANY(:ids) AND state = 'publishing'
""")
_FINISH = text("""
    UPDATE replay_runs SET state = CASE state WHEN 'running' THEN 'finished' ELSE 'cancelled' END, ended_at = now()
    WHERE id = :run AND token = :token
      AND NOT EXISTS (SELECT FROM replays WHERE run = :run AND state IN ('planned', 'publishing'))
    RETURNING state
""")
_CANCEL = text("""
    UPDATE replay_runs SET state = 'cancelling', cancelled_by = :by WHERE id = :run AND state = 'running' RETURNING id
""")
# What waited for an earlier replay, which this run was to supersede, is back where it was.
_CANCEL_PLANNED = text("""
    WITH cancelled AS (
        UPDATE replays SET state = 'cancelled' WHERE run = :run AND state = 'planned' RETURNING letter
    )
    UPDATE dead_letters SET state = 'dead', state_since = now()
    WHERE id = ANY(ARRAY(SELECT letter FROM cancelled)) AND state = 'waiting'
""")
_RUN_STATE = text("SELECT state, queues FROM replay_runs WHERE id = :run FOR UPDATE")
_RESUME = text("""
    UPDATE replay_runs SET state = 'running', cancelled_by = NULL, ended_at = NULL, expires_at = now()
    WHERE id = :run
""")
_RESUME_PLANNED = text("""
    UPDATE replays SET state = 'planned'
    WHERE run = :run AND state = 'cancelled'
      AND EXISTS (SELECT FROM dead_letters WHERE id = replays.letter AND state = 'dead')
      AND NOT EXISTS (  -- somebody replays it by another run
          SELECT FROM replays AS other
          WHERE other.letter = replays.letter AND other.state IN ('planned', 'publishing', 'published'))
""")
_RUNS = """
    SELECT run.id, run.state, run.queues, run.rate, run.what, run.why, run.started_by, run.started_at,
           run.cancelled_by, run.ended_at, run.holder, run.expires_at <= now() AS abandoned, counts.*
    FROM (SELECT * FROM replay_runs {where} ORDER BY id DESC LIMIT :limit) AS run
    CROSS JOIN LATERAL (
        SELECT count(*) AS letters,
               count(*) FILTER (WHERE state IN ('planned', 'publishing')) AS planned,
               count(*) FILTER (WHERE state = 'published') AS waiting,
               count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE state = 'died_again') AS died_again,
               count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
               count(*) FILTER (WHERE state = 'superseded') AS superseded
        FROM replays WHERE replays.run = run.id
    ) AS counts
    ORDER BY run.id DESC
"""


@dataclass(frozen=True, slots=True)
class Run:
    """An order to publish dead letters again, and how far it is.

    Args:
        id: What people call it by.
        state: running, cancelling, cancelled or finished: then every message is published.
        queues: Where its messages go.
        rate: Messages a second at the most.
        what: Which letters were asked for, in words.
        why: Why.
        started_by: Who asked for it.
        started_at: When.
        cancelled_by: Who cancelled it.
        ended_at: When the last message was published.
        holder: The process that publishes, host and pid; empty: none has begun.
        abandoned: No process publishes at this moment; the next one that looks will.
        letters: How many it is about.
        planned: How many are not published yet.
        waiting: How many are published, and nobody knows yet what came of them.
        succeeded: How many were answered.
        died_again: How many are dead letters anew.
        cancelled: How many were not published.
        superseded: How many were replayed once more before anybody knew.
    """

    id: int
    state: str
    queues: list[str]
    rate: int
    what: str
    why: str
    started_by: str
    started_at: datetime
    cancelled_by: str | None
    ended_at: datetime | None
    holder: str
    abandoned: bool
    letters: int
    planned: int
    waiting: int
    succeeded: int
    died_again: int
    cancelled: int
    superseded: int

    @property
    def is_over(self) -> bool:
        """Every message is published, or will not be."""
        return self.state in {"finished", "cancelled"}

    @property
    def is_settled(self) -> bool:
        """And what became of each is known."""
        return self.is_over and not self.waiting


class Replays:
    """Plans runs, and knows what became of each replay.

    Args:
        database: Where they are on record.
        judge: Says which letters may be replayed.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database, judge: Judge) -> None:
        self._database = database
        self._judge = judge

    async def verdicts(self, ids: Sequence[int]) -> list[Verdict]:
        """What a replay of each of these letters would come to; letters that are gone are left out."""
        verdicts = []
        for start in range(0, len(ids), _JUDGED_AT_ONCE):
            async with self._database.transaction() as connection:
                verdicts += await self._judge.verdicts(connection, ids[start : start + _JUDGED_AT_ONCE])
        return verdicts

    async def start(
        self,
        verdicts: Sequence[Verdict],
        *,
        what: str,
        by: str,
        why: str,
        rate: int = RATE,
        force: bool = False,
    ) -> Run:
        """Put a run on record; a process that has :func:`replaying` open carries it out.

        Args:
            verdicts: Of a moment ago; those that are not ready are left out.
            what: Which letters were asked for, in words.
            by: Who asks.
            why: Why.
            rate: Messages a second at the most.
            force: Also what is done, was replayed too often, or is being replayed.

        Raises:
            Refused: None of them may be replayed; or another run is about one of the same queues.
        """
        taken = [each for each in verdicts if each.judgement in (FORCED if force else ("ready",))]
        if not taken:
            raise Refused("none of these letters is ready to be replayed")
        queues = sorted({each.queue for each in taken if each.queue})
        letters = {
            "ids": [uuid4() for _ in taken],
            "letters": [each.id for each in taken],
            "edits": [each.edit for each in taken],
            "states": ["dead", "waiting"] if force else ["dead"],
        }
        async with self._database.transaction() as connection:
            await _demand_free(connection, queues)
            asked = {"queues": queues, "rate": rate, "what": what, "why": why, "by": by}
            run: int = (await connection.execute(_BEGIN, asked)).scalar_one()
            if force:
                await connection.execute(_SUPERSEDE, {"letters": letters["letters"]})
            planned = await connection.execute(_PLAN, letters | {"run": run})
            if not planned.rowcount:
                raise Refused("somebody else has just replayed or dropped these letters")
        log.info("replay.ordered", run=run, count=planned.rowcount, by=by, why=why, what=what)
        return await self.run(run)

    async def run(self, number: int) -> Run:
        """A run, and how far it is.

        Raises:
            Refused: There is none of this number.
        """
        async with self._database.transaction() as connection:
            statement = text(_RUNS.format(where="WHERE id = :run"))
            row = (await connection.execute(statement, {"run": number, "limit": 1})).one_or_none()
        if row is None:
            raise Refused(f"there is no run {number}")
        return Run(*row)

    async def runs(self, limit: int = 50, *, before: int | None = None) -> list[Run]:
        """Runs, latest first.

        Args:
            limit: How many at the most.
            before: Only those with a smaller number: the next page.
        """
        where, asked = ("WHERE id < :before", {"before": before}) if before is not None else ("", {})
        async with self._database.transaction() as connection:
            rows = await connection.execute(text(_RUNS.format(where=where)), asked | {"limit": limit})
            return [Run(*row) for row in rows]

    async def cancel(self, number: int, *, by: str) -> Run:
        """Publish no more of a run; what is published already stays so.

        Raises:
            Refused: It is over, or there is none of this number.
        """
        run = await self.run(number)
        async with self._database.transaction() as connection:
            if (await connection.execute(_CANCEL, {"run": number, "by": by})).scalar() is None:
                raise Refused(f"run {number} is {run.state} and cannot be cancelled")
            await connection.execute(_CANCEL_PLANNED, {"run": number})
        log.info("replay.cancelled", run=number, by=by)
        return await self.run(number)

    async def resume(self, number: int, *, by: str) -> Run:
        """Go on with a run that was cancelled.

        Raises:
            Refused: It was not; or nothing is left of it; or another run is about one of its queues.
        """
        run = await self.run(number)
        async with self._database.transaction() as connection:
            await _demand_free(connection, run.queues)
            state, _ = (await connection.execute(_RUN_STATE, {"run": number})).one()
            if state != "cancelled":
                raise Refused(f"run {number} is {state} and cannot be resumed")
            if not (await connection.execute(_RESUME_PLANNED, {"run": number})).rowcount:
                raise Refused(f"nothing is left of run {number}")
            await connection.execute(_RESUME, {"run": number})
        log.info("replay.resumed", run=number, by=by)
        return await self.run(number)


async def _demand_free(connection: AsyncConnection, queues: Sequence[str]) -> None:
    """One run at a time in each queue, also when two people ask at once."""
    await connection.execute(_ONE_AT_A_TIME)
    busy = (await connection.execute(_BUSY, {"queues": list(queues)})).one_or_none()
    if busy:
        raise Refused(
            f"run {busy.id} of {busy.started_by} is under way in {', '.join(busy.queues)}; "
            "wait for its end, or cancel it"
        )


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
        """Look for runs and carry them out, one at a time, until this is cancelled."""
        while True:
            try:
                if run := await self._take_over():
                    await self._carry_out(run)
            except DatabaseUnavailable:
                pass  # whoever shows the runs says so
            except Exception:  # one run's fault must not end them all
                log.exception("replay.failed")
            await asyncio.sleep(LOOK_S)

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
