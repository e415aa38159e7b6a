"""Personal data: what the tables hold about a reader, and how it is deleted.

:mod:`schema.tables` marks the columns that tell whose a row is, and those with free text; every statement here is made from
these marks. So a new table is told and deleted, too.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Column, CursorResult, LargeBinary, TextClause, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.tables import FREE_TEXT, OF_READER, OF_REQUEST, metadata
from services.database.pool import Database

log = structlog.get_logger(__name__)

#: Days that a reader who has blocked the bot is kept: some come back.
BLOCKED_KEPT_DAYS = 30
#: Seconds for which the button under the question of /forget can be pressed.
ASKED_S = 600
#: Readers that one transaction of pruning forgets, and such transactions in one night.
PRUNED_AT_ONCE = 1000
PRUNED_TIMES = 10

#: Digits of the shortest number that is looked for in free text. Shorter ones are dates and counts far more often.
_SHORTEST = 6
#: Blocks of 8 KiB of a table that one statement searches: tracebacks are long.
_BLOCKS_AT_ONCE = 1000
#: An escape that may end with a digit, before a number: ``encode(…, 'escape')`` writes a byte so, and JSON a character.
_ESCAPE = r"(?:\\[0-7]{3}|\\u[0-9a-fA-F]{4})"

#: Its rows are updates under way, perhaps the very order to forget. They are told and deleted, but nobody is known by them.
_UNDER_WAY = "unfinished_updates"


class Reason(StrEnum):
    """Why a reader was forgotten."""

    ASKED = "asked"  #: /forget
    OPERATOR = "operator"  #: ``horoscope readers forget``
    BLOCKED = "blocked"
    UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of an order to forget a reader."""

    rows: int  #: Rows that were deleted; 0: nothing was kept
    mentions: int  #: Rows in which the reader's number was blotted out


def _owned(mark: dict[str, bool]) -> dict[str, str]:
    """The column with this mark, by its table."""
    return {
        str(each.name): str(column.name)  # orjson takes no subclass of str for a key
        for each in metadata.sorted_tables
        for column in each.columns
        if column.info == mark
    }


def _by(of: str, name: str) -> TextClause:
    kind = _type(metadata.tables[of].columns[name])
    return text(
        f"SELECT to_jsonb(one) FROM {of} AS one WHERE {name} = ANY(CAST(:values AS {kind}[])) ORDER BY 1"
    )


def _type(column: Column[Any]) -> str:
    return str(column.type.compile(postgresql.dialect()))  # type: ignore[no-untyped-call]


def _as_text(column: Column[Any]) -> str:
    """A column's free text, in SQL; bytes that are no ASCII stand as octal escapes."""
    if isinstance(column.type, LargeBinary):
        return f"encode({column.name}, 'escape')"
    return f"CAST({column.name} AS text)"


def _blotted(column: Column[Any]) -> str:
    """Set a column to itself with a zero for each number that the bound pattern matches, in SQL. JSON stays JSON."""
    text_now = f"regexp_replace({_as_text(column)}, :pattern, '0', 'g')"
    if isinstance(column.type, LargeBinary):
        return f"{column.name} = decode({text_now}, 'escape')"
    return f"{column.name} = CAST({text_now} AS {_type(column)})"


def _mentions(columns: Sequence[Column[Any]]) -> str:
    """Whether one of the columns has one of the bound numbers, in some blocks of the table, in SQL."""
    said = f"concat_ws(' ', {', '.join(map(_as_text, columns))})"
    # To look for all numbers and compare them takes a tenth of the time of a pattern with these numbers.
    return f"""
        ctid >= CAST(CAST(:begin AS text) AS tid) AND ctid < CAST(CAST(:end AS text) AS tid) AND EXISTS (
            SELECT FROM regexp_matches({said}, :any_number, 'g') AS found
            WHERE found[1] = ANY(CAST(:numbers AS text[])))
    """


_READERS_COLUMN = _owned(OF_READER)
_REQUESTS_COLUMN = _owned(OF_REQUEST)
_TOLD = {of: _by(of, column) for of, column in _READERS_COLUMN.items()}
_TOLD_BY_REQUEST = {of: _by(of, column) for of, column in _REQUESTS_COLUMN.items() if of not in _TOLD}
_DELETE = {
    of: text(f"DELETE FROM {of} WHERE {column} = ANY(CAST(:readers AS bigint[]))")
    for of, column in _READERS_COLUMN.items()
}
_FREE = {
    each: columns
    for each in metadata.sorted_tables
    if (columns := [column for column in each.columns if column.info == FREE_TEXT])
}
_MENTIONS = {
    str(each.name): text(f"SELECT count(*) FROM {each.name} WHERE {_mentions(columns)}")
    for each, columns in _FREE.items()
}
_BLOT_OUT = {
    str(each.name): text(
        f"UPDATE {each.name} SET {', '.join(map(_blotted, columns))} WHERE {_mentions(columns)}"
    )
    for each, columns in _FREE.items()
}
_BLOCKS = text(
    "SELECT pg_relation_size(CAST(:of AS regclass)) / CAST(current_setting('block_size') AS integer)"
)

_MESSAGES = text("""
    SELECT * FROM (
        SELECT 'parked_messages' AS kept_in, queue,
               substring(encode(body, 'escape') FROM '"request_id": ?"([0-9a-f-]{36})"') AS request_id
        FROM parked_messages
        UNION ALL SELECT 'dead_letters', queue, arguments ->> 'request_id' FROM dead_letters
    ) AS message
    WHERE request_id = ANY(:requests) ORDER BY 1, 2, 3
""")

_NOW = text("SELECT clock_timestamp()")
_SINCE = text("SELECT created_at FROM readers WHERE telegram_id = :reader FOR UPDATE")
_COUNT = text("""
    INSERT INTO forgotten_readers (day, reason, readers) VALUES (CAST(now() AT TIME ZONE 'UTC' AS date), :reason, :readers)
    ON CONFLICT (day, reason) DO UPDATE SET readers = forgotten_readers.readers + excluded.readers
""")
# A reader who chose a sign and never asked for a text was last seen when they came.
_DUE = {
    Reason.BLOCKED: text("""
        SELECT telegram_id FROM readers WHERE blocked_at < now() - make_interval(days => :days)
        ORDER BY telegram_id LIMIT :at_once FOR UPDATE SKIP LOCKED
    """),
    Reason.UNSEEN: text("""
        SELECT telegram_id FROM readers
        WHERE GREATEST(seen_on, CAST(created_at AT TIME ZONE 'UTC' AS date))
              < CAST(now() AT TIME ZONE 'UTC' AS date) - CAST(:days AS integer)
        ORDER BY telegram_id LIMIT :at_once FOR UPDATE SKIP LOCKED
    """),
}


class PersonalData:
    """Tells and deletes what is kept about a reader.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database, retention_days: int) -> None:
        self._database = database
        self._retention_days = retention_days
        # To search many dead letters takes PostgreSQL seconds, and readers can ask for it at will: one search at a time.
        self._searching = asyncio.Lock()

    async def export(self, reader: int) -> dict[str, Any] | None:
        """Every row about a reader, as JSON values; None: nothing is kept.

        ``tables`` has, by the table's name, what the table is for and its rows, with every column. ``messages`` are those that
        wait or failed and belong to a request in these rows. ``mentions`` counts the rows whose free text has the reader's
        number, such as errors: what else they say is not the reader's.
        """
        async with self._searching, self._database.transaction() as connection:
            told = {of: await _rows(connection, query, [reader]) for of, query in _TOLD.items()}
            requests = [row[column] for of, column in _REQUESTS_COLUMN.items() for row in told.get(of, [])]
            for of, query in _TOLD_BY_REQUEST.items():
                told[of] = await _rows(connection, query, list(map(UUID, requests)))
            messages = (await connection.execute(_MESSAGES, {"requests": requests})).mappings().all()
            mentions = {}
            for of, query in _MENTIONS.items():
                counts = [found.scalar_one() async for found in _by_blocks(connection, of, query, [reader])]
                if any(counts):
                    mentions[of] = sum(counts)
        if not any(rows for of, rows in told.items() if of != _UNDER_WAY) and not mentions:
            return None
        return {
            "telegram_id": reader,
            "exported_at": datetime.now(UTC).isoformat(),
            "tables": {of: {"about": metadata.tables[of].comment, "rows": rows} for of, rows in told.items()},
            "messages": [dict(message) for message in messages],
            "mentions": mentions,
        }

    async def ask(self, reader: int) -> datetime | None:
        """The present instant, by PostgreSQL, for :meth:`forget`; None: nothing is kept about the reader."""
        async with self._database.transaction() as connection:
            for of, query in _TOLD.items():
                if of != _UNDER_WAY and await _rows(connection, query, [reader]):
                    now: datetime = (await connection.execute(_NOW)).scalar_one()
                    return now
        return None

    async def is_current(self, reader: int, asked_at: datetime) -> bool:
        """A question of this instant can still be answered: it is not old, and the reader has not come anew since then."""
        async with self._database.transaction() as connection:
            return await _is_current(connection, reader, asked_at)

    async def forget(
        self, reader: int, reason: Reason, *, asked_at: datetime | None = None, **about: str
    ) -> Forgotten | None:
        """Delete everything about a reader, in one transaction; counted totals stay. The reader is a newcomer from then on.

        Args:
            asked_at: When the reader was asked; None: this needs no question.
            about: For the log: who orders it, and why. It must not name the reader.

        Returns:
            None: the question is not current, and nothing was deleted.
        """
        async with self._searching, self._database.transaction() as connection:
            if asked_at is not None and not await _is_current(connection, reader, asked_at):
                return None
            done = await _forget(connection, [reader], reason)
        log.info("reader.forgotten", reason=reason, rows=done.rows, mentions=done.mentions, **about)
        return done

    async def prune(self) -> int:
        """Forget readers who blocked the bot weeks ago or were not seen for the retention time; returns their number.

        It goes on in small transactions, and only so far in one night; the next night does the rest.
        """
        total = 0
        for reason, days in (
            (Reason.BLOCKED, BLOCKED_KEPT_DAYS),
            (Reason.UNSEEN, self._retention_days),
        ):
            for _ in range(PRUNED_TIMES):
                async with self._database.transaction() as connection:
                    asked = {"days": days, "at_once": PRUNED_AT_ONCE}
                    readers = list((await connection.execute(_DUE[reason], asked)).scalars())
                    if readers:
                        await _forget(connection, readers, reason)
                total += len(readers)
                if len(readers) < PRUNED_AT_ONCE:
                    break
        if total:
            log.info("readers.pruned", count=total)
        return total


async def _rows(
    connection: AsyncConnection, query: TextClause, values: Sequence[Any]
) -> list[dict[str, Any]]:
    return list((await connection.execute(query, {"values": list(values)})).scalars())


async def _is_current(connection: AsyncConnection, reader: int, asked_at: datetime) -> bool:
    came_at: datetime | None = (await connection.execute(_SINCE, {"reader": reader})).scalar()
    now: datetime = (await connection.execute(_NOW)).scalar_one()
    return abs(now - asked_at) <= timedelta(seconds=ASKED_S) and (came_at is None or came_at <= asked_at)


async def _forget(connection: AsyncConnection, readers: Sequence[int], reason: Reason) -> Forgotten:
    rows = mentions = 0
    for of, delete in _DELETE.items():
        deleted = await connection.execute(delete, {"readers": list(readers)})
        rows += 0 if of == _UNDER_WAY else deleted.rowcount
    for of, blot_out in _BLOT_OUT.items():
        mentions += sum([done.rowcount async for done in _by_blocks(connection, of, blot_out, readers)])
    if rows:
        # Last: until the commit, nobody else can count a reader for this day and reason.
        await connection.execute(_COUNT, {"reason": reason, "readers": len(readers)})
    return Forgotten(rows, mentions)


async def _by_blocks(
    connection: AsyncConnection, of: str, statement: TextClause, readers: Sequence[int]
) -> AsyncIterator[CursorResult[Any]]:
    """Execute a statement about mentions of readers on some blocks of a table after the other, each within seconds."""
    numbers = [number for number in map(str, readers) if len(number) >= _SHORTEST]
    if not numbers:
        return
    values = {
        "numbers": numbers,
        "any_number": f"{_ESCAPE}?([0-9]{{{_SHORTEST},}})",
        # Bound in any case, and used by updates only.
        "pattern": f"(?:(?<![0-9])|(?<={_ESCAPE}))(?:{'|'.join(numbers)})(?![0-9])",
    }
    blocks: int = (await connection.execute(_BLOCKS, {"of": of})).scalar_one()
    for begin in range(0, blocks, _BLOCKS_AT_ONCE):
        place = {"begin": f"({begin},0)", "end": f"({begin + _BLOCKS_AT_ONCE},0)"}
        yield await connection.execute(statement, values | place)
