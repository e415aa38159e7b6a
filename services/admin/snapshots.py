"""The state of the whole service, read once for everybody who looks within the same second."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog

from schema.errors import ManagementUnavailable, PassingError
from services.database.pool import Database
from services.days import ONE_DAY, Clock, day_in, first_day_alive
from services.horoscopes.usage import Usage
from services.messaging.management import ManagementApi, QueueFlow
from services.messaging.pauses import Pause
from services.messaging.publisher import Queue
from services.messaging.queues import Queues as QueueService
from services.messaging.queues import QueueStatus, joined, read_queues
from services.process.logs import Mask
from services.readers.analytics import Analytics, read_analytics
from services.status import DayStatus, Records, SignStatus, Status, judge, read_day, read_records

log = structlog.get_logger(__name__)

#: Seconds for which one snapshot is shown to everybody.
FRESH_S = 1.0
#: Seconds that a page waits for a server.
PATIENCE_S = 4.0
#: Seconds for which people are shown the last figures of a server that is away.
KEPT_S = 300.0
#: Seconds until a management API that did not answer is asked again.
NOT_ASKED_S = 15.0

POSTGRESQL, RABBITMQ = "PostgreSQL", "RabbitMQ"

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Away:
    """A server that cannot be reached."""

    server: str
    since: datetime  #: When this process first noticed
    ever: bool  #: This process has reached it before
    reason: str  #: The error, without secrets


@dataclass(frozen=True, slots=True)
class Trouble:
    """Texts of one day that are in the same state for the same reason."""

    day: date
    state: str  #: One of :data:`services.status.STATES`; the rewrite's state if ``anew``
    error: str | None  #: The error of their last attempts
    anew: bool  #: The texts are being rewritten; readers see the older ones meanwhile
    signs: list[SignStatus]


@dataclass(frozen=True, slots=True)
class Service:
    """The figures that PostgreSQL holds."""

    analytics: Analytics
    days: list[DayStatus]  #: Yesterday, and every day whose texts must exist
    records: Records  #: The rows that the status was judged by
    first_alive: date  #: The earliest day that is current in some zone; no older text is written
    status: Status

    @property
    def troubles(self) -> list[Trouble]:
        """The texts that were begun and are not finished, by day, state and error."""
        found: dict[tuple[date, str, str | None, bool], Trouble] = {}
        for day in self.days:
            for sign in day.unfinished if day.day >= self.first_alive else ():
                key = (day.day, sign.anew or sign.state, sign.error, bool(sign.anew))
                found.setdefault(key, Trouble(*key, [])).signs.append(sign)
        return list(found.values())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the whole service at one moment."""

    at: datetime
    service: Service | None  #: None while PostgreSQL is away
    queues: list[QueueStatus] | None  #: None while RabbitMQ is away
    unmanaged: str | None  #: Why RabbitMQ's management API does not answer; None: it does
    away: list[Away]
    #: When the figures of a server that is away were read.
    kept: dict[str, datetime] = field(default_factory=dict)

    @property
    def pauses(self) -> dict[str, Pause] | None:
        """The queues that are paused; None while PostgreSQL is away."""
        return self.service.records.pauses if self.service else None

    @property
    def dead_letters(self) -> int | None:
        """How many dead letters wait for a person; None while PostgreSQL is away."""
        return self.service.status.dead_letters if self.service else None


@dataclass
class Snapshots:
    """Takes snapshots; concurrent callers share one."""

    database: Database
    usage: Usage  #: Tells whether the night may go on
    urls: str  #: ``RABBITMQ_URL``
    declared: Sequence[Queue]  #: By every process
    api: ManagementApi
    clock: Clock
    home: ZoneInfo  #: The zone in which a day counts as today
    mask: Mask  #: Removes secrets from the servers' errors
    queues: QueueService = field(init=False)  #: Looks into one queue, and purges it
    _checked: bool = False
    _seen: set[str] = field(default_factory=set)
    _away: dict[str, Away] = field(default_factory=dict)
    _looking: asyncio.Task[list[QueueStatus]] | None = None
    _unmanaged: tuple[float, str] | None = None
    _taken: tuple[float, Snapshot] | None = None
    _last: dict[str, tuple[float, Snapshot]] = field(default_factory=dict)
    _taking: asyncio.Task[Snapshot] | None = None

    def __post_init__(self) -> None:
        self.queues = QueueService(self.urls, self.declared, self.api, self.mask)

    @property
    def latest(self) -> Snapshot | None:
        """The last snapshot, however old; None: none has been taken yet."""
        return self._taken[1] if self._taken else None

    def answers(self, server: str) -> bool:
        """Whether the server answered for the last snapshot."""
        return server in self._last and server not in self._away

    def told(self, server: str) -> tuple[float, Snapshot | None]:
        """Seconds since the server last answered, and the snapshot of that moment; infinite: it never did."""
        at, snapshot = self._last.get(server, (-math.inf, None))
        return time.monotonic() - at, snapshot

    async def now(self) -> Snapshot:
        """A snapshot that is no older than :data:`FRESH_S`; concurrent callers share one."""
        if self._taken and time.monotonic() - self._taken[0] < FRESH_S:
            return self._taken[1]
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take(), name="snapshot")
        return await asyncio.shield(self._taking)

    async def lately(self) -> Snapshot:
        """The same for people: in the first :data:`KEPT_S` that a server is away, with its last figures."""
        snapshot = await self.now()
        for server, (told, last) in self._last.items():
            if last is snapshot or time.monotonic() - told > KEPT_S:
                continue
            kept = {**snapshot.kept, server: last.at}
            if server == POSTGRESQL and snapshot.service is None:
                snapshot = replace(snapshot, service=last.service, kept=kept)
            elif server == RABBITMQ and snapshot.queues is None:
                snapshot = replace(snapshot, queues=last.queues, kept=kept)
        return snapshot

    async def _take(self) -> Snapshot:
        queues, flows, service = await asyncio.gather(
            self._tried(RABBITMQ, self._depths), self._flows(), self._tried(POSTGRESQL, self._read)
        )
        now = self.clock()
        snapshot = Snapshot(
            at=now,
            service=Service(*service, first_day_alive(now), judge(service[2], queues)) if service else None,
            queues=None if queues is None else joined(queues, flows),
            unmanaged=self._unmanaged[1] if self._unmanaged else None,
            away=sorted(self._away.values(), key=lambda away: away.server),
        )
        self._taken = time.monotonic(), snapshot
        self._last |= {server: self._taken for server in (POSTGRESQL, RABBITMQ) if server not in self._away}
        return snapshot

    async def _tried(self, server: str, read: Callable[[], Awaitable[_Found]]) -> _Found | None:
        """What a server answers; None, and an entry in ``_away``, when it cannot be reached."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await read()
        except (PassingError, TimeoutError) as error:
            reason = self.mask(str(error)) or f"no answer within {PATIENCE_S:g} s"
            since = self._away[server].since if server in self._away else self.clock()
            if server not in self._away:
                log.warning("admin.server_away", server=server, reason=reason)
            self._away[server] = Away(server, since, server in self._seen, reason)
            return None
        if self._away.pop(server, None):
            log.info("admin.server_back", server=server)
        self._seen.add(server)
        return found

    async def _read(self) -> tuple[Analytics, list[DayStatus], Records]:
        try:
            if not self._checked:
                await self.database.check()
            analytics = await read_analytics(self.database, self.clock, self.home)
            records = await read_records(self.database, self.usage, self.clock, self.home)
            async with self.database.transaction() as connection:
                yesterday = await read_day(connection, day_in(self.home, self.clock()) - ONE_DAY)
        except BaseException:
            self._checked = False  # the next snapshot checks first that the tables exist
            raise
        self._checked = True
        return analytics, [yesterday, *records.days], records

    async def _depths(self) -> list[QueueStatus]:
        """The queues' depths. A call that takes too long is left to end, so that there is never a second one."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(
                asyncio.to_thread(read_queues, self.urls, self.declared), name="depths"
            )
            # Its caller may have given up: mark its error as seen.
            self._looking.add_done_callback(lambda look: look.cancelled() or look.exception())
        return await asyncio.shield(self._looking)

    async def _flows(self) -> list[QueueFlow]:
        if self._unmanaged and time.monotonic() - self._unmanaged[0] < NOT_ASKED_S:
            return []
        try:
            flows = await self.api.queues()
        except ManagementUnavailable as error:
            if not self._unmanaged:
                log.warning("admin.no_rates", reason=self.mask(str(error)), addresses=self.api.addresses)
            self._unmanaged = time.monotonic(), self.mask(str(error))
            return []
        self._unmanaged = None
        return flows
