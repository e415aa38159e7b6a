"""A column is renamed under the running processes: everything fails, and nothing of it tells on a reader or a secret."""

import html
import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import asyncpg
import pytest

from ops.sandbox import Sandbox
from ops.stack.ports import free_port as find_free_port
from schema.messages import VIEWS, HoroscopeRequested
from schema.signs import Sign
from services.messaging.envelope import encode
from tests.conftest import MODEL_KEY, TOKEN
from tests.dead import Dead
from tests.nursery import Nursery
from tests.processes import Process, Processes
from tests.queues import Queues
from tests.telling import ask

#: Of a reader: unusual characters, control characters, marks of direction, markup.
PERSONAL = {
    "first_name": "Аннэ-Мари́ 🦄",
    "last_name": 'O\'Hara "<b>" \u202egnp',
    "username": "anna_private_77",
    "text": "моя тайна «4711-4711» \x1b[31m\x9b2J [bold red] ёлка",
}
#: Pieces of it that nobody may read anywhere, as a library may have changed them.
PIECES = ("аннэ", "мари́", "hara", "anna_private", "тайна", "4711", "ёлка", "елка", "🦄", "gnp")
PASSWORD, SECRET, API_PASSWORD = "correct-horse-battery-9", "Zk3vQ9-b7Lw2_xT5mRp8", "tele/gram p@ss-27182"
SECRETS = (TOKEN, TOKEN.partition(":")[2], MODEL_KEY, PASSWORD, SECRET, API_PASSWORD)
#: A failing update may cost so many bytes of the log.
COST = 10_000

BREAK = """
    ALTER TABLE readers RENAME COLUMN zodiac_sign TO sign_of_reader;
    ALTER TABLE horoscope_views RENAME COLUMN view_count TO views_counted;
    ALTER TABLE readers ADD COLUMN said text NOT NULL DEFAULT 'x';
    ALTER TABLE readers ADD CONSTRAINT nobody CHECK (said IS NULL) NOT VALID
"""


def spelled(text: str) -> set[str]:
    """A text as a log might hold it, in small letters."""
    forms = (
        text,
        json.dumps(text)[1:-1],
        quote(text, safe=""),
        html.escape(text),
        ascii(text)[1:-1],
        repr(text)[1:-1],
    )
    return {form.lower() for form in forms}


def demand_private(what: str, where: str) -> None:
    """No secret and nothing of the reader is in there, however it is spelled."""
    found = where.lower()
    for hidden in (*SECRETS, *PIECES, *PERSONAL.values()):
        for form in spelled(hidden):
            assert form not in found, f"{what} tells {hidden!r}"
    for secret in SECRETS:
        if len(secret) >= 16:
            assert secret[: len(secret) // 2] not in where, f"{what} tells half of {secret!r}"


def demand_harmless(what: str, where: str) -> None:
    odd = {character for character in where if not character.isprintable() and character not in "\n\xa0"}
    assert odd == set(), what


def update_of(sandbox: Sandbox, text: str) -> dict[str, Any]:
    """A message of the reader, who answers to one with their words."""
    reader = sandbox.telegram.reader(7)
    names = {name: PERSONAL[name] for name in ("first_name", "last_name", "username")}
    about = {"date": 1, "chat": {"id": reader.id, "type": "private", **names}}
    words = {"message_id": 1, **about, "text": PERSONAL["text"]}
    sender = {"id": reader.id, "is_bot": False, "language_code": "ru", **names}
    return {
        "message_id": sandbox.telegram.new_message_id(), "from": sender, **about, "text": text,
        "entities": [{"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}],
        "reply_to_message": words, "quote": {"text": PERSONAL["text"], "position": 0},
    }  # fmt: skip


@pytest.mark.parametrize(("log_format", "mode"), [("console", "polling"), ("json", "webhook")])
async def test_a_renamed_column_tells_on_nobody(
    environment: dict[str, str],
    nursery: Nursery,
    sandbox: Sandbox,
    sql: asyncpg.Connection,
    queues: Queues,
    dead: Dead,
    log_format: str,
    mode: str,
) -> None:
    hook, page, metrics = (find_free_port() for _ in range(3))
    settings = environment | {
        "LOG_FORMAT": log_format,
        "TELEGRAM_API_URL": sandbox.url.replace("://", f"://proxy:{quote(API_PASSWORD, safe='')}@"),
        "WEBHOOK_URL": f"http://127.0.0.1:{hook}/hook" if mode == "webhook" else "",
        "WEBHOOK_SECRET": SECRET,
        "WEBHOOK_LISTEN": f"127.0.0.1:{hook}",
        "ADMIN_LISTEN": f"127.0.0.1:{page}",
        "ADMIN_PASSWORD": PASSWORD,
        "ADMIN_PROXIES": "127.0.0.1",
    }
    async with Processes(settings, nursery) as processes:
        (worker,) = await processes.workers(queues=[VIEWS, "dead_letters"])
        bot = await processes.bot({"METRICS_LISTEN": f"127.0.0.1:{metrics}"})
        admin = await processes.start("admin")
        await admin.said("admin.ready")

        await sql.execute(BREAK)
        await sql.execute(f"ALTER TABLE readers ALTER said SET DEFAULT {_quoted(PERSONAL['text'])}")
        # Telegram's own answer is nothing that can be read, and quotes what was asked for.
        before = len(bot.output)
        asked = ("/today", "/sign Лев", "/timezone Москва")
        for text in asked:
            sandbox.telegram.updates.add("message", update_of(sandbox, text))
        await sandbox.telegram.wait_for_calls("sendMessage", len(asked), chat_id=7)
        cost = len(bot.output[before:].encode())
        malformed = {"message": {"text": PERSONAL["text"], "from": PERSONAL["first_name"]}}
        await sandbox.telegram.send_update(malformed)
        await bot.said("update.malformed")
        now = datetime.now(UTC)
        queues.put(VIEWS, encode(HoroscopeRequested(uuid4(), Sign.LEO, now.date(), answered=True, at=now)))
        letter = await dead.next()
        basic = {"Authorization": aiohttp.encode_basic_auth("me", PASSWORD)}
        forged = {"X-Forwarded-For": "\u202e192.0.2.7 [bold]\u2066"}
        async with aiohttp.ClientSession(f"http://127.0.0.1:{page}") as http:
            async with http.get("/api/today", headers=basic) as answer:
                assert answer.status == 500
                api = await answer.text()
            wrong = {"Authorization": aiohttp.encode_basic_auth("me", "wrong"), **forged}
            async with http.get("/api/today", headers=wrong) as answer:
                assert answer.status == 401
            async with http.get("/api/dead/letters", headers=basic) as answer:
                api += await answer.text()
        await admin.said("admin.failed")
        await admin.said("admin.sign_in_failed")
        code, status = await processes.run("status")
        assert code == 1
        _, measured = await ask(metrics, "/metrics")
        await _stopped(processes, worker, bot, admin)

    assert "UndefinedColumnError" in bot.output + worker.output
    assert "CheckViolationError" in bot.output, "a row was refused, and not shown"
    assert "UndefinedColumnError" in letter.error
    assert "view_count" in (letter.traceback or ""), "the letter tells what is wrong"
    assert 0 < cost < len(asked) * COST
    records = await sql.fetch("SELECT * FROM dead_letters")
    for what, where in {
        "the bot": bot.output,
        "the worker": worker.output,
        "the page's process": admin.output,
        "the command": status,
        "the metrics": measured,
        "the API": api,
        "the dead letter": repr(letter) + repr([dict(each) for each in records]),
    }.items():
        demand_private(what, where)
        demand_harmless(what, where)
    if log_format == "json":
        for line in (bot.output + "\n" + worker.output + "\n" + admin.output).splitlines():
            assert len(line.encode()) < COST
            assert {"event", "level", "timestamp", "process"} <= json.loads(line).keys()


async def _stopped(processes: Processes, *running: Process) -> None:
    for process in running:
        assert await process.stop() == 0
    processes._started.clear()  # their tracebacks are what this is about


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
