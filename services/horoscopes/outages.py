"""Outages of the model, as the whole cluster knows them.

The first failed call inserts a row; the next answer deletes it. After a few failures in a row the outage counts as
known, and new readers soon get an error instead of waiting for the whole ladder. A server that refuses every request
is known at once, and only its first message becomes a dead letter.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from schema.errors import ModelRefused, ModelUnavailable
from services.database.pool import Database

#: Failed calls in a row that make an outage known.
KNOWN_AFTER = 3
#: Seconds without a failed call after which an outage counts as over.
BELIEVED_S = 600

# The row is read under its lock, so that each of many concurrent failures sees the one before.
_FAILED = text("""
    INSERT INTO model_outages AS outage (endpoint, failures, repeats, refused, kind, reason, known_at)
    VALUES (:endpoint, 1, 0, :refused, :kind, CAST(:reason AS text), CASE WHEN :refused THEN now() END)
    ON CONFLICT (endpoint) DO UPDATE SET
        (since, failures, repeats, known_at) = (
            SELECT CASE WHEN goes_on THEN outage.since ELSE now() END,
                   CASE WHEN goes_on THEN outage.failures ELSE 0 END + 1,
                   CASE WHEN goes_on AND outage.kind = excluded.kind THEN outage.repeats + 1 ELSE 0 END,
                   CASE WHEN goes_on AND outage.known_at IS NOT NULL THEN outage.known_at
                        WHEN :refused OR goes_on AND outage.failures + 1 >= :enough THEN now() END
            FROM (SELECT outage.failed_at > now() - make_interval(secs => :believed) AS goes_on) AS it
        ),
        failed_at = now(), refused = excluded.refused, kind = excluded.kind, reason = excluded.reason
    RETURNING known_at, now() AS now, repeats > 0 AS repeated
""")
_CURRENT = text("""
    SELECT known_at, now() AS now FROM model_outages
    WHERE endpoint = :endpoint AND known_at IS NOT NULL
      AND failed_at > now() - make_interval(secs => :believed)
""")
_OVER = text("DELETE FROM model_outages WHERE endpoint = :endpoint")
_PRUNE = text("DELETE FROM model_outages WHERE failed_at < now() - interval '7 days'")


@dataclass(frozen=True, slots=True)
class Outage:
    """The model does not answer."""

    #: When the outage became known, by PostgreSQL's clock; None: there were too few failures.
    known_at: datetime | None
    now: datetime  #: When this was read
    repeated: bool = False  #: The last call failed for the same cause as the one before


class Outages:
    """Records the outage of one endpoint."""

    def __init__(self, database: Database, endpoint: str) -> None:
        self._database = database
        self.endpoint = endpoint

    async def failed(self, error: ModelUnavailable | ModelRefused, reason: str) -> Outage:
        """Record a failed call."""
        values = {
            "endpoint": self.endpoint,
            "refused": isinstance(error, ModelRefused) and error.everything,
            "kind": error.kind if isinstance(error, ModelRefused) else "unavailable",
            "reason": reason,
            "enough": KNOWN_AFTER,
            "believed": BELIEVED_S,
        }
        async with self._database.transaction() as connection:
            return Outage(**(await connection.execute(_FAILED, values)).one()._asdict())

    async def current(self) -> Outage | None:
        """The outage, if there is a known one."""
        values = {"endpoint": self.endpoint, "believed": BELIEVED_S}
        async with self._database.transaction() as connection:
            row = (await connection.execute(_CURRENT, values)).one_or_none()
        return Outage(**row._asdict()) if row else None

    async def over(self) -> None:
        """Record that the model has answered."""
        async with self._database.transaction() as connection:
            await connection.execute(_OVER, {"endpoint": self.endpoint})

    async def prune(self) -> None:
        """Delete the outages of endpoints that have not been called for a week."""
        async with self._database.transaction() as connection:
            await connection.execute(_PRUNE)


def endpoint(base_url: str, model: str, key: str) -> str:
    """A digest of a server, a model and a key; it does not reveal the key."""
    return hashlib.sha256(f"{base_url}\n{model}\n{key}".encode()).hexdigest()[:16]
