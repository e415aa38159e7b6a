"""The service's real processes, as tests start, watch and kill them.

In such a process something may be arranged beforehand: its clock, other values for constants of ours, and
the step at which it dies.
"""

import asyncio
import functools
import importlib
import inspect
import itertools
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any, Literal, Self

import pendulum

from services import days
from services.days import Clock, system_clock
from tests.nursery import Child, Nursery
from tests.waiting import DEADLINE_S

_ROOT = Path(__file__).parents[1]
_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Death:
    """``kill -9`` at an exact step. Of the processes that are given it, the first to get there dies.

    Args:
        when: Before the call, or after it has returned well.
        function: Whose call, such as ``services.horoscopes.leases:Leases.acquire``; it may be a coroutine function.
        about: Only calls with all of these words among their arguments, as ``repr`` shows them.
        call: The how-manieth of these calls in a process, from 1.
        token: A file that whoever dies takes along.
    """

    when: Literal["before", "after"]
    function: str
    about: tuple[str, ...]
    call: int
    token: str

    @property
    def happened(self) -> bool:
        """Somebody got there."""
        return not Path(self.token).exists()


class Process:
    """One running process and what it has printed."""

    def __init__(self, name: str, process: Child) -> None:
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
        async for line in self._process.output:
            async with self._changed:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def said(self, text: str, within: float = DEADLINE_S, *, death: "Death | None" = None) -> str:
        """Wait for a line with ``text`` in it and return the line; empty if ``death`` came before."""

        def found() -> str | None:
            return next((line for line in self.lines if text in line), None)

        def settled() -> bool:
            return found() is not None or self._reading.done()

        try:
            async with asyncio.timeout(within), self._changed:
                await self._changed.wait_for(settled)
        except TimeoutError:
            raise AssertionError(f"{self.name} did not say {text!r}; it said:\n{self.output}") from None
        line = found() or ("" if death and death.happened else None)
        assert line is not None, f"{self.name} ended without saying {text!r}; it said:\n{self.output}"
        return line

    @property
    def code(self) -> int | None:
        """The exit code, -9 after a ``kill -9``; None while it runs."""
        return self._process.returncode

    def kill(self) -> None:
        """``kill -9``."""
        self._process.send_signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def stop(self, within: float = DEADLINE_S) -> int:
        """SIGTERM, and wait for the end.

        Returns:
            The exit code.
        """
        self._process.send_signal(signal.SIGTERM)
        return await self.ended(within)

    async def ended(self, within: float = DEADLINE_S) -> int:
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

    def __init__(self, environment: Mapping[str, str], nursery: Nursery) -> None:
        self.environment = environment
        self._nursery = nursery
        self._started: list[Process] = []
        self._tokens = TemporaryDirectory(prefix="deaths-")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
        for process in self._started:
            await process.ended()
            # pytest shows it with a failed test only.
            print(f"--- {process.name} ---\n{process.output}")  # noqa: T201
        self._tokens.cleanup()
        for process in self._started:
            assert "Traceback" not in process.output, f"{process.name} stumbled over something unforeseen"

    def death(self, when: Literal["before", "after"], function: str, *about: str, call: int = 1) -> Death:
        """A step for processes to die at; see :class:`Death`."""
        descriptor, token = mkstemp(dir=self._tokens.name)
        os.close(descriptor)
        return Death(when, function, about, call, token)

    async def start(
        self,
        *command: str,
        environment: Mapping[str, str] = _NOTHING,
        clock: datetime | None = None,
        death: Death | None = None,
        constants: Mapping[str, Any] = _NOTHING,
    ) -> Process:
        """Start ``horoscope COMMAND`` and return at once.

        Args:
            command: As on the command line.
            environment: Settings beside the test's own, or in their place.
            clock: What the process takes for the time as it starts.
            death: Where it dies.
            constants: Values for constants of ours, such as ``{"services.horoscopes.leases:LEASE_S": 2}``.
        """
        arranged = {
            "clock": clock.isoformat() if clock else None,
            "death": asdict(death) if death else None,
            "constants": dict(constants),
        }
        child = await self._nursery.start([json.dumps(arranged), *command], self._settings(environment))
        process = Process(" ".join(command), child)
        self._started.append(process)
        return process

    async def bot(self, environment: Mapping[str, str] = _NOTHING, **arranged: Any) -> Process:
        """A bot that is ready; ``arranged`` as for :meth:`start`."""
        process = await self.start("bot", environment=environment, **arranged)
        await process.said("bot.ready", death=arranged.get("death"))
        return process

    async def workers(
        self,
        count: int = 1,
        environment: Mapping[str, str] = _NOTHING,
        *,
        queues: Sequence[str] = (),
        **arranged: Any,
    ) -> list[Process]:
        """Workers that are ready, or have died at their step: replays begin before the queues are consumed.

        Args:
            count: How many.
            environment: As for :meth:`start`.
            queues: The queues that they consume; none: all.
            arranged: As for :meth:`start`.
        """
        command = ["worker", *(["--queues", ",".join(queues)] if queues else [])]
        processes = [await self.start(*command, environment=environment, **arranged) for _ in range(count)]
        for process in processes:
            await process.said("worker.ready", death=arranged.get("death"))
        return processes

    async def stop(self, command: str) -> None:
        """Stop those that still run ``command``; each must end well."""
        running = [each for each in self._started if each.name.startswith(command) and each.code is None]
        assert await asyncio.gather(*(each.stop() for each in running)) == [0] * len(running)

    async def run(self, *command: str, environment: Mapping[str, str] = _NOTHING) -> tuple[int, str]:
        """Run ``horoscope COMMAND`` to its end.

        Returns:
            The exit code and what was printed.
        """
        process = await self.start(*command, environment=environment)
        return await process.ended(), process.output

    def _settings(self, environment: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        return {
            **inherited,
            "PYTHONPATH": str(_ROOT),
            "PYTHONUNBUFFERED": "1",
            **self.environment,
            **environment,
        }


def clock_from(start: datetime) -> Clock:
    """A clock that shows ``start`` now and runs on from there."""
    offset = start - system_clock()
    return lambda: system_clock() + offset


def _shift_periodiqs_clock(offset: timedelta) -> None:
    now = pendulum.now
    pendulum.now = lambda tz=None: now(tz) + offset


def _found(name: str) -> tuple[Any, str, Any]:
    """What ``module:Class.attribute`` names: its owner, its own name, and it."""
    module, _, path = name.partition(":")
    *parents, own = path.split(".")
    owner = functools.reduce(getattr, parents, importlib.import_module(module))
    return owner, own, getattr(owner, own)


def _die_at(death: Death) -> None:
    owner, name, function = _found(death.function)
    calls = itertools.count(1)

    def step(when: str, arguments: Any) -> None:
        if when != death.when or not all(word in repr(arguments) for word in death.about):
            return
        if next(calls) == death.call:
            with suppress(FileNotFoundError):
                Path(death.token).unlink()
                os.kill(os.getpid(), signal.SIGKILL)

    async def answer_later(*args: Any, **kwargs: Any) -> Any:
        step("before", (args, kwargs))
        result = await function(*args, **kwargs)
        step("after", (args, kwargs))
        return result

    def answer(*args: Any, **kwargs: Any) -> Any:
        step("before", (args, kwargs))
        result = function(*args, **kwargs)
        step("after", (args, kwargs))
        return result

    fatal = answer_later if inspect.iscoroutinefunction(function) else answer
    setattr(owner, name, functools.wraps(function)(fatal))


def be(arguments: Sequence[str]) -> None:
    """Become the process that :meth:`Processes.start` asked for."""
    arranged = json.loads(arguments[0])
    if arranged["clock"]:
        # Before anything else of ours is imported, since the others take the clock's function from there.
        days.system_clock = clock_from(datetime.fromisoformat(arranged["clock"]))
        _shift_periodiqs_clock(days.system_clock() - system_clock())
    for constant, value in arranged["constants"].items():
        owner, name, _ = _found(constant)
        setattr(owner, name, value)
    if arranged["death"]:
        _die_at(Death(**arranged["death"]))
    from ops import cli  # noqa: PLC0415

    cli.main(arguments[1:], prog_name="horoscope")
