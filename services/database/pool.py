"""PostgreSQL: transactions through SQLAlchemy, and fast lanes for what readers wait for or what comes in bursts.

A statement through SQLAlchemy's asynchronous engine costs about six times the processor time of the same
statement through asyncpg itself, and three round trips more, which is why the few statements behind every
reply, and the one that counts views, take the latter.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)


#: SQLSTATE classes, and one state, that say that the server can carry out nothing of the kind now, whatever the
#: statement: insufficient resources (a full disk), operator intervention, a system error, read-only.
_INCAPABLE = ("53", "57", "58", "25006")


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


_FOUND_REVISION = "SELECT max(version_num) FROM alembic_version"
_NO_TABLES = "the database has no tables yet; run: horoscope migrate"


class Database:
    """The connections of one process.

    Args:
        url: ``postgresql://user:password@host:port/name``, as libpq reads it.
        process: What PostgreSQL shows as the application's name.
        pool_size: The most connections, the lanes' not counted.

    Attributes:
        reads: The fast lane for queries.
        writes: The fast lane for statements that are committed.
        asides: The lane for what a process tells of itself: it keeps no reader waiting and waits for none.
    """

    def __init__(self, url: str, *, process: str = "horoscope", pool_size: int = 8) -> None:
        self._url = url
        self._options = {
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S,
            "server_settings": {"application_name": process},
        }
        self._lanes: list[Lane] = []
        # Two, so that no reply waits for a disk.
        self.reads = self.lane()
        self.writes = self.lane()
        self.asides = self.lane()
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
        for lane in self._lanes:
            lane.leave()  # nothing on a lane outlives whoever waits for it
        await self._engine.dispose()

    def lane(self) -> "Lane":
        """One more fast lane, for whoever has statements enough to keep a connection busy."""
        lane = Lane(self._connect)
        self._lanes.append(lane)
        return lane

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
                raise DatabaseUnavailable(_NO_TABLES)
            found = await connection.execute(text(_FOUND_REVISION))
            _demand(found.scalar_one())

    async def glance(self, timeout: float) -> None:
        """The same as :meth:`check`, in one round trip and at most so many seconds.

        Raises:
            DatabaseUnavailable: As :meth:`check`; or there was no answer in time.
        """
        try:
            ((revision,),) = await self.asides.fetch(_FOUND_REVISION, timeout=timeout)
        except asyncpg.UndefinedTableError:
            raise DatabaseUnavailable(_NO_TABLES) from None
        except asyncpg.PostgresError as error:
            raise _unavailable(error) from error
        _demand(revision)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed when the block ends well.

        Raises:
            DatabaseUnavailable: The database cannot be reached, or went away meanwhile.
        """
        try:
            async with self._begun() as connection:
                yield connection
        except (*UNREACHABLE, PoolTimeoutError) as error:
            raise _unavailable(error) from error
        except DBAPIError as error:
            if (
                error.connection_invalidated
                or isinstance(_cause(error), UNREACHABLE)
                or _is_incapable(error.orig)
            ):
                raise _unavailable(error) from error
            raise

    def _begun(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection in a transaction, which ends with the block."""
        return self._engine.begin()


class Lane:
    """One connection that is kept, and used by one statement at a time.

    Args:
        connect: Opens a connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._is_free = asyncio.Lock()

    async def fetch(self, query: str, *arguments: Any, timeout: float) -> list[asyncpg.Record]:
        """The rows of a statement in one round trip, as a transaction of its own.

        Args:
            query: SQL with ``$1`` placeholders.
            arguments: The values, in their order.
            timeout: Seconds for all of it, waiting for the lane included.

        Raises:
            DatabaseUnavailable: The database cannot be reached, or took too long. Then nobody knows whether
                the statement was carried out.
        """
        try:
            async with asyncio.timeout(timeout), self._is_free:
                try:
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await self._connect()
                    rows: list[asyncpg.Record] = await self._connection.fetch(query, *arguments)
                except BaseException:
                    self.leave()  # whatever is still under way on it
                    raise
                return rows
        except UNREACHABLE as error:
            raise _unavailable(error) from error
        except asyncpg.PostgresError as error:
            if _is_incapable(error):
                raise _unavailable(error) from error
            raise

    def leave(self) -> None:
        """Drop the connection; the next statement opens another."""
        if self._connection:
            self._connection.terminate()
            self._connection = None


def _demand(revision: str | None) -> None:
    if (revision or "") < REVISION:
        raise DatabaseUnavailable(
            f"the database is at {revision or ''!r}, this release needs {REVISION!r}; run: horoscope migrate"
        )


def _is_incapable(error: BaseException | None) -> bool:
    return (getattr(error, "sqlstate", None) or "").startswith(_INCAPABLE)


def _cause(error: DBAPIError) -> BaseException | None:
    return getattr(error.orig, "__cause__", None)


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    reason = str(error) or type(error).__name__
    return DatabaseUnavailable(f"PostgreSQL cannot be reached: {reason}; check DATABASE_URL and the server")
