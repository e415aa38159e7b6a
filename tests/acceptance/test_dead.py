"""A developer's way with dead letters: found, mended, replayed by the workers, and told what became of each."""

import asyncio
import json
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
import pytest

from schema.messages import DeliverHoroscope, GenerateDay, GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector
from tests.dead_letters import MASK, TODAY, inspector_on, letter_of
from tests.operators import put_generation, put_text
from tests.processes import Processes
from tests.waiting import DEADLINE_S, until_sql


@pytest.fixture
def inspector(database: Database) -> Inspector:
    return inspector_on(database)


async def test_letters_are_mended_and_replayed_and_what_became_of_each_is_told(
    processes: Processes, database: Database, inspector: Inspector, sql: asyncpg.Connection
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
    assert (code, "since 2020-01-01 00:00:00+09:00)? There is no terminal to ask on" in said) == (1, True), (
        said
    )
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
    assert "3: 2 did it, 1 died again" in waited
    (listed,) = await inspector.records.listed(Filter())
    assert f"2 died again as {listed.id}: horoscope dead show {listed.id}" in waited
    assert (listed.cause, listed.parent, listed.replays) == ("too old", 2, 1)
    assert f"died again as {listed.id}" in await dead("show", 2)
    assert await sql.fetchval("SELECT count(*) FROM horoscope_cache") == 2


async def test_a_replay_says_whether_it_did_anything(
    processes: Processes, database: Database, inspector: Inspector, sql: asyncpg.Connection
) -> None:
    def request(*, answered: bool) -> HoroscopeRequested:
        return HoroscopeRequested(uuid4(), Sign.LEO, TODAY, answered=answered, at=datetime.now(UTC))

    counted = request(answered=True)
    await sql.execute("INSERT INTO view_receipts VALUES ($1, $2)", counted.request_id, TODAY)
    await put_text(sql, "leo", TODAY)
    given_up_anew = datetime.now(UTC) + timedelta(hours=1)
    await put_generation(sql, "virgo", TODAY, "given_up", since=given_up_anew)
    nothing_to_do = [
        counted,
        request(answered=False),  # its reader waits no longer
        GenerateHoroscope(Sign.LEO, TODAY),
        GenerateHoroscope(Sign.VIRGO, TODAY),
        GenerateDay(TODAY - timedelta(days=5)),
        DeliverHoroscope(Sign.LEO, TODAY),
    ]
    done = [GenerateHoroscope(Sign.LIBRA, TODAY), request(answered=True)]
    archive = Archive(database, MASK)
    for message in (*nothing_to_do, *done):
        await archive.keep([letter_of(message)])
    await processes.workers(queues=["generation", "views", "requests", "delivery"])
    code, said = await processes.run(
        "dead", "replay", "--all", "--why", "to see", "--yes", "--force", "--wait"
    )
    assert (code, "8: 2 did it, 6 nothing to do any more" in said) == (0, True), said
    assert await inspector.records.ids(Filter(state="nothing_to_do")) == [1, 2, 3, 4, 5, 6]
    assert await inspector.records.ids(Filter(state="did_it")) == [7, 8]
    code, said = await processes.run("dead", "run", "1", "--json")
    run = json.loads(said)
    assert (run["state"], run["did_it"], run["nothing_to_do"]) == ("finished", 2, 6)
    code, said = await processes.run("dead", "show", "1")
    assert "nothing to do" in said


async def test_status_tells_quietly_of_letters_that_nobody_can_mend(
    processes: Processes, database: Database, sql: asyncpg.Connection
) -> None:
    await Archive(database, MASK).keep([letter_of(DeliverHoroscope(Sign.LEO, TODAY))])
    _, said = await processes.run("status")
    assert "! 1 dead letter needs a decision" in said
    await processes.workers(queues=["delivery"])
    await until_sql(sql, "SELECT count(*) FROM dead_letters WHERE done", 1)
    _, said = await processes.run("status")
    assert "needs a decision" not in said
    assert "1 dead letter has nothing left to do; drop it: horoscope dead drop --verdict done" in said


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
        async with asyncio.timeout(DEADLINE_S):
            said = await child.stdout.readuntil(b"[y/N]")
            rest = asyncio.create_task(child.stdout.read())
            while child.returncode is None:
                child.send_signal(signal.SIGINT)
                # One that comes just before Python waits for input is heard with the next.
                await asyncio.wait({rest}, timeout=10)
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
    assert (await asyncio.wait_for(reading, DEADLINE_S)).count(b"\n") == 1, "it stays what it is"
