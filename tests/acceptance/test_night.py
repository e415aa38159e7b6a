"""What the service does by itself: the night, the reconcile tick, a restart."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import asyncpg

from ops.sandbox import Sandbox
from schema.messages import GenerateDay, MidnightTick, ReconcileTick
from schema.signs import Sign
from tests.acceptance.conftest import until_written
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import until_sql

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
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    sandbox.model.faults.add("500", sign="taurus", day=TODAY.isoformat())
    await processes.workers(2, {"NIGHT_RETRIES": "2,2,2"}, clock=MIDNIGHT)
    await until_sql(sql, WRITTEN, 11, TODAY)
    await until_sql(sql, WRITTEN, 12, TOMORROW)
    assert len(sandbox.model.calls_for("taurus", TODAY.isoformat())) == 1, "the others did not wait for it"

    letter = await queues.dead_letter()
    assert letter.message["kwargs"] == {"sign": "taurus", "day": TODAY.isoformat()}
    assert letter.headers["cause"] == "ladder exhausted"
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
    await sandbox.model.wait_for_calls(25, within=10)


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
