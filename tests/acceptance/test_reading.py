"""A reader's way through the running service."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from ops.sandbox import Sandbox
from ops.sandbox.telegram.world import Reader
from schema.signs import Sign
from tests.acceptance.conftest import (
    AGAIN,
    FAILED,
    GENERATING,
    heading,
    reader_of,
    until_written,
    write_all_but,
)
from tests.dead import Dead
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import until_sql, until_views


async def until_last(reader: Reader, part: str) -> None:
    """Wait until the last message of a chat contains these words."""
    await reader.wait_for(lambda messages: part in messages[-1].text)


async def test_a_reader_picks_a_sign_and_is_shown_todays_text_at_once(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.workers()
    await until_written(sql)
    await processes.bot()
    reader = sandbox.telegram.reader(7, name="Аня", language="ru")

    await reader.say("/start")
    await reader.wait_for(lambda messages: "Кто вы по знаку" in messages[-1].text)
    await reader.press("sign:leo")
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    calls = len(sandbox.model.calls)
    await reader.say("/today")
    await reader.wait_for(lambda messages: len([m for m in messages if heading("Лев") in m.text]) == 2)

    text = await sql.fetchval(
        "SELECT content FROM horoscope_cache WHERE zodiac_sign = 'leo' AND horoscope_date = $1",
        datetime.now(ZoneInfo("Europe/Moscow")).date(),
    )
    assert reader.last.text.endswith(text)
    assert len(reader.last.versions) == 1, "a text that exists is sent in one message"
    assert len(sandbox.model.calls) == calls, "a text that exists costs no call"
    await until_views(sql, 2)


async def test_a_missing_text_is_answered_in_the_progress_message(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    sandbox.model.latency = 0.5
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: messages[-1].text == GENERATING)
    await processes.workers()
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)

    assert [version.text for version in reader.last.versions] == [GENERATING, reader.last.text]
    assert len(reader.received) == 1
    await until_views(sql, 1)
    await queues.drained("requests", "delivery", "views")


async def test_two_hundred_readers_at_once_cost_one_call_and_get_one_answer_each(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    today = datetime.now(ZoneInfo("Europe/Moscow")).date()
    await write_all_but(sql, Sign.LEO, today)
    # No worker looks for missing texts: only the readers have theirs written.
    await processes.workers(2, queues=("views", "requests", "delivery"))
    sandbox.model.latency = 1.0
    readers = [await reader_of(sql, sandbox, 1000 + number, Sign.LEO) for number in range(200)]
    await processes.bot()
    for reader in readers:
        await reader.say("/today")
    for reader in readers:
        await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)

    assert len(sandbox.model.calls) == 1
    assert all(len(reader.received) == 1 for reader in readers)
    assert all(len(reader.last.versions) <= 2 for reader in readers)
    await until_views(sql, 200)
    await queues.drained("requests", "delivery", "views")
    assert await sql.fetchval("SELECT count(*) FROM waiters WHERE answered_at IS NULL") == 0
    assert await dead.count() == 0


async def test_a_model_that_fails_to_the_end_of_the_ladder_is_told_with_a_button_that_works_later(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, dead: Dead
) -> None:
    await processes.workers()
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    calls = len(sandbox.model.calls_for("leo"))
    fault = sandbox.model.faults.add("500", sign="leo")
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: FAILED in messages[-1].text)

    assert len(sandbox.model.calls_for("leo")) == calls + 4, "one first try and three retries"
    assert reader.last.versions[0].text == GENERATING
    letter = await dead.next()
    assert letter.cause == "ladder exhausted"
    assert len(letter.attempts) == 4
    assert letter.traceback
    assert "ModelUnavailable" in letter.traceback
    assert await sql.fetchval("SELECT count(*) FROM horoscope_views") == 0

    sandbox.model.faults.remove(fault.id)
    await reader.press(AGAIN)
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert len(reader.received) == 1, "the answer takes the error's place"
    await until_views(sql, 1)


async def test_a_reader_changes_sign_and_zone_and_is_shown_the_text_of_their_own_day(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    # At this instant it is the 22nd in Moscow, already the 23rd on Kiritimati, still the 21st on Niue.
    instant = datetime(2026, 11, 22, 10, 30, tzinfo=UTC)
    await processes.workers(clock=instant)
    await until_written(sql)
    await processes.bot(clock=instant)
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Лев") + "22 ноября" in messages[-1].text)

    await reader.say("/timezone")
    await reader.wait_for(lambda messages: "Москва, UTC+3" in messages[-1].text)
    await reader.say("pacific/kiritimati")
    await reader.wait_for(lambda messages: "Готово: Киритимати, UTC+14" in messages[-1].text)
    await reader.press("today")
    await reader.wait_for(lambda messages: heading("Лев") + "23 ноября" in messages[-1].text)

    await reader.say("/sign")
    await reader.wait_for(lambda messages: "Выберите знак" in messages[-1].text)
    await reader.press("sign:virgo")
    await reader.wait_for(lambda messages: heading("Дева") + "23 ноября" in messages[-1].text)

    await reader.say("/timezone Pacific/Niue")
    await reader.wait_for(lambda messages: "Готово: Ниуэ, UTC-11" in messages[-1].text)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Дева") + "21 ноября" in messages[-1].text)
    assert reader.last.versions[0].text == GENERATING, "that day was missing"
    await until_views(sql, 4)
    days = await sql.fetch("SELECT view_date::text, view_count FROM horoscope_views ORDER BY 1, 2")
    assert [tuple(row) for row in days] == [
        ("2026-11-21", 1), ("2026-11-22", 1), ("2026-11-23", 1), ("2026-11-23", 1),
    ]  # fmt: skip


async def test_a_zone_that_does_not_exist_is_refused_kindly_with_suggestions(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/timezone Asia/Tokio")
    await reader.wait_for(
        lambda messages: "Не знаю города или часового пояса «Asia/Tokio»" in messages[-1].text
    )
    await reader.press("zone:Asia/Tokyo")
    await reader.wait_for(lambda messages: "Готово: Токио, UTC+9" in messages[-1].text)
    await reader.say("/timezone Mars/Crater")
    await reader.wait_for(lambda messages: "Mars/Crater" in messages[-1].text)
    assert await sql.fetchval("SELECT time_zone FROM readers") == "Asia/Tokyo"


async def test_a_sign_that_a_reader_types_is_chosen_in_either_language(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot()
    for number, typed in enumerate(["Лев", "лев", "leo", "Leo", "♌", "/sign leo", "/sign Лев"], 7):
        reader = sandbox.telegram.reader(number, language="en")
        await reader.say(typed)
        await until_last(reader, "Writing your horoscope…")
        query = "SELECT zodiac_sign FROM readers WHERE telegram_id = $1"
        assert await sql.fetchval(query, reader.id) == "leo", typed


async def test_a_mistyped_sign_is_asked_about(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    for typed in ("Козирог", "/sign Козирог", "Мой знак - козерог"):
        await reader.say(typed)
        await until_last(reader, "Вы имели в виду этот знак?")
        assert reader.last.buttons == ["♑️ Козерог"]
        await reader.say("/help")
        await until_last(reader, "Я пишу гороскоп")
    assert await sql.fetchval("SELECT zodiac_sign FROM readers") == "leo"
    await reader.say("/sign Дракон")
    await until_last(reader, "Не знаю знака «Дракон»")
    assert len(reader.last.buttons) == 12
    await reader.say("Козирог")
    await until_last(reader, "Вы имели в виду этот знак?")
    await reader.press("♑️ Козерог")
    await until_last(reader, GENERATING)
    assert await sql.fetchval("SELECT zodiac_sign FROM readers") == "capricorn"


async def test_a_city_that_is_typed_before_the_bot_has_asked_sets_nothing(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot(clock=datetime(2026, 11, 27, 12, tzinfo=UTC))
    reader = sandbox.telegram.reader(7)
    await reader.say("Привет")
    await until_last(reader, "Я понимаю")
    await reader.say("Москва")
    await until_last(reader, "Это ваш часовой пояс?")
    assert reader.last.text.startswith("Москва, UTC+3, сейчас там 15:00.")
    assert await sql.fetchval("SELECT count(*) FROM readers") == 0
    await reader.press("Москва, UTC+3")
    await until_last(reader, "Готово: Москва, UTC+3, сейчас 15:00.")
    assert await sql.fetchval("SELECT time_zone FROM readers") == "Europe/Moscow"


async def test_the_bot_asks_for_a_city_and_understands_it(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await processes.bot(clock=datetime(2026, 11, 27, 12, tzinfo=UTC))
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    for typed, zone, said in (
        ("Берлин", "Europe/Berlin", "Берлин, UTC+1"),
        ("New York", "America/New_York", "Нью-Йорк, UTC-5"),
        ("UTC+3", "Etc/GMT-3", "UTC+3"),
    ):
        await reader.say("/timezone")
        await until_last(reader, "выберите город")
        assert {"Москва, UTC+3", "Лондон, UTC+0"} <= set(reader.last.buttons)
        await reader.say(typed)
        await until_last(reader, f"Готово: {said},")
        assert await sql.fetchval("SELECT time_zone FROM readers") == zone
    await reader.say("/timezone Берлн")
    await until_last(reader, "Может быть, один из этих?")
    assert reader.last.buttons[0] == "Берлин, UTC+1"


async def test_the_interface_speaks_english_to_english_readers(
    sandbox: Sandbox, processes: Processes
) -> None:
    await processes.bot()
    reader = sandbox.telegram.reader(8, name="Ann", language="en-GB")
    await reader.say("/start")
    await reader.wait_for(lambda messages: "Which one is yours?" in messages[-1].text)
    await reader.say("what is this")
    await reader.wait_for(lambda messages: "I understand these" in messages[-1].text)
    await reader.say("/help")
    await reader.wait_for(lambda messages: "the time zone in which your day begins" in messages[-1].text)


async def test_a_repeated_update_is_the_same_request(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    await processes.workers()
    await until_written(sql)
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    sandbox.model.latency = 0.5
    bot = await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    update = await reader.say("/today")
    await reader.wait_for(lambda messages: messages[-1].text == GENERATING)
    await sandbox.telegram.repeat(update)
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    # A poll with a higher offset confirms an update, so it comes again to a bot that starts anew.
    await bot.stop()
    await sandbox.telegram.repeat(update)
    bot = await processes.bot()
    await sandbox.telegram.wait_until_delivered()
    await until_views(sql, 1)
    await bot.stop()
    await queues.drained("requests", "delivery", "views")

    assert len(reader.received) == 1
    await until_sql(sql, "SELECT sum(view_count)::int FROM horoscope_views", 1)


@pytest.mark.parametrize("kind", ["empty", "short", "too_long", "html", "english", "refusal"])
async def test_a_bad_text_is_never_shown(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, kind: str
) -> None:
    sandbox.model.faults.add(kind, sign="leo", times=1)
    await processes.workers()
    await processes.bot()
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)

    bad = next(call for call in sandbox.model.calls_for("leo") if call.outcome == kind)
    assert all(bad.text not in version.text for version in reader.last.versions if bad.text)
    good = await sql.fetchval(
        "SELECT content FROM horoscope_cache WHERE zodiac_sign = 'leo' ORDER BY horoscope_date LIMIT 1"
    )
    assert reader.last.text.endswith(good)
