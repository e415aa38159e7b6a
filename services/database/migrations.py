"""Migrates the database. Both functions raise DatabaseUnavailable while PostgreSQL is away."""

from importlib.resources import files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from services.database.pool import Database


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.attributes["connection"] = connection
    return config


async def migrate(database: Database, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the database to a revision, in one transaction; returns the revisions before and after.

    Processes that migrate at the same time wait for each other.
    """
    before = await current(database)
    async with database.transaction() as connection:
        await connection.run_sync(lambda sync: command.upgrade(_config(sync), revision))
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
