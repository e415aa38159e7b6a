"""What several acceptance tests begin with."""

import asyncpg

from ops.sandbox import Sandbox
from ops.sandbox.telegram.world import Reader
from schema.signs import Sign
from tests.waiting import until_sql

GENERATING = "Генерирую гороскоп…"
FAILED = "Не получилось подготовить гороскоп"
AGAIN = "🔁 Попробовать ещё раз"


async def reader_of(sql: asyncpg.Connection, sandbox: Sandbox, reader_id: int, sign: Sign) -> Reader:
    """A reader who chose a sign some time ago."""
    await sql.execute(
        "INSERT INTO readers (telegram_id, zodiac_sign, language) VALUES ($1, $2, 'ru')",
        reader_id,
        sign.value,
    )
    return sandbox.telegram.reader(reader_id, name=f"Reader {reader_id}", language="ru")


async def until_written(sql: asyncpg.Connection, texts: int = 24) -> None:
    """Wait until so many texts are written: a fresh service writes today's and tomorrow's."""
    await until_sql(sql, "SELECT count(*) FROM horoscope_cache", texts)


def heading(sign: str) -> str:
    """How the message that shows a text begins, after the symbol."""
    return f"{sign} · "
