"""What commands print, held against the files in ``tests/golden``: at 80 and at 120 columns, and in a pipe.

After a wanted change write the files anew, and read what has changed in them::

    GOLDEN=write .venv/bin/python -m pytest tests/integration/test_golden.py
    GOLDEN=write .venv/bin/python -m pytest tests/unit/test_documents.py  # the documents show some of them
    git diff
"""

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import click
import pytest
from click.testing import CliRunner

from ops.cli import console, main, tables
from ops.cli.console import Screen
from schema.errors import ModelRefused, ModelUnavailable
from schema.messages import GenerateHoroscope, HoroscopeRequested
from schema.sentences import Sentence
from schema.signs import Sign
from services import days, status
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.messaging.management import QueueFlow
from services.messaging.pauses import Pause
from services.messaging.queues import QueuedMessage, QueueStatus
from services.process.logs import Mask
from tests.dead_letters import MASK, letter_of

GOLDEN = Path(__file__).parents[1] / "golden"
WIDTHS = {"80": 80, "120": 120, "pipe": None}
TODAY = date(2026, 11, 22)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
LONG = (
    "the model's server answered 503: the engine is overloaded, please try again later; request "
    "req_0123456789abcdef0123456789abcdef"
)

Run = Callable[..., Awaitable[str]]


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as here:
        here.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(params=WIDTHS)
def golden(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Compares what a command printed with its file, at a width that the commands take for the terminal's."""
    monkeypatch.setattr(console, "terminal_width", lambda: WIDTHS[request.param])

    def compare(name: str, printed: str) -> None:
        path = GOLDEN / f"{name}.{request.param}.txt"
        if os.environ.get("GOLDEN") == "write":
            path.write_text(printed)
        expected = path.read_text() if path.exists() else f"no {path.name}; see the head of {__file__}"
        assert printed == expected

    return compare


@pytest.fixture
def run(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``horoscope dead …``: what it prints on the standard output and error."""
    monkeypatch.setattr(days, "system_clock", lambda: NOON)

    async def run(*command: Any) -> str:
        environment = {"DATABASE_URL": database_url}
        arguments = ["dead", *map(str, command)]
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, env=environment)
        assert "Traceback" not in result.output
        assert not isinstance(result.exception, Exception), result.exception
        return result.output

    return run


@pytest.fixture
async def letters(database: Database) -> None:
    """Five letters."""
    archive = Archive(database, MASK)
    view = HoroscopeRequested(UUID(int=7), Sign.SAGITTARIUS, date(2026, 9, 23), answered=True, at=NOON)
    for letter in (
        letter_of(GenerateHoroscope(Sign.LEO, TODAY), ModelUnavailable("the model is away"), attempts=2),
        letter_of(GenerateHoroscope(Sign.SAGITTARIUS, TODAY), ModelUnavailable(LONG), attempts=4),
        letter_of(GenerateHoroscope(Sign.VIRGO, TODAY), ModelRefused("401: no such key")),
        letter_of(b"\xff\x00 no message"),
        letter_of(view),
    ):
        await archive.keep([letter])


@pytest.fixture
async def history(letters: None, run: Run, sql: asyncpg.Connection) -> None:
    """The same with an edit, a drop, a note and two runs, everything at a time of our choice."""
    await at_fixed_times(sql)
    await run("edit", 1, "--set", "sign=aries", "--by", "anna@desk")
    await run("drop", 5, "--why", "nobody will miss it", "--by", "boris@desk", "--yes")
    group = await sql.fetchval("SELECT fingerprint FROM dead_letters WHERE id = 3")
    await run(
        "note", group, "The key had expired. It is renewed every quarter; see the calendar of the team."
    )
    await run(
        "replay",
        1,
        2,
        "--why",
        "the model is back after its outage of this morning",
        "--yes",
        "--by",
        "anna@desk",
    )
    await run("cancel", 1, "--by", "anna@desk")
    await run("replay", 3, "--why", "the key is renewed", "--rate", 5, "--yes", "--by", "boris@desk")
    await at_fixed_times(sql)


async def at_fixed_times(sql: asyncpg.Connection) -> None:
    """Replace what differs from run to run: times, hosts, and the ids that are drawn."""
    await sql.execute("""
        UPDATE dead_letters SET
            death = ('00000000-0000-0000-0000-' || lpad(id::text, 12, '0'))::uuid,
            body = CASE WHEN message_id IS NULL THEN body ELSE convert_to(jsonb_set(
                convert_from(body, 'UTF8')::jsonb, '{message_id}', to_jsonb('message-' || id))::text, 'UTF8') END,
            message_id = CASE WHEN message_id IS NOT NULL THEN 'message-' || id END,
            published_at = CASE WHEN message_id IS NOT NULL THEN '2026-11-22 06:00:00+00'::timestamptz END,
            died_at = '2026-11-22 06:30:00+00'::timestamptz + id * interval '61 seconds',
            state_since = '2026-11-22 06:31:00+00'::timestamptz + id * interval '61 seconds',
            attempts = (SELECT COALESCE(jsonb_agg(
                each || '{"at": "2026-11-22T06:20:00+00:00", "seconds": 12.3, "host": "worker-1", "release": "0.1.0"}'
            ), '[]') FROM jsonb_array_elements(attempts) AS each),
            host = 'worker-1', release = '0.1.0'
    """)
    await sql.execute("UPDATE dead_letter_edits SET edited_at = '2026-11-22 07:00:00+00'")
    await sql.execute("""
        UPDATE replay_runs SET started_at = '2026-11-22 07:10:00+00'::timestamptz + id * interval '1 minute'
    """)


READING = {
    "dead-list": ("list",),
    "dead-list-any": ("list", "--state", "any"),
    "dead-list-verdict": ("list", "--verdict", "ready"),
    "dead-list-nothing": ("list", "--sign", "pisces"),
    "dead-groups": ("groups", "--state", "any"),
    "dead-show": ("show", "1"),
    "dead-show-garbage": ("show", "4"),
    "dead-show-dropped": ("show", "5"),
    "dead-runs": ("runs",),
    "dead-run": ("run", "1"),
    "dead-dry-run": ("replay", "1", "2", "3", "4", "5", "--dry-run"),
}


@pytest.mark.parametrize("name", READING)
async def test_what_the_commands_about_dead_letters_show(
    name: str, run: Run, history: None, golden: Callable[[str, str], None]
) -> None:
    golden(name, await run(*READING[name]))


async def test_what_the_commands_that_change_dead_letters_say(
    run: Run, letters: None, sql: asyncpg.Connection, tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    await at_fixed_times(sql)
    file = tmp_path / "letters.jsonl"
    told = [
        await run("edit", 1, "--set", "sign=aries"),
        await run("edit", 4, "--set", "sign=aries"),
        await run("drop", 3, 4, "--why", "noise", "--yes"),
        await run("restore", 3, 4),
        await run("export", "--output", file),
        await run("import", file, "--adopt"),
        await run("replay", "--all", "--why", "mended", "--yes", "--by", "anna@desk"),
    ]
    golden("dead-changes", re.sub(r"started .* by", "started … by", "\n".join(told)))


async def test_what_the_commands_about_people_show(
    database_url: str, sql: asyncpg.Connection, golden: Callable[[str, str], None]
) -> None:
    await sql.execute("""
        INSERT INTO accounts (id, name, role, password_hash, created_at, password_at, disabled_at) VALUES
            (1, 'anna', 'operator', '', '2026-11-01Z', '2026-11-20 09:30Z', NULL),
            (2, 'boris@example.org', 'viewer', '', '2026-11-01Z', '2026-11-01Z', '2026-11-21 18:00Z');
        INSERT INTO sessions VALUES ('', 1, NULL, '192.0.2.7', '2026-11-22 08:00Z', '2026-11-22 11:50Z');
        INSERT INTO api_tokens (name, role, digest, created_by, created_at, expires_at, used_at, revoked_at) VALUES
            ('grafana', 'viewer', 'a', 'anna', '2026-11-01Z', '2036-01-30Z', '2026-11-22 11:59Z', NULL),
            ('report', 'admin', 'b', 'boris@desk', '2026-11-01Z', '2036-01-30Z', NULL, '2026-11-02 10:00Z');
        INSERT INTO audit (at, act, who, role, origin, what, subject, before, after, outcome, detail) VALUES
            ('2026-11-22 11:50Z', gen_random_uuid(), '?', '', '203.0.113.9', 'session.sign-in', '', NULL, NULL, 'refused',
             'wrong name or password; further attempts are refused for 300 s'),
            ('2026-11-22 11:52Z', gen_random_uuid(), 'anna', 'operator', '192.0.2.7', 'queue.pause', 'views', NULL,
             '{"why": "the counters are being repaired"}', 'done', ''),
            ('2026-11-22 11:54Z', gen_random_uuid(), 'boris', 'shell', 'root@worker-1', 'dead.edit', '7',
             '{"actor": "generation.GenerateHoroscope", "arguments": {"sign": "leo", "day": "2026-11-22"}}',
             '{"actor": "generation.GenerateHoroscope", "arguments": {"sign": "virgo", "day": "2026-11-22"}}', 'done', ''),
            ('2026-11-22 11:56Z', gen_random_uuid(), 'boris', 'shell', 'root@worker-1', 'queue.purge', 'generation', NULL,
             NULL, 'begun', '');
    """)

    async def run(*command: str) -> str:
        environment = {"DATABASE_URL": database_url}
        result = await asyncio.to_thread(CliRunner().invoke, main, command, env=environment)
        assert result.exit_code == 0, result.output
        return result.output

    golden("accounts", await run("accounts", "list"))
    golden("accounts-tokens", await run("accounts", "token", "list"))
    golden("audit", await run("audit"))


def shown(width: int | None, show: Callable[[Screen], None]) -> str:
    lines: list[str] = []
    show(Screen(Mask([]), width, lambda line: lines.append(click.unstyle(line))))
    return "\n".join([*lines, ""])


def test_what_status_shows(golden: Callable[[str, str], None]) -> None:
    today = {sign.value: "written" for sign in Sign} | {"leo": "given_up", "virgo": "retrying"}
    signs = [
        status.SignStatus("leo", "given_up", NOON, 4, None, "worker-1:17", LONG),
        status.SignStatus("virgo", "retrying", NOON, 2, NOON + timedelta(minutes=10), "worker-1:17", LONG),
    ]
    signs += [
        status.SignStatus("aries", "written", NOON, 1, NOON, "worker-1:17", "too short", NOON, "retrying")
    ]
    tomorrow = dict.fromkeys((sign.value for sign in Sign), "pending")
    seen = status.Status(
        days=[status.DayStatus(TODAY, today, signs), status.DayStatus(TODAY + timedelta(1), tomorrow, [])],
        ticks=[
            status.TickStatus("midnight", None, "", NOON + timedelta(hours=9)),
            status.TickStatus("reconcile", NOON, "ordered 1 text of 2026-11-22", NOON + timedelta(minutes=5)),
        ],
        queues=[
            QueueStatus("dead_letters", 0, 1),
            QueueStatus("views", 12_345, 2),
            QueueStatus("generation.retry.1800s", 1, 0),
            QueueStatus("generation.retry.600s", 0, 0),
        ],
        horoscopes_today=1234,
        readers=5678,
        waiters=3,
        parked=0,
        dead_letters=1,
        done_letters=2,
        tokens_today=98_765,
        cost_today_usd=0.1234,
        running={"bot": 1, "worker": 2, "scheduler": 1, "admin": 1},
        pauses=[Pause("ticks", "anna@desk", "the database is being moved", NOON, 60.0)],
        alarms=[
            status.Alarm("dead-letters-waiting", Sentence("1 dead letter needs a decision")),
            status.Alarm(
                "model-failing",
                Sentence("the model has failed 3 times in a row since 2026-11-22 12:00 UTC"),
                LONG,
            ),
        ],
    )
    width = console.terminal_width()
    golden("status", shown(width, lambda screen: tables.show_status(screen, seen)))
    golden("status-alarms", shown(width, lambda screen: tables.show_alarms(screen, seen.alarms, seen.notes)))
    golden("status-well", shown(width, lambda screen: tables.show_alarms(screen, [])))


def test_what_queues_shows(golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    flow = QueueFlow(
        "generation.retry.1800s", 12_345, 100, 2, 1234.5, 0.25, datetime.now(UTC) - timedelta(days=2)
    )
    queues = [
        QueueStatus("dead_letters", 0, 1, replace(flow, oldest_at=None)),
        QueueStatus("generation.retry.1800s", 12_345, 0, flow),
        QueueStatus("views", 3, 2),
    ]
    pauses = [
        Pause("views", "anna@desk", "the counters are being repaired after the outage of today", NOON, 60.0)
    ]
    width = console.terminal_width()
    away = "Cannot connect to host 127.0.0.1:15672, at http://127.0.0.1:15672"
    golden("queues", shown(width, lambda screen: tables.show_queues(screen, queues, away, pauses)))


def test_what_peek_shows(golden: Callable[[str, str], None]) -> None:
    arguments = {
        "request_id": str(UUID(int=7)),
        "sign": "sagittarius",
        "day": "2026-11-22",
        "answered": False,
    }
    messages = [
        QueuedMessage(
            str(UUID(int=8)),
            "requests.HoroscopeRequested",
            NOON,
            arguments | {"about": LONG},
            2,
            redelivered=True,
        ),
        QueuedMessage(None, None, None, None, 0, redelivered=False, garbage="b'\\x00 no message'"),
    ]
    golden(
        "peek", shown(console.terminal_width(), lambda screen: tables.show_messages(screen, messages, 120))
    )


def files(width: str) -> list[Path]:
    return sorted(GOLDEN.glob(f"*.{width}.txt"))


def test_a_terminal_is_never_too_narrow_for_a_line_of_words_and_no_word_is_broken() -> None:
    for width, columns in WIDTHS.items():
        for path in files(width):
            words = {word for line in path.read_text().splitlines() for word in line.split()}
            whole = {
                word
                for line in path.with_name(f"{path.name.split('.')[0]}.pipe.txt").read_text().split()
                for word in [line]
            }
            assert words - whole == set(), path.name
            for line in path.read_text().splitlines():
                assert columns is None or len(line) <= columns or len(line.split()) == 1, (path.name, line)


def test_there_is_a_file_at_every_width_and_each_is_used() -> None:
    names = {width: {path.name.removesuffix(f".{width}.txt") for path in files(width)} for width in WIDTHS}
    assert names["80"] == names["120"] == names["pipe"]
    assert names["80"] >= READING.keys()
