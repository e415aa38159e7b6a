"""What is said over RabbitMQ: events in the past tense, commands in the imperative.

A message is a frozen dataclass of plain values that names its queue, so that whoever publishes one needs
no actor. On the wire it is a Dramatiq message whose arguments are the dataclass's fields as JSON.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, ClassVar, Self
from uuid import UUID

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError

from schema.errors import InvalidMessage
from schema.signs import Sign

VIEWS = "views"
REQUESTS = "requests"
GENERATION = "generation"
DELIVERY = "delivery"
TICKS = "ticks"
DEAD_LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class Message:
    """What every message can do."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    @property
    def queue(self) -> str:
        """The queue that the message is published to."""
        raise NotImplementedError

    @property
    def actor(self) -> str:
        """The name of the actor that answers the message: its queue and its class."""
        return actor_name(self.queue, type(self))

    def arguments(self) -> dict[str, Any]:
        """The fields as JSON values, by name; those that have their default are left out."""
        arguments: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json", exclude_defaults=True)
        return arguments

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """The message that :meth:`arguments` was made from.

        Raises:
            InvalidMessage: A field is missing, unknown, or of the wrong form; each is named.
        """
        try:
            message: Self = _adapter(cls).validate_python(arguments)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}"
                for fault in error.errors(include_url=False)
            )
            raise InvalidMessage(f"{cls.__name__} does not fit its arguments: {faults}") from None
        return message


_adapters: dict[type[Message], TypeAdapter[Any]] = {}


def _adapter(message: type[Message]) -> TypeAdapter[Any]:
    if message not in _adapters:
        _adapters[message] = TypeAdapter(message)
    return _adapters[message]


def actor_name(queue: str, message: type[Message]) -> str:
    """The actor's name on the wire, such as ``requests.HoroscopeRequested``."""
    return f"{queue}.{message.__name__}"


@dataclass(frozen=True, slots=True)
class HoroscopeRequested(Message):
    """A reader asked for the text of a sign and a day.

    Args:
        request_id: The same for every copy of one request, from the Telegram update to the receipt.
        sign: Whose text.
        day: Of which day: the reader's today.
        answered: The text was shown, which is a view; otherwise somebody waits for it.
        at: When the reader asked.
    """

    request_id: UUID
    sign: Sign
    day: date
    answered: bool
    at: AwareDatetime

    @property
    def queue(self) -> str:
        """Views are counted, waiters are served."""
        return VIEWS if self.answered else REQUESTS


@dataclass(frozen=True, slots=True)
class GenerateDay(Message):
    """Delete what is out of date, then write what is missing of a day, one sign after another.

    Args:
        day: The day.
        anew: Also what a ladder still deals with and what was given up: a person asks for it.
    """

    day: date
    anew: bool = False

    @property
    def queue(self) -> str:
        """One at a time in the cluster."""
        return GENERATION


@dataclass(frozen=True, slots=True)
class GenerateHoroscope(Message):
    """Write the text of one sign and one day, unless it exists.

    Args:
        sign: Whose text.
        day: Of which day.
        replaces: Write it in the place of the text that was generated then; any other text stays.
    """

    sign: Sign
    day: date
    replaces: datetime | None = None

    @property
    def queue(self) -> str:
        """One at a time in the cluster."""
        return GENERATION


@dataclass(frozen=True, slots=True)
class DeliverHoroscope(Message):
    """Answer everyone who waits for the text of a sign and a day.

    Args:
        sign: Whose text.
        day: Of which day.
        given_up_at: If there is no text: tell those so who waited by then.
        came_after: And only those who began to wait after this; None: all of them.
    """

    sign: Sign
    day: date
    given_up_at: datetime | None = None
    came_after: datetime | None = None

    @property
    def queue(self) -> str:
        """Beside the queues that wait for the model."""
        return DELIVERY


@dataclass(frozen=True, slots=True)
class MidnightTick(Message):
    """A new day has begun at home."""

    @property
    def queue(self) -> str:
        """Published by periodiq."""
        return TICKS


@dataclass(frozen=True, slots=True)
class ReconcileTick(Message):
    """It is time to compare what should exist with what does."""

    @property
    def queue(self) -> str:
        """Published by periodiq, and by every worker as it starts."""
        return TICKS


@dataclass(frozen=True, slots=True)
class DeadLetter(Message):
    """A message that finally failed, as it lies in its queue: bytes of any kind, and what stands beside them.

    It is never published as such: a worker makes one of whatever it finds among the dead letters.

    Args:
        body: The bytes.
        headers: What stood beside them.
        redelivered: Somebody had received it before.
        published_at: When it came into the queue; None: nobody says.
    """

    body: bytes
    headers: dict[str, Any]
    redelivered: bool = False
    published_at: datetime | None = None

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """The letter itself: there is nothing about it that could be wrong."""
        return cls(**arguments)

    @property
    def queue(self) -> str:
        """Where the dead are."""
        return DEAD_LETTERS
