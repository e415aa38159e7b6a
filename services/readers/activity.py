"""What one bot did: which readers asked, and how fast they were answered.

The numbers are kept in memory and written to PostgreSQL every few seconds, so that no reply waits for that. A killed
bot loses the last seconds. Views are counted separately, and exactly.

Latencies are counted in buckets of a logarithmic scale, from which percentiles are computed.
"""

import math
from collections import Counter
from collections.abc import Mapping
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import text

from schema.errors import DatabaseUnavailable
from services.database.pool import Database
from services.days import Clock, day_in
from services.process import metrics

#: The source of an answer. MISSING: the reader had to wait for the text to be written.
CACHE, MEMORY, MISSING = "cache", "memory", "missing"

#: Seconds between two writes.
WRITE_S = 10
#: The most readers kept in memory while PostgreSQL is away.
READERS_AT_MOST = 50_000

#: Seconds; the first bucket holds everything shorter.
SHORTEST_S = 0.0001
#: Each bucket is longer than the one before by this factor, so a percentile is accurate to ten percent.
GROWTH: float = 2**0.25
#: The last bucket begins at about a hundred seconds and holds everything longer.
LAST = 80

_ANSWER_SECONDS = {source: metrics.ANSWER_SECONDS.labels(source) for source in (CACHE, MEMORY)}

# Rows are locked in one order, so that two bots cannot deadlock.
_SEEN = text("""
    WITH fresh AS (
        SELECT reader.telegram_id, asked.day
        FROM unnest(CAST(:readers AS bigint[]), CAST(:days AS date[])) AS asked (telegram_id, day)
        JOIN readers AS reader USING (telegram_id)
        WHERE reader.seen_on IS NULL OR reader.seen_on < asked.day
        ORDER BY reader.telegram_id FOR NO KEY UPDATE OF reader
    ), seen AS (
        UPDATE readers SET seen_on = fresh.day FROM fresh WHERE readers.telegram_id = fresh.telegram_id
        RETURNING readers.seen_on
    )
    INSERT INTO reader_days (day, readers) SELECT seen_on, count(*) FROM seen GROUP BY seen_on ORDER BY seen_on
    ON CONFLICT (day) DO UPDATE SET readers = reader_days.readers + excluded.readers
""")
_ANSWERED = text("""
    INSERT INTO answer_times (day, source, bucket, answers) VALUES (:day, :source, :bucket, :answers)
    ON CONFLICT (day, source, bucket) DO UPDATE SET answers = answer_times.answers + excluded.answers
""")


class Activity:
    """The activity of this process since the last write."""

    def __init__(self, database: Database, clock: Clock, home: ZoneInfo) -> None:
        self._database = database
        self._clock = clock
        self._home = home
        self._readers: dict[int, date] = {}
        self._answers: Counter[tuple[date, str, int]] = Counter()

    def note_request(self, reader: int, day: date) -> None:
        """Note that a reader asked for the text of their own today."""
        if reader in self._readers or len(self._readers) < READERS_AT_MOST:
            self._readers[reader] = day

    def note_answer(self, source: str, seconds: float = 0.0) -> None:
        """Note an answer from :data:`CACHE` or :data:`MEMORY` and its seconds, or a reader who must wait (MISSING)."""
        self._answers[day_in(self._home, self._clock()), source, bucket_of(seconds)] += 1
        if source == MISSING:
            metrics.MISSING.inc()
        else:
            _ANSWER_SECONDS[source].observe(seconds)

    async def write(self) -> None:
        """Write the activity to PostgreSQL; if that raises DatabaseUnavailable, the next write includes it."""
        readers, self._readers = self._readers, {}
        answers, self._answers = self._answers, Counter()
        if not readers and not answers:
            return
        try:
            async with self._database.transaction() as connection:
                if readers:
                    await connection.execute(_SEEN, {"readers": [*readers], "days": [*readers.values()]})
                if answers:
                    await connection.execute(
                        _ANSWERED,
                        [
                            {"day": day, "source": source, "bucket": bucket, "answers": count}
                            for (day, source, bucket), count in sorted(answers.items())
                        ],
                    )
        except DatabaseUnavailable:
            self._readers = readers | self._readers
            self._answers.update(answers)
            raise


def bucket_of(seconds: float) -> int:
    """The bucket of a latency, from 0 to :data:`LAST`."""
    if seconds <= SHORTEST_S:
        return 0
    return min(math.ceil(math.log(seconds / SHORTEST_S, GROWTH)), LAST)


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """A percentile of latencies in seconds, interpolated within the bucket; None: there are no latencies.

    Args:
        counts: The number of latencies in each bucket.
        share: From 0 to 1, such as 0.99 for the 99th percentile.
    """
    total = sum(counts.values())
    if not total:
        return None
    wanted = share * total
    below = 0
    last = 0
    for last, count in sorted(counts.items()):
        if below + count >= wanted:
            return SHORTEST_S * math.pow(GROWTH, last - 1 + (wanted - below) / count)
        below += count
    return SHORTEST_S * math.pow(GROWTH, last)
