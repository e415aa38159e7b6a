"""A developer's way with dead letters: found, mended, replayed by the workers, and told what became of each."""

import asyncio
import os
import pty
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg

from schema.messages import GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.dead_letters.filters import Filter
from tests.dead_letters import MASK, TODAY, inspector_on, letter_of
from tests.processes import Processes


async def test_letters_are_mended_and_replayed_and_what_became_of_each_is_told(
    processes: Processes, database: Database, sql: asyncpg.Connection
) -> None:
    async def dead(*command: Any, code: int = 0) -> str:
        ended, said = await processes.run("dead", *map(str, command))
        assert ended == code, said
        return said

    old = HoroscopeRequested(
        uuid4(), Sign.LEO, TODAY - timedelta(days=60), answered=True, at=datetime.now(UTC)
    )
    archive = Archive(database, MASK)
    for letter in (letter_of(GenerateHoroscope(Sign.LEO, TODAY)), letter_of(old), letter_of(b"no message")):
        await archive.keep([letter])
    there = ZoneInfo("Asia/Tokyo")
    begun = await sql.fetchval("SELECT min(died_at) FROM dead_letters")
    since = f"{begun.astimezone(there).replace(tzinfo=None):%Y-%m-%dT%H:%M:%S}"
    code, said = await processes.run("dead", "list", "--since", since, environment={"TZ": there.key})
    assert (code, "3 of 3 dead letters" in said) == (0, True), "of the machine's zone"
    assert f"{begun.astimezone(there):%Y-%m-%d %H:%M:%S}" in said
    dropping = ("drop", "--since", "2020-01-01", "--why", "noise")
    code, said = await processes.run("dead", *dropping, environment={"TZ": there.key})
    assert (code, "since 2020-01-01 00:00:00+09:00)? Nobody is there" in said) == (1, True), said
    inspector = inspector_on(database)
    await inspector.edits.edit(
        3,
        by="Anna",
        actor="generation.GenerateHoroscope",
        arguments={"sign": "virgo", "day": TODAY.isoformat()},
    )
    await processes.workers(queues=["generation", "views", "dead_letters"])
    waited = await dead(
        "replay", "--all", "--why", "mended", "--by", "Anna", "--yes", "--wait", "--force", code=1
    )
    assert "3: 2 succeeded, 1 died again" in waited
    (listed,) = await inspector.records.listed(Filter())
    assert f"2 died again as {listed.id}: horoscope dead show {listed.id}" in waited
    assert (listed.cause, listed.parent, listed.replays) == ("too old", 2, 1)
    assert f"died again as {listed.id}" in await dead("show", 2)
    assert await sql.fetchval("SELECT count(*) FROM horoscope_cache") == 2


async def test_ctrl_c_at_a_question_ends_it_and_nothing_is_done(
    processes: Processes, database: Database
) -> None:
    await Archive(database, MASK).keep([letter_of(GenerateHoroscope(Sign.LEO, TODAY))])
    ours, theirs = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("horoscope"),
        *("dead", "drop", "1", "--why", "of no use"),
        env=processes._settings({}),
        stdin=theirs,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert child.stdout
    try:
        async with asyncio.timeout(30):
            said = await child.stdout.readuntil(b"[y/N]")
            rest = asyncio.create_task(child.stdout.read())
            while child.returncode is None:
                child.send_signal(signal.SIGINT)
                # One that comes just before Python waits for input is heard with the next.
                await asyncio.wait({rest}, timeout=3)
                if rest.done():
                    await child.wait()
            said += await rest
        assert child.returncode == 1
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"Traceback" not in said
    assert await inspector_on(database).records.count(Filter()) == 1


async def test_a_rabbitmq_that_accepts_and_says_nothing_cannot_be_reached(processes: Processes) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1")
    async with server:
        port = server.sockets[0].getsockname()[1]
        code, said = await processes.run(
            "queues", environment={"RABBITMQ_URL": f"amqp://guest:guest@127.0.0.1:{port}/"}
        )
    assert code == 69
    assert "RabbitMQ cannot be reached" in said


async def test_what_cannot_be_written_is_said(
    processes: Processes, database: Database, tmp_path: Path
) -> None:
    await Archive(database, MASK).keep([letter_of(GenerateHoroscope(Sign.LEO, TODAY))])
    code, said = await processes.run("dead", "export", "--output", str(tmp_path / "nowhere" / "x"))
    assert (code, "No such file or directory" in said) == (1, True)
    os.mkfifo(tmp_path / "pipe")
    reading = asyncio.create_task(asyncio.to_thread((tmp_path / "pipe").read_bytes))
    code, _ = await processes.run("dead", "export", "--output", str(tmp_path / "pipe"))
    assert code == 0
    assert (await asyncio.wait_for(reading, 10)).count(b"\n") == 1, "it stays what it is"
