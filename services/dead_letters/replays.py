"""Orders to publish dead letters again: put on record, followed, cancelled; ``replayer.py`` carries them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import NotFound, Refused
from services.database.pool import Database
from services.dead_letters.preflight import FORCED, Preflight, Verdict
from services.messaging.pauses import Pause, read_pauses

log = structlog.get_logger(__name__)

#: Messages a second, unless somebody says otherwise.
RATE = 100
FASTEST = 100_000

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
    WHERE id = ANY(ARRAY(SELECT id FROM replays WHERE letter = ANY(:letters) ORDER BY id FOR UPDATE))
      AND state IN ('planned', 'publishing', 'published')
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
_RUN_STATE = text("SELECT state FROM replay_runs WHERE id = :run FOR UPDATE")
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
        preflight: Says which letters may be replayed.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database, preflight: Preflight) -> None:
        self._database = database
        self._preflight = preflight

    async def verdicts(self, ids: Sequence[int]) -> list[Verdict]:
        """What a replay of each of these letters would do; deleted ones are left out."""
        return await self._preflight.verdicts(ids)

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
        """Put a run on record; a process that has :func:`services.dead_letters.replayer.replaying` open carries it out.

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
            await in_turn(connection)
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
            NotFound: No run has this number.
        """
        async with self._database.transaction() as connection:
            statement = text(_RUNS.format(where="WHERE id = :run"))
            row = (await connection.execute(statement, {"run": number, "limit": 1})).one_or_none()
        if row is None:
            raise NotFound(f"there is no run {number}")
        return Run(*row)

    async def pauses(self, run: Run) -> list[Pause]:
        """Which of a run's queues somebody has paused, so that its messages wait there."""
        paused = await read_pauses(self._database)
        return [paused[queue] for queue in run.queues if queue in paused]

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
            await in_turn(connection)
            state = (await connection.execute(_RUN_STATE, {"run": number})).scalar_one()
            if state != "cancelled":
                raise Refused(f"run {number} is {state} and cannot be resumed")
            await _demand_free(connection, run.queues)
            if not (await connection.execute(_RESUME_PLANNED, {"run": number})).rowcount:
                raise Refused(f"nothing is left of run {number}")
            await connection.execute(_RESUME, {"run": number})
        log.info("replay.resumed", run=number, by=by)
        return await self.run(number)


async def in_turn(connection: AsyncConnection) -> None:
    """One person at a time decides what becomes of letters, so that each sees what the one before did.

    It must stand before whatever looks at the letters: a statement sees what was there when it began.
    """
    await connection.execute(_ONE_AT_A_TIME)


async def _demand_free(connection: AsyncConnection, queues: Sequence[str]) -> None:
    """One run at a time in each queue; after :func:`in_turn`."""
    busy = (await connection.execute(_BUSY, {"queues": list(queues)})).one_or_none()
    if busy:
        raise Refused(
            f"run {busy.id} of {busy.started_by} is under way in {', '.join(busy.queues)}; "
            "wait for its end, or cancel it"
        )
