"""Updates that take long: on record in PostgreSQL, and taken over when their bot dies."""

import asyncio
from typing import Any

import asyncpg
import pytest

from ops.sandbox import Sandbox
from schema.errors import DatabaseUnavailable
from schema.signs import Sign
from services.app import App
from services.bot import inbox
from services.bot.admission import Verdict
from services.bot.inbox import Inbox, without_names
from services.bot.runner import Runner
from services.bot.updates import Updates
from services.database.pool import Database
from tests.acceptance.conftest import reader_of
from tests.waiting import DEADLINE_S, until_sql

KEPT = "SELECT count(*) FROM unfinished_updates"


async def said(sandbox: Sandbox, sql: asyncpg.Connection, text: str, reader_id: int = 7) -> Any:
    """An update with what a reader says."""
    reader = await reader_of(sql, sandbox, reader_id, Sign.LEO)
    return sandbox.telegram.updates.recent[await reader.say(text)]


async def test_a_bot_takes_over_only_what_no_living_bot_holds(
    database: Database, sql: asyncpg.Connection
) -> None:
    first, second = Inbox(database), Inbox(database)
    updates = [{"update_id": number, "message": {"chat": {"id": number}}} for number in (3, 1, 2)]
    await asyncio.gather(*map(first.keep, updates))
    assert await second.take_over() == []
    assert set(await second.on_record()) == {1, 2, 3}
    await sql.execute("UPDATE unfinished_updates SET held_until = now() - interval '1 second'")
    await first.renew()
    assert await second.take_over() == []
    await first.release()
    taken = await asyncio.gather(second.take_over(), Inbox(database).take_over())
    assert sorted(update["update_id"] for several in taken for update in several) == [1, 2, 3]
    for number in (1, 2, 3):
        await first.finish(number)
    assert await sql.fetchval(KEPT) == 0


async def test_what_telegram_has_forgotten_is_deleted(database: Database, sql: asyncpg.Connection) -> None:
    ours = Inbox(database)
    await ours.keep({"update_id": 1})
    await sql.execute("UPDATE unfinished_updates SET kept_at = now() - interval '25 hours'")
    await ours.renew()
    assert await sql.fetchval(KEPT) == 0


def test_an_update_is_kept_without_names() -> None:
    person = {
        "id": 7,
        "is_bot": False,
        "first_name": "Аня",
        "last_name": "К",
        "username": "a",
        "language_code": "ru",
    }
    update = {
        "update_id": 1,
        "message": {
            "from": person, "chat": {"id": -1, "title": "Семья", "type": "group"}, "text": "/today",
            "reply_to_message": {"from": person, "text": "a secret"}, "entities": [{"offset": 0}],
        },
    }  # fmt: skip
    message = without_names(update)["message"]
    assert message["from"] == {"id": 7, "is_bot": False, "first_name": "", "language_code": "ru"}
    assert message.keys() == {"from", "chat", "text", "entities"}
    assert message["chat"] == {"id": -1, "type": "group"}


async def test_an_update_on_record_is_deleted_when_it_is_finished_even_if_that_was_in_between(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "KEEP_S", DEADLINE_S)
    runner = Runner(app, Updates(app))
    slow = sandbox.telegram.faults.add("hang", method="sendMessage")
    work = runner.begin(await said(sandbox, sql, "/help"), Verdict.ADMITTED)
    await sandbox.telegram.wait_for_calls("sendMessage")
    async with sql.transaction():
        await sql.execute("LOCK TABLE unfinished_updates IN SHARE MODE")
        keeping = asyncio.create_task(runner.keep([work]))
        await until_sql(sql, "SELECT count(*) FROM pg_locks WHERE NOT granted", 1)
        sandbox.telegram.faults.remove(slow.id)
        await sandbox.telegram.readers[7].wait_for(lambda messages: messages[-1].from_bot)
    await keeping
    await work.task
    await until_sql(sql, KEPT, 0)
    await runner.tend()  # deletes it once more, had the other statement come last
    assert not runner._to_finish


async def test_an_update_that_could_not_be_deleted_is_not_handled_again(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(app, Updates(app))
    slow = sandbox.telegram.faults.add("hang", method="sendMessage", times=1)
    work = runner.begin(await said(sandbox, sql, "/help"), Verdict.ADMITTED)
    await sandbox.telegram.wait_for_calls("sendMessage")
    assert await runner.keep([work])
    fetch = runner._inbox._lane.fetch

    async def away(*_: Any, **__: Any) -> Any:
        raise DatabaseUnavailable("PostgreSQL is away")

    monkeypatch.setattr(runner._inbox._lane, "fetch", away)
    slow.lifted.set()
    await work.task
    monkeypatch.setattr(runner._inbox._lane, "fetch", fetch)
    await sql.execute("UPDATE unfinished_updates SET held_until = now() - interval '1 second'")
    await runner.tend()
    assert await sql.fetchval(KEPT) == 0
    assert len(sandbox.telegram.readers[7].received) == 1
    assert not runner._works
