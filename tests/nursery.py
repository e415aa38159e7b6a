"""Processes that begin where their imports have ended.

To import what others wrote takes a process of ours two and a half seconds of processor time, ten times as much
as the rest of its start. So one process a test run imports that, once, and every process of a test is forked
from it. What is ours each imports for itself.

Run as a program it is the process that forks, and then each of those that were asked for.
"""

import asyncio
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from ops.stack.leash import leashed

_FOREIGN = (
    "services.telegram",  # first: it patches the import of aiogram
    "aiogram",
    "aiohttp.web",
    "alembic.command",
    "apscheduler.schedulers.asyncio",
    "asyncpg",
    "dramatiq",
    "openai",
    "openai.resources.chat.completions",
    "periodiq",
    "pika.adapters.asyncio_connection",
    "prometheus_client.aiohttp",
    "pydantic_settings",
    "rich.console",
    "rich.table",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.ext.asyncio",
    "structlog",
    "uvloop",
)


class Child:
    """A process of the nursery."""

    def __init__(self, pid: int, connection: socket.socket, output: asyncio.StreamReader) -> None:
        self.pid = pid
        self.output = output
        #: As :mod:`subprocess` has it; None while it runs.
        self.returncode: int | None = None
        self._connection = connection
        self._ended = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        code = await asyncio.get_running_loop().sock_recv(self._connection, 64)
        self._connection.close()
        self.returncode = int(code)

    async def wait(self) -> int:
        """Wait for the end; the exit code, or minus the signal that killed it."""
        await asyncio.shield(self._ended)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Nursery:
    """The process that forks, as tests see it."""

    def __enter__(self) -> Self:
        self._folder = TemporaryDirectory(prefix="nursery-")
        self._address = str(Path(self._folder.name) / "socket")
        self._process = subprocess.Popen(
            leashed([sys.executable, "-m", "tests.nursery", self._address], death=signal.SIGKILL),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    async def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], *, limit: int = 1 << 20
    ) -> Child:
        """Start ``python -m tests.processes ARGUMENTS``; what it prints goes to the child's output."""
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._address)
        request = {"arguments": arguments, "environment": environment, "folder": str(Path.cwd())}
        socket.send_fds(connection, [json.dumps(request).encode()], [writing])
        os.close(writing)
        connection.setblocking(False)
        output = asyncio.StreamReader(limit)
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(output), os.fdopen(reading, "rb", buffering=0)
        )
        return Child(int(await loop.sock_recv(connection, 64)), connection, output)


def _serve(address: str) -> dict[str, Any]:
    """Fork whenever asked; returns only in a process that was asked for, with what was asked."""
    for module in _FOREIGN:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(address)
    server.listen(64)
    print("ready", flush=True)  # noqa: T201  whoever started us waits for it
    while True:
        connection, _ = server.accept()
        if os.fork():
            connection.close()
            continue
        server.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C
        data, (output, *_), *_ = socket.recv_fds(connection, 1 << 20, 1)
        if child := os.fork():
            os.close(output)
            connection.send(str(child).encode())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            with suppress(OSError):
                connection.send(str(code).encode())
            os._exit(0)
        connection.close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, descriptor in enumerate((nothing, output, output)):
            os.dup2(descriptor, number)
        request: dict[str, Any] = json.loads(data)
        return request


def _main() -> None:
    request = _serve(sys.argv[1])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    from tests import processes  # noqa: PLC0415

    processes.be(request["arguments"])


if __name__ == "__main__":
    _main()
