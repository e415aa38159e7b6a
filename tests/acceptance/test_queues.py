"""What operators do with queues, through the running service."""

import asyncio
import json
import os
import pty
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ops.sandbox import Sandbox
from schema.messages import DEAD_LETTERS, GENERATION, VIEWS, GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.app import App
from services.days import day_in, system_clock
from services.process.settings import Settings
from tests.processes import Processes
from tests.queues import Queues
from tests.waiting import DEADLINE_S, until_sql, until_views


def view(number: int, day: date) -> HoroscopeRequested:
    sign = list(Sign)[number % 12]
    return HoroscopeRequested(UUID(int=number + 1), sign, day, answered=True, at=system_clock())


async def run(processes: Processes, *command: str, **arranged: Any) -> tuple[int, str]:
    """Run ``horoscope queues`` to its end, without the imports that a program of its own pays for."""
    process = await processes.start("queues", *command, **arranged)
    return await process.ended(), process.output


@asynccontextmanager
async def views_flowing(app: App, day: date) -> AsyncIterator[list[int]]:
    """Views come all the while; how many is in the list once the block has ended."""
    published = [0]
    ended = asyncio.Event()

    async def publish() -> None:
        while not ended.is_set():
            await asyncio.gather(*(app.bus.publish(view(published[0] + each, day)) for each in range(20)))
            published[0] += 20

    publishing = asyncio.create_task(publish())
    try:
        yield published
    finally:
        ended.set()
        await publishing


async def test_a_pause_holds_in_every_worker_and_loses_and_repeats_nothing(
    processes: Processes, sql: asyncpg.Connection, queues: Queues, app: App, settings: Settings
) -> None:
    today = day_in(settings.home_timezone, system_clock())
    workers = await processes.workers(2, queues=[VIEWS])
    async with views_flowing(app, today) as published:
        await until_sql(sql, "SELECT count(*) > 0 FROM horoscope_views", expected=True)
        code, said = await run(processes, "pause", VIEWS, "--why", "mending", "--by", "ann")
        assert code == 0, said
        assert "views is paused since" in said
        assert "by ann: mending." in said
        assert "No worker consumes it now." in said
        for worker in workers:
            await worker.said("consumer.paused")
        (late,) = await processes.workers(1, queues=[VIEWS])
        counted = await sql.fetchval("SELECT sum(view_count)::int FROM horoscope_views")
        waiting = queues.count(VIEWS)
        while queues.count(VIEWS) < waiting + 100:
            await asyncio.sleep(0.02)
        assert await sql.fetchval("SELECT sum(view_count)::int FROM horoscope_views") == counted
        code, said = await processes.run("status")
        assert "views is paused since" in said
        assert "nobody consumes the queue views" not in said
        code, said = await run(processes, "resume", VIEWS, "--by", "bob")
        assert (code, "views is consumed again" in said) == (0, True), said
        for worker in (*workers, late):
            await worker.said("consumer.resumed")
        assert "consumer.paused" not in late.output, "it never began"
    await queues.drained(VIEWS)
    await until_views(sql, published[0])
    assert queues.count(DEAD_LETTERS) == 0
    for worker in workers:
        assert await worker.stop() == 0
    assert await sql.fetchval("SELECT sum(view_count)::int FROM horoscope_views") == published[0]


async def test_what_is_under_way_when_its_queue_is_paused_is_finished_and_the_next_one_waits(
    sandbox: Sandbox,
    processes: Processes,
    sql: asyncpg.Connection,
    queues: Queues,
    settings: Settings,
) -> None:
    today = day_in(settings.home_timezone, system_clock())
    sandbox.model.latency = 3.0
    await processes.workers(2, queues=[GENERATION])
    for sign in (Sign.LEO, Sign.VIRGO):
        queues.publish(GenerateHoroscope(sign, today))
    await sandbox.model.wait_for_calls()
    code, said = await run(processes, "pause", GENERATION)
    assert (code, "No worker consumes it now." in said) == (0, True), said
    assert queues.count(GENERATION) == 1
    assert await sql.fetch("SELECT zodiac_sign FROM horoscope_cache") == [("leo",)]
    sandbox.model.latency = 0.0
    assert (await run(processes, "resume", GENERATION))[0] == 0
    await until_sql(sql, "SELECT count(*) FROM horoscope_cache", 2)
    assert sandbox.model.max_in_flight == 1


async def test_the_table_tells_what_waits_and_what_is_paused(
    processes: Processes, queues: Queues, app: App
) -> None:
    queues.publish(view(1, date(2026, 11, 22)))
    code, said = await run(processes)
    assert code == 0
    assert [line.split()[:2] for line in said.splitlines() if line.strip().startswith("views ")] == [
        ["views", "1"]
    ]
    assert "requests.retry.1s" in said
    assert (await run(processes, "pause", VIEWS, "--by", "ann", "--why", "[red]why"))[0] == 0
    code, said = await run(processes, "list")
    assert " UTC by ann: [red]why" in said
    code, said = await run(processes, "pause", VIEWS, "--by", "bob")
    assert (code, "views was already paused since" in said, "by ann" in said) == (0, True, True)
    code, said = await run(processes, "--json")
    told = json.loads(said)
    (views,) = [queue for queue in told["queues"] if queue["name"] == VIEWS]
    assert (code, views["paused"], views["paused_by"], views["paused_why"]) == (0, True, "ann", "[red]why")
    assert {queue["paused"] for queue in told["queues"]} == {True, False}
    assert (await run(processes, "resume", VIEWS))[0] == 0
    assert await run(processes, "resume", VIEWS) == (0, "views was not paused.")


async def test_peeking_shows_what_is_there_and_leaves_it_in_its_place(
    processes: Processes, queues: Queues, app: App, settings: Settings
) -> None:
    day = date(2026, 11, 22)
    for number in range(3):
        queues.publish(view(number, day))
    queues.put(VIEWS, b"\x00\x1b[31m no message, with sk-a-model-key in it")
    queues.publish(view(4, day))
    code, said = await run(processes, "peek", VIEWS, "--limit", "2")
    assert code == 0
    assert "views.HoroscopeRequested" in said
    assert '"zodiac_sign"' not in said
    assert '"sign": "aries"' in said
    assert "2 of 5 messages; all stay in their place." in said
    code, said = await run(processes, "peek", VIEWS, "--json")
    seen = json.loads(said)
    assert [each["redelivered"] for each in seen] == [True, True, False, False, False]
    assert [each["arguments"] and each["arguments"]["sign"] for each in seen] == [
        "aries", "taurus", "gemini", None, "leo"
    ]  # fmt: skip
    assert seen[3]["garbage"] == r"b'\x00\x1b[31m no message, with *** in it'"
    assert [letter.body[:1] for letter in [queues.take(VIEWS) for _ in range(5)] if letter] == [
        b"{", b"{", b"{", b"\x00", b"{"
    ]  # fmt: skip


async def test_whoever_still_consumes_a_paused_queue_is_told_of_and_keeps_others_from_peeking(
    processes: Processes, queues: Queues, app: App
) -> None:
    queues._channel.basic_consume(VIEWS, lambda *_: None)
    code, said = await run(processes, "pause", VIEWS, constants={"ops.cli.queues:LET_GO_S": 0.1})
    assert (code, "Consumers that have not finished yet: 1." in said) == (0, True), said
    code, said = await run(processes, "peek", VIEWS)
    assert code == 1
    assert "first: horoscope queues pause views, and wait until it has no consumers" in said


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("pause", "nonsense"), 2, "'nonsense' is not one of our queues; there are dead_letters, views"),
        (("pause", "generation.retry.1s"), 2, "its messages go back by themselves"),
        (("resume", "nonsense"), 2, "there are dead_letters, views"),
        (("purge", "nonsense", "--yes"), 2, "no queue 'nonsense'; there are dead_letters, views"),
        (("peek", "nonsense"), 2, "there are dead_letters, views"),
        (("peek", "requests.pause.47s"), 2, "there are dead_letters, views"),
        (("peek", "views", "--limit", "0"), 2, "--limit"),
        (
            ("purge", "views"),
            1,
            "Delete all 0 messages in views, for good? There is no terminal to ask on; add --yes to go on",
        ),
        (("purge", "requests.retry.1s", "--yes"), 0, "Deleted 0 messages in requests.retry.1s."),
        (("--json", "peek", "views"), 2, "--json comes after the command"),
        (("peek",), 2, "Missing argument 'QUEUE'"),
    ],
)
async def test_orders_are_refused_in_plain_words(
    processes: Processes, app: App, queues: Queues, command: tuple[str, ...], code: int, said: str
) -> None:
    ended, output = await run(processes, *command)
    assert (ended, said in " ".join(output.split())) == (code, True), output


@pytest.mark.parametrize("away", ["DATABASE_URL", "RABBITMQ_URL"])
async def test_a_server_that_is_away_is_told(processes: Processes, away: str, free_port: int) -> None:
    scheme = "postgresql" if away == "DATABASE_URL" else "amqp"
    environment = {away: f"{scheme}://u:a-secret@127.0.0.1:{free_port}/x"}
    code, said = await run(processes, "pause", VIEWS, environment=environment)
    assert (code, "cannot be reached" in said, "a-secret" in said) == (69, True, False), said


@pytest.mark.parametrize(
    ("answer", "code", "waiting", "named"),
    [("y\n", 0, 2, "all 2 messages"), ("n\n", 1, 2, "all 2 messages"), ("y\n", 0, 1, "1 message")],
)
async def test_purging_names_what_it_deletes_and_asks(
    processes: Processes, queues: Queues, app: App, answer: str, code: int, waiting: int, named: str
) -> None:
    for _ in range(waiting):
        queues.put(DEAD_LETTERS, b"{}")
    ended, said = await at_a_terminal(processes, answer, "queues", "purge", DEAD_LETTERS, "--by", "ann")
    assert "These letters are not archived yet" in said
    assert f"Delete {named} in dead_letters, for good? [y/N]:" in said
    assert (ended, queues.count(DEAD_LETTERS)) == (code, waiting if code else 0)
    assert ("queue.purged" in said and "by=ann" in said and f"count={waiting}" in said) is (code == 0)


async def at_a_terminal(processes: Processes, typed: str, *command: str) -> tuple[int, str]:
    """Run a command at a terminal where somebody types."""
    ours, theirs = pty.openpty()
    try:
        child: Any = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("horoscope"),
            *command,
            env=processes._settings({}),
            stdin=theirs,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        os.write(ours, typed.encode())
        async with asyncio.timeout(DEADLINE_S):
            output, _ = await child.communicate()
    finally:
        os.close(ours)
        os.close(theirs)
    return child.returncode, output.decode()
