"""Runs of replays: put on record, carried out against RabbitMQ, cancelled, taken over."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import text

from actors import topology
from schema.errors import Refused
from schema.messages import (
    GENERATION,
    VIEWS,
    DeadLetter,
    GenerateDay,
    GenerateHoroscope,
    HoroscopeRequested,
    Message,
)
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters import replays
from services.dead_letters.archive import Archive
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector
from services.dead_letters.outcomes import Outcomes
from services.dead_letters.replayer import Replayer, replaying
from services.dead_letters.replays import Plan, Run, in_turn
from services.messaging.envelope import encode
from services.messaging.publisher import Publisher
from services.process.settings import Settings
from tests.dead_letters import MASK, TODAY, inspector_on, letter_of
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S, until_sql

ORDERED: dict[str, Any] = {"what": "a test's", "by": "Anna", "why": "the model is back"}


def view() -> HoroscopeRequested:
    return HoroscopeRequested(uuid4(), Sign.LEO, TODAY, answered=True, at=datetime.now(UTC))


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database, MASK)


@pytest.fixture
def inspector(database: Database) -> Inspector:
    return inspector_on(database)


@pytest.fixture
async def publisher(rabbitmq_url: str, settings: Settings) -> AsyncIterator[Publisher]:
    async with Publisher(rabbitmq_url, topology.queues(settings)) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        yield publisher


async def dead(archive: Archive, inspector: Inspector, *messages: Message, **about: Any) -> list[int]:
    """Messages that died, by the numbers of their letters."""
    before = {each.id for each in await inspector.records.listed(Filter(state=None), limit=None)}
    await archive.keep([letter_of(message, **about) for message in messages])
    after = await inspector.records.listed(Filter(state=None), limit=None)
    return sorted(each.id for each in after if each.id not in before)


async def ordered(inspector: Inspector, ids: Sequence[int], **about: Any) -> Run:
    return await inspector.replays.start(await inspector.replays.verdicts(ids), **ORDERED | about)


async def until_over(inspector: Inspector, run: Run, within: float = DEADLINE_S) -> Run:
    async with asyncio.timeout(within):
        while not (now := await inspector.replays.run(run.id)).is_over:
            await asyncio.sleep(0.02)
    return now


def taken(queues: Queues, queue: str) -> list[dict[str, Any]]:
    """The messages that wait in a queue, taken out."""
    messages = []
    while letter := queues.take(queue):
        messages.append(letter.message)
    return messages


async def test_a_run_publishes_each_letter_once_as_new_and_says_so(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    ids = await dead(archive, inspector, *(view() for _ in range(30)), attempts=4)
    run = await ordered(inspector, ids, rate=1000)
    assert (run.state, run.letters, run.planned, run.queues) == ("running", 30, 30, [VIEWS])
    async with replaying(database, publisher):
        run = await until_over(inspector, run)
    assert (run.state, run.planned, run.waiting) == ("waiting", 0, 30)
    messages = taken(queues, VIEWS)
    letters = {each.message_id: each for each in await inspector.records.listed(Filter(state="waiting"))}
    assert sorted(message["message_id"] for message in messages) == sorted(map(str, letters))
    for message in messages:
        letter = await inspector.records.whole(letters[message["message_id"]].id)
        (replay,) = letter.history
        assert message["options"] == {"replay": str(replay.id)}, "it begins its ladder anew"
        assert message["kwargs"] == letter.arguments
        assert letter.published_at
        assert message["message_timestamp"] > letter.published_at.timestamp() * 1000
        assert (replay.state, replay.asked_by, replay.why) == ("published", "Anna", "the model is back")


async def test_what_became_of_a_replay_is_told(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    first, second, third = await dead(archive, inspector, *(view() for _ in range(3)))
    async with replaying(database, publisher):
        run = await until_over(inspector, await ordered(inspector, [first, second, third]))
    by_id = {UUID(message["options"]["replay"]): message for message in taken(queues, VIEWS)}
    letters = {number: await inspector.records.whole(number) for number in (first, second, third)}
    await Outcomes(database).answered({letters[first].history[0].id: True})
    died = letters[second].history[0].id
    message = HoroscopeRequested.parse(by_id[died]["kwargs"])
    await archive.keep([letter_of(message, replay=died), letter_of(message, replay=died)])

    run = await inspector.replays.run(run.id)
    assert (run.did_it, run.died_again, run.waiting) == (1, 1, 1)
    assert not run.is_settled
    letters = {number: await inspector.records.whole(number) for number in (first, second, third)}
    assert [letters[number].state for number in (first, second, third)] == [
        "did_it",
        "died_again",
        "waiting",
    ]
    again = await inspector.records.whole(letters[second].history[0].died_as or 0)
    assert (again.state, again.parent, again.replays) == ("dead", second, 1)
    await inspector.edits.drop([again.id], by="me", why="dealt with")
    await archive.keep([letter_of(message, replay=died)])
    assert await inspector.records.count(Filter()) == 0, "one replay dies once, however late its copies come"
    assert await Outcomes(database).over(list(by_id)) == {letters[first].history[0].id, died}


async def test_a_copy_that_dies_after_another_was_answered_is_no_dead_letter(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher
) -> None:
    (number,) = await dead(archive, inspector, message := view())
    async with replaying(database, publisher):
        await until_over(inspector, await ordered(inspector, [number]))
    replay = (await inspector.records.whole(number)).history[0].id
    await Outcomes(database).answered({replay: False})
    await archive.keep([letter_of(message, replay=replay)])
    assert [each.state for each in await inspector.records.listed(Filter(state=None))] == ["nothing_to_do"]


async def test_one_run_at_a_time_in_a_queue(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    views = await dead(archive, inspector, *(view() for _ in range(8)))
    texts = await dead(archive, inspector, GenerateHoroscope(Sign.LEO, TODAY))
    verdicts = await inspector.replays.verdicts(views)
    outcomes = await asyncio.gather(
        *(inspector.replays.start([each], **ORDERED) for each in verdicts), return_exceptions=True
    )
    runs = [each for each in outcomes if isinstance(each, Run)]
    refused = [str(each) for each in outcomes if isinstance(each, Refused)]
    assert len(runs) == 1
    assert len(refused) == 7
    assert f"run {runs[0].id} of Anna is under way in views" in refused[0]
    assert (await ordered(inspector, texts)).queues == [GENERATION], "another queue is free"
    async with replaying(database, publisher):
        await until_over(inspector, runs[0])
    assert len(taken(queues, VIEWS)) == 1


async def test_a_verdict_tells_what_a_replay_would_come_to(
    archive: Archive, inspector: Inspector, sql: asyncpg.Connection
) -> None:
    async def judged(number: int) -> tuple[str, str]:
        (verdict,) = await inspector.replays.verdicts([number])
        return verdict.judgement, verdict.reason

    (counted,) = await dead(archive, inspector, seen := view())
    (text,) = await dead(archive, inspector, GenerateHoroscope(Sign.LEO, TODAY))
    (over,) = await dead(archive, inspector, GenerateDay(TODAY - timedelta(days=5)))
    (old,) = await dead(archive, inspector, replace(view(), day=TODAY - timedelta(days=40)))
    (asked,) = await dead(archive, inspector, replace(seen, answered=False))
    (garbage,) = await dead(archive, inspector, b"garbage")  # type: ignore[arg-type]
    assert await judged(counted) == ("ready", "")
    assert await judged(text) == ("ready", "")
    assert await judged(over) == ("done", f"{TODAY - timedelta(days=5)} is over everywhere")
    told = f"its view of {TODAY - timedelta(days=40)} is too old: it may have been counted already"
    assert await judged(old) == ("done", told)
    assert await judged(asked) == ("done", "its reader is not waiting any more")
    judgement, reason = await judged(garbage)
    assert judgement == "unfit"
    assert "not JSON" in reason
    await sql.execute("INSERT INTO view_receipts VALUES ($1, $2)", seen.request_id, TODAY)
    await sql.execute(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ('leo', $1, 'x')", TODAY
    )
    assert await judged(counted) == ("done", "its view is counted")
    assert await judged(text) == ("done", f"the text of leo for {TODAY} exists")
    await inspector.edits.drop([counted], by="me", why="counted")
    assert await judged(counted) == ("settled", "it is not dead any more: it was dropped")
    with pytest.raises(Refused, match="ready"):
        await ordered(inspector, [counted, over, garbage])


async def test_what_died_after_two_replays_is_refused_unless_somebody_insists(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    (number,) = await dead(archive, inspector, message := view())
    async with replaying(database, publisher):
        for replayed in (1, 2):
            await until_over(inspector, await ordered(inspector, [number]))
            replay = UUID(taken(queues, VIEWS)[0]["options"]["replay"])
            await archive.keep([letter_of(message, replay=replay)])
            (letter,) = await inspector.records.listed(Filter())
            assert (letter.replays, letter.parent) == (replayed, number)
            number = letter.id
        (verdict,) = await inspector.replays.verdicts([number])
        assert (verdict.judgement, verdict.reason) == ("capped", "it died after 2 replays")
        with pytest.raises(Refused):
            await ordered(inspector, [number])
        await until_over(inspector, await ordered(inspector, [number], force=True))
    assert len(taken(queues, VIEWS)) == 1


async def test_an_edit_is_what_is_published_and_a_plan_holds_it_fast(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    positional = encode(GenerateHoroscope(Sign.LEO, TODAY)).replace(b'"args":[]', b'"args":["leo"]')
    await archive.keep([letter_of(b"garbage"), DeadLetter(positional, {})])
    ids = sorted(each.id for each in await inspector.records.listed(Filter()))
    assert {each.judgement for each in await inspector.replays.verdicts(ids)} == {"unfit"}
    aries = {"sign": "aries", "day": TODAY.isoformat()}
    for number in ids:
        await inspector.edits.edit(number, by="me", actor="generation.GenerateHoroscope", arguments=aries)
    verdicts = tuple(await inspector.replays.verdicts(ids))
    content = Plan(datetime.now(UTC), "Anna", "both", force=False, letters=verdicts).to_json()
    plan = Plan.read(content)
    plan.demand_unchanged(await inspector.replays.verdicts(ids))
    await inspector.edits.edit(ids[0], by="me", arguments=aries | {"sign": "virgo"})
    with pytest.raises(Refused, match=f"dead letters {ids[0]} have changed"):
        plan.demand_unchanged(await inspector.replays.verdicts(ids))
    run = await inspector.replays.start(
        plan.letters, **ORDERED
    )  # whoever asks must look first, as everybody does
    async with replaying(database, publisher):
        await until_over(inspector, run)
    messages = taken(queues, GENERATION)
    assert [(message["kwargs"], message["args"]) for message in messages] == [(aries, [])] * 2, (
        "as it was planned"
    )
    for broken in (b"", b"{}", content.replace(b'"ready"', b'"perhaps"')):
        with pytest.raises(Refused, match="no plan"):
            Plan.read(broken)


async def test_ten_thousand_at_a_rate_cancelled_and_resumed(
    archive: Archive,
    inspector: Inspector,
    database: Database,
    publisher: Publisher,
    queues: Queues,
    sql: asyncpg.Connection,
) -> None:
    for _ in range(10):
        await archive.keep([letter_of(view()) for _ in range(1000)])
    ids = [row["id"] for row in await sql.fetch("SELECT id FROM dead_letters")]
    run = await ordered(inspector, ids, rate=5000)
    async with replaying(database, publisher):
        await until_sql(sql, "SELECT least(count(*), 1500) FROM replays WHERE state = 'published'", 1500)
        run = await inspector.replays.cancel(run.id, by="Boris")
        with pytest.raises(Refused, match="cannot be cancelled"):
            await inspector.replays.cancel(run.id, by="Boris")
        run = await until_over(inspector, run)
        assert run.state == "cancelled"
        assert run.cancelled_by == "Boris"
        assert 1500 <= run.waiting < 10_000
        assert run.waiting + run.cancelled == 10_000
        assert queues.count(VIEWS) == run.waiting
        states = await sql.fetch("SELECT state, count(*) FROM dead_letters GROUP BY state ORDER BY state")
        assert [tuple(row) for row in states] == [("dead", run.cancelled), ("waiting", run.waiting)]

        # Of those that are left, one is dropped and one is replayed by somebody else.
        dropped, other = await sql.fetch("SELECT id FROM dead_letters WHERE state = 'dead' LIMIT 2")
        await inspector.edits.drop([dropped["id"]], by="me", why="no use")
        await until_over(inspector, await ordered(inspector, [other["id"]]))
        with pytest.raises(Refused, match="no run 99"):
            await inspector.replays.resume(99, by="Boris")
        run = await until_over(inspector, await inspector.replays.resume(run.id, by="Boris"))
    assert (run.state, run.waiting, run.cancelled) == ("waiting", 9998, 2)
    with pytest.raises(Refused, match="cannot be resumed"):
        await inspector.replays.resume(run.id, by="Boris")
    messages = taken(queues, VIEWS)
    assert len(messages) == len({message["kwargs"]["request_id"] for message in messages}) == 9999


async def test_a_run_is_no_faster_than_its_rate(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher
) -> None:
    ids = await dead(archive, inspector, *(view() for _ in range(40)))
    run = await ordered(inspector, ids, rate=20)
    async with replaying(database, publisher):
        run = await until_over(inspector, run)
    assert run.ended_at
    assert (run.ended_at - run.started_at).total_seconds() > 1.5


async def test_a_run_goes_on_when_rabbitmq_is_back(
    archive: Archive,
    inspector: Inspector,
    database: Database,
    rabbitmq_url: str,
    settings: Settings,
    queues: Queues,
) -> None:
    ids = await dead(archive, inspector, *(view() for _ in range(300)))
    async with Cable(rabbitmq_url) as cable, Publisher(cable.url, topology.queues(settings)) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        run = await ordered(inspector, ids, rate=1000)
        async with replaying(database, publisher):
            await queues.filled(VIEWS)
            cable.cut()
            run = await until_over(inspector, run)
    assert (run.state, run.waiting) == ("waiting", 300)
    replayed = [message["options"]["replay"] for message in taken(queues, VIEWS)]
    assert len(set(replayed)) == 300, "nothing is lost; what went out twice has one name"


async def test_a_run_whose_process_says_nothing_is_taken_over_and_the_first_one_stops(
    archive: Archive,
    inspector: Inspector,
    database: Database,
    publisher: Publisher,
    queues: Queues,
    sql: asyncpg.Connection,
) -> None:
    ids = await dead(archive, inspector, *(view() for _ in range(20)))
    run = await ordered(inspector, ids, rate=10)
    first, second = Replayer(database, publisher), Replayer(database, publisher)
    held = await first._take_over()
    assert held
    assert await second._take_over() is None, "somebody is at it"
    key = {"run": held.id, "token": held.token}
    left = await first._next(key, [], 5)
    assert len(left) == 5, "put on record, and then its process is seen no more"
    await sql.execute("UPDATE replay_runs SET expires_at = now()")
    assert not (await inspector.replays.run(run.id)).abandoned, "some process takes it over within a second"
    await sql.execute("UPDATE replay_runs SET expires_at = now() - interval '6 seconds'")
    assert (await inspector.replays.run(run.id)).abandoned
    async with replaying(database, publisher):
        await queues.filled(VIEWS)
        assert not await first._next(key, [each.id for each in left], 5), (
            "it learns that the run is another's"
        )
        run = await until_over(inspector, run)
    assert run.waiting == 20
    replayed = [UUID(message["options"]["replay"]) for message in taken(queues, VIEWS)]
    assert len(replayed) == 20
    assert {each.id for each in left} <= set(replayed)


async def test_a_replay_that_never_ends_can_be_replayed_once_more_and_its_first_copy_is_over(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    (number,) = await dead(archive, inspector, view())
    async with replaying(database, publisher):
        await until_over(inspector, await ordered(inspector, [number]))
        taken(queues, VIEWS)  # somebody purges the queue
        with pytest.raises(Refused):
            await ordered(inspector, [number])
        again = await ordered(inspector, [number], force=True)
        first, second = (await inspector.records.whole(number)).history
        await until_over(inspector, again)
    assert first.state == "superseded"
    assert await Outcomes(database).over([first.id, second.id]) == {first.id}
    await Outcomes(database).answered({first.id: True, second.id: True})
    assert (await inspector.records.whole(number)).state == "did_it"


async def test_what_was_to_be_replayed_once_more_and_was_cancelled_is_dead_again(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher
) -> None:
    (number,) = await dead(archive, inspector, view())
    async with replaying(database, publisher):
        await until_over(inspector, await ordered(inspector, [number]))
    again = await ordered(inspector, [number], force=True)
    assert await inspector.edits.drop([number], by="me", why="no") == 0, "it is about to be replayed"
    await inspector.replays.cancel(again.id, by="me")
    assert (await inspector.records.whole(number)).state == "dead"


async def test_what_somebody_plans_while_another_drops_or_edits_it_is_decided_in_turn(
    archive: Archive, inspector: Inspector, database: Database, sql: asyncpg.Connection
) -> None:
    first, second = await dead(archive, inspector, view(), view())
    verdicts = await inspector.replays.verdicts([first, second])
    async with database.transaction() as connection:
        await in_turn(connection)  # somebody plans a run; it is not committed yet
        given = {"queues": [VIEWS], "rate": 1, "what": "", "why": "", "by": "Anna"}
        run = (await connection.execute(replays._BEGIN, given)).scalar_one()
        planned = {"ids": [uuid4()], "letters": [first], "edits": [None], "states": ["dead"], "run": run}
        await connection.execute(replays._PLAN, planned)
        drop = asyncio.create_task(inspector.edits.drop([first, second], by="Boris", why="no use"))
        await until_sql(
            sql, "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND locktype = 'advisory'", True
        )
    assert await drop == 1, "the one that is not planned"
    assert [(await inspector.records.whole(each)).state for each in (first, second)] == ["dead", "dropped"]
    arguments = (await inspector.records.whole(first)).arguments
    with pytest.raises(Refused, match="is about to be replayed"):
        await inspector.edits.edit(first, by="Boris", arguments=arguments)
    assert len(verdicts) == 2


async def test_a_replay_that_gave_way_to_another_and_died_does_not_speak_for_it(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    (number,) = await dead(archive, inspector, message := view())
    async with replaying(database, publisher):
        await until_over(inspector, await ordered(inspector, [number]))
        await until_over(inspector, await ordered(inspector, [number], force=True))
    first, second = (await inspector.records.whole(number)).history
    await archive.keep([letter_of(message, replay=first.id)])
    await Outcomes(database).answered({second.id: True})
    assert [each.state for each in await inspector.records.listed(Filter(state=None))] == ["did_it"]


@pytest.mark.parametrize("act", ["answered", "superseded"])
async def test_whoever_changes_several_replays_locks_them_in_the_order_of_their_ids(
    archive: Archive,
    inspector: Inspector,
    database: Database,
    publisher: Publisher,
    sql: asyncpg.Connection,
    act: str,
) -> None:
    """Or two who change the same ones at once would deadlock."""
    ids = await dead(archive, inspector, *(view() for _ in range(200)))
    async with replaying(database, publisher):
        await until_over(inspector, await ordered(inspector, ids))
    verdicts = await inspector.replays.verdicts(ids)
    first, *others = sorted(row["id"] for row in await sql.fetch("SELECT id FROM replays"))
    await sql.execute("ANALYZE replays")
    lock = text("SELECT id FROM replays WHERE id = ANY(:ids) FOR UPDATE NOWAIT")
    async with database.transaction() as connection:
        await connection.execute(lock, {"ids": [first]})
        changing: asyncio.Task[object] = asyncio.create_task(
            Outcomes(database).answered(dict.fromkeys([*reversed(others), first], True))
            if act == "answered"
            else inspector.replays.start(verdicts, force=True, **ORDERED)
        )
        waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'transactionid' AND datname = current_database()"
        await until_sql(sql, waits, True)
        await connection.execute(lock, {"ids": others})
    await changing


async def test_runs_of_different_queues_do_not_wait_for_each_other(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher, queues: Queues
) -> None:
    slow = await ordered(inspector, await dead(archive, inspector, *(view() for _ in range(60))), rate=1)
    quick = await ordered(inspector, await dead(archive, inspector, GenerateHoroscope(Sign.LEO, TODAY)))
    async with replaying(database, publisher):
        await until_over(inspector, quick)
        assert (await inspector.replays.run(slow.id)).planned > 30


async def test_a_look_for_runs_that_fails_is_not_the_last(
    archive: Archive,
    inspector: Inspector,
    database: Database,
    publisher: Publisher,
    queues: Queues,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.dead_letters.replayer.LOOK_S", 0.05)
    take_over, looks = Replayer._take_over, 0

    async def take_over_the_second_time(self: Replayer) -> Any:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise RuntimeError("what nobody foresaw")
        return await take_over(self)

    monkeypatch.setattr(Replayer, "_take_over", take_over_the_second_time)
    run = await ordered(inspector, await dead(archive, inspector, view()))
    async with replaying(database, publisher):
        await until_over(inspector, run)
        await queues.filled(VIEWS)


async def test_a_run_that_its_process_lets_go_of_is_free_at_once(
    archive: Archive,
    inspector: Inspector,
    database: Database,
    publisher: Publisher,
    queues: Queues,
    sql: asyncpg.Connection,
) -> None:
    await ordered(inspector, await dead(archive, inspector, *(view() for _ in range(60))), rate=1)
    async with replaying(database, publisher):
        await queues.filled(VIEWS)
    assert await sql.fetchval("SELECT expires_at <= now() FROM replay_runs")


async def test_what_another_run_has_taken_meanwhile_is_not_resumed(
    archive: Archive, inspector: Inspector, database: Database, publisher: Publisher
) -> None:
    first, second = await dead(archive, inspector, view(), view())
    run = await ordered(inspector, [first, second])
    await inspector.replays.cancel(run.id, by="Anna")
    async with replaying(database, publisher):
        await until_over(inspector, run)
        other = await ordered(inspector, [first], rate=1)
        await until_over(inspector, other)
    await Outcomes(database).answered({(await inspector.records.whole(first)).history[-1].id: True})
    resumed = await inspector.replays.resume(run.id, by="Anna")
    assert (resumed.planned, resumed.cancelled) == (1, 1)
