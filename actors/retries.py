"""A message that failed climbs its ladder, whose rungs are queues of the broker's own."""

import time
from datetime import UTC, datetime
from typing import Any

import dramatiq
import structlog

from actors.broker import PAUSE_S, Delivered
from actors.dead_letters import DeadLetters
from actors.table import Attempt
from actors.topology import rung_of
from schema.errors import (
    DatabaseUnavailable,
    HoroscopeError,
    LeaseHeld,
    NotPublished,
    seconds_before_retry,
)
from services.dead_letters.outcomes import replay_of

log = structlog.get_logger(__name__)

#: Seconds until a message without a ladder looks again whether somebody else is done.
_HELD_S = 60


class Retries(dramatiq.Middleware):
    """Decides what becomes of a message whose handler raised.

    - somebody else is at the same work: it comes back on the rung that it stands on, and the try does not count.
    - PostgreSQL or RabbitMQ is away: not the message's fault. It goes back to its queue after a short pause,
      and the try does not count.
    - a permanent error, or the end of the ladder: it becomes a dead letter, unless what is left undone is on record
      elsewhere; a replay always does, so that whoever asked for it learns of it.
    - a dead letter on its way to the archive is put back until it is there, whatever the error.
    - otherwise it is published to the next rung, confirmed, before the delivery is acknowledged; to a longer
      one where the other side asked for a longer pause.

    Args:
        dead_letters: Where the last rung leads.
    """

    def __init__(self, dead_letters: DeadLetters) -> None:
        self._dead_letters = dead_letters

    @property
    def actor_options(self) -> set[str]:
        """``ladder``: seconds before each further try, None: tried for ever; ``throws``: errors logged in a line."""
        return {"ladder", "throws"}

    def before_process_message(self, _: dramatiq.Broker, message: Any) -> None:
        """Note when the try began."""
        message.started = time.time()

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: Any,
        *,
        result: Any = None,  # noqa: ARG002  Dramatiq's signature
        exception: BaseException | None = None,
    ) -> None:
        """Settle a failed try."""
        if exception is None or not isinstance(message, Delivered):
            return
        if message.consumer.closed:
            message.outcome = "put_back"
            log.warning("message.comes_again", actor=message.actor_name, reason=str(exception))
            return
        try:
            self.failed(broker, message, exception)
        except Exception:
            # Whatever it is, the message must not be acknowledged as if it had been dealt with.
            log.exception("message.put_back", actor=message.actor_name)
            message.requeue = True
        if message.requeue:
            time.sleep(PAUSE_S)  # in a thread of Dramatiq's

    def failed(self, broker: dramatiq.Broker, message: Delivered, error: BaseException) -> None:
        """Send a message where its failure leads; if that cannot be done, have it put back into its queue.

        Whoever calls makes a pause of :data:`PAUSE_S` before a message that is put back is settled.
        """
        ladder: tuple[int, ...] | None = broker.get_actor(message.actor_name).options.get("ladder", ())
        if ladder is None or isinstance(error, DatabaseUnavailable | NotPublished):
            _put_back(message, error)
            return
        try:
            if isinstance(error, LeaseHeld):
                self._wait_for_somebody_else(broker, message, ladder, error)
            else:
                self._climb_or_end(broker, message, ladder, error)
        except NotPublished as trouble:
            _put_back(message, trouble)

    def _climb_or_end(
        self, broker: dramatiq.Broker, message: Delivered, ladder: tuple[int, ...], error: BaseException
    ) -> None:
        attempts = [
            *message.options.get("attempts", ()),
            self._dead_letters.attempt(message.started, time.time(), error),
        ]
        message.options["attempts"] = attempts
        rung = ladder[len(attempts) - 1] if len(attempts) <= len(ladder) else None
        delay = seconds_before_retry(error, rung)
        if delay is not None:
            _wait(broker, message, ladder, delay)
            message.outcome = "retried"
            log.warning(
                "message.retried",
                actor=message.actor_name,
                attempt=len(attempts),
                retry_in=delay,
                reason=attempts[-1]["error"],
            )
        elif isinstance(error, HoroscopeError) and error.on_record and replay_of(message.options) is None:
            message.outcome = "dropped"
            log.warning("message.dropped", actor=message.actor_name, reason=attempts[-1]["error"])
        else:
            self._dead_letters.publish(message, error)
            message.outcome = "dead"

    def _wait_for_somebody_else(
        self, broker: dramatiq.Broker, message: Delivered, ladder: tuple[int, ...], error: LeaseHeld
    ) -> None:
        """Come back on the rung that the message stands on: nothing was tried, so it does not climb."""
        delay = ladder[min(len(message.options.get("attempts", ())), len(ladder) - 1)] if ladder else _HELD_S
        message.options["held"] = True
        _wait(broker, message, ladder, delay)
        message.outcome = "put_back"
        log.info("message.waits", actor=message.actor_name, retry_in=delay, reason=str(error))


def _wait(broker: dramatiq.Broker, message: Delivered, ladder: tuple[int, ...], delay: int) -> None:
    queue = rung_of(message.queue_name, delay, static=delay in ladder)
    broker.publish(queue, message.encode(), None)  # type: ignore[attr-defined]


def _put_back(message: Delivered, trouble: BaseException) -> None:
    log.warning("message.put_back", actor=message.actor_name, reason=str(trouble))
    message.requeue = True


def attempt(message: Delivered, ladder: tuple[int, ...]) -> Attempt:
    """Which try of the message is about to begin."""
    failed = len(message.options.get("attempts", ()))
    return Attempt(
        message_id=message.message_id,
        number=failed + 1,
        again=failed > 0 or "held" in message.options or message.redelivered,
        redelivered=message.redelivered,
        published_at=datetime.fromtimestamp(message.message_timestamp / 1000, UTC),
        retry_in=ladder[failed] if failed < len(ladder) else None,
    )
