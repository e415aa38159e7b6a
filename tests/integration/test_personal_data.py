"""What is kept about a reader, on PostgreSQL alone: by the command line, in a group, with old questions."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from ops.cli import console, main
from ops.sandbox import Sandbox
from schema.signs import Language
from services.app import App
from services.bot.updates import Updates
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.readers.personal_data import ASKED_S, PersonalData, Reason
from services.readers.strings import STRINGS
from tests.dead_letters import MASK, letter_of
from tests.mentions import rows_naming
from tests.waiting import until_sql

READER, OTHER = 7_100_000_007, 7_100_000_008
READERS = "INSERT INTO readers (telegram_id, zodiac_sign, language) VALUES ($1, 'leo', 'ru')"

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def kept(sql: asyncpg.Connection) -> None:
    """Two readers, each with a wait that is answered and counted."""
    for number in (READER, OTHER):
        await sql.execute(READERS, number)
        request = await sql.fetchval(
            "INSERT INTO waiters (request_id, chat_id, zodiac_sign, horoscope_date, language, answered_at)"
            " VALUES (gen_random_uuid(), $1, 'leo', CURRENT_DATE, 'ru', now()) RETURNING request_id",
            number,
        )
        await sql.execute("INSERT INTO view_receipts VALUES ($1, CURRENT_DATE)", request)


@pytest.fixture
def readers(database_url: str) -> Run:
    """``horoscope readers …``, in a thread since it has an event loop of its own."""

    async def run(*command: Any, code: int = 0, **about: Any) -> Result:
        given: dict[str, Any] = {"env": {"DATABASE_URL": database_url}, "catch_exceptions": False} | about
        result = await asyncio.to_thread(CliRunner().invoke, main, ["readers", *map(str, command)], **given)
        assert result.exit_code == code, result.output
        return result

    return run


async def test_an_operator_finds_a_reader_by_number_and_forgets_them_after_a_question(
    readers: Run, kept: None, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads((await readers("find", READER, "--json")).stdout)
    assert {name: len(table["rows"]) for name, table in told["tables"].items()} == {
        "readers": 1, "waiters": 1, "unfinished_updates": 0, "view_receipts": 1,
    }  # fmt: skip
    shown = (await readers("find", READER)).stdout
    assert "telegram_id" in shown
    assert str(OTHER) not in shown
    forget = ("forget", READER, "--why", "asked by mail")
    assert "There is no terminal to ask on; add --yes" in (await readers(*forget, code=1)).stderr
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    assert "for good?" in (await readers(*forget, input="n\n", code=1)).stderr
    assert len(await rows_naming(sql, READER)) == 2
    assert "Deleted 2 rows." in (await readers(*forget, input="y\n")).stdout
    assert await rows_naming(sql, READER) == {}
    assert await rows_naming(sql, OTHER) == {"readers": 1, "waiters": 1}
    assert await sql.fetchval("SELECT count(*) FROM view_receipts") == 2, "they name nobody any more"
    assert await sql.fetchrow("SELECT reason, readers FROM forgotten_readers") == ("operator", 1)
    for command in (("find", READER), ("forget", READER, "--why", "again", "--yes")):
        assert f"nothing is kept about a reader {READER}" in (await readers(*command, code=1)).stderr


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("find", "@ann"), "nobody can be found as @ann: usernames are not kept"),
        (("find", "ann"), "'ann' is not a reader's number in Telegram"),
        (("find", "0"), "'0' is not a reader's number in Telegram"),
        (("find", "9" * 19), "is not a reader's number in Telegram"),
        (("forget", str(READER)), "Missing option '--why'"),
        (("forget", str(READER), "--why", " "), "it is empty"),
        (("forget", str(READER), "--why", f"{READER} wrote to us", "--yes"), "it names the reader"),
    ],
)
async def test_wrong_usage_is_told(readers: Run, kept: None, command: tuple[str, ...], said: str) -> None:
    assert said in (await readers(*command, code=2)).stderr


async def test_a_question_can_be_answered_for_ten_minutes_and_only_by_the_reader_who_was_asked(
    database: Database, kept: None, sql: asyncpg.Connection
) -> None:
    data = PersonalData(database, 365)
    asked_at = await data.ask(READER)
    assert asked_at
    old = asked_at - timedelta(seconds=ASKED_S)
    assert await data.forget(READER, Reason.ASKED, asked_at=old) is None
    # Two presses at once: one deletes, and the other finds nothing to delete.
    pressed = await asyncio.gather(*(data.forget(READER, Reason.ASKED, asked_at=asked_at) for _ in range(2)))
    assert sorted(done.rows for done in pressed if done) == [0, 2]
    await sql.execute(READERS, READER)
    assert await data.forget(READER, Reason.ASKED, asked_at=asked_at) is None, "a newcomer was not asked"
    assert await rows_naming(sql, READER) == {"readers": 1}
    assert await data.ask(READER + 100) is None
    assert await data.export(READER + 100) is None


async def test_readers_who_ask_at_once_leave_connections_for_everybody_else(
    database: Database, database_url: str, kept: None, sql: asyncpg.Connection
) -> None:
    data = PersonalData(database, 365)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    holder = await asyncpg.connect(database_url)
    await holder.execute("BEGIN; LOCK TABLE dead_letters")  # as a search that takes long
    asking = [asyncio.create_task(data.export(reader)) for reader in (READER, OTHER) * 10]
    await until_sql(sql, waiting, 1)
    for _ in range(100):  # each transaction gives the others a turn
        async with database.transaction() as connection:
            await connection.execute(text("SELECT 1"))
    assert await sql.fetchval(waiting) == 1
    await holder.close()
    assert all(await asyncio.gather(*asking))


async def test_only_whole_numbers_are_blotted_out_and_json_stays_json(
    database: Database, sql: asyncpg.Connection
) -> None:
    body = b'{"chat": %d, "other": %d9, "far": "%d-%d"} \xff%d\\u0041%d' % ((READER,) * 6)
    await Archive(database, MASK).keep([letter_of(body)])
    arguments = {"chat": READER, "list": [READER, f"chat {READER}", -READER], "other": READER * 10}
    await sql.execute("UPDATE dead_letters SET arguments = $1", json.dumps(arguments))
    data = PersonalData(database, 365)
    done = await data.forget(READER, Reason.OPERATOR)
    assert done
    assert (done.rows, done.mentions) == (0, 1)
    (letter,) = await sql.fetch("SELECT body, arguments FROM dead_letters")
    assert letter["body"] == b'{"chat": 0, "other": %d9, "far": "0-0"} \xff0\\u00410' % READER
    assert json.loads(letter["arguments"]) == {"chat": 0, "list": [0, "chat 0", 0], "other": READER * 10}
    assert await sql.fetchval("SELECT count(*) FROM forgotten_readers") == 0, "nobody was known"


async def test_in_a_group_nothing_personal_is_told_or_deleted(
    app: App, kept: None, sandbox: Sandbox, sql: asyncpg.Connection
) -> None:
    updates = Updates(app)
    person = {"id": READER, "is_bot": False, "first_name": "Ann", "language_code": "ru"}
    group = {"id": -100, "type": "supergroup", "title": "A group"}
    message = {"message_id": 7, "date": 7, "chat": group, "from": person}
    strings = STRINGS[Language.RU]
    for command in ("/forget", "/mydata"):
        answer = await updates.handle({"update_id": 7, "message": message | {"text": command}})
        assert answer
        assert answer.reply.text == strings.only_private
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    for data in (f"forget:{now}", "forget:", "forget:9999999999999999", "forget:9" * 8, "forget:-1"):
        query = {"id": "7", "from": person, "chat_instance": "7", "message": message, "data": data[:64]}
        answer = await updates.handle({"update_id": 8, "callback_query": query})
        assert answer
        assert answer.reply.text == strings.forget_outdated
    kicked = {"user": sandbox.telegram.bot, "status": "kicked", "until_date": 0}
    member = {"user": sandbox.telegram.bot, "status": "member"}
    change = {"chat": group, "from": person, "date": 7, "old_chat_member": member, "new_chat_member": kicked}
    await updates.handle({"update_id": 9, "my_chat_member": change})
    assert await sql.fetchval("SELECT count(*) FROM readers WHERE blocked_at IS NULL") == 2
    private = change | {"chat": {"id": READER, "type": "private", "first_name": "Ann"}}
    await updates.handle({"update_id": 10, "my_chat_member": private})
    assert await sql.fetchval("SELECT telegram_id FROM readers WHERE blocked_at IS NOT NULL") == READER


async def test_a_reader_is_told_when_the_database_is_away_and_may_press_again(
    app: App, kept: None, sandbox: Sandbox, sql: asyncpg.Connection, free_port: int
) -> None:
    updates = Updates(app)
    reader = sandbox.telegram.reader(READER, language="ru")
    question = await updates.handle({"update_id": 6, "message": _said(reader, "/forget")})
    assert question
    (((_, pressed),), ((_, keep),)) = question.reply.buttons
    query = {
        "id": "7",
        "from": reader.user,
        "chat_instance": "7",
        "message": _said(reader, "?"),
        "data": keep,
    }
    answer = await updates.handle({"update_id": 7, "callback_query": query})
    assert answer
    assert answer.reply.text == STRINGS[Language.RU].kept
    there = app.personal_data._database
    async with Database(f"postgresql://127.0.0.1:{free_port}/nothing") as nowhere:
        app.personal_data._database = nowhere
        for command in ("/forget", "/mydata"):
            answer = await updates.handle({"update_id": 8, "message": _said(reader, command)})
            assert answer
            assert answer.reply.text == STRINGS[Language.RU].data_unavailable
        answer = await updates.handle({"update_id": 9, "callback_query": query | {"data": pressed}})
        assert answer
        assert answer.reply.text == STRINGS[Language.RU].data_unavailable
        assert answer.reply.buttons == question.reply.buttons
    app.personal_data._database = there
    answer = await updates.handle({"update_id": 10, "callback_query": query | {"data": pressed}})
    assert answer
    assert answer.reply.text == STRINGS[Language.RU].forgotten
    assert await rows_naming(sql, READER) == {}


def _said(reader: Any, text: str) -> dict[str, Any]:
    return {"message_id": 7, "date": 7, "chat": reader.chat, "from": reader.user, "text": text}
