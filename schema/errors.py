"""Every error of ours, as one tree. An error's docstring says what happened.

HoroscopeError
├── PassingError            may succeed later: the message climbs its ladder
│   ├── ModelUnavailable    with `retry_after` when the model named a time
│   ├── TextRejected        with the `rule` that the text broke, and the `reason`
│   ├── LeaseHeld
│   ├── LeaseLost
│   ├── TelegramUnavailable with `retry_after` when Telegram named a time
│   ├── UpdateUnfinished
│   ├── DeliveryLost
│   ├── DatabaseUnavailable
│   ├── NotPublished
│   └── ManagementUnavailable
└── PermanentError          would fail again: the message becomes a dead letter at once
    ├── ModelRefused        with `everything` when the model would refuse any request
    ├── ReaderGone
    ├── InvalidMessage
    ├── InvalidEnvelope
    ├── UnknownActor
    ├── TooOld
    ├── WorkerKilled
    ├── UnknownQueue
    └── Refused             a person asked for something impossible
        └── NotFound
"""

import math
from dataclasses import dataclass

from schema.sentences import Sentence


@dataclass(frozen=True, slots=True)
class Answer:
    """What one answer of the model cost; a rejected answer costs as much."""

    model: str  #: The model's name, as the server gave it
    prompt_tokens: int | None  #: Tokens read; None: the server did not count them
    completion_tokens: int | None  #: Tokens written; None: the server did not count them
    latency_ms: int  #: Milliseconds from the request to the whole answer


class HoroscopeError(Exception):
    """The base class of this project's errors."""

    #: The failure is on record elsewhere and is being handled, so no dead letter is needed. Set where the error is raised.
    on_record = False


class PassingError(HoroscopeError):
    """The operation failed and may succeed later, after the seconds that the other side asked us to wait."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(HoroscopeError):
    """The operation failed and would fail again."""

    #: The cause of death in the message's dead letter.
    cause = "permanent"


class ModelUnavailable(PassingError):
    """The model did not answer, or asked us to come back later."""


class TextRejected(PassingError):
    """The model's text breaks a rule and is not shown to any reader.

    Args:
        rule: The rule's name.
        reason: How the text breaks it; a sentence without its full stop.
        text: The text; None if there is none, or if the caller has it already.
        answer: What the answer cost; None if the caller has counted it already.
    """

    def __init__(
        self, rule: str, reason: str, *, text: str | None = None, answer: Answer | None = None
    ) -> None:
        super().__init__(f"text rejected by the rule {rule!r}: {reason}")
        self.rule = rule
        self.reason = reason
        self.text = text
        self.answer = answer


class LeaseHeld(PassingError):
    """Another worker is writing this text now."""


class LeaseLost(PassingError):
    """The lease expired or was taken over before the text was stored; the text was discarded."""


class TelegramUnavailable(PassingError):
    """Telegram did not accept a call, and may accept it later."""


class UpdateUnfinished(PassingError):
    """The reader's request is stored but its event is not published yet; the update must be handled again."""


class DeliveryLost(PassingError):
    """A message's connection broke while the message was handled; RabbitMQ delivers it again."""


class DatabaseUnavailable(PassingError):
    """PostgreSQL cannot be reached."""


class NotPublished(PassingError):
    """RabbitMQ did not confirm a message."""


class ManagementUnavailable(PassingError):
    """RabbitMQ's management API does not answer."""


class ModelRefused(PermanentError):
    """The model's server refused the request itself: the key, the model's name or the parameters.

    Args:
        message: The server's message.
        kind: The same for all refusals of one cause, such as ``401 invalid_api_key``.
        everything: The server would refuse any request.
    """

    def __init__(self, message: str, *, kind: str = "", everything: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.everything = everything


class ReaderGone(PermanentError):
    """The reader blocked the bot or left Telegram; no message can be sent."""


class InvalidMessage(PermanentError):
    """A message's arguments do not fit its actor."""

    cause = "wrong arguments"


class InvalidEnvelope(PermanentError):
    """A body is not a Dramatiq message."""

    cause = "undecodable"


class UnknownActor(PermanentError):
    """A message names an actor that its queue does not have."""

    cause = "unknown actor"


class TooOld(PermanentError):
    """A message came too late to be answered."""

    cause = "too old"


class WorkerKilled(PermanentError):
    """Every worker that began to answer a message was killed."""

    cause = "killed its worker"


class Refused(PermanentError):
    """A person asked for something impossible; the message says why, and what is possible."""


class NotFound(Refused):
    """No dead letter, group of letters or run of replays has this number."""


class UnknownQueue(PermanentError):
    """There is no queue of this name, or the action does not apply to it."""


def text_of(error: BaseException) -> str:
    """What an error says; if that is a :class:`~schema.sentences.Sentence`, it can still be translated."""
    return error.args[0] if error.args and isinstance(error.args[0], Sentence) else str(error)


def seconds_before_retry(error: BaseException, rung: int | None) -> int | None:
    """The seconds until a failed message is tried again; None: it is not.

    ``rung`` is its ladder's next delay; None on the last rung. The delay is longer if the other side asked for it.
    """
    if rung is None or isinstance(error, PermanentError):
        return None
    retry_after = error.retry_after if isinstance(error, PassingError) else None
    return max(rung, math.ceil(retry_after or 0))
