"""PostgreSQL: transactions through SQLAlchemy, and fast lanes through asyncpg.

A statement through SQLAlchemy's asynchronous engine costs about six times the processor time of the same statement
through asyncpg, and three more round trips. So the few statements behind every reply, and the one that counts views,
use a lane.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from schema.errors import DatabaseUnavailable
from schema.tables import REVISION
from services.database.reasons import reason_of

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0

#: Errors of asyncpg and the operating system when the server is away.
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
#: SQLSTATE classes, and one state, of a server that cannot work whatever the statement: insufficient resources (a full
#: disk), operator intervention, a system error, read-only.
_INCAPABLE = ("53", "57", "58", "25006")
#: Errors when the server, or asyncpg itself, refuses the address.
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
    """The database connections of one process.

    Args:
        url: ``postgresql://user:password@host:port/name``, as libpq reads it.
        process: The application name that PostgreSQL shows.
        pool_size: The most connections, not counting the lanes.

    Attributes:
        reads: The lane for queries.
        writes: The lane for statements that commit.
        asides: The lane for heartbeats, health checks and pauses, so that no reply waits for them.
    """

    def __init__(self, url: str, *, process: str = "horoscope", pool_size: int = 8) -> None:
        self._url = url
        self._options = {
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S,
            "server_settings": {"application_name": process},
        }
        self._lanes: list[Lane] = []
        # Two lanes, so that no reply waits for a commit.
        self.reads = self.lane()
        self.writes = self.lane()
        self.asides = self.lane()
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=pool_size,
            max_overflow=0,
            pool_pre_ping=True,
            hide_parameters=True,  # they may be a reader's
        )

    async def __aenter__(self) -> Self:
        """Open nothing: :meth:`check` or the first query connects."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        for lane in self._lanes:
            lane.leave()  # no caller waits for a lane any more
        await self._engine.dispose()

    def lane(self) -> "Lane":
        """Make another lane, for a caller that keeps a connection busy."""
        lane = Lane(self._connect)
        self._lanes.append(lane)
        return lane

    async def _connect(self) -> asyncpg.Connection:
        try:
            return await asyncpg.connect(self._url, **self._options)
        except REFUSED as error:
            raise _unavailable(error) from None

    async def check(self, timeout: float = STATEMENT_TIMEOUT_S) -> None:
        """Reach the database within ``timeout`` seconds, and check that its schema is new enough for this release.

        Raises:
            DatabaseUnavailable: It cannot be reached, or ``horoscope migrate`` must be run.
        """
        query = "SELECT max(version_num) FROM alembic_version"
        try:
            ((revision,),) = await self.asides.fetch(query, timeout=timeout)
        except asyncpg.UndefinedTableError:
            raise DatabaseUnavailable("the database has no tables yet; run: horoscope migrate") from None
        except asyncpg.InsufficientPrivilegeError:
            raise DatabaseUnavailable(
                "the role in DATABASE_URL has no rights on the tables; run: horoscope migrate, with the owner's address in "
                "MIGRATION_DATABASE_URL"
            ) from None
        except asyncpg.PostgresError as error:
            raise _unavailable(error) from error
        if (revision or "") < REVISION:
            raise DatabaseUnavailable(
                f"the database is at {revision or ''!r}, this release needs {REVISION!r}; run: horoscope migrate"
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed when the block ends without an error.

        Raises DatabaseUnavailable when the database cannot be reached or the connection breaks.
        """
        try:
            async with self._begun() as connection:
                yield connection
        except (*UNREACHABLE, PoolTimeoutError) as error:
            raise _unavailable(error) from error
        except DBAPIError as error:
            cause = getattr(error.orig, "__cause__", None)
            if error.connection_invalidated or isinstance(cause, UNREACHABLE) or _is_incapable(error.orig):
                raise _unavailable(error) from error
            raise

    def _begun(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection in a transaction; a debugger replaces this."""
        return self._engine.begin()


class Lane:
    """One kept connection, used by one statement at a time."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._is_free = asyncio.Lock()

    async def fetch(self, query: str, *arguments: Any, timeout: float) -> list[asyncpg.Record]:
        """The rows of a statement with ``$1`` placeholders, in one round trip and a transaction of its own.

        Raises DatabaseUnavailable when the database cannot be reached or takes longer than ``timeout`` seconds, waiting
        for the lane included. The statement may have run or not.
        """
        try:
            async with asyncio.timeout(timeout), self._is_free:
                try:
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await self._connect()
                    rows: list[asyncpg.Record] = await self._connection.fetch(query, *arguments)
                except BaseException:
                    self.leave()  # a statement may still be running on it
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


def _is_incapable(error: BaseException | None) -> bool:
    return (getattr(error, "sqlstate", None) or "").startswith(_INCAPABLE)


def _unavailable(error: BaseException) -> DatabaseUnavailable:
    # Python's own parser of addresses names a piece of what it cannot read, such as half of a password.
    reason = (
        "the address cannot be read" if type(error) is ValueError else reason_of(error) or str(error)
    ) or type(error).__name__
    return DatabaseUnavailable(f"PostgreSQL cannot be reached: {reason}; check DATABASE_URL and the server")
