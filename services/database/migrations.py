"""Migrates the database. Both functions raise DatabaseUnavailable while PostgreSQL is away."""

from importlib.resources import files

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from schema.errors import Refused
from services.database.pool import Database
from services.database.roles import RunningRole, grant


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["connection"] = connection
    return config


async def migrate(
    database: Database, revision: str = "head", *, running: RunningRole | None = None
) -> tuple[str | None, str | None]:
    """Bring the database to a revision, in one transaction; returns the revisions before and after.

    Processes that migrate at the same time wait for each other. ``running`` is granted its rights on the tables in the
    same transaction; None: the role of ``database`` works on its own tables.

    Raises:
        Refused: The role may not change the tables, or cannot grant the running role its rights.
    """
    before = await current(database)
    try:
        async with database.transaction() as connection:
            await connection.run_sync(lambda sync: command.upgrade(_config(sync), revision))
            if running:
                await grant(connection, running)
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) != asyncpg.InsufficientPrivilegeError.sqlstate:
            raise
        raise Refused(
            f"PostgreSQL refuses to change the tables: {error.orig}; set MIGRATION_DATABASE_URL to the address with "
            "the role that owns them"
        ) from error
    return before, await current(database)


async def current(database: Database) -> str | None:
    """The database's revision; None: it was never migrated."""
    try:
        async with database.transaction() as connection:
            found = await connection.execute(text("SELECT version_num FROM alembic_version"))
            revision: str | None = found.scalar_one_or_none()
    except ProgrammingError:  # no such table
        return None
    return revision
