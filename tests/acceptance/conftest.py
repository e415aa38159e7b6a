"""What several acceptance tests begin with."""

from datetime import date, timedelta

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


async def write_all_but(sql: asyncpg.Connection, sign: Sign, today: date) -> None:
    """Write every text that a reader anywhere may ask for, except one of today's."""
    await sql.executemany(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ($1, $2, $3)",
        [
            (each.value, day, f"{each} {day}")
            for each in Sign
            for day in (today + timedelta(days=ahead) for ahead in (-1, 0, 1, 2))
            if (each, day) != (sign, today)
        ],
    )


def heading(sign: str) -> str:
    """How the message that shows a text begins, after the symbol."""
    return f"{sign} · "
