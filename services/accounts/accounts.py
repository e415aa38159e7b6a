"""The accounts of the people who run the service."""

import re
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import Refused
from services.accounts.passwords import Passwords, demand_strong
from services.accounts.roles import BUILTIN, Role
from services.database.pool import Database

_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,59}")

_LIST = text("""
    SELECT name, role, created_at, password_at, disabled_at,
           (SELECT max(seen_at) FROM sessions WHERE sessions.account = accounts.id) AS seen_at,
           (SELECT count(*) FROM sessions WHERE sessions.account = accounts.id) AS sessions
    FROM accounts ORDER BY name
""")
_FIND = text("""
    SELECT (SELECT count(*) FROM accounts WHERE role = 'admin') AS admins, account.id, account.name, account.role,
           account.password_hash, account.disabled_at
    FROM (SELECT) AS nothing LEFT JOIN accounts AS account ON account.name = :name
""")
_LOCK = text("SELECT id, role, disabled_at FROM accounts WHERE name = :name FOR UPDATE")
_ADD = text("""
    INSERT INTO accounts (name, role, password_hash) VALUES (:name, :role, :hash) ON CONFLICT DO NOTHING RETURNING id
""")
_SET_ROLE = text("UPDATE accounts SET role = :role WHERE id = :id")
_SET_PASSWORD = text("UPDATE accounts SET password_hash = :hash, password_at = now() WHERE id = :id")
_SET_HASH = text("UPDATE accounts SET password_hash = :new WHERE id = :id AND password_hash = :old")
_DISABLE = text("UPDATE accounts SET disabled_at = now() WHERE id = :id")
_ENABLE = text("UPDATE accounts SET disabled_at = NULL WHERE id = :id")
_REMOVE = text("DELETE FROM accounts WHERE id = :id")
_SIGN_OUT = text("DELETE FROM sessions WHERE account = :id")
# As soon as an account is an admin's, ADMIN_PASSWORD counts no longer.
_SIGN_OUT_BUILTIN = text("DELETE FROM sessions WHERE account IS NULL")


@dataclass(frozen=True, slots=True)
class Account:
    """An account; the fields are the columns of ``_LIST``."""

    name: str
    role: Role
    created_at: datetime
    password_at: datetime  #: When the password was set
    disabled_at: datetime | None
    seen_at: datetime | None  #: When it was last used, among the sessions that have not ended
    sessions: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """The account that somebody signs in to, before the password is checked."""

    id: int | None  #: None: the built-in account, or none
    name: str  #: Empty: there is no such account
    role: Role
    password_hash: str | None  #: None: no password is right
    disabled: bool
    has_builtin: bool  #: ADMIN_PASSWORD counts: no account is an admin's yet


@dataclass(frozen=True, slots=True, eq=False)
class Accounts:
    """Looks accounts up and changes them; whatever changes what an account may do ends its sessions.

    Every method raises DatabaseUnavailable while PostgreSQL is away; every change raises Refused if there is no such
    account.
    """

    database: Database
    passwords: Passwords = field(default_factory=Passwords)

    async def listed(self) -> list[Account]:
        """Every account, by name."""
        async with self.database.transaction() as connection:
            rows = (await connection.execute(_LIST)).all()
        return [Account(row.name, Role(row.role), *row[2:]) for row in rows]

    async def find(self, name: str) -> Candidate:
        """The account of a name, in any case of letters; the built-in one, while it counts, for any other name."""
        async with self.database.transaction() as connection:
            row = (await connection.execute(_FIND, {"name": name.strip().lower()})).one()
        has_builtin = not row.admins
        if row.id is not None:
            disabled = row.disabled_at is not None
            return Candidate(row.id, row.name, Role(row.role), row.password_hash, disabled, has_builtin)
        return Candidate(None, BUILTIN if has_builtin else "", Role.ADMIN, None, False, has_builtin)

    async def is_password(self, candidate: Candidate, password: str) -> bool:
        """Whether this is the account's password; it takes as long for an account that does not exist."""
        right = await self.passwords.verify(candidate.password_hash, password)
        if right and candidate.password_hash and self.passwords.is_outdated(candidate.password_hash):
            new = await self.passwords.hash(password)
            async with self.database.transaction() as connection:
                values = {"id": candidate.id, "old": candidate.password_hash, "new": new}
                await connection.execute(_SET_HASH, values)
        return right

    async def add(self, name: str, role: Role, password: str) -> None:
        """Make an account.

        Raises:
            Refused: The name is taken or malformed, or the password is weak.
        """
        if not _NAME.fullmatch(name):
            raise Refused(
                f"{name!r} is no name for an account: use up to 60 small letters, digits and . _ @ -, and begin with "
                "a letter or a digit"
            )
        if name == BUILTIN:
            raise Refused(
                f"{BUILTIN!r} is the account that ADMIN_PASSWORD opens; give the account the name of a person"
            )
        demand_strong(password, name)
        values = {"name": name, "role": role.value, "hash": await self.passwords.hash(password)}
        async with self.database.transaction() as connection:
            if (await connection.execute(_ADD, values)).scalar() is None:
                raise Refused(f"there is an account {name!r} already")
            if role is Role.ADMIN:
                await connection.execute(_SIGN_OUT_BUILTIN)

    async def set_role(self, name: str, role: Role) -> Role:
        """Give an account another role; returns the one it had."""
        async with self.database.transaction() as connection:
            account = await _locked(connection, name)
            await connection.execute(_SET_ROLE, {"id": account.id, "role": role.value})
            await connection.execute(_SIGN_OUT, {"id": account.id})
            if role is Role.ADMIN:
                await connection.execute(_SIGN_OUT_BUILTIN)
        return Role(account.role)

    async def set_password(self, name: str, password: str) -> None:
        """Give an account another password.

        Raises:
            Refused: The password is weak.
        """
        demand_strong(password, name)
        hashed = await self.passwords.hash(password)
        async with self.database.transaction() as connection:
            account = await _locked(connection, name)
            await connection.execute(_SET_PASSWORD, {"id": account.id, "hash": hashed})
            await connection.execute(_SIGN_OUT, {"id": account.id})

    async def disable(self, name: str) -> None:
        """Let nobody sign in to an account until it is enabled again.

        Raises:
            Refused: It is disabled already.
        """
        async with self.database.transaction() as connection:
            account = await _locked(connection, name)
            if account.disabled_at:
                raise Refused(f"the account {name!r} is disabled already")
            await connection.execute(_DISABLE, {"id": account.id})
            await connection.execute(_SIGN_OUT, {"id": account.id})

    async def enable(self, name: str) -> None:
        """Let people sign in to a disabled account again.

        Raises:
            Refused: It is not disabled.
        """
        async with self.database.transaction() as connection:
            account = await _locked(connection, name)
            if not account.disabled_at:
                raise Refused(f"the account {name!r} is not disabled")
            await connection.execute(_ENABLE, {"id": account.id})

    async def remove(self, name: str) -> Role:
        """Delete an account; the audit keeps what it did. Returns its role."""
        async with self.database.transaction() as connection:
            account = await _locked(connection, name)
            await connection.execute(_REMOVE, {"id": account.id})
        return Role(account.role)

    async def sign_out(self, name: str) -> int:
        """End every session of an account; returns how many there were."""
        async with self.database.transaction() as connection:
            account = await _locked(connection, name)
            return (await connection.execute(_SIGN_OUT, {"id": account.id})).rowcount


async def _locked(connection: AsyncConnection, name: str) -> "_Row":
    row = (await connection.execute(_LOCK, {"name": name})).one_or_none()
    if row is None:
        raise Refused(f"there is no account {name!r}; see: horoscope accounts list")
    return _Row(*row)


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    role: str
    disabled_at: datetime | None
