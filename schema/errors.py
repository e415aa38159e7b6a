"""What can go wrong, as one tree. An error's docstring says what happened.

HoroscopeError
├── PassingError            worth another try: the ladder is climbed
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
└── PermanentError          another try would fail the same way: straight to the dead letters
    ├── ModelRefused        with `everything` when no other request would fare better
    ├── ReaderGone
    ├── InvalidMessage
    ├── InvalidEnvelope
    ├── UnknownActor
    ├── TooOld
    ├── WorkerKilled
    ├── UnknownQueue
    └── Refused             a person asked for what cannot be done
        └── NotFound
"""

import math

from schema.answers import Answer


class HoroscopeError(Exception):
    """Something of ours went wrong."""

    #: What it leaves undone is on record elsewhere and is seen to: a dead letter would add nothing. Set by whoever
    #: raises it and knows.
    on_record = False


class PassingError(HoroscopeError):
    """It may succeed when it is tried again.

    Args:
        message: What happened, with which value, and what to do.
        retry_after: Seconds that the other side asked us to wait, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(HoroscopeError):
    """It would fail the same way however often it is tried."""

    #: What a dead letter names as the cause of its death.
    cause = "permanent"


class ModelUnavailable(PassingError):
    """The model did not answer, or asked us to come back later."""


class TextRejected(PassingError):
    """The model's text breaks a rule and is not shown to anyone.

    Args:
        rule: The rule's name.
        reason: How the text breaks it; a sentence without its full stop.
        text: The text; None when there is none, or when whoever checks it has it already.
        answer: What the refused answer cost; None when whoever checks it has counted it already.
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
    """Somebody else is writing this text at this moment."""


class LeaseLost(PassingError):
    """The lease ran out or was taken over before the text was stored; the text was thrown away."""


class TelegramUnavailable(PassingError):
    """Telegram did not carry out a call that it may carry out later."""


class UpdateUnfinished(PassingError):
    """An answer is owed and on record, but not yet on its way; the update must be handled again."""


class DeliveryLost(PassingError):
    """The connection that delivered a message broke while it was handled; it is delivered again."""


class DatabaseUnavailable(PassingError):
    """PostgreSQL cannot be reached."""


class NotPublished(PassingError):
    """RabbitMQ did not confirm a message."""


class ManagementUnavailable(PassingError):
    """RabbitMQ's management API does not answer."""


class ModelRefused(PermanentError):
    """The model's server refused the request itself: the key, the model's name or the parameters.

    Args:
        message: What it said.
        kind: The same for all refusals of one cause, such as ``401 invalid_api_key``.
        everything: It would refuse whatever it is asked for.
    """

    def __init__(self, message: str, *, kind: str = "", everything: bool = False) -> None:
        super().__init__(message)
        self.kind = kind
        self.everything = everything


class ReaderGone(PermanentError):
    """The reader blocked the bot or left Telegram; nothing can be sent."""


class InvalidMessage(PermanentError):
    """A message's arguments do not fit its actor."""

    cause = "wrong arguments"


class InvalidEnvelope(PermanentError):
    """Bytes that are no message."""

    cause = "undecodable"


class UnknownActor(PermanentError):
    """A message names an actor that its queue does not have."""

    cause = "unknown actor"


class TooOld(PermanentError):
    """A message came too late for what it asks for."""

    cause = "too old"


class WorkerKilled(PermanentError):
    """Every worker that began to answer a message was killed."""

    cause = "killed its worker"


class Refused(PermanentError):
    """What a person asked for cannot be done; the message says why, and what can."""


class NotFound(Refused):
    """No dead letter, group of letters or run of replays has this number."""


class UnknownQueue(PermanentError):
    """There is no queue of this name, or none with which that can be done."""


def seconds_before_retry(error: BaseException, rung: int | None) -> int | None:
    """How long a message that failed has to wait.

    Args:
        error: Why it failed.
        rung: Seconds that its ladder says; None on the last rung.

    Returns:
        What the ladder says, or longer if the other side asked for more; None when there is no other try.
    """
    if rung is None or isinstance(error, PermanentError):
        return None
    asked = error.retry_after if isinstance(error, PassingError) else None
    return max(rung, math.ceil(asked or 0))
