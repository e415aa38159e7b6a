"""`python -m ops.stack.demo`: the sandbox of `make up`.

It has the service's texts, a clock that can be moved, and a listener whose connections are bounded.
"""

import asyncio
import os
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import asyncpg
import uvloop

from ops.sandbox import Sandbox
from ops.sandbox.__main__ import argument_parser, serve
from ops.sandbox.hooks import HookError, Missing, ReaderText
from ops.stack.clock import MovableClock, Offset
from services.process.http import BoundedSite

_PATIENCE = 5.0  # seconds for PostgreSQL to answer


class StoredTexts:
    """The texts in the service's database. `home` is the time zone of readers who have not chosen one."""

    def __init__(self, database_url: str, home: str) -> None:
        self._database_url = database_url
        self._home = home

    async def of(self, reader_id: int) -> ReaderText | None:
        """The reader's text; None while the reader has no sign."""
        return await self._ask(reader_id, "SELECT EXISTS (SELECT FROM horoscope_cache WHERE {})")

    async def forget(self, reader_id: int) -> ReaderText | None:
        """Delete the reader's text; the next request writes it anew."""
        return await self._ask(reader_id, "WITH d AS (DELETE FROM horoscope_cache WHERE {}) SELECT false")

    async def _ask(self, reader_id: int, statement: str) -> ReaderText | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                connection = await asyncpg.connect(self._database_url)
                try:
                    reader = await connection.fetchrow(
                        "SELECT zodiac_sign, coalesce(time_zone, $2) FROM readers WHERE telegram_id = $1",
                        reader_id,
                        self._home,
                    )
                    if not reader or not reader[0]:
                        return None
                    day = datetime.now(ZoneInfo(reader[1])).date()
                    where = "zodiac_sign = $1 AND horoscope_date = $2"
                    exists = await connection.fetchval(statement.format(where), reader[0], day)
                    return ReaderText(reader[0], day.isoformat(), bool(exists))
                finally:
                    await connection.close()
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise HookError(f"PostgreSQL does not answer: {error}") from error


def main() -> None:
    """Run until SIGTERM."""
    parser = argument_parser("python -m ops.stack.demo")
    parser.add_argument("--home", default="Europe/Moscow", help="the home time zone (default: %(default)s)")
    parser.add_argument("--clock", type=Path, help="file of the clock's offset")
    parser.add_argument("--no-clock", default="library", help="why there is no such file")
    arguments = vars(parser.parse_args())
    home, file, reason = (arguments.pop(name) for name in ("home", "clock", "no_clock"))
    url = os.environ.get("DATABASE_URL")
    missing: Missing = "servers" if reason == "servers" else "library"
    uvloop.run(
        serve(
            Sandbox(
                **arguments,
                texts=StoredTexts(url, home) if url else "servers",
                clock=MovableClock(Offset(file), home) if file else missing,
                site=BoundedSite,
            )
        )
    )


if __name__ == "__main__":
    main()
