"""A reader's own data: told, taken along and deleted, wherever it is at that moment."""

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import aiohttp
import asyncpg

from ops.sandbox import Sandbox
from ops.sandbox.telegram.world import Reader
from ops.stack.ports import free_port
from schema.errors import ModelUnavailable
from schema.messages import GenerateHoroscope, HoroscopeRequested, MidnightTick
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.readers.privacy import LONGEST, utf16_length
from tests.acceptance.conftest import FAILED, GENERATING, heading, write_all_but
from tests.conftest import WEBHOOK_SECRET
from tests.dead_letters import MASK, TODAY, letter_of
from tests.mentions import rows_naming, until_named
from tests.processes import Processes
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S, until_sql, until_views

READER, OTHER = 7_100_000_007, 7_100_000_008
PARKED = "SELECT count(*) FROM parked_messages"
FORGET, FORGOTTEN, OUTDATED = "Да, удалить всё", "я больше ничего о вас не знаю", "Эта кнопка устарела"
CANCELLED = "Этот запрос отменён: вы попросили всё удалить."
NEWCOMER = "Выберите знак зодиака:"


async def until_last(reader: Reader, part: str) -> None:
    """Wait until the last message of a chat contains these words."""
    await reader.wait_for(lambda messages: part in messages[-1].text)


async def until_waiting(queues: Queues, views: int) -> None:
    """Wait until so many views wait in their queue."""
    async with asyncio.timeout(DEADLINE_S):
        while queues.count("views") != views:
            await asyncio.sleep(0.03)


async def repeated(sandbox: Sandbox, update: int) -> int:
    """The same button of the same message is pressed once more."""
    query = sandbox.telegram.updates.recent[update]["callback_query"]
    return await sandbox.telegram.send_update({"callback_query": {**query, "id": f"{query['id']}1"}})


async def put_mentions(database: Database, sql: asyncpg.Connection, request: UUID) -> None:
    """Records that mention the reader, as an error, a foreign message and a note do; and one of the reader's request."""
    archive = Archive(database, MASK)
    error = ModelUnavailable(
        f"Key (chat_id, replaces)=({READER}, 7) already exists; also {READER}00 and {OTHER}"
    )
    view = HoroscopeRequested(request, Sign.LEO, TODAY, answered=False, at=datetime.now(ZoneInfo("UTC")))
    for letter in (
        letter_of(GenerateHoroscope(Sign.LEO, TODAY), error),
        letter_of(b'\xff\x00{"chat_id": %d}' % READER),
        letter_of(b'"\\u0430%d"\xff%d' % (READER, READER)),
        letter_of(view),
    ):
        await archive.keep([letter])
    await sql.execute(
        "INSERT INTO dead_letter_notes VALUES ('0123456789abcdef', $1, 'ann', now())", f"ask {READER}"
    )


async def come_back(sandbox: Sandbox, reader: Reader, confirmed: int) -> None:
    """A forgotten reader presses again, comes back, and meets the old button and its repeated update."""
    # Pressed twice: the reader is told the same.
    await sandbox.telegram.wait_for_calls("editMessageText", 1, READER)
    edits = len(sandbox.telegram.calls_of("editMessageText", READER))
    await repeated(sandbox, confirmed)
    await sandbox.telegram.wait_for_calls("editMessageText", edits + 1, READER)
    assert FORGOTTEN in reader.last.text

    # Whoever comes back is a newcomer, and the old button and its repeated update do not reach them.
    await reader.say("/today")
    await until_last(reader, NEWCOMER)
    await reader.say("Дева")
    await until_last(reader, heading("Дева"))
    question = next(message for message in reader.received if FORGOTTEN in message.text)
    await repeated(sandbox, confirmed)
    await reader.wait_for(lambda _: OUTDATED in question.text)
    edits = len(sandbox.telegram.calls_of("editMessageText", READER))
    await sandbox.telegram.repeat(confirmed)
    await sandbox.telegram.wait_for_calls("editMessageText", edits + 1, READER)


async def test_a_reader_who_is_forgotten_in_the_middle_of_everything_leaves_no_row_and_the_totals_stay_right(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, database: Database, queues: Queues
) -> None:
    await write_all_but(sql, Sign.LEO, datetime.now(ZoneInfo("Europe/Moscow")).date())
    reader, other = (sandbox.telegram.reader(number, language="ru") for number in (READER, OTHER))
    both = (reader, other)
    async with Cable(processes.environment["RABBITMQ_URL"]) as cable:
        # However slow or fast the machine is, no update goes on record, and none is passed over.
        patient = {"services.bot.runner:HOLD_S": DEADLINE_S, "services.bot.admission:BURST": 100}
        bot = await processes.bot({"RABBITMQ_URL": cable.url}, constants=patient)
        for each in both:  # a view that nobody has counted yet
            await each.say("Дева")
            await until_last(each, heading("Дева"))
        await until_waiting(queues, 2)
        cable.unplug()
        updates = [await each.say("/today") for each in both]  # a view that is parked
        await until_sql(sql, PARKED, 2)
        for each in both:  # a wait, and a request that is parked
            await each.say("Лев")
            await until_last(each, GENERATING)
        await until_sql(sql, PARKED, 4)
        request = await sql.fetchval("SELECT request_id FROM waiters WHERE chat_id = $1", READER)
        await put_mentions(database, sql, request)

        await reader.say("/mydata")
        await reader.wait_for(lambda messages: messages[-1].content)
        taken = reader.file(reader.last)
        await check_taken(sql, taken.data, request)
        assert taken.name == f"horoscope-{READER}.json"

        named = {"readers": 1, "waiters": 1, "dead_letters": 3, "dead_letter_notes": 1}
        await until_named(sql, READER, named)
        before = await rows_naming(sql, OTHER)
        await reader.say("/forget")
        await until_last(reader, "Удалить всё, что я о вас храню")
        confirmed = await reader.press(FORGET)
        await until_last(reader, FORGOTTEN)
        await until_named(sql, READER, {})
        await until_named(sql, OTHER, before)
        cancelled = [message for message in reader.received if GENERATING in message.texts]
        assert [message.text for message in cancelled] == [CANCELLED]
        assert other.last.text == GENERATING

        await come_back(sandbox, reader, confirmed)
        await until_named(sql, READER, {"readers": 1})

        cable.plug()
        await processes.workers(queues=("views", "requests", "delivery"))
        await until_last(other, heading("Лев"))
        await until_views(sql, 6)
        await sandbox.telegram.repeat(updates[0])  # its receipt outlives its reader
        await reader.wait_for(lambda messages: sum(heading("Дева") in each.text for each in messages) == 4)
        await bot.stop()
        await until_sql(sql, PARKED, 0)
    await queues.drained("views", "requests", "delivery")
    await processes.stop("worker")
    await check_totals(processes, sql)
    assert [message.text for message in cancelled] == [CANCELLED]


async def check_totals(processes: Processes, sql: asyncpg.Connection) -> None:
    """Every view is counted, and no record and no log names a reader who was forgotten."""
    await until_views(sql, 6)
    assert await rows_naming(sql, READER) == {"readers": 1}
    assert await sql.fetchval("SELECT sum(readers)::int FROM reader_days") == 3, "a newcomer is somebody new"
    assert [tuple(row) for row in await sql.fetch("SELECT reason, readers FROM forgotten_readers")] == [
        ("asked", 1)
    ]
    for process in processes._started:
        assert not any(str(number) in process.output for number in (READER, OTHER)), process.name


async def check_taken(sql: asyncpg.Connection, content: bytes, request: UUID) -> None:
    """The file holds every column of every row that belongs to the reader, and nothing of others."""
    taken = json.loads(content)
    columns = await sql.fetch("""
        SELECT table_name, array_agg(CAST(column_name AS text)) AS columns FROM information_schema.columns
        WHERE table_schema = 'public' GROUP BY table_name
    """)
    found = 0
    for name, its_columns in columns:
        for row in await sql.fetch(f'SELECT to_jsonb(one) FROM "{name}" AS one'):
            told = json.loads(row[0])
            assert told.keys() == set(its_columns)
            if READER in told.values() or (name == "view_receipts" and told["request_id"] == str(request)):
                found += 1
                assert told in taken["tables"][name]["rows"], name
    assert found == 2
    assert sum(len(table["rows"]) for table in taken["tables"].values()) == found
    assert taken["messages"] == [
        {"kept_in": "dead_letters", "queue": "requests", "request_id": str(request)},
        {"kept_in": "parked_messages", "queue": "requests", "request_id": str(request)},
    ]
    assert taken["mentions"] == {"dead_letters": 3, "dead_letter_notes": 1}
    assert str(OTHER) not in content.decode()


async def test_a_bot_that_dies_once_a_reader_is_forgotten_tells_them_when_it_is_back(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    death = processes.death("after", "services.readers.personal_data:PersonalData.forget")
    bot = await processes.bot(death=death)
    reader = sandbox.telegram.reader(READER, language="ru")
    await reader.say("/timezone Токио")
    await until_last(reader, "Готово: Токио")
    await reader.say("/forget")
    await until_last(reader, "Удалить всё")
    await reader.press(FORGET)
    assert await bot.ended() == -9
    await until_named(sql, READER, {})
    await processes.bot()
    await until_last(reader, FORGOTTEN)
    assert await sql.fetchval("SELECT sum(readers)::int FROM forgotten_readers") == 1
    for command in ("/forget", "/mydata"):
        await reader.say(command)
        await until_last(reader, "Я ничего о вас не храню")


async def test_no_bot_answers_a_forgotten_reader_from_memory(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection
) -> None:
    await write_all_but(sql, Sign.LEO, datetime.now(ZoneInfo("Europe/Moscow")).date())
    readers = [sandbox.telegram.reader(number, language="ru") for number in (READER, OTHER)]
    ports = free_port(), free_port()
    async with Cable(processes.environment["DATABASE_URL"]) as cable, aiohttp.ClientSession() as telegram:
        bots = [
            await processes.bot(
                {
                    "DATABASE_URL": cable.url,
                    "WEBHOOK_URL": f"http://127.0.0.1:{port}/hook",
                    "WEBHOOK_LISTEN": f"127.0.0.1:{port}",
                    "WEBHOOK_SECRET": WEBHOOK_SECRET,
                },
                constants={
                    "services.horoscopes.serving:FORGOTTEN_S": 0.1,
                    # Every answer is in the response, however fast they follow, and however busy the machine is.
                    "services.telegram.pace:CHAT_S": 0,
                    "services.bot.webhook:HOLD_S": DEADLINE_S,
                },
            )
            for port in ports
        ]
        updates = iter(range(1, 100))

        async def post(port: int, update: Mapping[str, Any]) -> dict[str, Any]:
            """What a bot answers to an update."""
            url = f"http://127.0.0.1:{port}/hook"
            headers = {"X-Telegram-Bot-Api-Secret-Token": WEBHOOK_SECRET}
            body = {"update_id": next(updates), **update}
            async with telegram.post(url, json=body, headers=headers) as answer:
                assert answer.status == 200
                told: dict[str, Any] = await answer.json()
                return told

        async def say(port: int, reader: Reader, text: str) -> str:
            message = {"message_id": 7, "date": 7, "chat": reader.chat, "from": reader.user, "text": text}
            return str((await post(port, {"message": message}))["text"])

        reader, other = readers
        for each in readers:
            assert heading("Дева") in await say(ports[0], each, "Дева")
            assert heading("Дева") in await say(ports[1], each, "/today")
        question = {"message_id": 8, "date": 7, "chat": reader.chat, "from": sandbox.telegram.bot}
        message = {"message_id": 7, "date": 7, "chat": reader.chat, "from": reader.user, "text": "/forget"}
        asked = await post(ports[0], {"message": message})
        (button,), _ = asked["reply_markup"]["inline_keyboard"]
        query = {
            "id": "7",
            "from": reader.user,
            "chat_instance": "7",
            "message": question | {"text": asked["text"]},
            "data": button["callback_data"],
        }
        assert FORGOTTEN in (await post(ports[0], {"callback_query": query}))["text"]
        for bot in bots:
            await bot.said("memory.readers_checked")
        cable.unplug()
        for port in ports:
            assert FAILED in await say(port, reader, "/today")
            assert heading("Дева") in await say(port, other, "/today")


async def test_at_night_readers_who_are_long_gone_are_forgotten(
    processes: Processes, sql: asyncpg.Connection, database: Database, queues: Queues
) -> None:
    await processes.workers(
        environment={"READER_RETENTION": "100"},
        queues=("ticks",),
        constants={"services.readers.personal_data:PRUNED_AT_ONCE": 2},
    )
    numbers = iter(range(READER, READER + 100))
    for name, count, came, seen, blocked in (
        ("blocked", 3, 400, 1, 31),
        ("blocked lately", 1, 400, 1, 29),
        ("unseen", 3, 400, 102, None),
        ("seen", 1, 400, 98, None),
        ("never asked", 2, 102, None, None),
        ("new", 1, 98, None, None),
    ):
        for _ in range(count):
            await sql.execute(
                "INSERT INTO readers (telegram_id, language, time_zone, created_at, seen_on, blocked_at) VALUES"
                " ($1, 'ru', $2, now() - make_interval(days => $3), now() - make_interval(days => $4),"
                " now() - make_interval(days => $5))",
                next(numbers), name, came, seen, blocked,
            )  # fmt: skip
    gone = await sql.fetchval("SELECT telegram_id FROM readers WHERE time_zone = 'unseen' LIMIT 1")
    await sql.execute(
        "INSERT INTO waiters (request_id, chat_id, zodiac_sign, horoscope_date, language, answered_at)"
        " VALUES (gen_random_uuid(), $1, 'leo', CURRENT_DATE, 'ru', now())",
        gone,
    )
    await Archive(database, MASK).keep([letter_of(b'{"chat": %d}' % gone)])
    queues.publish(MidnightTick())
    await until_sql(sql, "SELECT count(*) FROM readers", 3)
    left = await sql.fetch("SELECT time_zone FROM readers ORDER BY time_zone")
    assert [row[0] for row in left] == ["blocked lately", "new", "seen"]
    assert await rows_naming(sql, gone) == {}
    counted = await sql.fetch("SELECT reason, readers FROM forgotten_readers ORDER BY reason")
    assert [tuple(row) for row in counted] == [("blocked", 3), ("unseen", 5)]


async def test_privacy_is_told_in_either_language_and_an_operators_own_text_in_parts(
    sandbox: Sandbox, processes: Processes, tmp_path: Path
) -> None:
    texts = tmp_path / "texts"
    code, said = await processes.run("bot", environment={"PRIVACY_TEXTS": str(texts)})
    assert (code, "PRIVACY_TEXTS is wrong: expected a folder with ru.txt or en.txt" in said) == (78, True)

    texts.mkdir()
    paragraph = f"{'🦁' * 500} {{reader_retention}} слово" * 2
    (texts / "ru.txt").write_text("\n\n".join([paragraph] * 5))
    await processes.bot({"PRIVACY_TEXTS": str(texts), "READER_RETENTION": "77"})
    reader = sandbox.telegram.reader(READER, language="ru")
    await reader.say("/privacy")
    await reader.wait_for(lambda messages: len(messages) == 4)
    told = [message.text for message in reader.received]
    assert "\n\n".join(told) == "\n\n".join([paragraph.replace("{reader_retention}", "77")] * 5)
    assert all(utf16_length(text) <= LONGEST for text in told)
    stranger = sandbox.telegram.reader(OTHER, language="en")
    await stranger.say("/privacy")
    await until_last(stranger, "77 days after your last request, or 30 days after you blocked the bot")
    assert [command["command"] for command in sandbox.telegram.commands["default", "en"]] == [
        "today", "sign", "timezone", "privacy", "mydata", "forget", "help",
    ]  # fmt: skip
