"""Start times and children of processes, from /proc."""

from pathlib import Path

_STATE, _PARENT, _STARTED = 0, 1, 19  # proc(5), counted from the field that follows the name


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it has ended.

    Together with the process id it names a process for good: ids are given out again, starts are not.
    """
    fields = _stat(pid)
    return None if fields is None or fields[_STATE] in "ZX" else int(fields[_STARTED])


def descendants(pid: int) -> list[int]:
    """Ids of the children of a process, of their children, and so on."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            parents.setdefault(int(fields[_PARENT]), []).append(int(entry.name))
    found: list[int] = []
    ahead = [pid]
    while ahead:
        children = parents.get(ahead.pop(), [])
        found += children
        ahead += children
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may itself contain blanks and parentheses.
    return line.rpartition(")")[2].split()
