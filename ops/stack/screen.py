"""The terminal of `make up`: whole lines, each labelled with its process."""

import contextlib
import os
import sys
from typing import TextIO

_WIDTH = 9  # of the longest name, "scheduler"
_COLOURS = (36, 32, 33, 35, 34, 96, 92, 93)  # cyan, green, yellow, ...
_OURS = "make up"


class Screen:
    """Writes labelled lines; in colour when a person reads them and NO_COLOR is not set."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._coloured = stream.isatty() and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}

    def say(self, text: str) -> None:
        """Print lines of `make up` itself."""
        for line in text.splitlines():
            self.line(_OURS, line)

    def line(self, name: str, text: str) -> None:
        """Print a line of a process."""
        label = f"{name:<{_WIDTH}}"
        if self._coloured:
            colour = self._colours.setdefault(name, _COLOURS[len(self._colours) % len(_COLOURS)])
            label = f"\x1b[{colour}m{label}\x1b[0m"
        # The terminal may be gone. The stack will get SIGHUP and stop in order.
        with contextlib.suppress(OSError):
            print(f"{label} | {text}", file=self._stream, flush=True)
