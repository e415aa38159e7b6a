"""Runs of replays: planned, ordered, followed, cancelled and resumed; ``replayer.py`` carries them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import structlog
from pydantic import AwareDatetime, TypeAdapter, ValidationError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import NotFound, Refused
from schema.sentences import Sentence
from services.database.pool import Database
from services.dead_letters.outcomes import OPEN
from services.dead_letters.preflight import FORCED, Preflight, Verdict
from services.messaging.pauses import Pause, read_pauses

log = structlog.get_logger(__name__)

#: Messages a second by default, and at most.
RATE = 100
FASTEST = 100_000
#: Seconds without a process after which a run counts as abandoned.
ABANDONED_S = 5

#: Letters that an error names at most.
_NAMED = 5

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('replay_runs'))")
_BUSY = text("""
    SELECT id, queues, started_by FROM replay_runs
    WHERE state IN ('running', 'cancelling') AND queues && CAST(:queues AS text[]) LIMIT 1
""")
_BEGIN = text("""
    INSERT INTO replay_runs (state, queues, rate, what, why, started_by, token, holder, expires_at)
    VALUES ('running', :queues, :rate, :what, :why, :by, 0, '', now()) RETURNING id
""")
_SUPERSEDE = text(f"""
    UPDATE replays SET state = 'superseded', ended_at = now()
    WHERE id = ANY(ARRAY(SELECT id FROM replays WHERE letter = ANY(:letters) ORDER BY id FOR UPDATE))
      AND state IN {OPEN}
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
# A letter that waited for an earlier replay, which this run was to supersede, is dead again.
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
_RESUME_PLANNED = text(f"""
    UPDATE replays SET state = 'planned'
    WHERE run = :run AND state = 'cancelled'
      AND EXISTS (SELECT FROM dead_letters WHERE id = replays.letter AND state = 'dead')
      AND NOT EXISTS (  -- another run replays it
          SELECT FROM replays AS other
          WHERE other.letter = replays.letter AND other.state IN {OPEN})
""")
# A run that has just begun or changed hands is not abandoned: some process looks for it within a second.
_RUNS = """
    SELECT run.id, CASE WHEN run.state = 'finished' AND counts.waiting > 0 THEN 'waiting' ELSE run.state END,
           run.queues, run.rate, run.what, run.why, run.started_by, run.started_at, run.cancelled_by, run.ended_at,
           run.holder, run.state IN ('running', 'cancelling')
                       AND run.expires_at <= now() - make_interval(secs => :abandoned) AS abandoned, counts.*
    FROM (SELECT * FROM replay_runs {where} ORDER BY id DESC LIMIT :limit) AS run
    CROSS JOIN LATERAL (
        SELECT count(*) AS letters,
               count(*) FILTER (WHERE state IN ('planned', 'publishing')) AS planned,
               count(*) FILTER (WHERE state = 'published') AS waiting,
               count(*) FILTER (WHERE state = 'did_it') AS did_it,
               count(*) FILTER (WHERE state = 'nothing_to_do') AS nothing_to_do,
               count(*) FILTER (WHERE state = 'died_again') AS died_again,
               count(*) FILTER (WHERE state = 'cancelled') AS cancelled,
               count(*) FILTER (WHERE state = 'superseded') AS superseded
        FROM replays WHERE replays.run = run.id
    ) AS counts
    ORDER BY run.id DESC
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """A reviewable list of exactly what a replay will publish."""

    made_at: AwareDatetime
    made_by: str
    what: str  #: The filter that selected the letters, in words
    force: bool  #: Letters with a verdict of FORCED are taken, too
    letters: tuple[Verdict, ...]  #: Made together with the plan

    def to_json(self) -> bytes:
        """The plan as the content of a file."""
        return _plans.dump_json(self, indent=2)

    @classmethod
    def read(cls, content: bytes) -> "Plan":
        """The plan in the content of a file.

        Raises:
            Refused: The file is no plan.
        """
        try:
            return _plans.validate_json(content)
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise Refused(f"that is no plan: {place}: {fault['msg']}") from None

    def demand_unchanged(self, verdicts: Sequence[Verdict]) -> None:
        """Compare the plan with the verdicts of now.

        Raises:
            Refused: A letter has changed since the plan was made.
        """
        now = {each.id: (each.death, each.judgement, each.edit) for each in verdicts}
        changed = [
            each.id for each in self.letters if now.get(each.id) != (each.death, each.judgement, each.edit)
        ]
        if changed:
            more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            named = ", ".join(map(str, changed[:_NAMED]))
            raise Refused(f"dead letters {named}{more} have changed since the plan was made; make it anew")


_plans = TypeAdapter(Plan)


@dataclass(frozen=True, slots=True)
class Run:
    """An order to publish dead letters again, and its progress."""

    id: int
    state: str  #: running, waiting (for outcomes, all published), finished, cancelling or cancelled
    queues: list[str]
    rate: int  #: Messages a second, at most
    what: str  #: The filter that selected the letters, in words
    why: str
    started_by: str
    started_at: datetime
    cancelled_by: str | None
    ended_at: datetime | None  #: When the last message was published
    holder: str  #: The process that publishes its messages, as host and pid; empty: none yet
    abandoned: bool  #: No process has published its messages for ABANDONED_S
    letters: int
    planned: int  #: Letters that are not published yet
    waiting: int  #: Letters that are published, with an unknown outcome
    did_it: int  #: Letters that were answered and had their effect
    nothing_to_do: int  #: Letters that were answered without an effect
    died_again: int  #: Letters that died anew
    cancelled: int  #: Letters that were not published
    superseded: int  #: Letters that were replayed once more before their outcome was known

    @property
    def is_over(self) -> bool:
        """Every message is published, or will not be."""
        return self.state in {"waiting", "finished", "cancelled"}

    @property
    def is_settled(self) -> bool:
        """The outcome of every message is known."""
        return self.is_over and not self.waiting


def ordered(run: Run) -> dict[str, Any]:
    """What the audit says of a run that was ordered."""
    return {"run": run.id, "letters": run.letters, "what": run.what, "why": run.why, "rate": run.rate}


@dataclass(frozen=True, slots=True, eq=False)
class Replays:
    """Orders runs of replays and tells their progress.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    database: Database
    preflight: Preflight

    async def verdicts(self, ids: Sequence[int]) -> list[Verdict]:
        """What a replay of each of these letters would do; deleted ones are left out."""
        return await self.preflight.verdicts(ids)

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
        """Record a run; a process inside :func:`services.dead_letters.replayer.replaying` carries it out.

        Args:
            verdicts: Fresh verdicts; letters that are not ready are left out.
            what: The filter that selected the letters, in words.
            force: Take every letter with a verdict of :data:`FORCED`.

        Raises:
            Refused: None of them may be replayed, or another run publishes into one of the same queues.
        """
        taken = [each for each in verdicts if each.judgement in (FORCED if force else ("ready",))]
        if not taken:
            raise Refused(Sentence("none of these letters is ready to be replayed"))
        queues = sorted({each.queue for each in taken if each.queue})
        letters = {
            "ids": [uuid4() for _ in taken],
            "letters": [each.id for each in taken],
            "edits": [each.edit for each in taken],
            "states": ["dead", "waiting"] if force else ["dead"],
        }
        async with self.database.transaction() as connection:
            await in_turn(connection)
            await _demand_free(connection, queues)
            asked = {"queues": queues, "rate": rate, "what": what, "why": why, "by": by}
            run: int = (await connection.execute(_BEGIN, asked)).scalar_one()
            if force:
                await connection.execute(_SUPERSEDE, {"letters": letters["letters"]})
            planned = await connection.execute(_PLAN, letters | {"run": run})
            if not planned.rowcount:
                raise Refused(Sentence("somebody else has just replayed or dropped these letters"))
        log.info("replay.ordered", run=run, count=planned.rowcount, by=by, why=why, what=what)
        return await self.run(run)

    async def run(self, number: int) -> Run:
        """A run and its progress.

        Raises:
            NotFound: No run has this number.
        """
        async with self.database.transaction() as connection:
            statement = text(_RUNS.format(where="WHERE id = :run"))
            row = (await connection.execute(statement, {"run": number} | _page(1))).one_or_none()
        if row is None:
            raise NotFound(f"there is no run {number}")
        return Run(*row)

    async def pauses(self, run: Run) -> list[Pause]:
        """The pauses of a run's queues: its messages wait there."""
        paused = await read_pauses(self.database)
        return [paused[queue] for queue in run.queues if queue in paused]

    async def runs(self, limit: int = 50, *, before: int | None = None) -> list[Run]:
        """Runs, latest first; only those with a smaller number than ``before``: the next page."""
        where, asked = ("WHERE id < :before", {"before": before}) if before is not None else ("", {})
        async with self.database.transaction() as connection:
            rows = await connection.execute(text(_RUNS.format(where=where)), asked | _page(limit))
            return [Run(*row) for row in rows]

    async def cancel(self, number: int, *, by: str) -> Run:
        """Publish no more letters of a run; published ones stay published.

        Raises:
            Refused: The run has published every letter or is cancelled, or no run has this number.
        """
        await self.run(number)
        async with self.database.transaction() as connection:
            if (await connection.execute(_CANCEL, {"run": number, "by": by})).scalar() is None:
                raise Refused(
                    Sentence("run %(number)s cannot be cancelled: it is not running", number=str(number))
                )
            await connection.execute(_CANCEL_PLANNED, {"run": number})
        log.info("replay.cancelled", run=number, by=by)
        return await self.run(number)

    async def resume(self, number: int, *, by: str) -> Run:
        """Go on with a cancelled run.

        Raises:
            Refused: The run is not cancelled, has nothing left, or another run publishes into one of its queues.
        """
        run = await self.run(number)
        async with self.database.transaction() as connection:
            await in_turn(connection)
            state = (await connection.execute(_RUN_STATE, {"run": number})).scalar_one()
            if state != "cancelled":
                raise Refused(
                    Sentence("run %(number)s cannot be resumed: it was not cancelled", number=str(number))
                )
            await _demand_free(connection, run.queues)
            if not (await connection.execute(_RESUME_PLANNED, {"run": number})).rowcount:
                raise Refused(Sentence("run %(number)s has no letters left to publish", number=str(number)))
            await connection.execute(_RESUME, {"run": number})
        log.info("replay.resumed", run=number, by=by)
        return await self.run(number)


def _page(limit: int) -> dict[str, int]:
    return {"limit": limit, "abandoned": ABANDONED_S}


async def in_turn(connection: AsyncConnection) -> None:
    """Let one transaction at a time decide about letters, so that each sees what the one before it did.

    Call it before any statement that reads letters: a statement sees the data of the moment it began.
    """
    await connection.execute(_ONE_AT_A_TIME)


async def _demand_free(connection: AsyncConnection, queues: Sequence[str]) -> None:
    """Refuse a second run in any of these queues; call it after :func:`in_turn`."""
    busy = (await connection.execute(_BUSY, {"queues": list(queues)})).one_or_none()
    if busy:
        raise Refused(
            Sentence(
                "run %(number)s of %(by)s is under way in %(queues)s; wait until it ends, or cancel it",
                number=str(busy.id),
                by=busy.started_by,
                queues=tuple(busy.queues),
            )
        )
