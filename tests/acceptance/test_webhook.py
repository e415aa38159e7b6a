"""The bot behind a webhook."""

import asyncpg

from ops.sandbox import Sandbox
from schema.signs import Sign
from tests.acceptance.conftest import GENERATING, heading, reader_of, until_written
from tests.conftest import WEBHOOK_SECRET
from tests.processes import Processes
from tests.waiting import DEADLINE_S, until_views


def hook(port: int) -> dict[str, str]:
    return {
        "WEBHOOK_URL": f"http://127.0.0.1:{port}/telegram/hook",
        "WEBHOOK_SECRET": WEBHOOK_SECRET,
        "WEBHOOK_LISTEN": f"127.0.0.1:{port}",
    }


def sent(sandbox: Sandbox) -> int:
    """Messages sent by a call, not by a response."""
    return sum(call.method.lower() == "sendmessage" and call.via == "http" for call in sandbox.telegram.calls)


async def test_a_cached_text_is_answered_in_the_response_and_a_missing_one_by_an_edit(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, free_port: int
) -> None:
    await processes.workers()
    await until_written(sql)
    # However busy the machine is: an answer that takes long would be a call.
    bot = await processes.bot(hook(free_port), constants={"services.bot.webhook:HOLD_S": DEADLINE_S})
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert sent(sandbox) == 0
    await until_views(sql, 1)

    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    sandbox.model.latency = 0.3
    await reader.press("today")
    await reader.wait_for(lambda messages: len(messages[-1].versions) == 2)
    assert reader.last.versions[0].text == GENERATING
    assert heading("Лев") in reader.last.text
    await until_views(sql, 2)
    assert await bot.stop() == 0
    # What the bot noted about it.
    answers = await sql.fetch("SELECT source, sum(answers)::int FROM answer_times GROUP BY source")
    assert {row[0]: row[1] for row in answers} == {"cache": 1, "missing": 1}
    assert await sql.fetchval("SELECT sum(readers)::int FROM reader_days") == 1


async def test_two_bots_share_the_readers(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, free_port: int
) -> None:
    """What one bot knows of a reader, the other does not need to."""
    await processes.workers()
    await until_written(sql)
    first = await processes.bot(hook(free_port))
    reader = await reader_of(sql, sandbox, 7, Sign.LEO)
    await reader.say("/today")
    await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    assert await first.stop() == 0
    await processes.bot(hook(free_port))
    await reader.press("today")
    await reader.wait_for(lambda messages: len([m for m in messages if m.from_bot]) == 2)
    await until_views(sql, 2)
