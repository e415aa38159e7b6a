"""Retries: a failed message climbs its ladder. Each rung is a RabbitMQ queue that holds it for a fixed time."""

import time
from datetime import UTC, datetime
from typing import Any

import dramatiq
import structlog

from actors.batches import DeliveredBatch
from actors.broker import PAUSE_S, Broker, Delivered
from actors.topology import rung_of
from schema.errors import (
    DatabaseUnavailable,
    HoroscopeError,
    LeaseHeld,
    NotPublished,
    seconds_before_retry,
)
from services.dead_letters.outcomes import replay_of
from services.messaging.attempts import Attempt

log = structlog.get_logger(__name__)

#: Seconds until a message without a ladder checks again whether the lease is free.
_HELD_S = 60


class Retries(dramatiq.Middleware):
    """Decides where a message goes whose handler raised.

    - Another worker holds the lease: the message waits on its present rung; the attempt does not count.
    - PostgreSQL or RabbitMQ is away: the message goes back to its queue after a short pause; the attempt does
      not count.
    - A permanent error, or the end of the ladder: it becomes a dead letter. It is dropped instead if the failure is
      on record elsewhere, except for a replay: the person who asked for that must see the result.
    - An actor with ``ladder=None`` (the archive of dead letters): it goes back to its queue, whatever the error.
    - Any other error: it is published to the next rung, confirmed, before its delivery is acknowledged; to a
      longer one where the other side asked for a longer pause.
    """

    @property
    def actor_options(self) -> set[str]:
        """``ladder``: retry delays in seconds, None: retry for ever; ``throws``: errors logged in one line."""
        return {"ladder", "throws"}

    def before_process_message(self, _: dramatiq.Broker, message: Any) -> None:
        """Note when the attempt began."""
        message.started = time.time()

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: Any,
        *,
        result: Any = None,  # noqa: ARG002  Dramatiq's signature
        exception: BaseException | None = None,
    ) -> None:
        """Settle the failed message, or the failed messages of a batch."""
        failures: list[tuple[Delivered, BaseException]] = []
        if isinstance(message, DeliveredBatch):
            failures += [(each, each.error) for each in message.messages if each.error]
        if exception and isinstance(message, Delivered):
            failures.append((message, exception))
        if not failures:
            return
        if message.consumer.closed:
            message.outcome = "put_back"
            log.warning("message.comes_again", actor=message.actor_name, reason=str(failures[-1][1]))
            return
        assert isinstance(broker, Broker)
        for each, error in failures:
            try:
                self._failed(broker, each, error)
            except Exception:
                # An unexpected error must not get the message acknowledged.
                log.exception("message.put_back", actor=each.actor_name)
                each.requeue = True
            each.done = not each.requeue
        if any(each.requeue for each, _ in failures):
            time.sleep(PAUSE_S)  # in Dramatiq's thread, not on the event loop

    def _failed(self, broker: Broker, message: Delivered, error: BaseException) -> None:
        ladder: tuple[int, ...] | None = broker.get_actor(message.actor_name).options.get("ladder", ())
        if ladder is None or isinstance(error, DatabaseUnavailable | NotPublished):
            _put_back(message, error)
            return
        try:
            if isinstance(error, LeaseHeld):
                self._wait_for_lease(broker, message, ladder, error)
            else:
                self._climb_or_end(broker, message, ladder, error)
        except NotPublished as trouble:
            _put_back(message, trouble)

    def _climb_or_end(
        self, broker: Broker, message: Delivered, ladder: tuple[int, ...], error: BaseException
    ) -> None:
        attempts = [
            *message.options.get("attempts", ()),
            broker.dead_letters.attempt(message.started, time.time(), error),
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
            broker.dead_letters.publish(message, error)
            message.outcome = "dead"

    def _wait_for_lease(
        self, broker: Broker, message: Delivered, ladder: tuple[int, ...], error: LeaseHeld
    ) -> None:
        delay = ladder[min(len(message.options.get("attempts", ())), len(ladder) - 1)] if ladder else _HELD_S
        message.options["held"] = True
        _wait(broker, message, ladder, delay)
        message.outcome = "put_back"
        log.info("message.waits", actor=message.actor_name, retry_in=delay, reason=str(error))


def _wait(broker: Broker, message: Delivered, ladder: tuple[int, ...], delay: int) -> None:
    queue = rung_of(message.queue_name, delay, static=delay in ladder)
    broker.publish(queue, message.encode(), None)


def _put_back(message: Delivered, trouble: BaseException) -> None:
    log.warning("message.put_back", actor=message.actor_name, reason=str(trouble))
    message.requeue = True


def current_attempt(message: Delivered, ladder: tuple[int, ...]) -> Attempt:
    """The attempt that is about to begin."""
    failed = len(message.options.get("attempts", ()))
    return Attempt(
        message.message_id,
        published_at=datetime.fromtimestamp(message.message_timestamp / 1000, UTC),
        number=failed + 1,
        again=failed > 0 or "held" in message.options or message.redelivered,
        redelivered=message.redelivered,
        retry_in=ladder[failed] if failed < len(ladder) else None,
        replayed=replay_of(message.options) is not None,
    )
