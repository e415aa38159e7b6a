"""What the kernel knows of the machine and of the processor time spent on it."""

import os
import platform
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


def cpu_seconds(pid: int) -> float:
    """Processor time of a process, of its children, and of theirs, the ended ones included."""
    ticks = 0
    for each in (pid, *descendants(pid)):
        try:
            line = Path(f"/proc/{each}/stat").read_text(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        # utime, stime, cutime and cstime of proc(5), counted from the field after the name.
        ticks += sum(map(int, line.rpartition(")")[2].split()[11:15]))
    return ticks / _TICKS


def busy_seconds() -> float:
    """Processor time that the whole machine has spent on anything, or was denied by its host."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / _TICKS


def peak_mib(pid: int) -> float:
    """The most memory that a process ever had resident."""
    return _memory_mib(pid, "VmHWM:")


def resident_mib(pid: int) -> float:
    """The memory that a process has resident."""
    return _memory_mib(pid, "VmRSS:")


def _memory_mib(pid: int, figure: str) -> float:
    for line in _lines(f"/proc/{pid}/status"):
        if line.startswith(figure):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"process {pid} has no memory any more")


def facts() -> dict[str, str]:
    """What a reader of the numbers must know of the machine."""
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next(
        (int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0
    )
    return {
        "cores": str(len(os.sched_getaffinity(0))),
        "processor": processor,
        "memory": f"{memory / 1024**2:.0f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def _lines(file: str) -> list[str]:
    return Path(file).read_text(errors="replace").splitlines()
