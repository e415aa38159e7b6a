"""Long polling: updates are confirmed when they are finished or on record, and nobody waits for a slow chat."""

import asyncio

import asyncpg

from ops.sandbox import Sandbox
from schema.signs import Sign
from services.app import App
from services.bot.polling import Polling
from services.bot.runner import Runner
from services.bot.updates import Updates
from tests.acceptance.conftest import reader_of
from tests.waiting import until_sql


async def test_one_chat_that_hangs_keeps_nobody_else_waiting_and_is_confirmed_last(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection
) -> None:
    slow = await reader_of(sql, sandbox, 7, Sign.LEO)
    quick = await reader_of(sql, sandbox, 8, Sign.VIRGO)
    hang = sandbox.telegram.faults.add("hang", method="sendMessage", chat_id=7)
    stop = asyncio.Event()
    polling = asyncio.create_task(Polling(app, Runner(app, Updates(app))).run(stop))
    hanging = await slow.say("/help")
    await sandbox.telegram.wait_for_calls("sendMessage")
    for number in range(1, 4):
        await quick.say("/help")
        await quick.wait_for(lambda messages: len([m for m in messages if m.from_bot]) == number)  # noqa: B023
    on_record = await sql.fetchval("SELECT array_agg(update_id) FROM unfinished_updates")
    assert hanging in {*sandbox.telegram.updates.pending, *(on_record or ())}, "it is not finished"

    sandbox.telegram.faults.remove(hang.id)
    await slow.wait_for(lambda messages: messages[-1].from_bot)
    await sandbox.telegram.wait_until_delivered()
    stop.set()
    await polling
    assert len(quick.received) == 3, "what was finished is not handled again"


async def test_updates_of_one_chat_are_handled_in_their_order(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection
) -> None:
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    zones = {
        "Asia/Tokyo": "Токио",
        "Europe/Paris": "Париж",
        "Asia/Omsk": "Омск",
        "Europe/London": "Лондон",
        "Asia/Baku": "Баку",
        "Europe/Berlin": "Берлин",
    }
    for zone in zones:
        await reader.say(f"/timezone {zone}")
    stop = asyncio.Event()
    polling = asyncio.create_task(Polling(app, Runner(app, Updates(app))).run(stop))
    await reader.wait_for(lambda messages: len([m for m in messages if m.from_bot]) == len(zones))
    stop.set()
    await polling
    assert [message.text.split()[1].rstrip(",") for message in reader.received] == [*zones.values()]
    await until_sql(sql, "SELECT time_zone FROM readers", "Europe/Berlin")
