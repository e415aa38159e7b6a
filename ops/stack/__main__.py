"""`make up`: everything on this machine, until Ctrl-C.

Starts PostgreSQL and RabbitMQ where no URL is set, and the sandbox where a bot token or a key for the
model is missing; then the service itself, on these.
"""

import asyncio
import logging
import os
import secrets
import shlex
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pika
from dotenv import dotenv_values

from ops.stack.child import Process
from ops.stack.clock import FOLLOWED_S, Offset
from ops.stack.ports import is_free, kept_port
from ops.stack.postgres import Postgres
from ops.stack.programs import FAKETIME, RABBITMQ, Program, ProgramsMissing, ensure_installed
from ops.stack.rabbitmq import RabbitMQ
from ops.stack.runfile import AlreadyRunningError, RunFile
from ops.stack.screen import Screen
from ops.stack.supervisor import StackError, Supervisor
from services.messaging.publisher import UNREACHABLE, connection_parameters, plain_reason
from services.process.addresses import plain_database_url, with_ca_file, with_root_certificates
from services.process.settings import Settings, WrongSettings, read_secret_files, secret_settings

ROOT = Path(__file__).resolve().parents[2]
LOCAL = ROOT / ".local"
HOROSCOPE = str(Path(sys.executable).with_name("horoscope"))
COMMANDS = {  # name on the screen: command of `horoscope`
    "bot": "bot",
    "worker-1": "worker",
    "worker-2": "worker",
    "scheduler": "scheduler",
    "admin": "admin",
}
SANDBOX_TOKEN = "42:SANDBOX-SANDBOX-SANDBOX-SANDBOX-SAND"  # noqa: S105  # well-formed, and nobody's
SANDBOXED = ("BOT_TOKEN", "OPENAI_API_KEY")  # the sandbox stands in where one of these is not set
READY_LINE = "bot.ready"
READY_TIMEOUT = 20.0  # seconds
TEXTS = 24  # twelve signs, today and tomorrow
TEXTS_PATIENCE = 30.0  # seconds without a new text, after which the addresses are printed all the same
_LOOK_EVERY = 0.2  # seconds
_TEXTS = """
    SELECT count(*) FROM horoscope_cache
    WHERE horoscope_date - (now() AT TIME ZONE $1)::date BETWEEN 0 AND 1
"""


def programs_for(settings: Mapping[str, str]) -> list[Program]:
    """The Debian programs that `make up` starts with these settings."""
    sandboxed = any(not settings.get(name) for name in SANDBOXED)
    return [
        *([] if settings.get("RABBITMQ_URL") else [RABBITMQ]),
        *([FAKETIME] if sandboxed else []),
    ]


class Stack:
    """The servers and processes of `make up`, and their settings."""

    def __init__(self, settings: Mapping[str, str], screen: Screen) -> None:
        self._settings = settings
        self._screen = screen
        self._missing = [name for name in SANDBOXED if not settings.get(name)]
        # The clock needs PostgreSQL to follow, and no real Telegram.
        movable = "BOT_TOKEN" in self._missing and not settings.get("DATABASE_URL")
        self._clock = Offset.create() if movable and FAKETIME.path.exists() else None
        self._no_clock = "library" if movable else "servers"
        prefix = self._clock.server_prefix() if self._clock else ()
        self._postgres = None if settings.get("DATABASE_URL") else Postgres(LOCAL / "postgres", prefix=prefix)
        self._rabbitmq = None if settings.get("RABBITMQ_URL") else RabbitMQ(LOCAL / "rabbitmq")
        self._sandbox_url = ""
        self._metrics: dict[str, str] = {}
        self._bot_ready = asyncio.Event()
        self._began = time.monotonic()

    def heard(self, name: str, line: str) -> None:
        """Notice when the bot is ready."""
        if name == "bot" and READY_LINE in line:
            self._bot_ready.set()

    async def bring_up(self, supervisor: Supervisor) -> None:
        """Start everything in order, print the addresses, and follow the demo's clock."""
        if urls := self._settings.get("RABBITMQ_URL"):
            await asyncio.to_thread(_reach_rabbitmq, with_ca_file(urls, self._settings.get("CA_FILE", "")))
        if servers := [server for server in (self._postgres, self._rabbitmq) if server is not None]:
            self._screen.say(f"Starting {' and '.join(server.title for server in servers)} ...")
            await supervisor.serve(*servers)
        if self._rabbitmq:
            await asyncio.to_thread(self._rabbitmq.add_users)
        if self._missing:
            await self._start_sandbox(supervisor)
        env = self._env()
        _keep({**_given(self._settings), **env})
        owner = {"MIGRATION_DATABASE_URL": self._postgres.url} if self._postgres else {}
        await supervisor.once(Process("migrate", (HOROSCOPE, "migrate"), env | owner))
        self._metrics = metrics_addresses(self._settings.get("METRICS_LISTEN", ""), LOCAL / "metrics")
        for name, command in COMMANDS.items():
            own = {"METRICS_LISTEN": self._metrics[name]}
            supervisor.keep(Process(name, (*self._faked, HOROSCOPE, command), env | own))
        try:
            await asyncio.wait_for(self._bot_ready.wait(), READY_TIMEOUT)
            self._screen.say(f"The bot is ready after {time.monotonic() - self._began:.0f} s.")
        except TimeoutError:
            self._screen.say(f"The bot is not ready after {READY_TIMEOUT:g} s; see its lines above.")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announce({**self._settings, **env}))
            if self._clock:
                tasks.create_task(self._follow_clock(self._clock, supervisor))

    async def _announce(self, env: Mapping[str, str]) -> None:
        """Print the addresses when all texts are there, so that no line about a text follows them."""
        home = str(env.get("HOME_TIMEZONE") or Settings.model_fields["home_timezone"].default)
        url = with_root_certificates(plain_database_url(env["DATABASE_URL"]), env.get("CA_FILE", ""))
        written, since = await _texts(url, home), time.monotonic()
        if written < TEXTS:
            self._screen.say(
                f"{TEXTS - written} of {TEXTS} texts are missing. The addresses come when they are written."
            )
        while written < TEXTS and time.monotonic() - since < TEXTS_PATIENCE:
            await asyncio.sleep(0.5)
            if (found := await _texts(url, home)) != written:
                written, since = found, time.monotonic()
        self._screen.say(f"{written} of {TEXTS} texts are ready.")
        self._screen.say(self._where_to_look())

    async def _start_sandbox(self, supervisor: Supervisor) -> None:
        folder = LOCAL / "sandbox"
        folder.mkdir(parents=True, exist_ok=True)
        port = kept_port(folder / "port")
        self._sandbox_url = f"http://127.0.0.1:{port}"
        self._screen.say(f"{' and '.join(self._missing)} not set: the sandbox stands in.")
        module = (*self._faked, sys.executable, "-m", "ops.stack.demo")
        clock = ("--clock", str(self._clock.path)) if self._clock else ("--no-clock", self._no_clock)
        arguments = ["--port", str(port), "--state", str(folder / "state.json"), *clock]
        if home := self._settings.get("HOME_TIMEZONE"):
            arguments += ["--home", home]
        env = {"DATABASE_URL": self._postgres.running_url if self._postgres else ""}
        supervisor.keep(Process("sandbox", (*module, *arguments), env, serves_others=True))
        deadline = time.monotonic() + READY_TIMEOUT
        while is_free(port):
            if time.monotonic() > deadline:
                raise StackError(
                    f"The sandbox did not open port {port} within {READY_TIMEOUT:g} s; see its lines above."
                )
            await asyncio.sleep(0.05)

    @property
    def _faked(self) -> tuple[str, ...]:
        return self._clock.python_prefix() if self._clock else ()

    async def _follow_clock(self, clock: Offset, supervisor: Supervisor) -> None:
        """Restart processes whose timers a moved clock leaves behind, as an operator would."""
        followed = clock.read()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            ahead = clock.read()
            if ahead == followed:
                continue
            # The scheduler sleeps until the next tick. Periodic jobs wait for a time of day; a step back puts
            # that time far away.
            names = ["scheduler"] if ahead > followed else list(COMMANDS)
            step = timedelta(seconds=abs(ahead - followed))
            direction = "ahead" if ahead > followed else "back"
            self._screen.say(f"The clock moved {direction} by {step}. Restarting {', '.join(names)}.")
            self._screen.say("Commands in another terminal keep the real time.")
            followed = ahead
            await asyncio.sleep(FOLLOWED_S)
            await supervisor.restart(*names)

    def close(self) -> None:
        """Remove what lies outside the stack's folder."""
        if self._clock:
            self._clock.remove()

    def _env(self) -> dict[str, str]:
        """Settings that `make up` adds to those in the environment and in `.env`."""
        env = {"LOG_FORMAT": self._settings.get("LOG_FORMAT") or "console"}
        if self._postgres:
            env["DATABASE_URL"] = self._postgres.running_url
        if self._rabbitmq:
            env["RABBITMQ_URL"] = self._rabbitmq.running_url()
            env["RABBITMQ_MANAGEMENT_URL"] = self._rabbitmq.watching_url
        env |= self._admin
        if "BOT_TOKEN" in self._missing:
            env |= {"BOT_TOKEN": SANDBOX_TOKEN, "TELEGRAM_API_URL": self._sandbox_url}
        if "OPENAI_API_KEY" in self._missing:
            env |= {
                "OPENAI_API_KEY": "sk-the-sandbox-takes-any-key",
                "OPENAI_BASE_URL": f"{self._sandbox_url}/v1",
                "OPENAI_MODEL": "sandbox",
            }
        return env

    @cached_property
    def _admin(self) -> dict[str, str]:
        """The address and the password of the operators' page, unless set; they stay the same from run to run."""
        folder = LOCAL / "admin"
        env = {}
        if not self._settings.get("ADMIN_LISTEN"):
            folder.mkdir(parents=True, exist_ok=True)
            env["ADMIN_LISTEN"] = f"127.0.0.1:{kept_port(folder / 'port')}"
        if not self._settings.get("ADMIN_PASSWORD"):
            folder.mkdir(parents=True, exist_ok=True)
            env["ADMIN_PASSWORD"] = _kept_password(folder / "password")
        return env

    def _where_to_look(self) -> str:
        env = {**self._settings, **self._env()}
        places = {
            "Chat": f"{self._sandbox_url}/" if "BOT_TOKEN" in self._missing else "your bot, in Telegram",
            "Operators": f"http://{_reached_at(env['ADMIN_LISTEN'])}/  {self._password_of_admin()}",
            "PostgreSQL": self._postgres.url if self._postgres else _without_password(env["DATABASE_URL"]),
            "RabbitMQ": self._rabbitmq.url if self._rabbitmq else _without_password(env["RABBITMQ_URL"]),
        }
        if rabbitmq := self._rabbitmq:
            places["Management"] = (
                f"{rabbitmq.management_url}/  user {rabbitmq.user}  password {rabbitmq.password}"
            )
        ports = ", ".join(f"{name} {listen.rpartition(':')[2]}" for name, listen in self._metrics.items())
        places["Metrics"] = f"http://127.0.0.1:PORT/metrics and /health/ready: {ports}"
        places["Commands"] = "in another terminal: . .local/env; .venv/bin/horoscope status"
        places["Files"] = f"{LOCAL}: data and the servers' logs, kept until `make clean`"
        places["Stop"] = "Ctrl-C"
        return "\n".join(["", *(f"  {name:<11} {place}" for name, place in places.items()), ""])

    def _password_of_admin(self) -> str:
        password = self._admin.get("ADMIN_PASSWORD")
        return f"password {password}" if password else "password: your ADMIN_PASSWORD"


def _kept_password(file: Path) -> str:
    """The password in a file that only its owner can read; the first call makes it."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_urlsafe(12))
    return file.read_text()


def _reached_at(listen: str) -> str:
    """The address at which a browser on this machine reaches a server that listens at ``listen``."""
    host, _, port = listen.rpartition(":")
    return f"127.0.0.1:{port}" if host in {"0.0.0.0", "[::]"} else listen  # noqa: S104  nothing is bound here


def metrics_addresses(listen: str, folder: Path) -> dict[str, str]:
    """The address at which each process serves its metrics and its health.

    The first gets ``METRICS_LISTEN`` as it is set, the others the ports that follow. Unset: loopback ports that stay
    the same, noted in ``folder``.
    """
    host, _, port = listen.rpartition(":")
    if port.isdecimal():
        return {name: f"{host}:{int(port) + number}" for number, name in enumerate(COMMANDS)}
    if listen:
        return dict.fromkeys(COMMANDS, listen)  # each process reports the wrong value
    folder.mkdir(parents=True, exist_ok=True)
    return {name: f"127.0.0.1:{kept_port(folder / f'{name}-port')}" for name in COMMANDS}


def _reach_rabbitmq(urls: str) -> None:
    """Connect once.

    Raises:
        StackError: None of the addresses answers.
    """
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # the error says it
    reason = ""
    for parameters in connection_parameters(urls):
        try:
            pika.BlockingConnection(parameters).close()
        except UNREACHABLE as error:
            reason = plain_reason(error)
        else:
            return
    raise StackError(f"RABBITMQ_URL: {_without_password(urls)} cannot be reached: {reason}")


async def _texts(database_url: str, home: str) -> int:
    """The number of texts of today and tomorrow at home; 0 while PostgreSQL is away."""
    try:
        connection = await asyncpg.connect(database_url, timeout=5)
        try:
            return int(await connection.fetchval(_TEXTS, home))
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return 0


def _given(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of ours that the environment or `.env` sets; of a secret in a file, the file."""
    files = {f"{name}_file" for name in secret_settings()}
    return {
        name: value
        for name, value in settings.items()
        if name.lower() in files
        or (name.lower() in Settings.model_fields and f"{name.upper()}_FILE" not in settings)
    }


def _keep(env: Mapping[str, str]) -> None:
    """Write the settings to a file that a shell can source, for `horoscope` in another terminal."""
    file = LOCAL / "env"
    file.touch(mode=0o600)
    file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items()))


def _without_password(urls: str) -> str:
    shown = []
    for url in urls.split(";"):
        parts = urlsplit(url.strip())
        host = parts.netloc.rpartition("@")[2]
        shown.append(
            parts._replace(netloc=f"{parts.username}@{host}" if parts.username else host, query="").geturl()
        )
    return " ; ".join(shown)


def main() -> int:
    """Run the stack in the foreground; returns the exit code."""
    screen = Screen()
    try:
        settings = given_settings()
        _install(programs_for(settings))
        with RunFile(LOCAL) as run:
            if killed := run.end_leftovers():
                screen.say(f"Ended what an earlier run had left: {', '.join(killed)}.")
            return asyncio.run(_run(run, screen, settings))
    except (AlreadyRunningError, ProgramsMissing, WrongSettings) as error:
        screen.say(str(error))
        return 1


def given_settings() -> dict[str, str]:
    """The variables that the environment and `.env` set, and the secrets that stand in files.

    Raises:
        WrongSettings: Such a file cannot be read.
    """
    given = {name: value for name, value in {**dotenv_values(ROOT / ".env"), **os.environ}.items() if value}
    return given | {name.upper(): value for name, value in read_secret_files(given).items()}


def _install(programs: list[Program]) -> None:
    try:
        ensure_installed(*programs)
    except ProgramsMissing:  # without FAKETIME only the demo's clock is missing
        ensure_installed(*(program for program in programs if program is not FAKETIME))


async def _run(run: RunFile, screen: Screen, settings: Mapping[str, str]) -> int:
    stack = Stack(settings, screen)
    supervisor = Supervisor(run, ROOT, screen, stack.heard)
    try:
        return await supervisor.run(stack.bring_up(supervisor))
    finally:
        stack.close()


if __name__ == "__main__":
    sys.exit(main())
