"""Deletes what is no longer needed of sessions, attempts to sign in, tokens and the audit."""

from dataclasses import dataclass

import structlog
from sqlalchemy import text

from services.accounts.sessions import IDLE_S, LONGEST_S
from services.database.pool import Database

log = structlog.get_logger(__name__)

# The database's own function is the one way to delete from the audit, and deletes what is older than 400 days.
_AUDIT = text("SELECT prune_audit()")
_SESSIONS = text("""
    DELETE FROM sessions WHERE seen_at < now() - make_interval(secs => :idle)
                            OR began_at < now() - make_interval(secs => :longest)
""")
_ATTEMPTS = text("DELETE FROM sign_in_attempts WHERE at < now() - interval '1 day'")
_TOKENS = text("DELETE FROM api_tokens WHERE COALESCE(revoked_at, expires_at) < now() - interval '400 days'")


@dataclass(frozen=True, slots=True, eq=False)
class Retention:
    """Prunes. Raises DatabaseUnavailable while PostgreSQL is away."""

    database: Database

    async def prune(self) -> None:
        """Delete ended sessions, forgotten attempts, and tokens and entries of the audit after 400 days."""
        async with self.database.transaction() as connection:
            await connection.execute(_SESSIONS, {"idle": IDLE_S, "longest": LONGEST_S})
            await connection.execute(_ATTEMPTS)
            await connection.execute(_TOKENS)
            pruned = (await connection.execute(_AUDIT)).scalar_one()
        if pruned:
            log.info("audit.pruned", count=pruned)
