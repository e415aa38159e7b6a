"""Sessions of browsers that have signed in. PostgreSQL has them, so they end everywhere at once."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.accounts.roles import BUILTIN, Role
from services.database.pool import Database

#: Seconds after which a session ends in which no page was opened.
IDLE_S = 12 * 3600
#: Seconds that a session lasts at most.
LONGEST_S = 7 * 86_400

_BEGIN = text("""
    INSERT INTO sessions (digest, account, stamp, origin, began_at, seen_at)
    VALUES (:digest, :account, :stamp, :origin, :now, :now)
""")
# A session of the built-in account ends when ADMIN_PASSWORD changes, or an account becomes an admin's.
_FIND = text("""
    SELECT session.account, COALESCE(account.name, :builtin) AS who, COALESCE(account.role, 'admin') AS role,
           session.seen_at
    FROM sessions AS session LEFT JOIN accounts AS account ON account.id = session.account
    WHERE session.digest = :digest AND session.seen_at > :idle AND session.began_at > :longest
      AND CASE WHEN session.account IS NULL
               THEN session.stamp = :stamp AND NOT EXISTS (SELECT FROM accounts WHERE role = 'admin')
               ELSE account.disabled_at IS NULL END
""")
_SEEN = text("UPDATE sessions SET seen_at = :now WHERE digest = :digest")
_END = text("DELETE FROM sessions WHERE digest = :digest")
_END_ALL = text("DELETE FROM sessions WHERE account IS NOT DISTINCT FROM CAST(:account AS bigint)")


@dataclass(frozen=True, slots=True)
class Found:
    """A session that has not ended; the fields are the columns of ``_FIND``."""

    account: int | None  #: None: the built-in account
    who: str
    role: Role
    seen_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """Begins, finds and ends sessions; of each token only a hash is stored.

    Every method raises DatabaseUnavailable while PostgreSQL is away.
    """

    database: Database
    stamp: bytes  #: A digest of ADMIN_PASSWORD

    async def begin(
        self, connection: AsyncConnection, account: int | None, *, origin: str, now: datetime
    ) -> str:
        """Begin a session of an account (None: the built-in one) in a transaction; returns its token."""
        token = secrets.token_urlsafe(32)
        stamp = self.stamp if account is None else None
        values = {"digest": digest(token), "account": account, "stamp": stamp, "origin": origin, "now": now}
        await connection.execute(_BEGIN, values)
        return token

    async def find(self, token: str, now: datetime) -> Found | None:
        """The session of a token; None: it has ended, or there never was one."""
        values = {
            "digest": digest(token),
            "stamp": self.stamp,
            "builtin": BUILTIN,
            "idle": now - timedelta(seconds=IDLE_S),
            "longest": now - timedelta(seconds=LONGEST_S),
        }
        async with self.database.transaction() as connection:
            row = (await connection.execute(_FIND, values)).one_or_none()
        return Found(row.account, row.who, Role(row.role), row.seen_at) if row else None

    async def seen(self, token: str, now: datetime) -> None:
        """Note that a page was opened in a session."""
        async with self.database.transaction() as connection:
            await connection.execute(_SEEN, {"digest": digest(token), "now": now})

    async def end(self, token: str) -> None:
        """End a session."""
        async with self.database.transaction() as connection:
            await connection.execute(_END, {"digest": digest(token)})

    async def end_all(self, account: int | None) -> int:
        """End every session of an account (None: the built-in one); returns how many there were."""
        async with self.database.transaction() as connection:
            return (await connection.execute(_END_ALL, {"account": account})).rowcount


def digest(token: str) -> bytes:
    """What is stored of a token. It is random, so a plain hash is enough."""
    return hashlib.sha256(token.encode(errors="replace")).digest()
