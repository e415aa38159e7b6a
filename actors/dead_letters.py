"""Publishes dead letters: messages that finally failed, with arguments, attempts and traceback."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from dramatiq import Message, MessageProxy

from schema.messages import DEAD_LETTERS
from services.dead_letters.death import Death, described, traced
from services.dead_letters.outcomes import replay_of
from services.messaging.publisher import Publish
from services.process.heartbeats import HOST, PID, RELEASE
from services.process.logs import Mask

log = structlog.get_logger(__name__)


class DeadLetters:
    """Publishes a dead letter in place of the message that died.

    A decoded message keeps its form and gains the options ``attempts`` and ``traceback``. Undecodable bytes are
    kept as they came. The headers describe the death: see :class:`services.dead_letters.death.Death`. If a method
    raises NotPublished, RabbitMQ did not confirm the dead letter, and the message must not be acknowledged.
    """

    def __init__(self, publish: Publish, mask: Mask) -> None:
        self._publish = publish
        self._mask = mask

    def publish(self, message: MessageProxy | Message[Any], error: BaseException) -> None:
        """Keep a message that will not be tried again."""
        death = Death.of(error, message.queue_name, self._mask, replay=replay_of(message.options))
        letter = message.copy(options={"traceback": traced(error, self._mask)}).asdict()
        arguments = [list(letter["args"]), letter["kwargs"]]
        death = replace(death, masked=self._mask.in_json(arguments) != arguments)
        self._publish(DEAD_LETTERS, orjson.dumps(self._mask.in_json(letter)), death.headers())
        log.error(
            "message.dead",
            actor=message.actor_name,
            message_id=message.message_id,
            cause=death.cause,
            reason=death.error,
            attempts=len(message.options.get("attempts", ())),
        )

    def publish_bytes(self, queue: str, body: bytes, error: BaseException) -> None:
        """Keep bytes that are not a message."""
        death = Death.of(error, queue, self._mask, replay=None)
        kept = self._mask.in_bytes(body)
        self._publish(DEAD_LETTERS, kept, replace(death, masked=kept != body).headers())
        log.error("message.undecodable", queue=queue, size=len(body), reason=death.error)

    def attempt(self, started: float, ended: float, error: BaseException) -> dict[str, Any]:
        """One failed attempt, as it is kept with the message. ``started`` and ``ended``: seconds since the epoch."""
        return {
            "at": datetime.fromtimestamp(started, UTC).isoformat(),
            "seconds": round(ended - started, 3),
            "host": HOST,
            "pid": PID,
            "release": RELEASE,
            "error": described(error, self._mask),
        }
