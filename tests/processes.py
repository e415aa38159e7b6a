"""The service's real processes, as tests start, watch and kill them.

Run as a program it is one of these processes with a clock that a test has set.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Self

from services.days import Clock, system_clock

_ROOT = Path(__file__).parents[1]
_NOTHING: Mapping[str, str] = {}


class Process:
    """One running process and what it has printed."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.lines: list[str] = []
        self._process = process
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return "\n".join(self.lines)

    async def _read(self) -> None:
        assert self._process.stdout
        async for line in self._process.stdout:
            async with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def said(self, text: str, within: float = 30.0) -> str:
        """Wait for a line with ``text`` in it and return the line."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        def settled() -> bool:
            return found() is not None or self._reading.done()

        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(settled)
        except TimeoutError:
            raise AssertionError(f"{self.name} did not say {text!r}; it said:\n{self.output}") from None
        line = found()
        assert line is not None, f"{self.name} ended without saying {text!r}; it said:\n{self.output}"
        return line

    def kill(self) -> None:
        """``kill -9``."""
        with suppress(ProcessLookupError):
            self._process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def stop(self, within: float = 20.0) -> int:
        """SIGTERM, and wait for the end.

        Returns:
            The exit code.
        """
        with suppress(ProcessLookupError):
            self._process.terminate()
        return await self.ended(within)

    async def ended(self, within: float = 20.0) -> int:
        """Wait for the end and return the exit code."""
        try:
            async with asyncio.timeout(within):
                code = await self._process.wait()
                await self._reading
        except TimeoutError:
            raise AssertionError(f"{self.name} did not end; it said:\n{self.output}") from None
        return code


class Processes:
    """Starts processes; at the end kills what still runs, and shows what each said if the test failed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._started: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
        for process in self._started:
            await process.ended()
            # pytest shows it with a failed test only.
            print(f"--- {process.name} ---\n{process.output}")  # noqa: T201
        for process in self._started:
            assert "Traceback" not in process.output, f"{process.name} stumbled over something unforeseen"

    async def start(
        self, *command: str, environment: Mapping[str, str] = _NOTHING, clock: datetime | None = None
    ) -> Process:
        """Start ``horoscope COMMAND`` and return at once.

        Args:
            command: As on the command line.
            environment: Settings beside the test's own, or in their place.
            clock: What the process takes for the time as it starts.
        """
        if clock:
            program = [sys.executable, "-m", "tests.processes", clock.isoformat(), *command]
        else:
            program = [str(Path(sys.executable).with_name("horoscope")), *command]
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        child = await asyncio.create_subprocess_exec(
            *program,
            env={
                **inherited,
                "PYTHONPATH": str(_ROOT),
                "PYTHONUNBUFFERED": "1",
                **self.environment,
                **environment,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=1 << 20,
        )
        process = Process(" ".join(command), child)
        self._started.append(process)
        return process

    async def bot(
        self, environment: Mapping[str, str] = _NOTHING, *, clock: datetime | None = None
    ) -> Process:
        """A bot that is ready."""
        process = await self.start("bot", environment=environment, clock=clock)
        await process.said("bot.ready")
        return process

    async def workers(
        self, count: int = 1, environment: Mapping[str, str] = _NOTHING, *, clock: datetime | None = None
    ) -> list[Process]:
        """Workers that are ready."""
        processes = [await self.start("worker", environment=environment, clock=clock) for _ in range(count)]
        for process in processes:
            await process.said("worker.ready")
        return processes

    async def run(self, *command: str, environment: Mapping[str, str] = _NOTHING) -> tuple[int, str]:
        """Run a command to its end.

        Returns:
            The exit code and what was printed.
        """
        process = await self.start(*command, environment=environment)
        code = await process.ended()
        return code, process.output


def clock_from(start: datetime) -> Clock:
    """A clock that shows ``start`` now and runs on from there."""
    offset = start - system_clock()
    return lambda: system_clock() + offset


def _main() -> None:
    from actors import topology, worker  # noqa: PLC0415
    from ops import cli  # noqa: PLC0415
    from services.bot import process  # noqa: PLC0415

    start, command, *_ = sys.argv[1:]
    clock = clock_from(datetime.fromisoformat(start))
    if command == "worker":
        settings = cli.start("worker", "database_url", "rabbitmq_url", "bot_token", "openai_api_key")
        cli.run_until_stopped(lambda stop: worker.run(settings, stop, clock=clock))
    elif command == "bot":
        settings = cli.start("bot", "database_url", "rabbitmq_url", "bot_token")
        cli.run_until_stopped(
            lambda stop: process.run(settings, topology.queues(settings), stop, clock=clock)
        )
    else:
        raise SystemExit(f"no clock for {command!r}")


if __name__ == "__main__":
    _main()
