"""The stage of a measurement: private servers set up as in production, filled tables, and processes.

PostgreSQL and RabbitMQ keep their safe defaults: a commit is on disk before it is confirmed.
"""

import asyncio
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from datetime import date
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import aiohttp
import asyncpg
import orjson
import pika

from ops.bench import machine, telegram
from ops.bench.machine import Meter
from ops.bench.model import Model
from ops.bench.telegram import Shown
from ops.sandbox.model.prompts import Prompt
from ops.sandbox.model.texts import compose
from ops.stack.child import Child, Process
from ops.stack.ports import free_port
from ops.stack.postgres import Postgres
from ops.stack.processes import start_time
from ops.stack.rabbitmq import RabbitMQ
from schema.signs import Sign
from services.database.migrations import migrate
from services.database.pool import Database
from services.days import ONE_DAY, day_in, system_clock
from services.process.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
HOROSCOPE = str(Path(sys.executable).with_name("horoscope"))

SECRET = "the-webhook-s-secret"  # noqa: S105  # the webhook lives for minutes
TOKEN = "42:BENCHBENCHBENCHBENCHBENCHBENCHBENCHBE"  # noqa: S105  # well-formed, but no bot has it
WEBHOOK_PATH = "/webhook"
FIRST_READER = 1_000_001
READERS = 10_000
HOME: ZoneInfo = Settings.model_fields["home_timezone"].default
ZONES = ("Europe/Moscow", "Asia/Vladivostok", "America/New_York", "Pacific/Auckland", None)

#: Seconds that a measured step may take, or else the measurement fails.
PATIENCE_S = 180.0
START_S = 120.0
STOP_S = 30.0

_VIEWS = "SELECT coalesce(sum(view_count), 0) FROM horoscope_views"


class BenchError(RuntimeError):
    """The measurement failed, so there is no result."""


def sign_of(reader: int) -> Sign:
    """The sign of a reader in the filled tables."""
    return list(Sign)[reader % len(Sign)]


class Running:
    """A process under measurement, with its last lines of output."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: list[str] = []
        self._ready = False
        self._child: Child

    @classmethod
    @asynccontextmanager
    async def started(
        cls, process: Process, folder: Path, ready: str, complaints: list[str]
    ) -> AsyncIterator[Self]:
        """Start a process, wait until it prints ``ready``, and stop it at the end of the block.

        Its warnings and errors are added to ``complaints``. Raises BenchError if it does not become ready. A BenchError
        that leaves the block gets the last lines of its output as a note.
        """
        running = cls(process.name)

        def on_line(line: str) -> None:
            running.last = [*running.last[-19:], line]
            running._ready |= ready in line
            if _level(line) in {"warning", "error", "critical"}:
                complaints.append(f"{process.name}: {line}")

        async def is_ready() -> bool:
            running.check()
            return running._ready

        running._child = await Child.start(process, folder, on_line)
        try:
            await until(is_ready, f"{process.name} prints {ready}", within=START_S)
            yield running
        except BenchError as error:
            error.add_note("\n".join([f"The last lines of {process.name}:", *running.last]))
            raise
        finally:
            await running._child.stop(STOP_S)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._child.pid

    @property
    def peak_mib(self) -> float:
        """The peak of its resident memory."""
        return machine.memory_mib(self.pid, "VmHWM")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Freeze it and its children until the end of the block."""
        self._child.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._child.signal(signal.SIGCONT)

    def check(self) -> None:
        """Raise BenchError if it has ended."""
        if start_time(self.pid) is None:
            raise BenchError(f"{self.name} has ended")


_NONE: Mapping[str, str] = {}


class Stage:
    """Servers, tables and Telegram's stand-in. Starts processes on them, and ends everything."""

    def __init__(self) -> None:
        #: Warnings and errors that the processes logged.
        self.complaints: list[str] = []

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Self]:
        """Start everything within a few seconds; raise ServerError or BenchError if a part does not start."""
        async with AsyncExitStack() as stack:
            # Not in /tmp, which is memory on many systems: a commit costs nothing there.
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="horoscope-bench-", dir="/var/tmp"))
            )
            # The only setting that is no default: PostgreSQL records the time of each commit.
            self._postgres = Postgres(folder / "postgres", settings={"track_commit_timestamp": "on"})
            self._rabbitmq = RabbitMQ(folder / "rabbitmq")
            for server in (self._rabbitmq, self._postgres):
                server.launch()
                stack.callback(server.stop)
            for server in (self._postgres, self._rabbitmq):
                await asyncio.to_thread(server.wait_until_ready)
            self.database_url, self.rabbitmq_url = self._postgres.url, self._rabbitmq.url
            self._folder = folder / "processes"  # holds no .env file
            self._folder.mkdir()
            async with Database(self.database_url) as database:
                await migrate(database)
            self.sql = await asyncpg.connect(self.database_url)
            stack.push_async_callback(self.sql.close)
            self.text = await self._fill()
            port = free_port()
            self._telegram_url = f"http://127.0.0.1:{port}"
            self._telegram = await stack.enter_async_context(
                self.running(
                    "telegram",
                    *(sys.executable, "-m", "ops.bench.telegram", str(port)),
                    ready=telegram.READY,
                    settings=None,
                )
            )
            self._http = await stack.enter_async_context(aiohttp.ClientSession(raise_for_status=True))
            self.webhook_url = f"http://127.0.0.1:{free_port()}{WEBHOOK_PATH}"
            yield self

    def running(
        self, name: str, *argv: str, ready: str, settings: Mapping[str, str] | None = _NONE
    ) -> AbstractAsyncContextManager[Running]:
        """Run a process until the end of a block; it is ready when it prints ``ready``.

        ``settings`` are added to the stage's own; None gives the process no settings at all.
        """
        environment = {} if settings is None else self._environment() | dict(settings)
        process = Process(name, argv, environment | {"PYTHONPATH": str(ROOT)})
        return Running.started(process, self._folder, ready, self.complaints)

    @asynccontextmanager
    async def services(
        self, *parts: str, settings: Mapping[str, str] = _NONE
    ) -> AsyncIterator[dict[str, list[Running]]]:
        """Start a process for each part named, ``bot`` or ``worker``; yields the processes of each part."""
        running: defaultdict[str, list[Running]] = defaultdict(list)
        async with AsyncExitStack() as stack:
            for part in parts:
                process = self.running(part, HOROSCOPE, part, ready=f"{part}.ready", settings=settings)
                running[part].append(await stack.enter_async_context(process))
            yield dict(running)

    def meter(self, **parts: Sequence[Running]) -> Meter:
        """A meter of the processor time of these parts and of all servers."""
        pids = {part: [each.pid for each in running] for part, running in parts.items()}
        servers = (self._postgres.pid, self._rabbitmq.pid, self._telegram.pid)
        names = ("postgresql", "rabbitmq", "telegram")
        return Meter(pids | {name: [pid] for name, pid in zip(names, servers, strict=True) if pid})

    @asynccontextmanager
    async def model(self, latency: float) -> AsyncIterator[Model]:
        """Start the sandbox for its model, which takes ``latency`` seconds for a text."""
        port = free_port()
        command = (sys.executable, "-m", "ops.sandbox", "--port", str(port), "--latency", str(latency))
        async with self.running("model", *command, ready="Sandbox:", settings=None):
            yield Model(f"http://127.0.0.1:{port}", self._http)

    async def shown(self) -> list[Shown]:
        """Everything that Telegram's stand-in has shown since the last call."""
        async with self._http.get(f"{self._telegram_url}/journal") as response:
            return [Shown(*each) for each in orjson.loads(await response.read())]

    async def push(self, updates: Sequence[str]) -> None:
        """Give updates, as JSON and in ascending order, to a bot that polls Telegram's stand-in."""
        async with self._http.post(f"{self._telegram_url}/push", data="\n".join(updates)):
            pass

    @asynccontextmanager
    async def limited_chats(self) -> AsyncIterator[None]:
        """Let Telegram's stand-in take only one new message a second for each chat."""
        for limited in ("1", "0"):
            async with self._http.post(f"{self._telegram_url}/limit", data=limited):
                pass
            if limited == "1":
                yield

    async def calm(self) -> None:
        """Wait until no process of ours has written to PostgreSQL for half a second."""
        written, since = "", 0.0

        async def resting() -> bool:
            nonlocal written, since
            busy, now_written = await self.sql.fetchrow(
                """
                SELECT count(*) FILTER (WHERE state <> 'idle'), pg_current_wal_insert_lsn()::text
                FROM pg_stat_activity WHERE application_name LIKE 'horoscope %'
                """
            )
            if busy or now_written != written:
                written, since = now_written, time.monotonic()
            return time.monotonic() - since >= 0.5

        await until(resting, "the processes come to rest")

    async def forget(self, day: date, *signs: Sign) -> None:
        """Delete texts and their orders; without signs, all of the day."""
        names = [sign.value for sign in signs or Sign]
        for table in ("horoscope_cache", "generations"):
            await self.sql.execute(
                f"DELETE FROM {table} WHERE horoscope_date = $1 AND zodiac_sign = ANY($2)", day, names
            )

    async def written_transactions(self) -> int:
        """The number of all transactions so far that wrote something."""
        return int(await self.sql.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))

    async def counted(self) -> int:
        """The number of counted views, of all signs and days."""
        return int(await self.sql.fetchval(_VIEWS))

    async def until_counted(self, views: int) -> None:
        """Wait until at least so many views are counted."""
        await self.until_at_least(views, _VIEWS)

    async def until_at_least(self, wanted: int, query: str, *arguments: object) -> None:
        """Wait until a query gives at least ``wanted``."""

        async def enough() -> bool:
            return int(await self.sql.fetchval(query, *arguments)) >= wanted

        await until(enough, f"{query} gives {wanted}", within=PATIENCE_S)

    def queued(self, queue: str) -> int:
        """The exact number of messages that wait in a queue, without those that a consumer holds."""
        with pika.BlockingConnection(pika.URLParameters(self.rabbitmq_url)) as connection:
            return int(connection.channel().queue_declare(queue, passive=True).method.message_count)

    def _environment(self) -> dict[str, str]:
        # Empty counts as not set: no setting of the calling shell may get in.
        return {name.upper(): "" for name in Settings.model_fields} | {
            "DATABASE_URL": self.database_url,
            "RABBITMQ_URL": self.rabbitmq_url,
            "BOT_TOKEN": TOKEN,
            "TELEGRAM_API_URL": self._telegram_url,
            "WEBHOOK_URL": self.webhook_url,
            "WEBHOOK_SECRET": SECRET,
            "WEBHOOK_LISTEN": urlsplit(self.webhook_url).netloc,
            "OPENAI_API_KEY": "nobody-calls-the-model",
            "OPENAI_BASE_URL": f"{self._telegram_url}/v1",
            "LOG_FORMAT": "json",
        }

    async def _fill(self) -> str:
        """Insert texts for yesterday to the day after tomorrow, and readers; return a phrase that all texts contain."""
        mark = "Звёзды сказали."
        today = day_in(HOME, system_clock())
        await self.sql.executemany(
            "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ($1, $2, $3)",
            [
                (sign.value, day, f"{compose(Prompt(sign.value, str(day), 'ru'))} {mark}")
                for day in (today + ONE_DAY * ahead for ahead in range(-1, 3))
                for sign in Sign
            ],
        )
        await self.sql.execute(
            """
            INSERT INTO readers (telegram_id, zodiac_sign, time_zone, language)
            SELECT id, ($1::text[])[id % 12 + 1], ($2::text[])[id / 12 % $3 + 1], 'ru'
            FROM generate_series($4::bigint, $5) AS id
            """,
            [sign.value for sign in Sign],
            list(ZONES),
            len(ZONES),
            FIRST_READER,
            FIRST_READER + READERS - 1,
        )
        await self.sql.execute("ANALYZE")
        return mark


async def until(condition: Callable[[], Awaitable[bool]], what: str, within: float = 60.0) -> None:
    """Wait until a condition holds; raise BenchError if it does not within so many seconds."""
    try:
        async with asyncio.timeout(within):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # another process makes it true
    except TimeoutError:
        raise BenchError(f"{what}: not within {within:g} s") from None


def _level(line: str) -> str | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "error" if line.startswith("Traceback") else None
    return entry.get("level") if isinstance(entry, dict) else None
