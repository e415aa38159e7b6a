"""Counts the texts that readers were shown, each view once."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from schema.errors import InvalidMessage, TooOld
from schema.messages import HoroscopeRequested
from services.database.pool import STATEMENT_TIMEOUT_S, Database
from services.days import Clock, first_day_alive, last_day_alive

#: Views of the last days are also counted by intervals of this length.
BUCKET = timedelta(minutes=5)
#: How long those counts are kept.
TIMES_KEPT = timedelta(days=8)

#: An older view is refused: its receipt may have been pruned, so a duplicate would go unnoticed. Telegram repeats an
#: update for a day, but a message may wait in a queue or among the dead letters for any time.
OLDEST = timedelta(days=30)
#: Receipts are kept a little longer, because a repeated update may belong to a later day than the first copy.
RECEIPTS_KEPT = OLDEST + timedelta(days=3)

#: Seconds between two rounds of pruning.
PRUNE_S = 3600
_PRUNED_AT_ONCE = 20_000

# One statement: only views with a new receipt are summed. All rows are written in sorted order, so that concurrent
# batches take their locks in the same order.
_COUNT = """
    WITH shown AS (
        SELECT * FROM unnest($1::uuid[], $2::int[]) AS view (request_id, place)
    ), sort AS (
        SELECT * FROM unnest($3::text[], $4::date[], $5::timestamptz[])
                      WITH ORDINALITY AS sort (zodiac_sign, view_date, at, place)
    ), fresh AS (
        INSERT INTO view_receipts (request_id, view_date)
        SELECT request_id, view_date FROM shown JOIN sort USING (place) ORDER BY request_id
        ON CONFLICT DO NOTHING
        RETURNING request_id
    ), counted AS (
        SELECT zodiac_sign, view_date, at, count(*) AS views
        FROM fresh JOIN shown USING (request_id) JOIN sort USING (place)
        GROUP BY zodiac_sign, view_date, at
    ), timed AS (
        INSERT INTO view_times (view_date, at, zodiac_sign, view_count)
        SELECT view_date, at, zodiac_sign, views FROM counted ORDER BY view_date, at, zodiac_sign
        ON CONFLICT (view_date, at, zodiac_sign)
        DO UPDATE SET view_count = view_times.view_count + excluded.view_count
    ), summed AS (
        INSERT INTO horoscope_views (zodiac_sign, view_date, view_count)
        SELECT zodiac_sign, view_date, sum(views) FROM counted
        GROUP BY zodiac_sign, view_date ORDER BY zodiac_sign, view_date
        ON CONFLICT ON CONSTRAINT uq_horoscope_views_sign_date
        DO UPDATE SET view_count = horoscope_views.view_count + excluded.view_count
    )
    SELECT request_id FROM fresh
"""
# Receipts are deleted by their physical place: to find each by its random id would take ten times as long. A receipt is
# never updated, so it does not move.
_PRUNE_RECEIPTS = """
    WITH pruned AS (
        DELETE FROM view_receipts WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM view_receipts WHERE view_date < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
        )) RETURNING 1
    )
    SELECT count(*) FROM pruned
"""
_PRUNE_TIMES = "DELETE FROM view_times WHERE view_date < $1"


class Views:
    """Counts views in ``horoscope_views``."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._counting = database.lane()
        self._pruning = database.lane()
        self._clock = clock

    async def count(self, events: Sequence[HoroscopeRequested]) -> set[UUID]:
        """Count a batch of views in one statement; returns the requests whose views had not been counted before.

        Raises:
            TooOld: A view's day is so old that its receipt may have been pruned.
            InvalidMessage: A view's day has not begun anywhere yet.
            DatabaseUnavailable: PostgreSQL is away; the views may have been counted or not.
        """
        now = self._clock()
        first, last = first_day_alive(now) - OLDEST, last_day_alive(now)
        places: dict[tuple[str, date, datetime], int] = {}
        views: dict[int, tuple[UUID, int]] = {}
        for event in events:
            if not first <= event.day <= last:
                kind = TooOld if event.day < first else InvalidMessage
                raise kind(
                    f"a view of {event.day} cannot be counted exactly once; expected a day from {first} to {last}"
                )
            sort = (event.sign.value, event.day, _bucket(event.at, now))
            views.setdefault(
                event.request_id.int, (event.request_id, places.setdefault(sort, len(places) + 1))
            )
        counted = await self._counting.fetch(
            _COUNT,
            *zip(*views.values(), strict=True),
            *zip(*places, strict=True),
            timeout=STATEMENT_TIMEOUT_S,
        )
        return {row["request_id"] for row in counted}

    async def prune(self) -> None:
        """Delete receipts and times that are too old to be needed; may raise DatabaseUnavailable."""
        first = first_day_alive(self._clock())
        await self._pruning.fetch(_PRUNE_TIMES, first - TIMES_KEPT, timeout=STATEMENT_TIMEOUT_S)
        pruned = _PRUNED_AT_ONCE
        while pruned == _PRUNED_AT_ONCE:  # in parts, so that counting goes on in between
            ((pruned,),) = await self._pruning.fetch(
                _PRUNE_RECEIPTS, first - RECEIPTS_KEPT, _PRUNED_AT_ONCE, timeout=STATEMENT_TIMEOUT_S
            )


def _bucket(at: datetime, now: datetime) -> datetime:
    """The start of the five-minute interval in which a view was made; limited to plausible times."""
    seconds = BUCKET.total_seconds()
    made = max(now - RECEIPTS_KEPT, min(at, now))
    return datetime.fromtimestamp(made.timestamp() // seconds * seconds, UTC)
