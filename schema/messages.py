"""Messages sent over RabbitMQ: events in the past tense, commands in the imperative.

A message is a frozen dataclass of plain values that names its queue, so a publisher does not import an actor. On the
wire it is a Dramatiq message whose arguments are the dataclass's fields as JSON.
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

#: Faults of arguments that an error names at most, and characters of each.
_NAMED = 6
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Message:
    """The base class of every message."""

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
        """The fields as JSON values, by name; fields with their default value are left out."""
        arguments: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json", exclude_defaults=True)
        return arguments

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """Make a message from its :meth:`arguments`.

        Raises:
            InvalidMessage: A field is missing, unknown or of a wrong type; the error names each.
        """
        try:
            message: Self = _adapter(cls).validate_python(arguments)
        except ValidationError as error:
            named = error.errors(include_url=False, include_input=False)[:_NAMED]
            faults = "; ".join(
                f"{'.'.join(str(part)[:_LONGEST] for part in fault['loc']) or 'arguments'}: {fault['msg'][:_LONGEST]}"
                for fault in named
            )
            if error.error_count() > _NAMED:
                faults += f"; and {error.error_count() - _NAMED} more"
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
    """A reader asked for the text of a sign and a day."""

    #: The same for every copy of one request, from the Telegram update to the view's receipt.
    request_id: UUID
    sign: Sign
    day: date  #: The reader's own today
    #: True: the text was shown, which is a view. False: the reader waits for it.
    answered: bool
    at: AwareDatetime  #: When the reader asked

    @property
    def queue(self) -> str:
        """``views`` counts shown texts; ``requests`` writes missing ones."""
        return VIEWS if self.answered else REQUESTS


@dataclass(frozen=True, slots=True)
class GenerateDay(Message):
    """Delete out-of-date texts, then order the missing texts of a day, one after another."""

    day: date
    anew: bool = False  #: A person's order: also texts that were given up, or that a ladder is retrying

    queue = GENERATION


@dataclass(frozen=True, slots=True)
class GenerateHoroscope(Message):
    """Write the text of one sign and day, unless it exists."""

    sign: Sign
    day: date
    replaces: datetime | None = None  #: Replace the text that was generated at this instant, but no other

    queue = GENERATION


@dataclass(frozen=True, slots=True)
class DeliverHoroscope(Message):
    """Answer every reader who waits for the text of a sign and day."""

    sign: Sign
    day: date
    #: If the text does not exist, send an error to readers who have waited since before this instant.
    given_up_at: datetime | None = None
    #: With ``given_up_at``: only to readers whose wait began after this instant; None: no such limit.
    came_after: datetime | None = None

    queue = DELIVERY


@dataclass(frozen=True, slots=True)
class MidnightTick(Message):
    """A new day has begun in home time."""

    queue = TICKS


@dataclass(frozen=True, slots=True)
class ReconcileTick(Message):
    """The texts that should exist are to be compared with those that do."""

    queue = TICKS


@dataclass(frozen=True, slots=True)
class DeadLetter(Message):
    """A message that finally failed, as it lies in the queue ``dead_letters``; its body may be any bytes.

    It is never published: a worker makes one from every delivery of that queue.
    """

    body: bytes  #: The AMQP body
    headers: dict[str, Any]  #: The AMQP headers
    redelivered: bool = False  #: RabbitMQ had delivered it before
    published_at: datetime | None = None  #: The AMQP timestamp; None: it has none

    @classmethod
    def parse(cls, arguments: dict[str, Any]) -> Self:
        """Wrap the arguments: they come from AMQP and need no check."""
        return cls(**arguments)

    queue = DEAD_LETTERS
