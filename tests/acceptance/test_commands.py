"""The command line, as operators and scripts use it."""

import json
import os
import signal
import socket

import asyncpg
import pytest

from ops.sandbox import Sandbox
from tests.acceptance.conftest import until_written
from tests.conftest import WEBHOOK_SECRET
from tests.dead import Dead
from tests.operators import put_process
from tests.processes import Processes
from tests.queues import Queues


async def test_status_tells_what_needs_a_person_and_exits_with_1(
    processes: Processes, queues: Queues
) -> None:
    code, said = await processes.run("status")
    assert code == 1
    assert "12 texts are missing, and no worker is writing them" in said


async def test_status_is_well_when_all_is_well(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues, dead: Dead
) -> None:
    await processes.workers()
    await until_written(sql)
    await queues.drained("ticks", "generation", "delivery")
    code, said = await processes.run("status")
    assert code == 1
    assert "bots 0   workers 1   schedulers 0   admins 0\n! no bot runs\n! no scheduler runs" in said
    for kind in ("bot", "scheduler"):
        await put_process(sql, kind, "another-host", silent_s=-60)
    code, said = await processes.run("status")
    assert (code, "All is well." in said) == (0, True), said
    code, said = await processes.run("status", "--json")
    seen = json.loads(said)
    assert code == 0
    assert seen["alarms"] == []
    assert [day["states"]["leo"] for day in seen["days"]] == ["written", "written"]
    assert {queue["name"] for queue in seen["queues"]} >= {"views", "requests", "dead_letters"}

    # What is dead is told until somebody has seen to it.
    queues.put("dead_letters", b"no message")
    await dead.next()
    code, said = await processes.run("status")
    assert code == 1
    assert "parked 0   dead letters 1   tokens" in said
    assert said.endswith("! 1 dead letter needs a decision")
    await sql.execute("UPDATE dead_letters SET state = 'dropped'")
    code, said = await processes.run("status", "--json")
    assert (code, json.loads(said)["dead_letters"]) == (0, 0)


async def test_a_watched_status_is_printed_again_when_it_changes_and_ends_with_its_last_exit_code(
    processes: Processes, queues: Queues, sql: asyncpg.Connection
) -> None:
    watch = await processes.start("status", "--watch", constants={"ops.cli.status:LOOK_S": 0.1})
    await watch.said("! no bot runs")
    await watch.said("bots 0")
    await put_process(sql, "bot", "another-host", silent_s=-60)
    await watch.said("bots 1")
    os.kill(watch.pid, signal.SIGINT)
    assert await watch.ended(30) == 1
    assert watch.output.count("bots 0") == watch.output.count("bots 1") == 1, "once for each change"


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("generate", "--day", "tomorrow"), 2, "'tomorrow' is not a day such as"),
        (("generate", "--day", "2020-01-01"), 2, "no reader can ask for 2020-01-01"),
        (("generate", "--day", "2099-01-01"), 2, "no reader can ask for 2099-01-01"),
        (("generate", "--sign", "ophiuchus"), 2, "'ophiuchus' is not one of aries, taurus"),
        (("worker", "--queues", "views,nonsense"), 2, "'nonsense' is not one of dead_letters, delivery"),
        (("generate", "--sign", ""), 2, "'' is not one of aries, taurus"),
        (("generate", "--day", ""), 2, "(YYYY-MM-DD)"),
        (("generate", "--yes"), 2, "--yes goes with --again"),
        (("status", "--watch", "--json"), 2, "--watch goes without --json"),
        (("no-such-command",), 2, "No such command"),
        (("--help",), 0, "Exit codes"),
        (("worker", "--help"), 0, "--queues"),
        (("--version",), 0, "0.1.0"),
    ],
)
async def test_wrong_usage_is_told_in_plain_words(
    processes: Processes, command: tuple[str, ...], code: int, said: str
) -> None:
    ended, output = await processes.run(*command)
    assert ended == code
    assert said in output


@pytest.mark.parametrize(
    ("command", "setting", "value"),
    [
        ("bot", "BOT_TOKEN", ""),
        ("worker", "OPENAI_API_KEY", ""),
        ("scheduler", "RABBITMQ_URL", ""),
        ("scheduler", "HOME_TIMEZONE", "Mars/Crater"),
        ("migrate", "DATABASE_URL", "mysql://x"),
        ("status", "DATABASE_URL", ""),
    ],
)
async def test_a_wrong_setting_keeps_a_process_from_starting(
    processes: Processes, command: str, setting: str, value: str
) -> None:
    code, said = await processes.run(command, environment={setting: value})
    assert code == 78
    assert said.startswith(setting)
    assert "expected" in said


async def test_a_token_that_telegram_does_not_know_is_told(processes: Processes) -> None:
    code, said = await processes.run("bot", environment={"BOT_TOKEN": "42:WRONGWRONGWRONGWRONGWRONGWRONG"})
    assert code == 78
    assert "BOT_TOKEN is wrong" in said
    assert "WRONGWRONG" not in said


async def test_an_address_that_is_taken_is_told(processes: Processes, free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        code, said = await processes.run(
            "bot",
            environment={
                "WEBHOOK_URL": "https://bot.example/hook",
                "WEBHOOK_SECRET": WEBHOOK_SECRET,
                "WEBHOOK_LISTEN": f"127.0.0.1:{free_port}",
            },
        )
    assert code == 78
    assert "WEBHOOK_LISTEN is wrong" in said


async def test_status_says_that_a_deleted_text_is_missing(
    sandbox: Sandbox, processes: Processes, sql: asyncpg.Connection, queues: Queues
) -> None:
    (worker,) = await processes.workers()
    await until_written(sql)
    await queues.drained("ticks", "generation", "delivery")
    await worker.stop()
    await sql.execute("DELETE FROM horoscope_cache WHERE zodiac_sign = 'leo'")
    code, said = await processes.run("status", "--json")
    seen = json.loads(said)
    assert code == 1
    assert [day["states"]["leo"] for day in seen["days"]] == ["missing", "missing"]
    assert sum("1 text is missing" in alarm for alarm in seen["alarms"]) == 2
