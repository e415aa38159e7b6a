"""Figures from the kernel: processor time, memory, and facts about the machine."""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ops.stack.processes import descendants

_TICKS = os.sysconf("SC_CLK_TCK")
_PACKAGES = (
    "aiogram",
    "aiohttp",
    "asyncpg",
    "celery",
    "celery-batches",
    "dramatiq",
    "pika",
    "pydantic",
    "sqlalchemy",
    "uvloop",
)


@dataclass(frozen=True, slots=True)
class Spent:
    """Processor time within a span."""

    #: Seconds of each group, and of ``bench``: this process with its ended children.
    parts: dict[str, float]
    #: Share of one core that other programs took.
    others: float

    def each(self, count: float, unit: float) -> dict[str, float]:
        """The time of each group for one of ``count`` things; ``unit`` is 1000 for milliseconds."""
        return {part: seconds / count * unit for part, seconds in self.parts.items()}


class Meter:
    """Measures the processor time of groups of processes, with their descendants, from now on."""

    def __init__(self, pids: Mapping[str, Sequence[int]]) -> None:
        self._pids = pids
        self._began, self._before, self._busy = time.monotonic(), self._seconds(), _busy_seconds()

    def read(self) -> Spent:
        """The processor time since the meter was made."""
        parts = {part: now - self._before[part] for part, now in self._seconds().items()}
        others = _busy_seconds() - self._busy - sum(parts.values())
        return Spent(parts, max(0.0, others) / (time.monotonic() - self._began))

    def _seconds(self) -> dict[str, float]:
        seconds = {part: sum(map(_cpu_seconds, pids)) for part, pids in self._pids.items()}
        return seconds | {"bench": sum(os.times()[:4])}


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process and of all its descendants, including ended ones."""
    ticks = 0
    for each in (pid, *descendants(pid)):
        try:
            line = Path(f"/proc/{each}/stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # utime, stime, cutime and cstime of proc(5), counted from the field after the name.
        ticks += sum(map(int, line.rpartition(")")[2].split()[11:15]))
    return ticks / _TICKS


def _busy_seconds() -> float:
    """Processor time of the whole machine since its start, including time stolen by its host."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def memory_mib(pid: int, field: str) -> float:
    """The resident memory of a process: ``VmRSS`` now, ``VmHWM`` at its peak (proc(5))."""
    return int(_field(f"/proc/{pid}/status", field).split()[0]) / 1024


def facts() -> dict[str, str]:
    """The facts about the machine that a reader of the figures needs."""
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory": f"{int(_field('/proc/meminfo', 'MemTotal').split()[0]) / 1024**2:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def _field(file: str, name: str) -> str:
    """The value in the first line ``name: value`` of a file; empty if there is none."""
    lines = Path(file).read_text(errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
