"""Counting what readers were shown, each view once."""

from collections.abc import Sequence
from datetime import date, timedelta

from sqlalchemy import text

from schema.messages import HoroscopeRequested
from services.database import Database

#: Views of the last days are told apart by time, to so many minutes.
BUCKET = timedelta(minutes=5)

#: Receipts are kept longer than any copy of a message could take to come back.
RECEIPTS_KEPT = timedelta(days=60)

# One statement: only views whose receipt is new are summed. The keys are sorted, so that two batches at once
# take the rows' locks in the same order.
_COUNT = text("""
    WITH shown AS (
        SELECT DISTINCT ON (request_id) request_id, zodiac_sign, view_date
        FROM unnest(CAST(:request_ids AS uuid[]), CAST(:signs AS text[]), CAST(:days AS date[]))
             AS batch (request_id, zodiac_sign, view_date)
        ORDER BY request_id
    ), fresh AS (
        INSERT INTO view_receipts (request_id, view_date)
        SELECT request_id, view_date FROM shown
        ON CONFLICT DO NOTHING
        RETURNING request_id
    )
    INSERT INTO horoscope_views (zodiac_sign, view_date, view_count)
    SELECT zodiac_sign, view_date, count(*) FROM shown JOIN fresh USING (request_id)
    GROUP BY zodiac_sign, view_date ORDER BY zodiac_sign, view_date
    ON CONFLICT ON CONSTRAINT uq_horoscope_views_sign_date
    DO UPDATE SET view_count = horoscope_views.view_count + excluded.view_count
""")
_PRUNE = text("DELETE FROM view_receipts WHERE view_date < :before")


class Views:
    """The counters of ``horoscope_views``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, events: Sequence[HoroscopeRequested]) -> None:
        """Count a batch of views in one statement and one transaction.

        A view that was counted before, in this batch or in any other, is not counted again.
        """
        async with self._database.transaction() as connection:
            await connection.execute(
                _COUNT,
                {
                    "request_ids": [event.request_id for event in events],
                    "signs": [event.sign.value for event in events],
                    "days": [event.day for event in events],
                },
            )

    async def prune(self, today: date) -> None:
        """Throw away receipts that no copy of a message can ask for any more."""
        async with self._database.transaction() as connection:
            await connection.execute(_PRUNE, {"before": today - RECEIPTS_KEPT})
