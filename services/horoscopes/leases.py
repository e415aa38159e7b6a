"""The right to write one text: a row with a holder, an expiry and a fencing token.

For one sign and day at most one lease is live in the whole cluster. All times are PostgreSQL's, so the machines'
clocks need not agree. The row outlives its lease and keeps the text's state:

    pending ──► writing ──► written
                 │  ▲
                 ▼  │ next rung of the ladder
              retrying ──► given_up     until the next night, a reader's request or a person
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import DatabaseUnavailable, LeaseLost, PassingError
from schema.signs import Sign
from services.database.pool import Database
from services.messaging.attempts import Attempt, Ladder
from services.process.heartbeats import HOST, PID

log = structlog.get_logger(__name__)

LEASE_S = 30
RENEW_EVERY_S = 5
#: Seconds: if the next attempt is further away than this, a waiting reader gets an error instead.
PATIENCE_S = 60

#: Seconds for each attempt so far for which readers cannot have a text begun again after a ladder of nonsense: a quarter
#: of an hour after the first ladder. And the longest such time.
REST_S, LONGEST_REST_S = 225, 4 * 3600

#: This process, as `generations` names the writer of a text.
WRITER = f"{HOST} {PID}"


@dataclass(frozen=True, slots=True)
class Order:
    """An attempt of a message that asks for a text."""

    attempt: Attempt  #: The message's id is the lease's holder: a redelivery re-enters the lease
    ladder: Ladder  #: ``NIGHT`` or ``REQUEST``
    #: Replace the text that was generated at this instant; None: write only a missing text.
    replaces: datetime | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write the text of a sign and day, valid while its token is the newest."""

    sign: Sign
    day: date
    token: int


class Refusal(StrEnum):
    """Why no lease was given."""

    WRITTEN = "the text exists"
    HELD = "another worker is writing it"
    ON_A_LADDER = "a ladder is retrying it"
    FAR_OFF = "a ladder is retrying it, and the next attempt is far off"
    TOO_SOON = "the model wrote only nonsense a short while ago"
    OVER = "the day is over everywhere on Earth"
    LIMITED = "the daily token limit is reached"


# One statement decides; concurrent callers queue for the row's lock.
#
# A reader's request joins the ladder of an earlier request: when that ends, both are answered. It does not wait for the
# night's ladder, whose rungs are minutes apart. The night skips a text that failed after the night's order, so that
# copies of an order do not start ladders of their own.
#
# A text that was given up because the model wrote only nonsense is not begun again by readers for a while: each of their
# ladders costs up to eight calls. Orders of the night or of a person, and replays, are free to.
#
# The condition on 'written': the statement's snapshot saw no text, but the row is the latest version. If the snapshot
# saw the row as written too, the text was deleted since and may be written anew; otherwise it was written just now.
_ACQUIRE = text("""
    INSERT INTO generations AS held
        (zodiac_sign, horoscope_date, state, token, holder, writer, ladder, attempts, expires_at)
    SELECT CAST(:sign AS varchar), CAST(:day AS date), 'writing', 1, :holder, :writer, CAST(:ladder AS varchar), 1,
           now() + make_interval(secs => :lease)
    WHERE NOT EXISTS (
        SELECT FROM horoscope_cache
        WHERE zodiac_sign = CAST(:sign AS varchar) AND horoscope_date = :day
          AND generated_at IS DISTINCT FROM CAST(:replaces AS timestamptz))
    ON CONFLICT (zodiac_sign, horoscope_date) DO UPDATE SET
        state = 'writing', since = now(), token = held.token + 1, holder = excluded.holder,
        writer = excluded.writer, ladder = excluded.ladder, attempts = held.attempts + 1,
        expires_at = excluded.expires_at, retry_at = NULL, again_at = NULL, refused_by = NULL
    WHERE (held.state <> 'written' OR EXISTS (
              SELECT FROM generations AS seen
              WHERE seen.zodiac_sign = held.zodiac_sign AND seen.horoscope_date = held.horoscope_date
                AND seen.state = 'written' AND seen.token = held.token))
      AND (:redelivered AND held.state = 'writing' AND held.holder = excluded.holder
           OR (held.state <> 'writing' OR held.expires_at < now())
              AND NOT (NOT :again AND CASE CAST(:ladder AS varchar)
                  WHEN 'request' THEN held.state = 'retrying' AND held.ladder = 'request'
                      AND held.retry_at + make_interval(secs => :grace) > now()
                      OR held.state = 'given_up' AND (held.again_at > now()) IS TRUE AND NOT :replayed
                  ELSE held.state IN ('retrying', 'given_up') AND held.since >= :published_at
              END))
    RETURNING token
""")

_WHY_NOT = text("""
    SELECT EXISTS (SELECT FROM horoscope_cache WHERE zodiac_sign = :sign AND horoscope_date = :day)
               AS written,
           EXISTS (SELECT FROM generations WHERE zodiac_sign = :sign AND horoscope_date = :day
                   AND state = 'writing') AS held,
           EXISTS (SELECT FROM generations WHERE zodiac_sign = :sign AND horoscope_date = :day
                   AND state = 'retrying' AND ladder = 'request'
                   AND retry_at > now() + make_interval(secs => :patience)) AS far_off,
           EXISTS (SELECT FROM generations WHERE zodiac_sign = :sign AND horoscope_date = :day
                   AND state = 'given_up' AND again_at > now()) AS too_soon
""")

_RENEW = text("""
    UPDATE generations SET expires_at = now() + make_interval(secs => :lease)
    WHERE zodiac_sign = :sign AND horoscope_date = :day AND token = :token AND state = 'writing'
""")

_FAIL = text("""
    UPDATE generations SET
        state = CASE WHEN CAST(:retry_in AS double precision) IS NULL THEN 'given_up' ELSE 'retrying' END,
        retry_at = now() + make_interval(secs => CAST(:retry_in AS double precision)),
        since = now(), expires_at = NULL, error = :error, refused_by = :refused_by,
        again_at = CASE WHEN :nonsense AND ladder = 'request' AND CAST(:retry_in AS double precision) IS NULL
                        THEN now() + LEAST(attempts * make_interval(secs => :rest), make_interval(secs => :longest)) END
    WHERE zodiac_sign = :sign AND horoscope_date = :day AND token = :token AND state = 'writing'
    RETURNING since
""")

_GIVE_UP = text("""
    UPDATE generations SET state = 'given_up', since = now(), expires_at = NULL, error = :error
    WHERE zodiac_sign = :sign AND horoscope_date = :day AND holder = :holder AND state = 'writing'
    RETURNING since
""")

_FINISH = text("""
    UPDATE generations SET state = 'written', since = now(), expires_at = NULL, error = NULL
    WHERE zodiac_sign = :sign AND horoscope_date = :day AND token = :token AND state = 'writing'
""")

# A message that waits on a ladder may come back a little late; this much later it counts as lost.
GRACE_S = 15


class Leases:
    """Acquires, renews, finishes and gives up leases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, sign: Sign, day: date, order: Order) -> Lease | Refusal:
        """Acquire the lease on a text.

        A redelivered message that already holds the lease gets it again with a higher token. Its former worker is
        gone, or is refused when it stores.
        """
        key = {"sign": sign, "day": day}
        attempt = order.attempt
        values = key | {
            "holder": attempt.message_id,
            "ladder": order.ladder,
            "again": attempt.again,
            "redelivered": attempt.redelivered,
            "replayed": attempt.replayed,
            "published_at": attempt.published_at,
            "replaces": order.replaces,
            "writer": WRITER,
            "lease": LEASE_S,
            "grace": GRACE_S,
        }
        async with self._database.transaction() as connection:
            token = (await connection.execute(_ACQUIRE, values)).scalar()
            if token is not None:
                return Lease(sign, day, token)
            why = (await connection.execute(_WHY_NOT, key | {"patience": PATIENCE_S})).one()
        if why.written:
            return Refusal.WRITTEN
        if why.held:
            return Refusal.HELD
        if why.too_soon:
            return Refusal.TOO_SOON
        return Refusal.FAR_OFF if why.far_off else Refusal.ON_A_LADDER

    @asynccontextmanager
    async def kept(self, lease: Lease) -> AsyncIterator[None]:
        """Renew the lease while the block runs; cancel the block when the lease is lost.

        Raises:
            LeaseLost: Another worker took it over.
            DatabaseUnavailable: It ran out because PostgreSQL was away, and may be taken over.
        """
        writer = asyncio.current_task()
        assert writer is not None
        trouble: PassingError | None = None

        async def renew() -> None:
            nonlocal trouble
            clock = asyncio.get_running_loop().time  # stands still at a debugger's prompt
            runs_out = clock() + LEASE_S
            while trouble is None:
                await asyncio.sleep(RENEW_EVERY_S)
                renewed_at = clock()
                try:
                    async with (
                        asyncio.timeout(runs_out - renewed_at),
                        self._database.transaction() as connection,
                    ):
                        renewed = await connection.execute(_RENEW, _key(lease) | {"lease": LEASE_S})
                except (DatabaseUnavailable, TimeoutError) as error:
                    log.warning("lease.not_renewed", sign=lease.sign, day=lease.day, reason=str(error))
                    if clock() + RENEW_EVERY_S >= runs_out:
                        trouble = DatabaseUnavailable(f"the lease ran out while PostgreSQL was away: {error}")
                else:
                    runs_out = renewed_at + LEASE_S
                    if not renewed.rowcount:
                        trouble = LeaseLost(_lost(lease))
            writer.cancel()

        renewal = asyncio.create_task(renew(), name="lease-renewal")
        try:
            yield
        except asyncio.CancelledError:
            if trouble:
                writer.uncancel()
                raise trouble from None
            raise
        finally:
            renewal.cancel()

    async def finish(self, connection: AsyncConnection, lease: Lease) -> None:
        """Mark the text as written, in the caller's transaction that stores it.

        Raises LeaseLost if a later holder has the lease; the caller's transaction must not commit.
        """
        finished = await connection.execute(_FINISH, _key(lease))
        if not finished.rowcount:
            raise LeaseLost(_lost(lease))

    async def fail(
        self,
        lease: Lease,
        error: str,
        retry_in: int | None,
        *,
        refused_by: str | None = None,
        nonsense: bool = False,
    ) -> datetime | None:
        """Give the lease back without a text; returns when the new state began, or None if it was not ours.

        Args:
            retry_in: Seconds until the next attempt; None: the text is given up.
            refused_by: The model's endpoint, if it refuses every request of ours.
            nonsense: The model wrote a text that must not be shown. If a reader's ladder ends so, readers cannot have the
                text begun again for a while; the more attempts it has cost, the longer.
        """
        values = {"error": error[:2000], "retry_in": retry_in, "refused_by": refused_by, "nonsense": nonsense}
        values |= {"rest": REST_S, "longest": LONGEST_REST_S}
        async with self._database.transaction() as connection:
            return (await connection.execute(_FAIL, _key(lease) | values)).scalar()

    async def give_up(self, sign: Sign, day: date, holder: str, error: str) -> datetime | None:
        """Give up the text whose lease a message holds; returns when, or None if it held no lease."""
        values = {"sign": sign, "day": day, "holder": holder, "error": error[:2000]}
        async with self._database.transaction() as connection:
            return (await connection.execute(_GIVE_UP, values)).scalar()


def _key(lease: Lease) -> dict[str, object]:
    return {"sign": lease.sign, "day": lease.day, "token": lease.token}


def _lost(lease: Lease) -> str:
    return f"the lease on {lease.sign} {lease.day} (token {lease.token}) was taken over"
