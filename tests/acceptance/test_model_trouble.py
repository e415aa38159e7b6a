"""A model that is away, refuses, or asks for patience: what readers and operators see."""

import json
from datetime import date
from itertools import pairwise

import asyncpg

from ops.sandbox import Sandbox
from schema.errors import ModelUnavailable
from schema.messages import ReconcileTick
from schema.signs import Sign
from services.app import App
from services.horoscopes.outages import KNOWN_AFTER
from tests.acceptance.conftest import FAILED, GENERATING, heading, reader_of, until_written
from tests.dead import Dead
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import until_sql, until_views

GIVEN_UP = "SELECT count(*) FROM generations WHERE state = 'given_up' AND error LIKE '%401%'"


async def test_a_wrong_key_makes_one_dead_letter_and_the_right_one_makes_up_for_the_night(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    wrong = sandbox.model.faults.add("401")
    (worker,) = await processes.workers()
    await until_sql(sql, GIVEN_UP, 24)
    await queues.drained("generation")
    letter = await dead.next()
    assert letter.cause == "permanent"
    assert "OPENAI_API_KEY" in letter.error
    assert await dead.count() == 1, "one is enough to say so"
    code, said = await processes.run("status")
    assert code == 1
    assert "the model refuses every request" in said

    # A reader is told at once.
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: FAILED in messages[-1].text)
    assert await dead.count() == 1

    assert await worker.stop() == 0
    sandbox.model.faults.remove(wrong.id)
    await processes.workers(1, {"OPENAI_API_KEY": "sk-another-key"})
    await until_written(sql)
    code, said = await processes.run("status", "--json")
    # This test has not started one, and nobody has seen to the letter yet.
    assert json.loads(said)["alarms"] == ["no scheduler runs", "1 dead letter needs a decision"]


async def test_while_the_model_is_down_a_new_reader_is_told_and_the_first_goes_on_waiting(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    await processes.bot({"REQUEST_RETRIES": "1,1,20"})
    (worker,) = await processes.workers(1, {"REQUEST_RETRIES": "1,1,20"})
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign IN ('leo', 'virgo')")
    down = sandbox.model.faults.add("503")
    before = len(sandbox.model.calls)
    first = await reader_of(sql, sandbox, 7, Sign.LEO)
    await first.say("/today")
    await until_sql(sql, f"SELECT count(*) FROM model_outages WHERE failures = {KNOWN_AFTER}", 1)

    # One asks for the same text, whose ladder waits twenty seconds; the other for one that nobody has tried yet.
    second = await reader_of(sql, sandbox, 8, Sign.LEO)
    third = await reader_of(sql, sandbox, 9, Sign.VIRGO)
    for reader in (second, third):
        await reader.say("/today")
    for reader in (second, third):
        await reader.wait_for(lambda messages: FAILED in messages[-1].text)
    assert first.last.text == GENERATING
    assert len(sandbox.model.calls_for("leo")) > 0
    assert len(sandbox.model.calls) == before + 4

    sandbox.model.faults.remove(down.id)
    await first.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    await until_sql(sql, "SELECT count(*) FROM model_outages", 0)
    await second.press("again")
    await second.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert len(second.received) == 1
    await until_views(sql, 2)
    assert await worker.stop() == 0


async def test_a_model_that_hangs_and_is_known_to_is_not_waited_for(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, app: App
) -> None:
    await processes.bot()
    await processes.workers()
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    for _ in range(KNOWN_AFTER):
        await app.outages.failed(ModelUnavailable("it hangs"), "it hangs")
    hang = sandbox.model.faults.add("hang", sign="leo")
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: FAILED in messages[-1].text)
    assert sandbox.model.in_flight == 1, "the call goes on behind"
    # What it brings is for whoever asks again.
    sandbox.model.faults.remove(hang.id)
    await until_sql(sql, "SELECT count(*) FROM horoscope_cache WHERE zodiac_sign = 'leo'", 1)
    await reader.press("again")
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    await until_views(sql, 1)


async def test_a_longer_pause_than_the_ladders_is_kept(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    await processes.bot()
    await processes.workers()
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign IN ('leo', 'virgo')")
    before = len(sandbox.model.calls_for("leo"))
    sandbox.model.faults.add("429", sign="leo", times=1, retry_after=3)
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    first, second = [call.started for call in sandbox.model.calls_for("leo")[before:]]
    assert second - first >= 3
    assert [version.text for version in reader.last.versions] == [GENERATING, reader.last.text]

    # Nobody is left to wait for a try that is minutes away.
    sandbox.model.faults.add("429", sign="virgo", times=1, retry_after=90)
    other = await reader_of(sql, sandbox, 8, Sign.VIRGO)
    await other.say("/today")
    await other.wait_for(lambda messages: FAILED in messages[-1].text)
    await queues.filled("requests.pause.90s")
    state = await sql.fetchrow(
        "SELECT state, retry_at > now() + interval '80 seconds' AS far FROM generations"
        " WHERE zodiac_sign = 'virgo' AND state = 'retrying'"
    )
    assert state
    assert state["far"]


async def test_the_ladders_delays_are_exact(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, dead: Dead
) -> None:
    await processes.workers(1, {"NIGHT_RETRIES": "1,2,3"})
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    today: date = await sql.fetchval("SELECT min(horoscope_date) FROM horoscope_cache")
    sandbox.model.faults.add("500", sign="leo", day=today.isoformat())
    before = len(sandbox.model.calls_for("leo", today.isoformat()))
    code, _ = await processes.run("generate", "--day", today.isoformat(), "--sign", "leo")
    assert code == 0
    await dead.next()
    starts = [call.started for call in sandbox.model.calls_for("leo", today.isoformat())[before:]]
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert [int(pause) for pause in pauses] == [1, 2, 3]


async def test_a_text_gone_wrong_is_replaced_when_a_person_says_so(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    await processes.workers()
    await until_written(sql)
    await sql.execute("UPDATE horoscope_cache SET content = 'gone wrong' WHERE zodiac_sign = 'leo'")
    calls = len(sandbox.model.calls)
    today: date = await sql.fetchval("SELECT min(horoscope_date) FROM horoscope_cache")
    here = ("--day", today.isoformat(), "--sign", "leo")

    code, said = await processes.run("generate", *here)
    assert code == 0
    code, said = await processes.run("generate", *here, "--again")  # nobody is there to say yes
    assert code == 1
    assert "that readers may have read? There is no terminal to ask on" in said
    await queues.drained("generation")
    assert len(sandbox.model.calls) == calls, "a text that exists stays as it is"

    code, said = await processes.run("generate", *here, "--again", "--yes")
    assert code == 0
    await until_sql(
        sql,
        "SELECT count(*) FROM horoscope_cache WHERE zodiac_sign = 'leo' AND content = 'gone wrong'",
        1,  # tomorrow's
    )
    assert len(sandbox.model.calls) == calls + 1
    await queues.drained("generation", "delivery")
    assert await dead.count() == 0


async def test_a_reader_who_waits_sees_that_somebody_is_typing(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot()
    await processes.workers()
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    hang = sandbox.model.faults.add("hang", sign="leo")
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    calls = await sandbox.telegram.wait_for_calls("sendChatAction", 2, chat_id=7)
    assert reader.last.text == GENERATING
    sandbox.model.faults.remove(hang.id)
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert len(calls) >= 2
    assert len(reader.received) == 1


async def test_a_button_that_is_pressed_twice_is_answered_once(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot()
    (worker,) = await processes.workers()
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    broken = sandbox.model.faults.add("400", sign="leo")
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: FAILED in messages[-1].text)
    sandbox.model.faults.remove(broken.id)
    assert await worker.stop() == 0

    presses = [await reader.press("again") for _ in range(3)]
    for press in presses:
        await sandbox.telegram.wait_until_delivered(press)
    await processes.workers()
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert len(reader.received) == 1
    assert [version.text[:8] for version in reader.last.versions][1:-1] == [FAILED[:8], GENERATING[:8]]
    await until_views(sql, 1)
    assert await sql.fetchval("SELECT count(*) FROM waiters") == 2


async def test_a_rejected_text_costs_one_repair_call_and_then_the_ladder(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    await processes.workers(1, {"TOKEN_PRICES": "1000,2000"})
    await until_written(sql)
    today: date = await sql.fetchval("SELECT min(horoscope_date) FROM horoscope_cache")
    await sql.execute("DELETE FROM horoscope_cache WHERE horoscope_date = $1 AND zodiac_sign = 'leo'", today)
    here = ("leo", today.isoformat())
    before = len(sandbox.model.calls_for(*here))
    tokens = "SELECT prompt_tokens + completion_tokens FROM generations WHERE calls = $1"
    once: int = await sql.fetchval(tokens, 1)

    sandbox.model.faults.add("alike", sign="leo", times=1)
    order = ("generate", "--day", today.isoformat(), "--sign", "leo")
    assert (await processes.run(*order))[0] == 0
    await until_sql(sql, "SELECT count(*) FROM horoscope_cache", 24)
    assert [call.repair for call in sandbox.model.calls_for(*here)[before:]] == [False, True]
    assert await sql.fetchval(tokens, 3) > 2 * once, "rejected texts cost, too"
    spent = await sql.fetchrow("SELECT sum(calls) AS calls, sum(cost_usd) AS cost FROM model_usage")
    assert spent
    assert spent["calls"] == 26
    assert spent["cost"] == await sql.fetchval("SELECT sum(cost_usd) FROM generations") > 0

    # Rejected twice over: the next rung of the ladder.
    await sql.execute("DELETE FROM horoscope_cache WHERE horoscope_date = $1 AND zodiac_sign = 'leo'", today)
    sandbox.model.faults.add("english", sign="leo", times=2)
    assert (await processes.run(*order))[0] == 0
    await until_sql(sql, "SELECT count(*) FROM horoscope_cache", 24)
    calls = sandbox.model.calls_for(*here)[before + 2 :]
    assert [call.repair for call in calls] == [False, True, False]
    assert await sql.fetchval("SELECT attempts FROM generations WHERE calls = 6") == 4
    await queues.drained("generation", "delivery")
    assert await dead.count() == 0


async def test_the_daily_limit_stops_the_night_but_no_reader(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    limit = {"DAILY_TOKEN_LIMIT": "1000"}
    await processes.bot()
    await processes.workers(1, limit)
    await until_sql(sql, "SELECT did LIKE 'ordered 24%' FROM ticks WHERE name = 'reconcile'", True)
    await queues.drained("generation")
    written = await sql.fetchval("SELECT count(*) FROM horoscope_cache")
    assert 0 < written < 12

    code, said = await processes.run("status", environment=limit)
    assert code == 1
    assert "no texts are written ahead: the daily limit of 1000 tokens is reached" in said
    queues.publish(ReconcileTick())
    await until_sql(sql, "SELECT did LIKE 'the daily limit%' FROM ticks WHERE name = 'reconcile'", True)
    await queues.drained("generation")
    assert await sql.fetchval("SELECT count(*) FROM horoscope_cache") == written

    reader = await reader_of(sql, sandbox, 7, Sign.PISCES)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Рыбы") in messages[-1].text)

    # A new day at home: the night goes on.
    await sql.execute("UPDATE model_usage SET spent_on = spent_on - 1")
    await sql.execute("UPDATE generations SET since = since - interval '5 minutes'")
    queues.publish(ReconcileTick())
    await until_sql(sql, "SELECT count(*) > $1 FROM horoscope_cache", True, written + 1)
