"""Half of the row ``views``: counting beside the receipts that years of use leave in the table.

The same code counts in two databases of one server, batch by batch in turn. In one, ``view_receipts`` holds hardly
anything; in the other, as much as a service of 60,000 views a day keeps. Then the full table lives through as many days
as it keeps receipts. Each day inserts its receipts and prunes expired ones, until none of the first ones is left, and
the comparison is repeated. A day takes about a second here, so autovacuum is off, and the table is vacuumed on
the days on which autovacuum's own rule would do so.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from statistics import median
from uuid import uuid4

from sqlalchemy import text

from ops.bench.figures import Spread, ratios
from ops.bench.report import Line, progress
from ops.bench.stage import BenchError, Stage
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.database.migrations import migrate
from services.database.pool import Database
from services.days import ONE_DAY, first_day_alive, system_clock
from services.readers.views import RECEIPTS_KEPT, Views

A_DAY = 60_000  # views
DAYS = RECEIPTS_KEPT.days + 1
#: Batches of a round in each database, and views of a batch.
BATCHES, SIZE = 60, 1000

FULL, AGED = "full", "all replaced"


@dataclass(frozen=True, slots=True)
class Stand:
    """The full table at one time of its life, beside the empty one."""

    #: Views a second, round by round.
    empty: Sequence[float]
    full: Sequence[float]
    #: Receipts in the full table, and its size on the disk before the rounds.
    receipts: int
    rows_mib: float
    indexes_mib: float

    @property
    def mib_a_million(self) -> float:
        """MiB a million receipts."""
        return (self.rows_mib + self.indexes_mib) / self.receipts * 1e6


@dataclass(frozen=True, slots=True)
class Receipts:
    """The comparison, before and after all receipts were replaced."""

    stands: Mapping[str, Stand]
    #: The time to prune a day's receipts.
    pruned_s: Sequence[float]

    def lines(self) -> Iterator[Line]:
        """The budgets."""
        for name, stand in self.stands.items():
            what = f"views a second beside receipts, {name} / empty"
            yield Line.of(what, "≥ 0.7 ×", ratios(stand.full, stand.empty))
        growth = self.stands[AGED].mib_a_million / self.stands[FULL].mib_a_million
        yield Line.of(f"size of the receipts, {AGED} / before", "≤ 1.5 ×", [growth])

    def table(self) -> list[dict[str, str]]:
        """The details."""
        return [
            {
                "receipts": name,
                "views/s": f"{median(stand.full):.0f}",
                "beside empty": f"{median(stand.empty):.0f}",
                "rows": f"{stand.receipts:,}",
                "table": f"{stand.rows_mib:.0f} MiB",
                "indexes": f"{stand.indexes_mib:.0f} MiB",
                "a million": f"{stand.mib_a_million:.0f} MiB",
            }
            for name, stand in self.stands.items()
        ]

    def note(self) -> str:
        """The days that went by, and the time to prune."""
        spread = Spread.of(self.pruned_s).show(".2f", "s")
        return f"Receipts: {DAYS} days of {A_DAY:,} views, then {DAYS} more; a day's receipts are pruned in {spread}."


class Counting:
    """Our counting code in one database, with a clock that can be moved by days."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._days = 0
        self._views = Views(database, self.now)

    def now(self) -> datetime:
        """The moved time."""
        return system_clock() + ONE_DAY * self._days

    async def count(self) -> float:
        """Count a batch; return the seconds that it took."""
        now, signs = self.now(), tuple(Sign)
        batch = [
            HoroscopeRequested(uuid4(), signs[number % 12], now.date(), answered=True, at=now)
            for number in range(SIZE)
        ]
        began = time.perf_counter()
        await self._views.count(batch)
        return time.perf_counter() - began

    async def forget(self) -> None:
        """Delete all receipts."""
        async with self._database.transaction() as connection:
            await connection.execute(text("TRUNCATE view_receipts"))

    async def next_day(self) -> float:
        """Move the clock by a day and prune; return the seconds that the pruning took."""
        self._days += 1
        began = time.perf_counter()
        await self._views.prune()
        return time.perf_counter() - began


async def measure(stage: Stage, rounds: int) -> Receipts:
    """Compare both tables over so many rounds, before and after all receipts are replaced.

    Raises BenchError if expired receipts were not pruned.
    """
    await stage.sql.execute("ALTER SYSTEM SET autovacuum = off")
    await stage.sql.execute("SELECT pg_reload_conf()")
    await stage.sql.execute("CREATE DATABASE empty")
    url = stage.database_url
    async with Database(f"{url.rpartition('/')[0]}/empty") as other, Database(url) as database:
        await migrate(other)
        empty, full = Counting(other), Counting(database)
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
        oldest = await stage.sql.fetchval("SELECT min(view_date) FROM view_receipts")
        if oldest < first + ONE_DAY * DAYS:
            raise BenchError(f"receipts of {oldest} were not pruned")
        stands[AGED] = await _compare(stage, empty, full, rounds, AGED)
    return Receipts(stands, pruned)


async def _insert(stage: Stage, day: date) -> None:
    """Insert a day's receipts, as if its views had been counted."""
    await stage.sql.execute(
        "INSERT INTO view_receipts SELECT gen_random_uuid(), $1 FROM generate_series(1, $2)", day, A_DAY
    )


async def _tolerated(stage: Stage) -> float:
    """The number of dead rows above which autovacuum would vacuum the table."""
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
    size = await stage.sql.fetchrow(
        """
        SELECT count(*) AS receipts, pg_table_size('view_receipts') / 1048576.0 AS rows_mib,
               pg_indexes_size('view_receipts') / 1048576.0 AS indexes_mib
        FROM view_receipts
        """
    )
    await stage.sql.execute("CHECKPOINT")  # so that earlier writes do not disturb
    rates: dict[Counting, list[float]] = {empty: [], full: []}
    # The first round does not count: the first change of a page after a checkpoint costs more than later ones.
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
        progress(number, rounds, f"receipts {name} {rates[full][-1]:.0f}/s, empty {rates[empty][-1]:.0f}/s")
    sizes = float(size["rows_mib"]), float(size["indexes_mib"])
    return Stand(rates[empty], rates[full], size["receipts"], *sizes)
