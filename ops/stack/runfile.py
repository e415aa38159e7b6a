"""A note of a stack's processes in its folder, so that the next start can end those a crash left."""

import contextlib
import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import Self

from ops.stack.processes import descendants, start_time

_GRACE = 5.0  # seconds; the kernel has already signalled them


class AlreadyRunningError(RuntimeError):
    """Another stack runs in this folder."""


class RunFile:
    """The stack's claim on its folder, made when missing, and the notes on its processes (`run.json`).

    Entering raises AlreadyRunningError when another stack runs there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "run.json"
        self._lock = -1
        self._processes: dict[str, dict[str, int]] = {}

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        # A lock: the kernel releases it when we die, however that happens.
        self._lock = os.open(self._folder / "run.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            other = self._read().get("make up", {}).get("pid", "unknown")
            raise AlreadyRunningError(
                f"It already runs here, as process {other}. Use that one, or stop it with Ctrl-C or `kill {other}`."
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def end_leftovers(self) -> list[str]:
        """End the processes that a crashed stack left running; returns the names of those that had to be killed.

        Call it before the first note.
        """
        deadline = time.monotonic() + _GRACE
        left = self._running()
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = self._running()
        for pid in left.values():
            for each in (pid, *descendants(pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
        return list(left)

    def note(self, name: str, pid: int) -> None:
        """Note a running process under its name; it replaces an earlier one."""
        self._processes[name] = {"pid": pid, "started": start_time(pid) or 0}
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._processes, indent=1))
        new.replace(self._file)

    def _running(self) -> dict[str, int]:
        """Ids of the noted processes that still run. A reused id does not count: the start times differ."""
        noted = self._read()
        return {
            name: each["pid"] for name, each in noted.items() if start_time(each["pid"]) == each["started"]
        }

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            noted: dict[str, dict[str, int]] = json.loads(self._file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return noted
