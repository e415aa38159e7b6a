"""Connects Alembic to the database: through the connection that it is given, or by the address of the owner's role."""

import asyncio
import os

import asyncpg
from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from schema.tables import metadata

# Two processes that migrate at once wait for each other; any fixed number does.
_MIGRATION_LOCK = 4_920_311


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        context.run_migrations()


async def _connect_and_migrate(url: str) -> None:
    # asyncpg reads the address itself: SQLAlchemy does not know sslmode and the like.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(url.replace("+asyncpg", "", 1)),
        poolclass=NullPool,
    )
    async with engine.begin() as connection:
        await connection.run_sync(_migrate)
    await engine.dispose()


if (handed_in := context.config.attributes.get("connection")) is not None:
    _migrate(handed_in)
else:
    asyncio.run(_connect_and_migrate(os.environ.get("MIGRATION_DATABASE_URL") or os.environ["DATABASE_URL"]))
