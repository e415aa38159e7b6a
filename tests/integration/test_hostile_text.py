"""What came from outside, on every page and in every command: it moves no cursor, turns no writing and hides nothing."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import pytest
from click.testing import CliRunner

from ops.cli import console, main
from schema.errors import ReaderGone
from schema.messages import VIEWS, DeadLetter, GenerateHoroscope
from schema.signs import Sign
from services.app import App
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.dead_letters.death import Death
from services.messaging import pauses
from services.messaging.envelope import decode, encode
from services.process.logs import Mask
from tests.operators import Operator, put_generation, put_process, put_text
from tests.queues import Queues

pytestmark = pytest.mark.usefixtures("quick")

TODAY = datetime.now(UTC).date()
#: ANSI sequences in both forms, marks of direction, characters without a shape, tags, markup of Rich and of HTML.
HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b5A \u202egnp\u202c \u2066x\u2069 a\u200bb\u2060c\u00add \u061c\U000e0041 [bold]b[/bold] <b>"
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\U000e0000-\U000e0fff]"
)


@pytest.fixture
async def hostile(app: App, database: Database, sql: asyncpg.Connection, queues: Queues) -> int:
    """A service into which others have written; the number of a dead letter."""
    await put_text(sql, "leo", TODAY, f"Звёзды {HOSTILE}")
    await put_generation(sql, "virgo", TODAY, "given_up", error=HOSTILE, writer=HOSTILE)
    await put_generation(sql, "aries", TODAY, "retrying", error=HOSTILE, writer=HOSTILE)
    await put_process(sql, "worker", HOSTILE, release=HOSTILE[:20])
    await pauses.pause(database, VIEWS, by=HOSTILE, why=HOSTILE)
    parts = decode(encode(GenerateHoroscope(Sign.LEO, TODAY)))
    parts |= {"actor_name": HOSTILE, "kwargs": {HOSTILE: HOSTILE, "day": HOSTILE}, "message_id": HOSTILE}
    parts |= {"options": {"attempts": [{"at": "x", "host": HOSTILE, "error": HOSTILE}], "traceback": HOSTILE}}
    headers = Death.of(ReaderGone(HOSTILE), VIEWS, str, replay=None).headers()
    archive = Archive(database, Mask([]))
    await archive.keep([DeadLetter(orjson.dumps(parts), headers)])
    await archive.keep([DeadLetter(HOSTILE.encode(), {"queue": HOSTILE, "reason": HOSTILE, "cause": "x"})])
    await sql.execute(
        "INSERT INTO dead_letter_notes (fingerprint, note, noted_by) SELECT fingerprint, $1, $1 FROM dead_letters",
        HOSTILE,
    )
    await sql.execute(
        "INSERT INTO dead_letter_edits (letter, actor, arguments, edited_by) VALUES (1, $1, $2, $1)",
        HOSTILE, orjson.dumps({HOSTILE: HOSTILE}).decode(),
    )  # fmt: skip
    await sql.execute(
        "UPDATE dead_letters SET state = 'dropped', said_by = $1, said = $1 WHERE id = 2", HOSTILE
    )
    queues.put(VIEWS, orjson.dumps(parts | {"message_id": "1"}))
    queues.put(VIEWS, HOSTILE.encode())
    return 1


async def test_no_page_and_no_answer_of_the_api_deceives(operator: Operator, hostile: int) -> None:
    for path in (
        "/", "/processes", "/queues", f"/queues/{VIEWS}", "/dead", "/dead?state=any", f"/dead/{hostile}", "/dead/2",
        f"/dead/replay?id={hostile}", f"/dead/drop?id={hostile}", "/dead/restore?id=2", "/dead/runs", f"/texts/{TODAY}/leo",
        f"/texts/{TODAY}/virgo", f"/dead?text=%E2%80%AE{'x' * 10}", "/runbook",
        "/api/today", "/api/queues", "/api/processes", "/api/dead", "/api/dead?state=any", "/api/dead/letters?state=any",
        "/api/dead/runs",
    ):  # fmt: skip
        answer = await operator.get(path)
        assert answer.status_code in {200, 409, 422}, path
        assert HIDDEN.findall(answer.text) == [], path
    looked = await operator.send(f"/queues/{VIEWS}/peek", of=f"/queues/{VIEWS}")
    assert "gnp" in looked.text
    assert HIDDEN.findall(looked.text) == []
    letters = (await operator.get("/api/dead/letters?state=any")).json()["letters"]
    assert letters[1]["arguments"][HOSTILE] == HOSTILE, "JSON's escapes mean what they stand for"


async def test_no_command_moves_the_cursor_or_hides_anything(
    hostile: int, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "terminal_width", lambda: 80)

    async def horoscope(*command: Any) -> str:
        result = await asyncio.to_thread(
            CliRunner().invoke, main, list(map(str, command)), env=environment, color=False
        )
        assert not isinstance(result.exception, Exception), result.exception
        return result.output

    for command in (
        ["status"], ["queues"], ["dead", "list", "--state", "any"], ["dead", "groups", "--state", "any"],
        ["dead", "show", hostile], ["dead", "show", 2], ["dead", "replay", hostile, "--dry-run"], ["dead", "runs"],
        ["queues", "peek", VIEWS], ["dead", "drop", hostile, "--why", "x"], ["dead", "list", "--actor", HOSTILE],
        ["dead", "debug", hostile],
    ):  # fmt: skip
        for form in ([], ["--json"]) if command[1:2] != ["debug"] else ([],):
            said = await horoscope(*command, *form)
            assert HIDDEN.findall(said) == [], (command, form)
            if not form and command[0] == "dead" and command[1] in {"list", "groups"}:
                assert all(len(line) <= 80 for line in said.splitlines() if " " in line.strip()), said
    assert "[bold]b[/bold]" in await horoscope("dead", "show", hostile), "markup is text"
