"""Retry ladders, and a message's attempts on them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from services.process.settings import Settings


class Ladder(StrEnum):
    """The list of retry delays of a failed message. ``FOREVER``: back to its queue until it succeeds."""

    NIGHT = "night"
    REQUEST = "request"
    NONE = "none"
    FOREVER = "forever"

    def delays(self, settings: Settings) -> tuple[int, ...]:
        """Retry delays in seconds; empty for actors without a ladder."""
        return {Ladder.NIGHT: settings.night_retries, Ladder.REQUEST: settings.request_retries}.get(self, ())


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to answer a message."""

    message_id: str  #: The same in every attempt, and after a redelivery
    published_at: datetime  #: When the message was first published
    number: int = 1  #: 1 for the first attempt
    again: bool = False  #: The message failed before, waited for another worker before, or was redelivered
    redelivered: bool = False  #: An earlier worker was lost while it had the message
    retry_in: int | None = None  #: Seconds until the attempt after this one; None: this is the last one
    replayed: bool = False  #: The message is the replay of a dead letter
