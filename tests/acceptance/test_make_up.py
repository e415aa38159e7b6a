"""`make up` on servers of the test's own, in a folder of the test's own."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import pytest
import yarl

from schema.signs import Sign
from tests.acceptance.conftest import write_all_but
from tests.waiting import DEADLINE_S

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from ops.stack import __main__ as up
up.ROOT, up.LOCAL = Path(sys.argv[1]), Path(sys.argv[1]) / ".local"
sys.exit(up.main())
"""
Up = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Starts `make up` with some settings; what it prints goes to the file `said`."""
    started: list[subprocess.Popen[str]] = []

    def start(**settings: str) -> subprocess.Popen[str]:
        with (tmp_path / "said").open("w") as said:
            env = {name: os.environ[name] for name in ("PATH", "HOME")} | {"PYTHONPATH": str(ROOT)} | settings
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, tmp_path], env=env, stdout=said, stderr=said, text=True
                )
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


async def test_the_addresses_come_last_and_a_command_beside_it_gets_the_settings(
    up: Up, tmp_path: Path, database_url: str, rabbitmq_url: str, sql: asyncpg.Connection
) -> None:
    home = "Pacific/Kiritimati"  # far from the default: the days are others, for most of the time
    await write_all_but(sql, Sign.LEO, datetime.now(ZoneInfo(home)).date())
    process = up(
        DATABASE_URL=database_url, RABBITMQ_URL=rabbitmq_url, HOME_TIMEZONE=home, NIGHT_RETRIES="7,70"
    )
    said = tmp_path / "said"
    async with asyncio.timeout(2 * DEADLINE_S):
        while "Stop        Ctrl-C" not in said.read_text():
            assert process.poll() is None, said.read_text()
            await asyncio.sleep(0.1)
    lines = said.read_text().splitlines()
    (written,) = [number for number, line in enumerate(lines) if "horoscope.written" in line]
    (first,) = [number for number, line in enumerate(lines) if line.startswith("make up   |   Chat ")]
    assert written < first
    assert "make up   | 24 of 24 texts are ready." in lines
    kept = (tmp_path / ".local" / "env").read_text()
    assert f"export HOME_TIMEZONE={home}" in kept
    assert "export NIGHT_RETRIES=7,70" in kept
    process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(process.wait, DEADLINE_S) == 0


def test_a_rabbitmq_that_is_not_there_is_named_in_one_line(
    up: Up, tmp_path: Path, database_url: str, free_port: int
) -> None:
    url = yarl.URL(f"amqp://me:secret@127.0.0.1:{free_port}/")
    assert up(DATABASE_URL=database_url, RABBITMQ_URL=str(url)).wait(DEADLINE_S) == 1
    said = (tmp_path / "said").read_text()
    assert said.splitlines()[0] == (
        f"make up   | RABBITMQ_URL: {url.with_password(None)} cannot be reached: "
        "[Errno 111] Connection refused"
    )
    assert "secret" not in said
    assert "Traceback" not in said
