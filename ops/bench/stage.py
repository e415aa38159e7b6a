"""What a row is measured on: private servers set up as in production, full tables, and processes.

PostgreSQL and RabbitMQ keep their defaults for safety: a commit is on disk before it is confirmed.
"""

import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import aiohttp
import asyncpg
import orjson
import pika

from ops.bench import telegram
from ops.bench.machine import cpu_seconds, peak_mib, resident_mib
from ops.bench.model import Model
from ops.bench.telegram import Shown
from ops.sandbox.model.prompts import Prompt
from ops.sandbox.model.texts import compose
from ops.stack.child import Child, Process
from ops.stack.ports import free_port
from ops.stack.postgres import Postgres
from ops.stack.processes import start_time
from ops.stack.rabbitmq import RabbitMQ
from schema.messages import Message
from schema.signs import Sign
from services.database.migrations import migrate
from services.database.pool import Database
from services.days import ONE_DAY, day_in, system_clock
from services.messaging import envelope
from services.process.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
HOROSCOPE = str(Path(sys.executable).with_name("horoscope"))

SECRET = "the-webhook-s-secret"  # noqa: S105  # of a webhook that lives for minutes
TOKEN = "42:BENCHBENCHBENCHBENCHBENCHBENCHBENCHBE"  # noqa: S105  # well-formed, and nobody's
WEBHOOK_PATH = "/webhook"
FIRST_READER = 1_000_001
READERS = 10_000
HOME: ZoneInfo = Settings.model_fields["home_timezone"].default
ZONES = ("Europe/Moscow", "Asia/Vladivostok", "America/New_York", "Pacific/Auckland", None)

START_S = 30.0
STOP_S = 30.0


class BenchError(RuntimeError):
    """The measurement itself failed; what it says is no result."""


def sign_of(reader: int) -> Sign:
    """The sign that the tables give to a reader."""
    return list(Sign)[reader % len(Sign)]


class Running:
    """A process under measurement, what it said last and what it complained of."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.complaints: list[str] = []
        self.last: list[str] = []
        self._child: Child | None = None
        self._ready = asyncio.Event()

    async def _start(self, process: Process, folder: Path, ready: str) -> None:
        def on_line(line: str) -> None:
            self.last = [*self.last[-19:], line]
            if ready in line:
                self._ready.set()
            if _level(line) in {"warning", "error", "critical"}:
                self.complaints.append(line)

        self._child = await Child.start(process, folder, on_line)
        ended = asyncio.create_task(self._child.wait())
        waiting = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ended, waiting}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not self._ready.is_set():
            said = "\n".join(self.last)
            raise BenchError(f"{self.name} did not become ready within {START_S:g} s; it said:\n{said}")

    async def _stop(self) -> None:
        if self._child:
            await self._child.stop(STOP_S)

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._child
        return self._child.pid

    @property
    def peak_mib(self) -> float:
        """The most memory that it ever held, resident."""
        return peak_mib(self.pid)

    @property
    def resident_mib(self) -> float:
        """The memory that it holds, resident."""
        return resident_mib(self.pid)

    @property
    def cpu_seconds(self) -> float:
        """Processor time that it has taken so far."""
        return cpu_seconds(self.pid)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop it, with all that it started, and have it go on at the end of the block."""
        assert self._child
        self._child.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._child.signal(signal.SIGCONT)

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            BenchError: It has ended.
        """
        if start_time(self.pid) is None:
            said = "\n".join(self.last)
            raise BenchError(f"{self.name} has ended; it said:\n{said}")


_NONE: Mapping[str, str] = {}


class Stage:
    """Servers, tables and Telegram's stand-in; starts processes on them and ends all of it."""

    async def __aenter__(self) -> Self:
        """Take a few seconds to set everything up.

        Raises:
            ServerError: A server cannot be started.
            BenchError: Telegram's stand-in cannot.
        """
        async with AsyncExitStack() as stack:
            # Not in /tmp, which on many systems is memory: there, a commit costs nothing.
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="horoscope-bench-", dir="/var/tmp"))
            )
            # The one setting that is not PostgreSQL's own: it remembers when each transaction was committed.
            self._postgres = Postgres(folder / "postgres", settings={"track_commit_timestamp": "on"})
            self._rabbitmq = RabbitMQ(folder / "rabbitmq")
            for server in (self._rabbitmq, self._postgres):
                server.launch()
                stack.callback(server.stop)
            for server in (self._postgres, self._rabbitmq):
                await asyncio.to_thread(server.wait_until_ready)
            self._folder = folder / "processes"  # without a .env of somebody's
            self._folder.mkdir()
            async with Database(self._postgres.url) as database:
                await migrate(database)
            self.sql = await asyncpg.connect(self._postgres.url)
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
            self.webhook_url, _ = self.webhook()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @asynccontextmanager
    async def running(
        self, name: str, *argv: str, ready: str, settings: Mapping[str, str] | None = _NONE
    ) -> AsyncIterator[Running]:
        """Start a process, wait until it prints ``ready``, and stop it at the end of the block.

        Args:
            name: What it is called in a complaint.
            argv: The command.
            ready: What it prints when it is ready.
            settings: Those that differ from the stage's own; None: the process takes none at all.

        Raises:
            BenchError: It does not become ready. Any that passes through is given its first complaints, as notes.
        """
        running = Running(name)
        environment = {} if settings is None else self._environment() | dict(settings)
        try:
            await running._start(  # noqa: SLF001
                Process(name, argv, environment | {"PYTHONPATH": str(ROOT)}), self._folder, ready
            )
            yield running
        except BenchError as error:
            for line in running.complaints[:3]:
                error.add_note(f"{name} said: {line}")
            raise
        finally:
            await running._stop()  # noqa: SLF001

    @asynccontextmanager
    async def model(self, latency: float) -> AsyncIterator[Model]:
        """The sandbox as a process of its own, for its model that takes so many seconds for a text.

        Raises:
            BenchError: It does not become ready.
        """
        port = free_port()
        command = (sys.executable, "-m", "ops.sandbox", "--port", str(port), "--latency", str(latency))
        async with self.running("model", *command, ready="Sandbox:", settings=None):
            yield Model(f"http://127.0.0.1:{port}", self._http)

    def webhook(self) -> tuple[str, dict[str, str]]:
        """An address of its own for a bot, and the settings that have the bot listen there."""
        listen = f"127.0.0.1:{free_port()}"
        url = f"http://{listen}{WEBHOOK_PATH}"
        return url, {"WEBHOOK_URL": url, "WEBHOOK_LISTEN": listen}

    async def publish(self, message: Message) -> None:
        """Publish a message as a process of ours does."""
        await asyncio.to_thread(self._publish, message.queue, envelope.encode(message))

    def _publish(self, queue: str, body: bytes) -> None:
        with pika.BlockingConnection(pika.URLParameters(self._rabbitmq.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)

    async def shown(self) -> list[Shown]:
        """What Telegram's stand-in has shown since this was last asked."""
        async with self._http.get(f"{self._telegram_url}/journal") as response:
            return [Shown(*each) for each in orjson.loads(await response.read())]

    async def calm(self) -> None:
        """Wait until no process of ours has had PostgreSQL write anything for half a second.

        Raises:
            BenchError: They do not come to rest.
        """
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
        """Make texts as if they had never been ordered; without signs, all of the day's."""
        names = [sign.value for sign in signs or Sign]
        for table in ("horoscope_cache", "generations"):
            await self.sql.execute(
                f"DELETE FROM {table} WHERE horoscope_date = $1 AND zodiac_sign = ANY($2)", day, names
            )

    async def written_transactions(self) -> int:
        """Transactions that have written something, since ever."""
        return int(await self.sql.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time that the servers have taken so far."""
        pids = {
            "postgresql": self._postgres.pid,
            "rabbitmq": self._rabbitmq.pid,
            "telegram": self._telegram.pid,
        }
        return {name: cpu_seconds(pid) for name, pid in pids.items() if pid}

    async def counted(self) -> int:
        """Views of all signs and days in the table."""
        return int(await self.sql.fetchval("SELECT coalesce(sum(view_count), 0) FROM horoscope_views"))

    @property
    def rabbitmq_url(self) -> str:
        """RabbitMQ's address."""
        return self._rabbitmq.url

    @property
    def database_url(self) -> str:
        """PostgreSQL's address."""
        return self._postgres.url

    def queued(self, queue: str) -> int:
        """Messages that stand in a queue, exactly; those in a consumer's hands are not among them."""
        with pika.BlockingConnection(pika.URLParameters(self._rabbitmq.url)) as connection:
            return int(connection.channel().queue_declare(queue, passive=True).method.message_count)

    def _environment(self) -> dict[str, str]:
        # A setting of whoever runs this must not get in: an empty one counts as not set.
        return {name.upper(): "" for name in Settings.model_fields} | {
            "DATABASE_URL": self._postgres.url,
            "RABBITMQ_URL": self._rabbitmq.url,
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
        """Texts of every day that is lived in somewhere or soon will be, and readers of every sign.

        Returns:
            What every text contains.
        """
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
    """Wait for a condition.

    Raises:
        BenchError: It did not come about within so many seconds.
    """
    try:
        async with asyncio.timeout(within):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # what we wait for happens in another process
    except TimeoutError:
        raise BenchError(f"{what}: not within {within:g} s") from None


def _level(line: str) -> str | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "error" if line.startswith("Traceback") else None
    return entry.get("level") if isinstance(entry, dict) else None
