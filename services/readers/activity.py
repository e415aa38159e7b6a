"""What one bot did: who asked, and how fast they were answered.

It is noted in memory and put on record every few seconds, so that no reply waits for it. A bot that is killed
takes the last seconds along: these figures are a picture, the views are the count.
"""

from collections import Counter
from datetime import date
from zoneinfo import ZoneInfo

from sqlalchemy import text

from schema.errors import DatabaseUnavailable
from services.database.pool import Database
from services.days import Clock, day_in
from services.process import metrics
from services.readers.latencies import step

#: Where an answer came from. Of the last kind, the reader had to wait for it to be written.
CACHE, MEMORY, MISSING = "cache", "memory", "missing"

#: Seconds between two times of putting it on record.
WRITE_S = 10
#: Readers remembered while PostgreSQL is away.
READERS_AT_MOST = 50_000

_ANSWER_SECONDS = {source: metrics.ANSWER_SECONDS.labels(source) for source in (CACHE, MEMORY)}

# The rows are locked in one order, so that two bots do not wait for each other.
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
    """What this process did since it was last put on record.

    Args:
        database: Where the record is.
        clock: The time.
        home: The zone whose day the answers are counted by.
    """

    def __init__(self, database: Database, clock: Clock, home: ZoneInfo) -> None:
        self._database = database
        self._clock = clock
        self._home = home
        self._readers: dict[int, date] = {}
        self._answers: Counter[tuple[date, str, int]] = Counter()

    def asked(self, reader: int, day: date) -> None:
        """A reader asked for the text of their own day."""
        if reader in self._readers or len(self._readers) < READERS_AT_MOST:
            self._readers[reader] = day

    def answered(self, source: str, seconds: float = 0.0) -> None:
        """A reader was answered from :data:`CACHE` or :data:`MEMORY` in so many seconds, or has to wait."""
        self._answers[day_in(self._home, self._clock()), source, step(seconds)] += 1
        if source == MISSING:
            metrics.MISSING.inc()
        else:
            _ANSWER_SECONDS[source].observe(seconds)

    async def write(self) -> None:
        """Put it on record.

        Raises:
            DatabaseUnavailable: PostgreSQL is away; it is tried again with what comes meanwhile.
        """
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
