"""A program that the supervisor runs."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ops.stack.leash import leashed


@dataclass(frozen=True)
class Process:
    """A program to be kept running."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)  # on top of our own environment
    serves_others: bool = False  # stopped after all processes that do not


class Child:
    """A started program, and the programs that it started itself: they end together."""

    def __init__(self, process: asyncio.subprocess.Process, output: asyncio.Task[None]) -> None:
        self.pid = process.pid  # also the id of its process group
        self._process = process
        self._end = asyncio.create_task(self._finish(output))

    @classmethod
    async def start(cls, process: Process, folder: Path, on_line: Callable[[str], None]) -> Self:
        """Start a program in a folder, or raise OSError; `on_line` gets each line of its output."""
        # A pipe of our own: asyncio's would make the wait for the program a wait for all its children.
        reading, writing = os.pipe()
        try:
            started = await asyncio.create_subprocess_exec(
                *leashed(process.argv, death=signal.SIGTERM),
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **process.env},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,  # Ctrl-C is for us
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return cls(started, asyncio.create_task(_read_lines(reading, on_line)))

    async def wait(self) -> int:
        """Wait for its end and its last line; returns its exit code, negative for the number of a signal."""
        return await asyncio.shield(self._end)

    async def stop(self, grace: float) -> None:
        """Send SIGTERM, and SIGKILL if it still runs after `grace` seconds."""
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def _finish(self, output: asyncio.Task[None]) -> int:
        code = await self._process.wait()
        self.signal(signal.SIGKILL)  # to children that are left
        await output
        return code


async def _read_lines(descriptor: int, on_line: Callable[[str], None]) -> None:
    stream = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", buffering=0) as pipe:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), pipe
        )
        rest = b""
        # Not readline(): it gives up on a line of more than 64 KiB.
        while chunk := await stream.read(65_536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                on_line(line.decode(errors="replace").rstrip("\r"))
        if rest:
            on_line(rest.decode(errors="replace"))
        transport.close()
