"""The private servers and the supervisor of `make up`, with real processes."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pika
import pytest

import ops.stack
from ops.stack import __main__ as up_module
from ops.stack.clock import MovableClock, Offset
from ops.stack.ports import is_free, kept_port
from ops.stack.postgres import Postgres
from ops.stack.processes import descendants, start_time
from ops.stack.programs import FAKETIME, RABBITMQ, Program, ProgramsMissing
from ops.stack.rabbitmq import RabbitMQ
from ops.stack.screen import Screen
from ops.stack.server import ServerError
from services.process.settings import Settings
from tests.waiting import DEADLINE_S

APT = Path(ops.stack.__file__).with_name("apt.sh")
ROOT = APT.parents[2]
NO_FSYNC = {"fsync": "off"}


def eventually(condition: Callable[[], bool], what: str, timeout: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.02)


def family(pid: int | None) -> dict[int, int]:
    """A process and its descendants, with their start times."""
    assert pid is not None
    return {each: started for each in (pid, *descendants(pid)) if (started := start_time(each)) is not None}


def gone(processes: dict[int, int]) -> bool:
    return all(start_time(pid) != started for pid, started in processes.items())


# --- PostgreSQL


async def execute(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_postgres_keeps_address_and_data_over_a_stop_and_a_kill(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", NO_FSYNC) as postgres:
        url = postgres.url
        await execute(url, "CREATE TABLE kept AS SELECT 1 AS n")
        postgres.stop()
        assert postgres.pid is None
        postgres.start()
        await execute(url, "INSERT INTO kept VALUES (2)")
        postgres.kill()
        postgres.start()
        assert await execute(url, "SELECT sum(n) FROM kept") == 3
    with Postgres(tmp_path / "pg", NO_FSYNC) as again:
        assert again.url == url


async def test_a_killed_postgres_leaves_no_process_behind(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", NO_FSYNC) as postgres:
        connection = await asyncpg.connect(postgres.url)
        processes = family(postgres.pid)
        assert len(processes) > 5
        postgres.kill()
        eventually(lambda: gone(processes), "no process of PostgreSQL")
        connection.terminate()


async def test_postgres_wants_the_password_and_lower_cases_cyrillic(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", NO_FSYNC) as postgres:
        assert await execute(postgres.url, "SELECT lower('ОВЕН')") == "овен"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await execute(postgres.url.replace("horoscope:", "horoscope:wrong"), "SELECT 1")
    assert (tmp_path / "pg" / "password").stat().st_mode & 0o777 == 0o600


def test_a_folder_serves_one_server_at_a_time(tmp_path: Path) -> None:
    with Postgres(tmp_path / "pg", NO_FSYNC), pytest.raises(ServerError, match="already runs in"):
        Postgres(tmp_path / "pg")._lock(timeout=0)


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / "pg", {"shared_buffers": "nonsense"})
    with pytest.raises(ServerError, match=r"(?s)exit code 1 .*server\.log.*shared_buffers.*nonsense"):
        postgres.start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL has to leave root")
@pytest.mark.parametrize("ambient_capabilities", [True, False])
def test_root_may_have_postgres_in_a_folder_that_only_root_may_enter(
    tmp_path: Path, ambient_capabilities: bool
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    script = f"""
        import ctypes, os
        from pathlib import Path
        from ops.stack.postgres import Postgres
        if not {ambient_capabilities}:  # PR_SET_SECUREBITS, SECBIT_NO_CAP_AMBIENT_RAISE: as some containers have it
            assert ctypes.CDLL(None).prctl(28, 1 << 6, 0, 0, 0) == 0
        with Postgres(Path({str(secret)!r}), {NO_FSYNC}) as postgres:
            assert Path(f"/proc/{{postgres.pid}}").stat().st_uid != 0
            postgres.kill()
            postgres.start()
    """
    try:
        subprocess.run([sys.executable, "-c", dedent(script)], check=True, cwd=ROOT)
        data = secret / "data"
        assert data.is_symlink() is not ambient_capabilities
        assert (data / "cluster" / "PG_VERSION").exists()
    finally:
        if (secret / "data").is_symlink():
            subprocess.run(["rm", "-rf", (secret / "data").resolve().parent], check=True)


# --- RabbitMQ


def messages(url: str, publish: int = 0) -> int:
    """Publish confirmed persistent messages to one durable queue; return how many are in it."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True)
        for _ in range(publish):
            channel.basic_publish("", "kept", b"message", pika.BasicProperties(delivery_mode=2))
        count: int = channel.queue_declare("kept", passive=True).method.message_count
        return count


def is_declared_on_disk(rabbitmq: RabbitMQ) -> bool:
    # RabbitMQ 3.10 (Mnesia) answers a declaration up to two seconds before the commit is written. A crash
    # just then takes the new queue away, and the messages that were confirmed in it.
    (log,) = [log.read_bytes() for log in rabbitmq.folder.glob("data/*/LATEST.LOG")]
    return -1 < log.rfind(b"kept") < log.rfind(b"committed")


def serve_http(pid: int | None) -> set[str]:
    """Addresses a process listens on, as /proc/net/tcp has them."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            sockets.add(str(descriptor.readlink()))
    return {
        fields[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if (fields := line.split())[3] == "0A" and f"socket:[{fields[9]}]" in sockets
    }


def test_rabbitmq_keeps_address_and_messages_over_a_kill_and_a_stop(tmp_path: Path) -> None:
    # Neither RabbitMQ's scripts nor Erlang expect such a path by themselves.
    with RabbitMQ(tmp_path / "a rabbit, кролик") as rabbitmq:
        url = rabbitmq.create_vhost("a/b")
        assert messages(url, publish=3) == 3
        eventually(lambda: is_declared_on_disk(rabbitmq), "the queue is on disk")

        ports = (rabbitmq._port, rabbitmq._management_port)
        assert serve_http(rabbitmq.pid) == {f"0100007F:{port:04X}" for port in ports}, (
            "loopback, and no Erlang port"
        )

        processes = family(rabbitmq.pid)
        assert "epmd" not in [Path(f"/proc/{pid}/comm").read_text().strip() for pid in processes]
        rabbitmq.kill()
        eventually(lambda: gone(processes), "no process of RabbitMQ")
        rabbitmq.start()
        assert messages(url, publish=1) == 4

        processes = family(rabbitmq.pid)
        rabbitmq.stop()
        eventually(lambda: gone(processes), "no process of RabbitMQ")
        rabbitmq.start()
        assert messages(url) == 4

        rabbitmq.delete_vhost("a/b")
        assert [vhost["name"] for vhost in rabbitmq.request("GET", "/vhosts")] == ["/"]
        assert [user["name"] for user in rabbitmq.request("GET", "/users")] == ["horoscope"]
        with pytest.raises(ServerError, match="404"):
            rabbitmq.delete_vhost("a/b")


# --- Supervisor


APP = """
    import signal, socket, sys, time
    def bye(*_):
        time.sleep(0.3)
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
        print("the database is still there, bye")
        sys.exit()
    signal.signal(signal.SIGTERM, bye)
    print("started")
    while True:
        time.sleep(1)
"""
HELPER = "trap 'echo bye; exit' TERM; echo started; while :; do sleep 0.05; done"
STUBBORN = "trap '' TERM; echo started; while :; do sleep 0.05; done"
WRONG = "echo BOT_TOKEN is wrong; exit 78"
STACK = """
    import asyncio, sys
    from pathlib import Path
    from ops.stack import runfile
    from ops.stack.child import Process
    from ops.stack.postgres import Postgres
    from ops.stack.rabbitmq import RabbitMQ
    from ops.stack.runfile import AlreadyRunningError, RunFile
    from ops.stack.screen import Screen
    from ops.stack.supervisor import Supervisor

    runfile._GRACE = 0.5
    folder, *wanted = Path(sys.argv[1]), *sys.argv[2:]

    async def bring_up(supervisor):
        if "rabbitmq" in wanted:
            supervisor._launch(RabbitMQ(folder / "rabbitmq"))  # and no need to wait for it
        if "postgres" in wanted:
            postgres = Postgres(folder / "postgres", {"fsync": "off"})
            await supervisor.serve(postgres)
            supervisor.keep(Process("app", (sys.executable, "-c", APP, str(postgres._port))))
        for name, script in (("helper", HELPER), ("stubborn", STUBBORN), ("wrong", WRONG)):
            if name in wanted:
                supervisor.keep(Process(name, ("sh", "-c", script), serves_others=True))

    async def main(run):
        supervisor = Supervisor(run, folder, Screen(), lambda name, line: None)
        return await supervisor.run(bring_up(supervisor))

    try:
        with RunFile(folder) as run:
            print("killed", run.end_leftovers())
            sys.exit(asyncio.run(main(run)))
    except AlreadyRunningError as error:
        sys.exit(str(error))
"""


class Stack:
    """A supervisor in a process of its own."""

    def __init__(self, folder: Path, *wanted: str, under: Sequence[str] = ()) -> None:
        self.folder = folder
        self._output = folder / f"output-{time.monotonic_ns()}"
        constants = "".join(
            f"{name} = {dedent(value)!r}\n"
            for name, value in (("APP", APP), ("HELPER", HELPER), ("STUBBORN", STUBBORN), ("WRONG", WRONG))
        )
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*under, sys.executable, "-c", constants + dedent(STACK), str(folder), *wanted],
                stdout=output,
                stderr=output,
                cwd=ROOT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def says(self, text: str, times: int = 1) -> None:
        eventually(lambda: self.output.count(text) >= times, f"{text!r} in:\n{self.output}")

    def pid(self, name: str) -> int:
        pid: int = json.loads((self.folder / "run.json").read_text())[name]["pid"]
        return pid

    def processes(self) -> dict[int, int]:
        return family(self.process.pid)


@pytest.fixture
def stacks(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    started: list[Stack] = []

    def start(*wanted: str, under: Sequence[str] = ()) -> Stack:
        started.append(Stack(tmp_path, *wanted, under=under))
        return started[-1]

    yield start
    for stack in started:
        for pid in stack.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        stack.process.wait()


def test_a_process_killed_with_9_is_started_again(stacks: Callable[..., Stack]) -> None:
    stack = stacks("helper")
    stack.says("helper    | started")
    os.kill(stack.pid("helper"), signal.SIGKILL)
    stack.says("helper was ended by SIGKILL; it starts again in 1 s.")
    stack.says("helper    | started", times=2)
    os.kill(stack.pid("helper"), signal.SIGKILL)
    stack.says("it starts again in 2 s.")


def test_a_server_that_dies_is_started_again(stacks: Callable[..., Stack]) -> None:
    stack = stacks("postgres")
    stack.says("app       | started")
    first = stack.pid("PostgreSQL")
    os.kill(first, signal.SIGKILL)
    stack.says("PostgreSQL has ended; it starts again.")
    eventually(lambda: stack.pid("PostgreSQL") != first, "another PostgreSQL")


def test_ctrl_c_stops_first_the_processes_then_what_they_use(stacks: Callable[..., Stack]) -> None:
    stack = stacks("postgres", "helper")
    stack.says("app       | started")
    stack.says("helper    | started")
    processes = stack.processes()
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(DEADLINE_S) == 0
    assert gone(processes)
    assert stack.output.index("app       | the database is still there, bye") < stack.output.index(
        "helper    | bye"
    )
    assert "database system is shut down" in (stack.folder / "postgres" / "server.log").read_text()


def test_a_second_ctrl_c_kills_at_once(stacks: Callable[..., Stack]) -> None:
    stack = stacks("stubborn")
    stack.says("stubborn  | started")
    processes = stack.processes()
    stack.process.send_signal(signal.SIGINT)
    stack.says("Ctrl-C kills at once.")
    stack.process.send_signal(signal.SIGINT)
    assert stack.process.wait(DEADLINE_S) == 0
    assert gone(processes)


def test_a_supervisor_killed_with_9_leaves_no_process_behind(stacks: Callable[..., Stack]) -> None:
    stack = stacks("postgres", "rabbitmq", "helper")
    stack.says("app       | started")
    stack.says("helper    | started")
    eventually(lambda: bool(descendants(stack.pid("RabbitMQ"))), "RabbitMQ has children of its own")
    processes = stack.processes()
    stack.process.kill()
    eventually(lambda: gone(processes), "nothing runs any more")


def test_what_a_crash_left_running_is_ended_by_the_next_start(stacks: Callable[..., Stack]) -> None:
    crashed = stacks("stubborn")
    crashed.says("stubborn  | started")
    left = family(crashed.pid("stubborn"))
    crashed.process.kill()
    crashed.process.wait()
    assert not gone(left)
    stack = stacks("helper")
    stack.says("killed ['stubborn']")
    stack.says("helper    | started")
    assert gone(left)


def test_a_second_stack_in_the_same_folder_is_refused(stacks: Callable[..., Stack]) -> None:
    stack = stacks("helper")
    stack.says("helper    | started")
    second = stacks("helper")
    assert second.process.wait(DEADLINE_S) == 1
    second.says(f"It already runs here, as process {stack.process.pid}.")
    assert start_time(stack.pid("helper")) is not None


def test_wrong_settings_stop_the_stack_and_stay_visible(stacks: Callable[..., Stack]) -> None:
    stack = stacks("wrong", "helper")
    assert stack.process.wait(DEADLINE_S) == 1
    stack.says("wrong     | BOT_TOKEN is wrong")
    stack.says("wrong cannot run with these settings; see its last lines above.")


def test_the_stack_ends_with_the_process_that_started_it(stacks: Callable[..., Stack]) -> None:
    stack = stacks("helper", under=("sh", "-c", '"$@" & wait', "sh"))
    stack.says("helper    | started")
    processes = stack.processes()
    stack.process.kill()
    eventually(lambda: gone(processes), "nothing runs any more")
    stack.says("helper    | bye")


# --- The clock that the sandbox's page moves


UP = """
    import sys
    from pathlib import Path
    from ops.stack import __main__ as up
    up.LOCAL = Path(sys.argv[1])
    sys.exit(up.main())
"""


class Up:
    """`make up` with a folder of its own, and the reader Anna in its chat."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._output = folder / "output"
        settings = {name.upper() for name in Settings.model_fields}
        env = {name: value for name, value in os.environ.items() if name not in settings}
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", dedent(UP), str(folder / "local")],
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=env,
            )
        self._url = ""

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait(self) -> None:
        """Wait until the sandbox listens; its model then takes no time."""
        self.says("Sandbox: chat at ")
        self._url = self.output.partition("Sandbox: chat at ")[2].partition("/,")[0] + "/sandbox"
        self.ask("/model", {"latency": 0})

    def says(self, text: str, times: int = 1) -> None:
        eventually(lambda: self.output.count(text) >= times, f"{text!r} {times} times", timeout=240)

    def ask(self, path: str, body: object = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def text(self) -> dict[str, Any]:
        text: dict[str, Any] | None = self.ask("/readers/1001/text")["text"]
        return text or {"sign": None, "day": None, "exists": False}

    def today(self) -> dict[str, Any]:
        """The bot's answer to /today, once it is a text."""
        self.ask("/readers/1001/say", {"text": "/today"})

        def answered() -> bool:
            last = self.ask("/readers/1001/messages")[-1]
            return bool(last["from_bot"] and len(last["text"]) > 300)

        eventually(answered, "a text", timeout=240)
        message: dict[str, Any] = self.ask("/readers/1001/messages")[-1]
        return message

    async def database_is_ahead_by(self) -> float:
        (line,) = re.findall("DATABASE_URL=(.*)", (self.folder / "local" / "env").read_text())
        now = await execute(line.strip("'"), "SELECT extract(epoch FROM now())::float")
        assert isinstance(now, float)
        return now - time.time()


async def test_make_up_forgets_a_text_and_follows_the_clock_of_the_page(tmp_path: Path) -> None:
    up = Up(tmp_path)
    processes: dict[int, int] = {}
    try:
        up.wait()
        up.says("Stop ")
        processes = family(up.process.pid)
        up.says("horoscope.written", times=24)
        up.ask("/readers/1001/say", {"text": "/start"})
        eventually(lambda: len(up.ask("/readers/1001/messages")) == 2, "the choice of signs", timeout=240)
        (key,) = [
            key["text"]
            for row in up.ask("/readers/1001/messages")[-1]["reply_markup"]["inline_keyboard"]
            for key in row
            if "Лев" in key["text"]
        ]
        up.ask("/readers/1001/press", {"button": key})
        eventually(lambda: up.text()["exists"], "Leo's text", timeout=240)

        # A forgotten text is asked of the model.
        calls = len(up.ask("/model/calls"))
        up.today()
        assert len(up.ask("/model/calls")) == calls
        assert up.ask("/readers/1001/text", method="DELETE")["text"]["exists"] is False
        up.today()
        assert len(up.ask("/model/calls")) == calls + 1
        assert up.text()["exists"]

        # A day ahead: the bot serves the next day's text, and the texts of the day after are written.
        first = up.today()
        day = date.fromisoformat(up.text()["day"])
        assert up.ask("/clock", {"to": "day"})["offset"] == 86_400
        up.says("The clock moved ahead by 1 day, 0:00:00. Restarting scheduler.")
        eventually(lambda: up.text() == leo(day + timedelta(days=1)), "the next day's text", timeout=240)
        # The bot reads a moved clock within a second.
        eventually(
            lambda: up.today()["text"] != first["text"], "the next day's text from the bot", timeout=240
        )
        assert up.today()["date"] - time.time() > 86_000
        ahead = str(day + timedelta(days=2))

        def written() -> set[str]:
            return {call["sign"] for call in up.ask("/model/calls?limit=1000") if call["day"] == ahead}

        eventually(lambda: len(written()) == 12, f"the texts of {ahead}", timeout=240)
        assert 86_300 < await up.database_is_ahead_by() < 86_500

        # Back: everything goes on as if nothing had been.
        up.ask("/clock", {"to": "real"})
        up.says(
            "The clock moved back by 1 day, 0:00:00. Restarting bot, worker-1, worker-2, scheduler, admin."
        )
        up.says("bot.ready", times=2)
        eventually(lambda: up.text() == leo(day), "today's text again", timeout=240)
        assert abs(up.today()["date"] - time.time()) < 300
        assert abs(await up.database_is_ahead_by()) < 60
    finally:
        processes |= family(up.process.pid)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(60) == 0, up.output
        assert gone(processes)
        assert shared_memory(processes) == []


def shared_memory(processes: dict[int, int]) -> list[Path]:
    """What libfaketime left of these processes."""
    return [file for pid in processes for file in Path("/dev/shm").glob(f"*faketime*_{pid}")]


def leo(day: date) -> dict[str, Any]:
    return {"sign": "leo", "day": str(day), "exists": True}


def test_a_killed_process_with_a_moved_clock_sleeps_well_before_and_leaves_nothing() -> None:
    offset = Offset.create()
    offset.write(3600)
    script = "import time; time.sleep(0.01); print(time.time(), flush=True); time.sleep(600)"
    started = subprocess.Popen(
        [*offset.python_prefix(), sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    )
    with started:
        assert started.stdout
        assert float(started.stdout.readline()) - time.time() > 3500
        started.kill()
    assert shared_memory({started.pid: 0})
    offset.remove()
    assert not shared_memory({started.pid: 0})
    assert not offset.path.parent.exists()


@pytest.mark.parametrize("zone", ["Europe/Moscow", "America/New_York", "Pacific/Kiritimati"])
def test_just_before_midnight_is_half_a_minute_before_it_at_home(tmp_path: Path, zone: str) -> None:
    ahead = MovableClock(Offset(tmp_path / "offset"), zone)._target("midnight", 0)
    there = datetime.now(ZoneInfo(zone)) + timedelta(seconds=ahead)
    left = (there + timedelta(hours=1)).replace(minute=0, second=0, microsecond=0) - there
    assert (there + left).hour == 0
    assert timedelta(seconds=25) < left <= timedelta(seconds=31)


def test_moves_of_the_clock_that_come_together_are_made_one_after_the_other() -> None:
    offset = Offset.create()
    script = """
import asyncio, sys
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo
from ops.stack.clock import MovableClock, Offset

async def move():
    clock = MovableClock(Offset(Path(sys.argv[1])), "Asia/Tokyo")
    await asyncio.gather(clock.move("hour"), clock.move("midnight"))
    print(datetime.now(ZoneInfo(clock.zone)).time())

asyncio.run(move())
"""
    command = [*offset.python_prefix(), sys.executable, "-c", script, str(offset.path)]
    moved = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=DEADLINE_S)
    offset.remove()
    assert moved.stdout.startswith("23:59:")


def test_without_the_library_the_rest_is_installed_and_the_clock_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = replace(FAKETIME, path=tmp_path / "libfaketime.so.1")
    monkeypatch.setattr(up_module, "FAKETIME", missing)
    monkeypatch.setattr(up_module, "LOCAL", tmp_path)
    asked: list[tuple[Program, ...]] = []

    def ensure_installed(*programs: Program) -> None:
        asked.append(programs)
        if missing in programs:
            raise ProgramsMissing("no such package")

    monkeypatch.setattr(up_module, "ensure_installed", ensure_installed)
    programs = up_module.programs_for({})
    up_module._install(programs)
    assert asked == [(RABBITMQ, missing), (RABBITMQ,)]
    stack = up_module.Stack({}, Screen())
    assert (stack._clock, stack._no_clock, stack._faked) == (None, "library", ())


# --- Small parts


def test_a_port_is_kept_while_it_is_free(tmp_path: Path) -> None:
    port = kept_port(tmp_path / "port")
    assert kept_port(tmp_path / "port") == port
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
        assert kept_port(tmp_path / "port") != port


def test_apt_is_silent_about_what_is_installed() -> None:
    done = subprocess.run([APT, "coreutils"], capture_output=True, check=True)
    assert done.stdout == done.stderr == b""


def test_apt_says_what_to_type_where_it_may_not_install(tmp_path: Path) -> None:
    for name, script in (("id", "echo 1000"), ("sudo", "exit 1")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [APT, "coreutils", "no-such-package"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Missing: no-such-package. Only root can install them. Type this, then try again:",
        "    sudo apt-get update && sudo apt-get install -y no-such-package",
    ]
