"""What the service does by itself: the night, the reconcile tick, a restart."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from ops.sandbox import Sandbox
from schema.messages import GenerateDay, GenerateHoroscope, MidnightTick, ReconcileTick
from schema.signs import Sign
from services.days import next_night
from tests.acceptance.conftest import heading, reader_of, until_written
from tests.dead import Dead
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import DEADLINE_S, until_sql

TODAY = date(2026, 11, 22)
TOMORROW = date(2026, 11, 23)
#: 00:00 in Moscow.
MIDNIGHT = datetime(2026, 11, 21, 21, tzinfo=UTC)

WRITTEN = "SELECT count(*) FROM horoscope_cache WHERE horoscope_date = $1"


async def put_text(sql: asyncpg.Connection, sign: str, day: date) -> None:
    await sql.execute(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ($1, $2, $3)",
        sign,
        day,
        f"{sign} {day}",
    )


async def test_at_midnight_old_texts_go_and_missing_ones_are_written_one_at_a_time(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    for day in (date(2026, 11, 18), date(2026, 11, 19), date(2026, 11, 20), date(2026, 11, 21), TODAY):
        await put_text(sql, "aries", day)
    sandbox.model.latency = 0.05
    await processes.workers(3, clock=MIDNIGHT)
    queues.publish(MidnightTick())
    queues.publish(MidnightTick())  # a second scheduler

    await until_sql(sql, WRITTEN, 12, TODAY)
    await until_sql(sql, WRITTEN, 12, TOMORROW)
    await queues.drained("ticks", "generation", "delivery")
    # A night with nothing to write deletes all the same.
    await put_text(sql, "pisces", date(2026, 11, 20))
    queues.publish(MidnightTick())
    await until_sql(sql, WRITTEN, 0, date(2026, 11, 20))
    days = await sql.fetch("SELECT DISTINCT horoscope_date FROM horoscope_cache ORDER BY 1")
    # At 21:00 UTC on the 21st somebody at UTC-12 still lives in the 21st, and nobody in the 20th.
    assert [row[0] for row in days] == [date(2026, 11, 21), TODAY, TOMORROW]
    assert (
        await sql.fetchval(
            "SELECT content FROM horoscope_cache WHERE horoscope_date = $1 AND zodiac_sign = 'aries'", TODAY
        )
        == f"aries {TODAY}"
    )
    assert len(sandbox.model.calls) == 23, "only what was missing"
    assert sandbox.model.max_in_flight == 1
    order = [(call.day, call.sign) for call in sandbox.model.calls]
    assert order == [(TODAY.isoformat(), sign.value) for sign in list(Sign)[1:]] + [
        (TOMORROW.isoformat(), sign.value) for sign in Sign
    ]


async def test_a_failing_sign_does_not_hold_up_the_others_and_ends_in_the_dead_letters(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, dead: Dead
) -> None:
    sandbox.model.faults.add("500", sign="taurus", day=TODAY.isoformat())
    await processes.workers(2, {"NIGHT_RETRIES": "2,2,2"}, clock=MIDNIGHT)
    await until_sql(sql, WRITTEN, 11, TODAY)
    await until_sql(sql, WRITTEN, 12, TOMORROW)
    assert len(sandbox.model.calls_for("taurus", TODAY.isoformat())) == 1, "the others did not wait for it"

    letter = await dead.next()
    assert letter.arguments == {"sign": "taurus", "day": TODAY.isoformat()}
    assert letter.cause == "ladder exhausted"
    assert len(sandbox.model.calls_for("taurus", TODAY.isoformat())) == 4
    starts = [call.started for call in sandbox.model.calls_for("taurus", TODAY.isoformat())]
    assert all(later - earlier >= 2 for earlier, later in pairwise(starts))
    state = "SELECT state FROM generations WHERE zodiac_sign = 'taurus' AND horoscope_date = $1"
    assert await sql.fetchval(state, TODAY) == "given_up"
    assert sandbox.model.max_in_flight == 1


async def test_what_a_ladder_deals_with_is_left_to_it(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    sandbox.model.faults.add("500", sign="taurus", day=TODAY.isoformat())
    await processes.workers(1, {"NIGHT_RETRIES": "600"}, clock=MIDNIGHT)
    await until_sql(sql, WRITTEN, 11, TODAY)
    await until_sql(sql, WRITTEN, 12, TOMORROW)
    for _ in range(3):
        queues.publish(ReconcileTick())
    await queues.drained("ticks", "generation")
    queues.publish(ReconcileTick())
    await queues.drained("ticks", "generation")
    assert len(sandbox.model.calls_for("taurus", TODAY.isoformat())) == 1
    assert queues.count("generation.retry.600s") == 1

    # A person's order is a new one.
    queues.publish(GenerateDay(TODAY, anew=True))
    await sandbox.model.wait_for_calls(25)


async def test_a_restart_with_a_warm_cache_makes_no_call_to_the_model(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    (worker,) = await processes.workers()
    await until_written(sql)
    await queues.drained("ticks", "generation", "delivery")
    assert await worker.stop() == 0
    calls = len(sandbox.model.calls)
    assert calls == 24

    (worker,) = await processes.workers()
    queues.publish(MidnightTick())
    await queues.drained("ticks", "generation", "delivery")
    assert await worker.stop() == 0
    assert len(sandbox.model.calls) == calls


async def test_the_scheduler_ticks_as_it_starts_and_the_command_line_orders_by_hand(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    scheduler = await processes.start("scheduler")
    await scheduler.said("scheduler.ready")
    assert queues.count("ticks") >= 1  # one more if it starts on a fifth minute
    assert await scheduler.stop() == 0

    soon, later = (datetime.now(UTC).date() + timedelta(days=days) for days in (5, 6))
    code, said = await processes.run("generate", "--day", f"{soon}", "--sign", "leo")
    assert (code, f"{soon}" in said) == (0, True)
    code, _ = await processes.run("generate", "--day", f"{later}")
    assert code == 0
    await processes.workers()
    await until_sql(sql, WRITTEN, 1, soon)
    await until_sql(sql, WRITTEN, 12, later)


def ordered(sandbox: Sandbox) -> list[tuple[str | None, str | None]]:
    """What the model was asked for, in order."""
    return [(call.day, call.sign) for call in sandbox.model.calls]


def whole(*days: date) -> list[tuple[str, str]]:
    """All signs of these days, in the order of a night."""
    return [(day.isoformat(), sign.value) for day in days for sign in Sign]


async def test_of_two_schedulers_whose_midnights_coincide_one_night_comes(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    eve = MIDNIGHT - timedelta(seconds=5)
    for sign in Sign:
        await put_text(sql, sign, TODAY - timedelta(days=1))
        await put_text(sql, sign, TODAY)
    schedulers = [await processes.start("scheduler", clock=eve) for _ in range(2)]
    await processes.workers(2, clock=MIDNIGHT)
    await until_sql(sql, WRITTEN, 12, TOMORROW)
    for scheduler in schedulers:
        await scheduler.said("tick=ticks.MidnightTick")
    await processes.stop("scheduler")
    await queues.drained("ticks", "generation", "delivery")
    await processes.stop("worker")
    assert ordered(sandbox) == whole(TOMORROW)
    assert sandbox.model.max_in_flight == 1


async def test_without_a_scheduler_a_worker_that_starts_makes_up_for_the_night_and_a_late_tick_finds_it_done(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    """Everything was down from the evening before until seven in the morning."""
    morning = MIDNIGHT + timedelta(hours=7)
    for day in (TODAY - timedelta(days=1), TODAY):
        for sign in Sign:
            await put_text(sql, sign, day)
    await processes.workers(2, clock=morning)
    await until_sql(sql, WRITTEN, 12, TOMORROW)
    # One scheduler comes back at three minutes past a full hour; its midnight and two reconcile ticks come late.
    scheduler = await processes.start("scheduler", clock=morning + timedelta(minutes=3))
    await scheduler.said("scheduler.ready")
    for tick in (MidnightTick(), ReconcileTick(), ReconcileTick()):
        queues.publish(tick)
    await until_sql(sql, "SELECT count(*) FROM ticks WHERE name = 'midnight'", 1)
    await processes.stop("scheduler")
    await queues.drained("ticks", "generation", "delivery")
    await processes.stop("worker")
    assert ordered(sandbox) == whole(TOMORROW)


@pytest.mark.parametrize(
    ("home", "day"),
    [
        ("Europe/Berlin", date(2026, 3, 29)),
        ("Europe/Berlin", date(2026, 10, 25)),
        ("Africa/Cairo", date(2026, 4, 24)),  # its midnight does not exist
    ],
)
async def test_a_night_in_which_clocks_are_changed_is_a_night_like_any_other(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, home: str, day: date
) -> None:
    """The service runs from the evening of the change to the evening after."""
    zone = ZoneInfo(home)
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone).astimezone(UTC)
    days = [day + timedelta(days=ahead) for ahead in (-1, 0, 1, 2)]
    at_home = {"HOME_TIMEZONE": home}
    # In the evening; at the first instant of the next day, with a tick; and so once more.
    begins = next_night(noon - timedelta(hours=24), zone)
    ends = next_night(noon, zone)
    for instant, written in (
        (begins - timedelta(minutes=10), days[:2]),
        (begins, days[:3]),
        (ends - timedelta(minutes=10), days[:3]),
        (ends, days),
    ):
        (worker,) = await processes.workers(1, at_home, clock=instant)
        queues.publish(MidnightTick())
        await until_sql(sql, "SELECT max(horoscope_date) FROM horoscope_cache", written[-1])
        await until_sql(sql, WRITTEN, 12, written[-1])
        await queues.drained("ticks", "generation", "delivery")
        assert await worker.stop() == 0
    assert sorted(ordered(sandbox)) == sorted(whole(*days)), "nothing missed, nothing twice"


async def test_a_changed_home_zone_costs_no_text_and_no_call(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    # It is the 22nd in Moscow, already the 23rd on Kiritimati, still the 21st on Niue.
    instant = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
    for home, missing in (
        ("Europe/Moscow", [TODAY, TOMORROW]),
        ("Pacific/Kiritimati", [TOMORROW + timedelta(days=1)]),
        ("Pacific/Niue", [TODAY - timedelta(days=1)]),
        ("Europe/Moscow", []),
    ):
        before = len(sandbox.model.calls)
        (worker,) = await processes.workers(1, {"HOME_TIMEZONE": home}, clock=instant)
        queues.publish(MidnightTick())
        for day in missing:
            await until_sql(sql, WRITTEN, 12, day)
        await queues.drained("ticks", "generation", "delivery")
        assert await worker.stop() == 0
        assert ordered(sandbox)[before:] == whole(*missing), home


async def test_in_a_night_with_a_failing_sign_and_a_worker_killed_eleven_texts_come_at_once_and_one_by_its_ladder(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, dead: Dead
) -> None:
    trouble = sandbox.model.faults.add("500", sign="taurus", day=TODAY.isoformat())
    for sign in Sign:
        await put_text(sql, sign, TOMORROW)
    retries = {"NIGHT_RETRIES": "4,4,4"}
    death = processes.death("after", "services.horoscopes.model:Author.write", "virgo")
    await processes.workers(2, retries, death=death, clock=MIDNIGHT)
    await until_sql(sql, WRITTEN, 11, TODAY)
    assert death.happened
    assert len(sandbox.model.calls_for("taurus")) == 1, "nobody waited for it"
    assert len(sandbox.model.calls_for("virgo")) == 2, "the killed worker's, and the other's"
    assert len(sandbox.model.calls) == 13
    await sandbox.model.wait_for_calls(2, "taurus")
    sandbox.model.faults.remove(trouble.id)
    await until_sql(sql, WRITTEN, 12, TODAY)
    starts = [call.started for call in sandbox.model.calls_for("taurus")]
    assert len(starts) == 3
    assert all(later - earlier >= 4 for earlier, later in pairwise(starts))
    assert sandbox.model.max_in_flight == 1
    await processes.stop("worker")
    assert await dead.count() == 0


async def test_the_nights_order_waits_for_a_text_that_is_being_written_for_a_reader(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    """However long that takes: it is no try of its own, and no dead letter."""
    await processes.bot()
    (worker,) = await processes.workers(1, {"NIGHT_RETRIES": "1"})
    await until_written(sql)
    day = await sql.fetchval("SELECT min(horoscope_date) FROM horoscope_cache")
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo' AND horoscope_date = $1", day)
    hang = sandbox.model.faults.add("hang", sign="leo")
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await until_sql(sql, "SELECT count(*) FROM generations WHERE state = 'writing'", 1)
    queues.publish(GenerateHoroscope(Sign.LEO, day))
    async with asyncio.timeout(DEADLINE_S):
        while sum("message.waits" in line for line in worker.lines) < 3:
            await asyncio.sleep(0.05)
    sandbox.model.faults.remove(hang.id)
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    await queues.drained("generation", "generation.retry.1s")
    assert await dead.count() == 0
    assert len(sandbox.model.calls_for("leo", f"{day}")) <= 3
