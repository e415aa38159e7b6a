"""The running role: as whom the processes sign in to PostgreSQL. It reads and writes rows, and nothing else.

The owner's role creates and changes the tables. After each migration it grants the running role what each table is for,
in the same transaction, so new tables never lack their grants.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import Refused
from schema.tables import GRANTED, metadata

#: The rounds that PostgreSQL takes by default.
_ROUNDS = 4096

_ABOUT = text("""
    SELECT current_user AS owner, current_database() AS database, current_schema() AS schema,
           role.rolname IS NOT NULL AS exists,
           coalesce(role.rolsuper OR role.rolcreaterole OR role.rolcreatedb OR role.rolbypassrls OR role.rolreplication,
                    false) AS mighty,
           EXISTS (
               SELECT FROM pg_class WHERE relnamespace = current_schema()::regnamespace
                AND relname = ANY(CAST(:tables AS text[])) AND pg_has_role(role.oid, relowner, 'MEMBER')
           ) AS owns
    FROM (SELECT) AS nothing LEFT JOIN pg_roles AS role ON role.rolname = :role
""")
_SEQUENCES = text("""
    SELECT sequence.relname
    FROM pg_class AS sequence
    JOIN pg_depend ON pg_depend.objid = sequence.oid AND pg_depend.deptype IN ('a', 'i')
    JOIN pg_class AS owner ON owner.oid = pg_depend.refobjid
    WHERE sequence.relkind = 'S' AND owner.relnamespace = current_schema()::regnamespace
      AND owner.relname = ANY(CAST(:tables AS text[]))
""")


@dataclass(frozen=True, slots=True)
class RunningRole:
    """The role in ``DATABASE_URL``.

    Attributes:
        name: Its name.
        password: The password that it should have; None: leave that as it is.
    """

    name: str
    password: str | None = None


async def grant(connection: AsyncConnection, role: RunningRole) -> None:
    """Let the running role work on our tables, in the connection's transaction; create the role if there is none.

    Raises:
        Refused: The role may do too much, or is missing and the owner's role may not create it.
    """
    tables = [*metadata.tables, "alembic_version"]
    about = (await connection.execute(_ABOUT, {"role": role.name, "tables": tables})).one()
    if role.name == about.owner:
        raise Refused(
            f"DATABASE_URL and MIGRATION_DATABASE_URL name the same role, {role.name}; "
            "in DATABASE_URL name another one, which only reads and writes rows"
        )
    if about.mighty or about.owns:
        what = (
            "has rights over the whole server"
            if about.mighty
            else "owns tables, or is a member of their owner"
        )
        raise Refused(
            f"the role {role.name} in DATABASE_URL {what}; name another role there. If there is none of that name, "
            "horoscope migrate creates it"
        )
    name, schema, database = (_quoted(connection, each) for each in (role.name, about.schema, about.database))
    await _sign_in(connection, role, name, exists=about.exists)
    for statement in (
        f"REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {name}",
        f"GRANT USAGE ON SCHEMA {schema} TO {name}",
        f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC, {name}",
        f"GRANT CONNECT ON DATABASE {database} TO {name}",
        f"REVOKE ALL ON TABLE {', '.join(_quoted(connection, table) for table in tables)} FROM {name}",
        f"GRANT SELECT ON TABLE alembic_version TO {name}",
    ):
        await connection.exec_driver_sql(statement)
    for table in metadata.tables.values():
        granted = table.info.get(GRANTED, "SELECT, INSERT, UPDATE, DELETE")
        await connection.exec_driver_sql(
            f"GRANT {granted} ON TABLE {_quoted(connection, table.name)} TO {name}"
        )
    for sequence in (await connection.execute(_SEQUENCES, {"tables": tables})).scalars().all():
        await connection.exec_driver_sql(f"GRANT USAGE ON SEQUENCE {_quoted(connection, sequence)} TO {name}")


async def _sign_in(connection: AsyncConnection, role: RunningRole, name: str, *, exists: bool) -> None:
    """Create the role, or set its password if the owner's role may."""
    password = f" PASSWORD '{_verifier(role.password)}'" if role.password else ""
    if not exists:
        attributes = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOINHERIT"
        try:
            await _attempt(connection, f"CREATE ROLE {name} {attributes}{password}")
        except ProgrammingError as error:
            raise Refused(
                f"the role {role.name} of DATABASE_URL does not exist, and the role of MIGRATION_DATABASE_URL may not "
                f"create it; as an administrator of PostgreSQL, run: CREATE ROLE {name} {attributes} PASSWORD '...'"
            ) from error
    elif password:
        try:
            await _attempt(connection, f"ALTER ROLE {name}{password}")
        except ProgrammingError:
            return  # an administrator sets it


async def _attempt(connection: AsyncConnection, statement: str) -> None:
    """Run a statement that may fail without ending the transaction."""
    async with connection.begin_nested():
        await connection.exec_driver_sql(statement)


def _quoted(connection: AsyncConnection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _verifier(password: str) -> str:
    """What PostgreSQL stores of a password, so that the password itself is in no statement and no log.

    Source: RFC 5802, section 3, and PostgreSQL's ``src/common/scram-common.c``. Raises Refused for characters that
    SASLprep might change.
    """
    if not password.isascii():
        raise Refused("the password in DATABASE_URL must consist of ASCII characters")
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ROUNDS)

    def key(of: bytes) -> bytes:
        return hmac.digest(salted, of, "sha256")

    def shown(value: Any) -> str:
        return base64.b64encode(value).decode()

    stored = hashlib.sha256(key(b"Client Key")).digest()
    return f"SCRAM-SHA-256${_ROUNDS}:{shown(salt)}${shown(stored)}:{shown(key(b'Server Key'))}"
