"""Keeps servers and processes running, and stops them in order."""

import asyncio
import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ops.stack.child import Child, Process
from ops.stack.runfile import RunFile
from ops.stack.screen import Screen
from ops.stack.server import Server, ServerError

WRONG_SETTINGS = 78  # EX_CONFIG of sysexits.h: another start would fail the same way
_GRACE = 15.0  # seconds from SIGTERM to SIGKILL
_FIRST_DELAY, _LAST_DELAY = 1.0, 30.0  # seconds before a restart
_STEADY = 60.0  # seconds alive that reset the delay


class StackError(RuntimeError):
    """The stack cannot continue; the message says why."""


class Supervisor:
    """Starts servers and processes, restarts those that die, and stops all of them in the end.

    The end is Ctrl-C, SIGTERM, the death of the process that started us, or something that cannot work. Processes
    run in the folder `root`. `on_line` gets the name of a process and each line of its output.
    """

    def __init__(self, run: RunFile, root: Path, screen: Screen, on_line: Callable[[str, str], None]) -> None:
        self._run = run
        self._root = root
        self._screen = screen
        self._on_line = on_line
        self._servers: list[Server] = []
        self._children: dict[str, tuple[Process, Child]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._restarting: set[str] = set()
        self._stopping = asyncio.Event()
        self._failed = False

    async def run(self, bring_up: Coroutine[Any, Any, None]) -> int:
        """Run `bring_up`, which calls the methods below, until the end; returns 1 if something failed, else 0."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # nohup(1) ignores SIGHUP on purpose. A shell ignores SIGINT only for background jobs.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._interrupted)
        self._run.note("make up", os.getpid())
        beginning = self._spawn(bring_up)
        self._spawn(self._watch_parent())
        await self._stopping.wait()
        beginning.cancel()
        await self._stop()
        return 1 if self._failed else 0

    async def serve(self, *servers: Server) -> None:
        """Start servers side by side, wait until they serve (or raise ServerError), and keep them running."""
        for server in servers:
            self._launch(server)
        await asyncio.gather(*(asyncio.to_thread(server.wait_until_ready) for server in servers))
        for server in servers:
            self._spawn(self._keep_server(server))

    def keep(self, process: Process) -> None:
        """Start a process, and again whenever it ends."""
        self._spawn(self._keep(process))

    async def restart(self, *names: str) -> None:
        """Stop processes, each of which then starts again at once."""
        running = [name for name in names if name in self._children]
        self._restarting |= set(running)
        await asyncio.gather(*(self._children[name][1].stop(_GRACE) for name in running))

    async def once(self, process: Process) -> None:
        """Run a process to its end; raises StackError if it fails."""
        code = await asyncio.shield(self._spawn(self._run_child(process)))
        if code:
            raise StackError(f"{process.name} {_ended(code)}; see its last lines above.")

    def stop(self, failure: str = "") -> None:
        """Begin to stop everything; with a failure, say it and end with exit code 1."""
        if self._stopping.is_set():
            return
        if failure:
            self._failed = True
            self._screen.say(failure)
        self._screen.say("Stopping. Ctrl-C kills at once.")
        self._stopping.set()

    async def _keep(self, process: Process) -> None:
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_child(process)
            if self._stopping.is_set():
                return
            if process.name in self._restarting:
                self._restarting.discard(process.name)
                continue
            if code == WRONG_SETTINGS:
                raise StackError(f"{process.name} cannot run with these settings; see its last lines above.")
            if time.monotonic() - started > _STEADY:
                delay = _FIRST_DELAY
            self._screen.say(f"{process.name} {_ended(code)}; it starts again in {delay:g} s.")
            await self._pause(delay)
            delay = min(2 * delay, _LAST_DELAY)

    async def _keep_server(self, server: Server) -> None:
        delay = _FIRST_DELAY
        while not self._stopping.is_set():
            await self._pause(0.5)
            if self._stopping.is_set() or server.pid is not None:
                continue
            self._screen.say(f"{server.title} has ended; it starts again. Its log: {server.log}")
            try:
                self._launch(server)
                await asyncio.to_thread(server.wait_until_ready)
                delay = _FIRST_DELAY
            except ServerError as error:
                if not self._stopping.is_set():
                    self._screen.say(f"{error}\nThe next attempt is in {delay:g} s.")
                    await self._pause(delay)
                    delay = min(2 * delay, _LAST_DELAY)

    async def _run_child(self, process: Process) -> int:
        def heard(line: str) -> None:
            self._screen.line(process.name, line)
            self._on_line(process.name, line)

        child = await Child.start(process, self._root, heard)
        self._children[process.name] = (process, child)
        self._run.note(process.name, child.pid)
        if self._stopping.is_set():
            child.signal(signal.SIGKILL)  # it came too late to be stopped with the others
        code = await child.wait()
        del self._children[process.name]
        return code

    def _launch(self, server: Server) -> None:
        # Here and not in a thread: the server ends with the thread that started it.
        server.launch()
        if server not in self._servers:
            self._servers.append(server)
        self._run.note(server.title, server.pid or 0)

    async def _watch_parent(self) -> None:
        parent = os.getppid()
        while os.getppid() == parent and not self._stopping.is_set():
            await self._pause(1)
        self.stop()

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until we are to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _interrupted(self) -> None:
        if not self._stopping.is_set():
            self.stop()
            return
        for _, child in self._children.values():
            child.signal(signal.SIGKILL)
        for server in self._servers:
            server.kill()

    async def _stop(self) -> None:
        for serves_others in (False, True):
            wave = [
                child for process, child in self._children.values() if process.serves_others is serves_others
            ]
            await asyncio.gather(*(child.stop(_GRACE) for child in wave))
        await asyncio.gather(*(asyncio.to_thread(server.stop) for server in self._servers))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            known = isinstance(error, StackError | ServerError)
            self.stop(str(error) if known else "".join(traceback.format_exception(error)))


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
