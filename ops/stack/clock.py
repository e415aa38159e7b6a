"""A clock that can be moved, for everything that `make up` runs except RabbitMQ.

Processes and PostgreSQL start with libfaketime. It reads from a file how many seconds their clock is ahead, at most a
second late. The monotonic clock and the times of files stay real.
"""

import asyncio
import contextlib
import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from ops.sandbox.hooks import Move
from ops.stack.processes import start_time
from ops.stack.programs import FAKETIME

#: After so many seconds every process has read a new offset.
FOLLOWED_S = 2.0
_BEFORE_MIDNIGHT = timedelta(seconds=30)  # the scheduler starts within them
_AHEAD = {"hour": 3600, "day": 86_400}
_MENDED_SLEEP = Path(__file__).with_name("faketime")


class Offset:
    """The file with the seconds by which the clock is ahead.

    It lies where every user may read it: root's PostgreSQL runs as `nobody`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls) -> Self:
        """A new file, for the real time."""
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix="horoscope-clock-"))
        folder.chmod(0o755)
        offset = cls(folder / "offset")
        offset.write(0)
        return offset

    def remove(self) -> None:
        """Delete the file; whoever still runs goes back to the real time."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
        _sweep()

    def read(self) -> int:
        """Seconds ahead of the real time."""
        return int(self.path.read_text())

    def write(self, seconds: int) -> None:
        """Move the clock."""
        new = self.path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.path)

    def server_prefix(self) -> tuple[str, ...]:
        """The beginning of the command of a process whose signal handlers ask for the time, as PostgreSQL's do."""
        return self._prefix(FAKETIME.path)

    def python_prefix(self) -> tuple[str, ...]:
        """The beginning of the command of a Python process."""
        library = FAKETIME.path.with_name(FAKETIME.path.name.replace("faketime.", "faketimeMT."))
        return *self._prefix(library), f"PYTHONPATH={_MENDED_SLEEP}"

    def _prefix(self, library: Path) -> tuple[str, ...]:
        settings = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": self.path,
            "FAKETIME_CACHE_DURATION": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
            "NO_FAKE_STAT": 1,  # Python compares the times of its compiled files
        }
        return "env", *(f"{name}={value}" for name, value in settings.items())


def _sweep() -> None:
    """Remove the shared memory that libfaketime leaves behind when its process is killed."""
    for file in Path("/dev/shm").glob("*faketime_s*_*"):  # noqa: S108  names that belong to dead processes
        pid = file.name.rpartition("_")[2]
        if pid.isdigit() and start_time(int(pid)) is None:
            with contextlib.suppress(OSError):  # another user's, or gone already
                file.unlink()


class MovableClock:
    """The clock of a process that was started with `Offset.python_prefix`."""

    def __init__(self, offset: Offset, zone: str) -> None:
        self.zone = zone
        self._file = offset
        self._turn = asyncio.Lock()

    @property
    def offset(self) -> float:
        """Seconds ahead of the real time."""
        return self._file.read()

    async def move(self, to: Move) -> None:
        """Move the clock, and wait until this process follows: the next move begins at its new time."""
        async with self._turn:
            self._file.write(self._target(to, self._file.read()))
            await asyncio.sleep(FOLLOWED_S)

    def _target(self, to: Move, before: int) -> int:
        if to == "real":
            return 0
        if to in _AHEAD:
            return before + _AHEAD[to]
        now = datetime.now(ZoneInfo(self.zone))
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        left = midnight.timestamp() - _BEFORE_MIDNIGHT.total_seconds() - now.timestamp()
        return before + max(0, round(left))
