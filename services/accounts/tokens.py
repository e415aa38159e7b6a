"""Tokens with which scripts read the JSON API."""

import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from schema.errors import Refused
from services.accounts.roles import Role
from services.accounts.sessions import digest
from services.database.pool import Database

#: How every token begins, so that scanners for secrets find it.
PREFIX = "horoscope_"
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,59}")

_ADD = text("""
    INSERT INTO api_tokens (name, role, digest, created_by, expires_at)
    VALUES (:name, :role, :digest, :by, now() + make_interval(days => :days))
    ON CONFLICT DO NOTHING RETURNING expires_at
""")
_LIST = text("""
    SELECT name, role, created_by, created_at, expires_at, used_at, revoked_at,
           revoked_at IS NULL AND expires_at > now() AS valid
    FROM api_tokens ORDER BY revoked_at IS NOT NULL, name, id DESC
""")
_FIND = text("""
    SELECT id, name, role, COALESCE(used_at < now() - interval '1 minute', true) AS stale
    FROM api_tokens WHERE digest = :digest AND revoked_at IS NULL AND expires_at > now()
""")
_USED = text("UPDATE api_tokens SET used_at = now() WHERE id = :id")
_REVOKE = text(
    "UPDATE api_tokens SET revoked_at = now() WHERE name = :name AND revoked_at IS NULL RETURNING role"
)


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret; the fields are the columns of ``_LIST``."""

    name: str
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None  #: To the minute
    revoked_at: datetime | None
    valid: bool


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """Makes, finds and revokes tokens. Every method raises DatabaseUnavailable while PostgreSQL is away."""

    database: Database

    async def add(self, name: str, role: Role, *, days: int, by: str) -> tuple[str, datetime]:
        """Make a token; returns the token, which is stored nowhere, and its end.

        Raises:
            Refused: The name is malformed, or a token of this name is not revoked.
        """
        if not _NAME.fullmatch(name):
            raise Refused(f"{name!r} is no name for a token: use up to 60 small letters, digits and . _ @ -")
        token = PREFIX + secrets.token_urlsafe(32)
        values = {"name": name, "role": role.value, "digest": digest(token), "by": by, "days": days}
        async with self.database.transaction() as connection:
            expires_at = (await connection.execute(_ADD, values)).scalar()
        if expires_at is None:
            raise Refused(f"there is a token {name!r} already; first: horoscope accounts token revoke {name}")
        return token, expires_at

    async def listed(self) -> list[Token]:
        """Every token, those that are revoked last."""
        async with self.database.transaction() as connection:
            rows = (await connection.execute(_LIST)).all()
        return [Token(row.name, Role(row.role), *row[2:]) for row in rows]

    async def find(self, token: str) -> tuple[str, Role] | None:
        """The name and the role of a valid token, whose use is noted; None: it is not valid."""
        async with self.database.transaction() as connection:
            row = (await connection.execute(_FIND, {"digest": digest(token)})).one_or_none()
            if row and row.stale:
                await connection.execute(_USED, {"id": row.id})
        return (row.name, Role(row.role)) if row else None

    async def revoke(self, name: str) -> Role:
        """End a token now; returns its role.

        Raises:
            Refused: There is no such token, or it is revoked already.
        """
        async with self.database.transaction() as connection:
            role = (await connection.execute(_REVOKE, {"name": name})).scalar()
        if role is None:
            raise Refused(f"there is no token {name!r} to revoke; see: horoscope accounts token list")
        return Role(role)
