"""The row «receipts»: what years of use do to the table that tells a view from its copy.

The same code counts in two databases of one server, batch by batch in turn: in one ``view_receipts`` holds next to
nothing, in the other as much as a service of 60,000 views a day keeps. Then the full one lives through as many days as it keeps
receipts: each brings a day's receipts and throws those away that are out of date, until none is left of
those that it began with; and the two take turns again. A day takes a second here, so autovacuum is switched off,
and the table is vacuumed on the days on which autovacuum's own rule would have come to it.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import date, datetime
from uuid import uuid4

from sqlalchemy import text

from ops.bench.figures import Spread
from ops.bench.report import Line, Result
from ops.bench.stage import BenchError, Stage
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.database.migrations import migrate
from services.database.pool import Database
from services.days import ONE_DAY, first_day_alive, system_clock
from services.readers.views import RECEIPTS_KEPT, Views

A_DAY = 60_000  # views
DAYS = RECEIPTS_KEPT.days + 1
#: Of a round: so many batches of so many views in each database.
BATCHES, SIZE = 60, 1000

#: How fast a full table should be beside an empty one; and how large when all its receipts were replaced, beside
#: before.
OF_EMPTY = 0.7
OF_BEFORE = 1.5

FULL, AGED = "full", "all replaced"


@dataclass(frozen=True, slots=True)
class Size:
    """What the full table takes on the disk, in MiB: its rows, and its indexes."""

    receipts: int
    rows_mib: float
    indexes_mib: float

    @property
    def mib_a_million(self) -> float:
        """MiB a million receipts."""
        return (self.rows_mib + self.indexes_mib) / self.receipts * 1e6


@dataclass(frozen=True, slots=True)
class Stand:
    """The full table at one time of its life, beside the empty one.

    Args:
        empty: Views a second in the empty table, round by round.
        full: The same in the full one.
        size: Of the full one, before that.
    """

    empty: Sequence[float]
    full: Sequence[float]
    size: Size

    @property
    def ratio(self) -> Spread:
        """The full table's speed in terms of the empty one's."""
        return Spread.of_ratios(self.full, self.empty)


class Counting:
    """Our code as it counts in one database, where days go by when they are told to."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._days = 0
        self._views = Views(database, self.now)

    def now(self) -> datetime:
        """The time, as many days ahead as have gone by."""
        return system_clock() + ONE_DAY * self._days

    async def count(self) -> float:
        """The seconds that a batch takes."""
        now, signs = self.now(), tuple(Sign)
        batch = [
            HoroscopeRequested(uuid4(), signs[number % 12], now.date(), answered=True, at=now)
            for number in range(SIZE)
        ]
        began = time.perf_counter()
        await self._views.count(batch)
        return time.perf_counter() - began

    async def forget(self) -> None:
        """Throw all receipts away."""
        async with self._database.transaction() as connection:
            await connection.execute(text("TRUNCATE view_receipts"))

    async def next_day(self) -> float:
        """A day goes by, and what is out of date is thrown away; the seconds that this took."""
        self._days += 1
        began = time.perf_counter()
        await self._views.prune()
        return time.perf_counter() - began


async def measure(rounds: int, seconds: int) -> Result:
    """Measure the row.

    Args:
        rounds: How many, before the days go by and again after.
        seconds: Of no meaning here.

    Raises:
        BenchError: A figure would mean nothing.
        ServerError: A private server cannot be started.
    """
    del seconds
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(Stage())
        for statement in (
            "ALTER SYSTEM SET autovacuum = off",
            "SELECT pg_reload_conf()",
            "CREATE DATABASE empty",
        ):
            await stage.sql.execute(statement)
        url = stage.database_url
        other = await stack.enter_async_context(Database(f"{url.rpartition('/')[0]}/empty"))
        await migrate(other)
        empty = Counting(other)
        full = Counting(await stack.enter_async_context(Database(url)))
        first = first_day_alive(system_clock()) - RECEIPTS_KEPT
        for day in range(DAYS):
            await _insert(stage, first + ONE_DAY * day)
        await stage.sql.execute("VACUUM ANALYZE view_receipts")
        stands = {FULL: await _compare(stage, empty, full, rounds, FULL)}
        pruned: list[float] = []
        vacuumed = 0
        for day in range(1, DAYS + 1):
            await _insert(stage, full.now().date())
            pruned.append(await full.next_day())
            if A_DAY * (day - vacuumed) > await _tolerated(stage):
                await stage.sql.execute("VACUUM ANALYZE view_receipts")
                vacuumed = day
            if day % 10 == 0:
                print(f"day {day} of {DAYS}: pruned in {pruned[-1]:.1f} s", file=sys.stderr)
        oldest = await stage.sql.fetchval("SELECT min(view_date) FROM view_receipts")
        if oldest < first + ONE_DAY * DAYS:
            raise BenchError(f"receipts of {oldest} were not thrown away")
        stands[AGED] = await _compare(stage, empty, full, rounds, AGED)
    return _judge(stands, pruned, rounds)


async def _insert(stage: Stage, day: date) -> None:
    """A day's receipts, as if their views had been counted on it."""
    await stage.sql.execute(
        "INSERT INTO view_receipts SELECT gen_random_uuid(), $1 FROM generate_series(1, $2)", day, A_DAY
    )


async def _tolerated(stage: Stage) -> float:
    """The dead rows of the table above which autovacuum comes to it."""
    return float(
        await stage.sql.fetchval(
            """
            SELECT current_setting('autovacuum_vacuum_threshold')::float8 + reltuples * coalesce(
                (SELECT option_value FROM pg_options_to_table(reloptions)
                 WHERE option_name = 'autovacuum_vacuum_scale_factor'),
                current_setting('autovacuum_vacuum_scale_factor'))::float8
            FROM pg_class WHERE oid = 'view_receipts'::regclass
            """
        )
    )


async def _compare(stage: Stage, empty: Counting, full: Counting, rounds: int, name: str) -> Stand:
    size = await _size(stage)
    await stage.sql.execute("CHECKPOINT")  # none of what went before is left to be written
    rates: dict[Counting, list[float]] = {empty: [], full: []}
    # The first round is not on record: a page's first change after a checkpoint costs more than all that follow.
    for number in range(-1, rounds):
        await empty.forget()
        spent = {empty: 0.0, full: 0.0}
        for batch in range(BATCHES):
            for counting in (empty, full) if batch % 2 else (full, empty):
                spent[counting] += await counting.count()
        if number < 0:
            continue
        for counting, seconds in spent.items():
            rates[counting].append(BATCHES * SIZE / seconds)
        print(
            f"round {number + 1} of {rounds}: {name} {rates[full][-1]:.0f}/s, empty {rates[empty][-1]:.0f}/s",
            file=sys.stderr,
        )
    return Stand(rates[empty], rates[full], size)


async def _size(stage: Stage) -> Size:
    row = await stage.sql.fetchrow(
        """
        SELECT count(*) AS receipts, pg_table_size('view_receipts') / 1048576.0 AS rows_mib,
               pg_indexes_size('view_receipts') / 1048576.0 AS indexes_mib
        FROM view_receipts
        """
    )
    return Size(row["receipts"], float(row["rows_mib"]), float(row["indexes_mib"]))


def _judge(stands: Mapping[str, Stand], pruned: Sequence[float], rounds: int) -> Result:
    sizes = [stand.size.mib_a_million for stand in stands.values()]
    growth = sizes[1] / sizes[0]
    lines = [
        Line(
            f"views a second, {name} / empty",
            f"≥ {OF_EMPTY} ×",
            stand.ratio.show(),
            stand.ratio.median >= OF_EMPTY,
        )
        for name, stand in stands.items()
    ]
    lines.append(Line(f"size, {AGED} / before", f"≤ {OF_BEFORE} ×", f"{growth:.2f} ×", growth <= OF_BEFORE))
    return Result(
        name="receipts",
        title=f"Receipts: {DAYS} days of {A_DAY:,} views, and {DAYS} more ({rounds} rounds)",
        lines=lines,
        details=[
            ("", "views/s", "beside empty", "receipts", "rows", "indexes", "a million"),
            *(
                (
                    name,
                    f"{Spread.of(stand.full).median:.0f}",
                    f"{Spread.of(stand.empty).median:.0f}",
                    f"{stand.size.receipts:,}",
                    f"{stand.size.rows_mib:.0f} MiB",
                    f"{stand.size.indexes_mib:.0f} MiB",
                    f"{stand.size.mib_a_million:.0f} MiB",
                )
                for name, stand in stands.items()
            ),
        ],
        notes=[f"A day's {A_DAY:,} receipts are thrown away in {Spread.of(pruned).show('.2f', 's')}."],
        samples={
            "rounds": rounds,
            "stands": {name: asdict(stand) for name, stand in stands.items()},
            "pruned_s": list(pruned),
        },
    )
