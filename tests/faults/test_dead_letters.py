"""Dead letters through ``kill -9`` at every step, and with PostgreSQL away: ids in equal ids out."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import uuid4

import asyncpg
import pytest

from ops.sandbox import Sandbox
from ops.stack.postgres import Postgres
from schema.messages import (
    DEAD_LETTERS,
    DELIVERY,
    GENERATION,
    REQUESTS,
    VIEWS,
    GenerateHoroscope,
    HoroscopeRequested,
)
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector
from services.dead_letters.replays import Run
from services.messaging.envelope import decode, encode
from tests.acceptance.conftest import FAILED
from tests.dead_letters import MASK, TODAY, inspector_on, letter_of
from tests.faults.conftest import WORK, Scene
from tests.faults.servers import OwnPostgreSQL
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import until_sql, until_views

Step = tuple[Literal["before", "after"], str]

ARCHIVED = "SELECT count(DISTINCT message_id) FROM dead_letters"
ANSWERED = "SELECT count(*) FROM dead_letters WHERE state IN ('did_it', 'nothing_to_do')"
SETTLED = "SELECT count(*) FROM dead_letters WHERE state = $1"
TAKEN_OVER_SOON = {"services.dead_letters.replayer:LEASE_S": 1}


def view() -> HoroscopeRequested:
    return HoroscopeRequested(uuid4(), Sign.LEO, TODAY, answered=True, at=datetime.now(UTC))


def misfit() -> bytes:
    """A message whose arguments fit no actor, under an id of its own."""
    return encode(view()).replace(b'"answered":true', b'"answered":"perhaps"')


def message_id(body: bytes) -> str:
    named: str = decode(body)["message_id"]
    return named


@pytest.fixture
def inspector(database: Database) -> Inspector:
    return inspector_on(database)


@pytest.mark.parametrize(
    "step",
    [
        ("after", "actors.dead_letters:DeadLetters.publish"),
        ("before", "services.dead_letters.archive:Archive.keep"),
        ("after", "services.dead_letters.archive:_row"),
        ("after", "services.dead_letters.archive:Archive.keep"),
    ],
    ids=["buried, not acknowledged", "taken, not kept", "while it is kept", "kept, not acknowledged"],
)
async def test_whatever_step_an_archiver_dies_at_each_letter_is_kept_once(
    processes: Processes, sql: asyncpg.Connection, queues: Queues, step: Step
) -> None:
    await (await processes.start("scheduler")).said("scheduler.ready")  # declares the queues
    misfits = [misfit() for _ in range(40)]
    for body in misfits:
        queues.put(VIEWS, body)
    death = processes.death(*step, call=7 if step[1].endswith(("publish", "_row")) else 1)
    workers = await processes.workers(2, queues=(VIEWS, DEAD_LETTERS), death=death)
    await until_sql(sql, ARCHIVED, 40)
    await queues.drained(VIEWS, DEAD_LETTERS)
    await processes.stop("worker --queues")
    assert queues.count(VIEWS) == queues.count(DEAD_LETTERS) == 0
    assert death.happened
    assert sorted(worker.code or 0 for worker in workers) == [-9, 0]
    kept = [row["message_id"] for row in await sql.fetch("SELECT message_id FROM dead_letters")]
    assert sorted(kept) == sorted(map(message_id, misfits))


async def dead_views(database: Database, inspector: Inspector, count: int) -> list[int]:
    """Views that died without a fault of theirs, by the numbers of their letters."""
    await Archive(database, MASK).keep([letter_of(view()) for _ in range(count)])
    return [each.id for each in await inspector.records.listed(Filter(), limit=None)]


async def order(inspector: Inspector, ids: list[int], rate: int = 2000) -> Run:
    verdicts = await inspector.replays.verdicts(ids)
    return await inspector.replays.start(verdicts, what="a test's", by="Anna", why="mended", rate=rate)


@pytest.mark.parametrize(
    "step",
    [
        ("after", "services.dead_letters.replayer:Replayer._next"),
        ("after", "services.messaging.publisher:Publisher.send"),
        ("after", "services.dead_letters.replayer:Replayer._publish"),
        ("before", "services.readers.views:Views.count"),
        ("after", "services.readers.views:Views.count"),
        ("after", "services.dead_letters.outcomes:Outcomes.answered"),
    ],
    ids=[
        "on record",
        "one confirmed",
        "published, not on record",
        "before the effect",
        "after the effect, not on record",
        "on record, not acknowledged",
    ],
)
async def test_whatever_step_a_replay_dies_at_each_effect_comes_once(
    processes: Processes,
    sql: asyncpg.Connection,
    database: Database,
    inspector: Inspector,
    queues: Queues,
    step: Step,
) -> None:
    run = await order(inspector, await dead_views(database, inspector, 600))
    death = processes.death(*step, call=130 if "Publisher" in step[1] else 1)
    workers = await processes.workers(2, queues=(VIEWS,), death=death, constants=TAKEN_OVER_SOON)
    await until_sql(sql, ANSWERED, 600)
    await until_views(sql, 600)
    await queues.drained(VIEWS)
    await until_sql(sql, "SELECT state FROM replay_runs", "finished")
    await processes.stop("worker")
    assert death.happened
    assert sorted(worker.code or 0 for worker in workers) == [-9, 0]
    run = await inspector.replays.run(run.id)
    assert (run.did_it + run.nothing_to_do, run.waiting, run.died_again) == (600, 0, 0)
    # A view that the killed worker had counted has nothing to do when it is delivered again.
    if step == ("before", "services.readers.views:Views.count"):
        assert run.did_it == 600
    assert queues.count(VIEWS) == 0
    await until_views(sql, 600)


async def test_the_copies_of_a_replay_have_one_effect_and_die_once(
    processes: Processes, sql: asyncpg.Connection, database: Database, inspector: Inspector, queues: Queues
) -> None:
    """What a replayer leaves behind that was killed after it had published and before that was on record."""
    good, bad = await dead_views(database, inspector, 2)
    run = await order(inspector, [good, bad])
    (worker,) = await processes.workers(1, queues=(GENERATION,))  # carries runs out, and answers no views
    await queues.filled(VIEWS)
    await until_sql(sql, "SELECT state FROM replay_runs", "finished")
    bodies = [letter.body for letter in (queues.take(VIEWS), queues.take(VIEWS)) if letter]
    spoiled = bodies[1].replace(b'"answered":true', b'"answered":"perhaps"')
    for body in (bodies[0], spoiled, bodies[0], spoiled, spoiled):
        queues.put(VIEWS, body)
    await worker.stop()
    await processes.workers(1)
    await until_sql(sql, SETTLED, 1, "did_it")
    await until_sql(sql, SETTLED, 1, "died_again")
    await queues.drained(VIEWS, DEAD_LETTERS)
    await processes.stop("worker")
    run = await inspector.replays.run(run.id)
    assert (run.did_it, run.died_again, run.waiting) == (1, 1, 0)
    (again,) = await inspector.records.listed(Filter())
    assert (again.cause, again.replays) == ("wrong arguments", 1)
    await until_views(sql, 1)


@pytest.mark.parametrize("kind", [HoroscopeRequested, GenerateHoroscope], ids=["of many", "alone"])
async def test_the_message_of_a_replay_that_another_has_taken_the_place_of_is_passed_over(
    scene: Scene,
    database: Database,
    inspector: Inspector,
    kind: type[HoroscopeRequested] | type[GenerateHoroscope],
) -> None:
    message = view() if kind is HoroscopeRequested else GenerateHoroscope(Sign.LEO, scene.today)
    await Archive(database, MASK).keep([letter_of(message)])
    (letter,) = await inspector.records.listed(Filter())
    await order(inspector, [letter.id])
    (worker,) = await scene.processes.workers(1, queues=(DELIVERY,))  # it carries runs out
    await scene.queues.filled(message.queue)
    await until_sql(scene.sql, "SELECT state FROM replay_runs", "finished")
    await worker.stop()
    verdicts = await inspector.replays.verdicts([letter.id])
    await inspector.replays.start(verdicts, what="once more", by="Anna", why="it does not come", force=True)
    await scene.sql.execute("UPDATE replay_runs SET state = 'cancelled'")  # it is never published
    (worker,) = await scene.processes.workers(1, queues=(message.queue,))
    await worker.said("replay.skipped")
    await scene.queues.drained(message.queue)
    await until_views(scene.sql, 0)
    assert not scene.sandbox.model.calls


async def test_a_text_that_failed_to_the_end_is_written_by_a_replay_when_the_model_is_back(
    scene: Scene, inspector: Inspector
) -> None:
    trouble = scene.sandbox.model.faults.add("500")
    await scene.processes.workers(1, queues=(*WORK, DEAD_LETTERS))
    scene.queues.publish(GenerateHoroscope(Sign.LEO, scene.today))
    await until_sql(scene.sql, SETTLED, 1, "dead")
    (letter,) = await inspector.records.listed(Filter())
    whole = await inspector.records.whole(letter.id)
    assert (whole.cause, whole.error_type, whole.attempts) == ("ladder exhausted", "ModelUnavailable", 4)
    assert whole.trace
    assert "ModelUnavailable" in whole.trace
    assert all(each["host"] and each["pid"] and each["at"] and each["release"] for each in whole.tries)
    await order(inspector, [letter.id])  # too early
    await until_sql(scene.sql, SETTLED, 1, "died_again")
    (again,) = await inspector.records.listed(Filter())
    assert again.parent == letter.id
    assert (await inspector.records.whole(letter.id)).history[0].died_as == again.id
    assert again.group == letter.group
    scene.sandbox.model.faults.remove(trouble.id)
    await order(inspector, [again.id])
    await until_sql(scene.sql, SETTLED, 1, "did_it")
    await scene.written_once()


class TestPostgreSQL(OwnPostgreSQL):
    async def test_what_dies_while_postgresql_is_away_waits_in_rabbitmq_and_is_kept_when_it_is_back(
        self, processes: Processes, queues: Queues, postgres: Postgres, database_url: str
    ) -> None:
        await processes.workers(2)
        postgres.stop()
        misfits = [misfit() for _ in range(50)]
        garbage = [b"\0\xff" + bytes([number]) for number in range(50)]
        for body in (*misfits, *garbage):
            queues.put(VIEWS, body)
        await queues.drained(VIEWS)
        postgres.launch()
        await asyncio.to_thread(postgres.wait_until_ready)
        sql = await asyncpg.connect(database_url)
        await until_sql(sql, "SELECT count(*) FROM dead_letters", 100)
        await queues.drained(DEAD_LETTERS)
        await processes.stop("worker")
        assert queues.count(DEAD_LETTERS) == 0
        rows = await sql.fetch("SELECT message_id, body FROM dead_letters")
        await sql.close()
        assert sorted(row["message_id"] for row in rows if row["message_id"]) == sorted(
            map(message_id, misfits)
        )
        assert sorted(row["body"] for row in rows if not row["message_id"]) == garbage

    async def test_a_replay_goes_on_where_it_was_when_postgresql_is_killed_in_the_middle_of_it(
        self, processes: Processes, queues: Queues, postgres: Postgres, database_url: str
    ) -> None:
        async with Database(database_url) as database:
            inspector = inspector_on(database)
            run = await order(inspector, await dead_views(database, inspector, 1000), rate=500)
            await processes.workers(2, constants=TAKEN_OVER_SOON)
            sql = await asyncpg.connect(database_url)
            await until_sql(sql, "SELECT count(*) > 100 FROM replays WHERE state = 'did_it'", True)
            await sql.close()
            postgres.kill()
            postgres.launch()
            await asyncio.to_thread(postgres.wait_until_ready)
            sql = await asyncpg.connect(database_url)
            await until_sql(sql, ANSWERED, 1000)
            await until_views(sql, 1000)
            await queues.drained(VIEWS)
            await processes.stop("worker")
            await until_views(sql, 1000)
            run = await inspector.replays.run(run.id)
            await sql.close()
        assert (run.state, run.did_it + run.nothing_to_do, run.waiting) == ("finished", 1000, 0)


async def test_a_message_that_kills_its_worker_three_times_is_isolated_and_its_reader_is_told(
    scene: Scene, inspector: Inspector
) -> None:
    reader = await scene.ask()
    for _ in range(3):
        death = scene.processes.death("before", "services.horoscopes.model:Author.write")
        worker = await scene.processes.start("worker", "--queues", ",".join(WORK), death=death)
        assert await worker.ended() == -9
    await scene.processes.workers(queues=(*WORK, DEAD_LETTERS))
    await reader.wait_for(lambda messages: FAILED in messages[-1].text)
    await until_sql(scene.sql, SETTLED, 1, "dead")
    (letter,) = await inspector.records.listed(Filter())
    whole = await inspector.records.whole(letter.id)
    assert (whole.cause, whole.queue, whole.actor) == (
        "killed its worker", REQUESTS, "requests.HoroscopeRequested"
    )  # fmt: skip
    assert "3 workers were killed" in whole.error
    assert [each["error"] for each in whole.tries[:2]] == ["its worker was killed"] * 2
    assert all(each["at"] and each["pid"] for each in whole.tries)
    assert not scene.sandbox.model.calls
    assert await scene.sql.fetchval("SELECT state FROM generations WHERE zodiac_sign = 'leo'") == "given_up"
    assert await scene.sql.fetchval("SELECT count(*) FROM suspects") == 0


async def test_a_view_that_kills_its_worker_takes_no_other_view_along(
    processes: Processes, sql: asyncpg.Connection, queues: Queues, inspector: Inspector
) -> None:
    await (await processes.start("scheduler")).said("scheduler.ready")  # declares the queues
    poison = view()
    for event in (*(view() for _ in range(20)), poison, *(view() for _ in range(20))):
        queues.publish(event)
    for _ in range(4):  # of the first two any of them may have been to blame
        death = processes.death("before", "services.readers.views:Views.count", str(poison.request_id))
        worker = await processes.start("worker", "--queues", VIEWS, death=death)
        assert await worker.ended() == -9
    await processes.workers()
    await until_views(sql, 40)
    await until_sql(sql, SETTLED, 1, "dead")
    (letter,) = await inspector.records.listed(Filter())
    assert letter.arguments
    assert (letter.cause, letter.arguments["request_id"]) == ("killed its worker", str(poison.request_id))


async def test_workers_that_are_killed_again_and_again_cost_no_message_that_is_not_to_blame(
    processes: Processes, sql: asyncpg.Connection, queues: Queues, sandbox: Sandbox
) -> None:
    """Between two losses it was answered once: the count begins anew."""
    await (await processes.start("scheduler")).said("scheduler.ready")
    for _ in range(30):
        queues.publish(view())
    for _ in range(2):
        death = processes.death("before", "services.readers.views:Views.count")
        worker = await processes.start("worker", "--queues", VIEWS, death=death)
        assert await worker.ended() == -9
    await processes.workers()
    await until_views(sql, 30)
    await queues.drained(VIEWS, DEAD_LETTERS)
    assert await sql.fetchval("SELECT count(*) FROM dead_letters") == 0
    await until_sql(sql, "SELECT count(*) FROM suspects", 0)


async def test_what_somebody_rejects_and_views_of_long_ago_are_dead_letters_with_their_cause(
    processes: Processes, sql: asyncpg.Connection, queues: Queues, inspector: Inspector
) -> None:
    await (await processes.start("scheduler")).said("scheduler.ready")
    rejected = view()
    queues.publish(rejected)
    queues.reject(VIEWS)
    old = HoroscopeRequested(
        uuid4(), Sign.LEO, TODAY - timedelta(days=40), answered=True, at=datetime.now(UTC)
    )
    queues.publish(old)
    await processes.workers()
    await until_sql(sql, SETTLED, 2, "dead")
    letters = {
        each.cause: await inspector.records.whole(each.id)
        for each in await inspector.records.listed(Filter())
    }
    assert set(letters) == {"rejected", "too old"}
    assert letters["rejected"].arguments
    assert letters["rejected"].arguments["request_id"] == str(rejected.request_id)
    assert (letters["rejected"].queue, letters["rejected"].trace) == (VIEWS, None)
    assert "TooOld" in (letters["too old"].trace or "")
    await order(inspector, [letters["rejected"].id])
    await until_views(sql, 1)
