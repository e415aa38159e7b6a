"""Hooks: what the sandbox can do only with the help of the program that runs it."""

from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

Move = Literal["hour", "day", "midnight", "real"]
MOVES: Final[tuple[Move, ...]] = get_args(Move)
#: Why a hook is missing: nobody gave one, the machine lacks the library, or the service uses foreign servers.
Missing = Literal["standalone", "library", "servers"]


class HookError(Exception):
    """A hook cannot do it now; the message says why."""


@dataclass(frozen=True)
class ReaderText:
    """The text that a reader is shown now.

    Attributes:
        sign: English name in lower case.
        day: ISO date.
        exists: Whether it is written.
    """

    sign: str
    day: str
    exists: bool


class Texts(Protocol):
    """Access to the texts of the service that runs beside the sandbox."""

    async def of(self, reader_id: int) -> ReaderText | None:
        """The reader's text; None while the reader has no sign."""

    async def forget(self, reader_id: int) -> ReaderText | None:
        """Delete the reader's text, so that the next request writes it anew."""


class Clock(Protocol):
    """The clock of the sandbox and of everything beside it.

    Attributes:
        zone: IANA time zone of the service's home.
    """

    zone: str

    @property
    def offset(self) -> float:
        """Seconds ahead of the real time."""

    async def move(self, to: Move) -> None:
        """Move one hour or one day ahead, to just before midnight at home, or back to the real time."""
