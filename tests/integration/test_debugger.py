"""A dead letter's message under the debugger: it runs, and nothing comes of it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import click
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from ops.cli import debugger
from ops.cli.debugger import RolledBack
from ops.sandbox import Sandbox
from schema.errors import DatabaseUnavailable, Refused
from schema.messages import DeliverHoroscope, GenerateHoroscope, HoroscopeRequested, Message
from schema.signs import Sign
from services.app import App
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.horoscopes import leases
from services.process.settings import Settings, WrongSettings
from tests.conftest import MODEL_KEY
from tests.dead_letters import MASK, TODAY, inspector_on, letter_of
from tests.operators import put_text
from tests.queues import Queues

Debug = Callable[..., Awaitable[tuple[bool, str]]]
LEO = GenerateHoroscope(Sign.LEO, TODAY)
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename"


@pytest.fixture
def die(database: Database) -> Callable[[Message | bytes], Awaitable[None]]:
    async def die(message: Message | bytes) -> None:
        await Archive(database, MASK).keep([letter_of(message)])

    return die


@pytest.fixture
def debug(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Debug:
    """The debugger with somebody typing commands: whether the handler raised, and what was printed."""

    async def run(typed: str = "c\n", *, key: str | None = MODEL_KEY, **options: bool) -> tuple[bool, str]:
        monkeypatch.setattr(sys, "stdin", StringIO(typed))
        given = settings.model_copy(update={"openai_api_key": SecretStr(key) if key else None})
        usual = {"post_mortem": False, "no_model": False}
        capsys.readouterr()
        raised = await asyncio.to_thread(debugger.run, given, 1, **usual | options)
        return raised, capsys.readouterr().out

    return run


async def everything(sql: asyncpg.Connection) -> dict[str, Any]:
    """Every row of every table."""
    return {name: await sql.fetch(f"SELECT * FROM {name}") for (name,) in await sql.fetch(TABLES)}


async def test_a_text_is_written_under_the_debugger_and_nothing_is_left_of_it(
    environment: dict[str, str],
    die: Any,
    sql: asyncpg.Connection,
    sandbox: Sandbox,
    app: App,
    queues: Queues,
    tmp_path: Path,
) -> None:
    await die(LEO)
    before = await everything(sql)
    typed = "p command.sign.value\nn\np 'at the ' + 'prompt'\nc\n"
    child = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("horoscope"),
        *("dead", "debug", "1"),
        env={"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(60):
        output, _ = await child.communicate(typed.encode())
    said = output.decode()
    assert child.returncode == 0, said
    assert "handlers.py" in said
    assert "write_ordered" in said
    assert "'leo'" in said
    assert "'at the prompt'" in said
    assert "horoscope.written" in said
    assert (
        f'Would be published to delivery: delivery.DeliverHoroscope {{"sign":"leo","day":"{TODAY}"}}' in said
    )
    assert "The handler ran to its end." in said
    assert MODEL_KEY not in said
    assert await everything(sql) == before
    assert len(sandbox.model.calls) == 1, "the model is really asked"
    assert queues.count("delivery") == 0


async def test_readers_are_answered_on_the_terminal_only(
    debug: Debug, die: Any, sql: asyncpg.Connection, sandbox: Sandbox, app: App, queues: Queues
) -> None:
    await put_text(sql, "leo", TODAY, "Львы <молчат>.")
    await sql.execute(
        "INSERT INTO waiters (request_id, chat_id, zodiac_sign, horoscope_date, language, message_id) "
        "VALUES ($1, 77, 'leo', $2, 'ru', 5)",
        uuid4(), TODAY,
    )  # fmt: skip
    await die(DeliverHoroscope(Sign.LEO, TODAY))
    before = await everything(sql)
    raised, said = await debug(key=None)
    assert not raised
    assert "Telegram would be told: editMessageText {" in said
    assert '"chat_id":77,"message_id":5' in said
    assert "Львы <молчат>." in said
    assert "Would be published to views: views.HoroscopeRequested" in said
    assert await everything(sql) == before
    assert list(sandbox.telegram.calls) == []
    assert queues.count("views") == 0


async def test_a_view_is_counted_over_a_fast_lane_and_taken_back(
    debug: Debug, die: Any, sql: asyncpg.Connection
) -> None:
    await die(HoroscopeRequested(uuid4(), Sign.LEO, TODAY, answered=True, at=datetime.now(UTC)))
    before = await everything(sql)
    raised, said = await debug("p len(events)\nc\n")
    assert not raised
    assert "count_views" in said
    assert "(Pdb) 1\n" in said
    assert await everything(sql) == before


async def test_post_mortem_stops_where_it_raises(debug: Debug, die: Any, sql: asyncpg.Connection) -> None:
    old = TODAY - timedelta(days=60)
    await die(HoroscopeRequested(uuid4(), Sign.LEO, old, answered=True, at=datetime.now(UTC)))
    before = await everything(sql)
    raised, said = await debug("p event.day.isoformat()\nup\nq\n", post_mortem=True)
    assert raised
    assert "It raised TooOld: a view of" in said
    assert "services/readers/views.py" in said
    assert f"'{old}'" in said
    assert "-> counted = await worker.app.views.count(events)" in said, "one frame up"
    assert await everything(sql) == before
    raised, said = await debug("", post_mortem=True)
    assert raised, "also when nobody types"


async def test_who_quits_leaves_nothing_either(debug: Debug, die: Any, sql: asyncpg.Connection) -> None:
    await die(LEO)
    before = await everything(sql)
    with pytest.raises(click.Abort):
        await debug("n\nn\nq\n")
    assert await everything(sql) == before


async def test_without_a_key_the_model_is_not_called(debug: Debug, die: Any, sandbox: Sandbox) -> None:
    await die(LEO)
    with pytest.raises(WrongSettings, match=r"OPENAI_API_KEY is not set.*--no-model"):
        await debug(key=None)
    raised, said = await debug(no_model=True)
    assert raised
    assert f"The model would be called: leo {TODAY}" in said
    assert "It raised ModelUnavailable" in said
    assert list(sandbox.model.calls) == []


async def test_bytes_are_run_once_they_are_edited(debug: Debug, die: Any, database: Database) -> None:
    await die(b"\xff no message")
    with pytest.raises(Refused, match="dead letter 1 cannot be answered: it is no message"):
        await debug()
    await inspector_on(database).edits.edit(1, by="Anna", actor="ticks.ReconcileTick", arguments={})
    raised, said = await debug()
    assert not raised
    assert "reconcile" in said
    assert "Would be published to generation: generation.GenerateHoroscope" in said


async def test_nothing_runs_out_while_somebody_sits_at_the_prompt(
    debug: Debug, die: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 4.0)
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.2)
    await die(LEO)
    sits = "!__import__('time').sleep(4.2)"
    raised, said = await debug(f"tbreak worker.writer.author._answer\nc\n{sits}\nc\n")
    assert not raised, said
    assert "model.py" in said
    assert "Would be published to delivery" in said


@pytest.fixture
async def rolled_back(database_url: str) -> AsyncIterator[RolledBack]:
    async with RolledBack(database_url) as database:
        yield database


async def test_lanes_and_transactions_see_each_other_and_nobody_else_sees_them(
    rolled_back: RolledBack, database: Database
) -> None:
    async with rolled_back.transaction() as connection:
        await connection.execute(text("INSERT INTO ticks (name, did) VALUES ('midnight', 'x')"))
    for lane in (rolled_back.reads, rolled_back.writes, rolled_back.asides, rolled_back.lane()):
        ((count,),) = await lane.fetch("SELECT count(*) FROM ticks", timeout=5)
        assert count == 1
    await rolled_back.writes.fetch("UPDATE ticks SET did = $1", "y", timeout=5)
    async with rolled_back.transaction() as connection:
        assert (await connection.execute(text("SELECT did FROM ticks"))).scalar() == "y"
    async with database.transaction() as other:
        assert (await other.execute(text("SELECT count(*) FROM ticks"))).scalar() == 0


async def test_what_fails_takes_back_its_own_part_only(rolled_back: RolledBack) -> None:
    await rolled_back.writes.fetch("INSERT INTO ticks (name, did) VALUES ('midnight', 'x')", timeout=5)
    with pytest.raises(asyncpg.UniqueViolationError):
        await rolled_back.writes.fetch("INSERT INTO ticks (name, did) VALUES ('midnight', 'x')", timeout=5)
    with pytest.raises(DatabaseUnavailable):
        await rolled_back.writes.fetch("SELECT pg_sleep(60)", timeout=0.05)
    with suppress(ZeroDivisionError):
        async with rolled_back.transaction() as connection:
            await connection.execute(text("DELETE FROM ticks"))
            raise ZeroDivisionError
    ((count,),) = await rolled_back.reads.fetch("SELECT count(*) FROM ticks", timeout=5)
    assert count == 1


async def test_many_at_once_take_turns(rolled_back: RolledBack) -> None:
    async def tick(name: str) -> None:
        async with rolled_back.transaction() as connection:
            await connection.execute(text("INSERT INTO ticks (name, did) VALUES (:name, '')"), {"name": name})

    lanes = (rolled_back.reads.fetch("SELECT 1", timeout=5) for _ in range(10))
    await asyncio.gather(*(tick(f"t{number}") for number in range(10)), *lanes)
    ((count,),) = await rolled_back.reads.fetch("SELECT count(*) FROM ticks", timeout=5)
    assert count == 10


async def test_a_database_that_is_away_is_told(free_port: int) -> None:
    async with RolledBack(f"postgresql://u@127.0.0.1:{free_port}/x") as database:
        with pytest.raises(DatabaseUnavailable):
            await database.check()


async def test_no_file_of_a_folder_gives_the_debugger_commands(
    environment: dict[str, str], die: Any, app: App, tmp_path: Path
) -> None:
    await die(LEO)
    home, folder = tmp_path / "home", tmp_path / "folder"
    for place in (home, folder):
        place.mkdir()
        (place / ".pdbrc").write_text(f"p 'from ' + {place.name!r}\n")

    async def said(*options: str) -> str:
        child = await asyncio.create_subprocess_exec(
            Path(sys.executable).with_name("horoscope"),
            *("dead", "debug", "1", "--no-model", *options),
            env={**environment, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            output, _ = await child.communicate(b"p 'from ' + 'here'\nc\n")
        return output.decode()

    alone = await said()
    assert "'from here'" in alone
    assert "'from home'" not in alone
    assert "'from folder'" not in alone
    asked = await said("--pdbrc")
    assert "'from home'" in asked
    assert "'from folder'" not in asked
