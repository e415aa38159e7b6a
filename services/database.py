"""PostgreSQL: transactions through SQLAlchemy, and one fast lane for the serving path.

A statement through SQLAlchemy's asynchronous engine costs about six times the processor time of the same
statement through asyncpg itself, which is why the one query behind every reply takes the latter.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from schema.errors import DatabaseUnavailable
from schema.tables import REVISION

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0

#: What asyncpg and the operating system raise when the server is away.
UNREACHABLE = (
    OSError,  # includes TimeoutError
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)


#: What asyncpg raises when the server, or asyncpg itself, refuses the address.
REFUSED = (
    ValueError,
    asyncpg.ClientConfigurationError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.PostgresSyntaxError,
    asyncpg.CantChangeRuntimeParamError,
    asyncpg.UndefinedObjectError,
)


class Database:
    """The connections of one process.

    Args:
        url: ``postgresql://user:password@host:port/name``, as libpq reads it.
        process: What PostgreSQL shows as the application's name.
        pool_size: The most connections, the fast lane's not counted.
    """

    def __init__(self, url: str, *, process: str = "horoscope", pool_size: int = 8) -> None:
        self._url = url
        self._options = {
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S,
            "server_settings": {"application_name": process},
        }
        self._lane: asyncpg.Connection | None = None
        self._lane_is_free = asyncio.Lock()
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
        )

    async def __aenter__(self) -> Self:
        """Nothing is opened yet: the database is first reached by :meth:`check` or a query."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        self._leave_lane()  # nothing on it outlives its reply
        await self._engine.dispose()

    async def _connect(self) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(self._url, **self._options)
        except REFUSED as error:
            raise _unavailable(error) from None

    async def check(self) -> None:
        """Reach the database and find our tables, at least as new as this release needs them.

        Raises:
            DatabaseUnavailable: It cannot be reached, or ``horoscope migrate`` has not been run.
        """
        async with self.transaction() as connection:
            found = await connection.execute(text("SELECT to_regclass('alembic_version')"))
            if found.scalar_one() is None:
                raise DatabaseUnavailable("the database has no tables yet; run: horoscope migrate")
            found = await connection.execute(text("SELECT max(version_num) FROM alembic_version"))
            if (revision := found.scalar_one() or "") < REVISION:
                raise DatabaseUnavailable(
                    f"the database is at {revision!r}, this release needs {REVISION!r}; run: horoscope migrate"
                )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed when the block ends well.

        Raises:
            DatabaseUnavailable: The database cannot be reached, or went away meanwhile.
        """
        try:
            async with self._engine.begin() as connection:
                yield connection
        except (*UNREACHABLE, PoolTimeoutError) as error:
            raise _unavailable(error) from error
        except DBAPIError as error:
            if error.connection_invalidated or isinstance(_cause(error), UNREACHABLE):
                raise _unavailable(error) from error
            raise

    async def fetch(self, query: str, *arguments: Any, timeout: float) -> list[asyncpg.Record]:
        """The rows of a query in one round trip, outside of any transaction: the fast lane.

        It has one connection, which is kept, and used by one query at a time.

        Args:
            query: SQL with ``$1`` placeholders.
            arguments: The values, in their order.
            timeout: Seconds for all of it, waiting for the lane included.

        Raises:
            DatabaseUnavailable: The database cannot be reached, or took too long.
        """
        try:
            async with asyncio.timeout(timeout), self._lane_is_free:
                try:
                    if self._lane is None or self._lane.is_closed():
                        self._lane = await self._connect()
                    rows: list[asyncpg.Record] = await self._lane.fetch(query, *arguments)
                except BaseException:
                    self._leave_lane()  # whatever is still under way on it
                    raise
                return rows
        except UNREACHABLE as error:
            raise _unavailable(error) from error

    def _leave_lane(self) -> None:
        if self._lane:
            self._lane.terminate()
            self._lane = None


def _cause(error: DBAPIError) -> BaseException | None:
    return getattr(error.orig, "__cause__", None)


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    reason = str(error) or type(error).__name__
    return DatabaseUnavailable(f"PostgreSQL cannot be reached: {reason}; check DATABASE_URL and the server")
