"""What a worker does around every handler: parse the message, check for poison, record the replay's outcome."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import structlog
from dramatiq.middleware import CurrentMessage

from actors import batches
from actors.app import WorkerApp
from actors.batches import Parsed
from actors.broker import Delivered
from actors.poison import PoisonGuard, check
from actors.retries import current_attempt
from actors.table import Actor
from schema.errors import InvalidMessage, WorkerKilled
from schema.messages import Message
from services.dead_letters.outcomes import replay_of

log = structlog.get_logger(__name__)


def actor_function(
    actor: Actor, poison: PoisonGuard, worker_app: WorkerApp, loop: asyncio.AbstractEventLoop
) -> Callable[..., None]:
    """The function that Dramatiq calls, in one of its threads, for a row of the table."""
    answers = _Answers(actor, poison, worker_app, loop)
    return answers.batch if actor.batch else answers.one


@dataclass(frozen=True, slots=True)
class _Answers:
    """Answers the messages of one actor."""

    actor: Actor
    poison: PoisonGuard
    worker_app: WorkerApp
    loop: asyncio.AbstractEventLoop

    def one(self, *args: Any, **kwargs: Any) -> None:
        delivered = CurrentMessage.get_current_message()
        assert isinstance(delivered, Delivered)
        if args:
            raise InvalidMessage(f"{self.actor.message.__name__} takes named arguments only, not {args!r}")
        message = self.actor.message.parse(kwargs)
        lost = self.poison.lost([delivered]).get(delivered.message_id, ())
        try:
            check(delivered, lost)
        except WorkerKilled as error:
            giving_up = self.worker_app.give_up(message, delivered.message_id, error)
            delivered.consumer.run(giving_up, self.loop)
            raise
        with self.poison.alone if lost else nullcontext(), self.poison.watching([delivered]):
            delivered.consumer.run(self._handle(delivered, message), self.loop)

    def batch(self, delivered: Sequence[Delivered]) -> None:
        def call(messages: Sequence[Parsed]) -> None:
            delivered[0].consumer.run(self._handle_batch(messages), self.loop)

        batches.handle(self.poison, delivered, self.actor.message.parse, call)

    async def _handle(self, delivered: Delivered, message: Message) -> None:
        outcomes = self.worker_app.outcomes
        replay = replay_of(delivered.options)
        if replay and await outcomes.over([replay]):
            log.info("replay.skipped", actor=self.actor.name, count=1)
            return
        ladder = self.actor.ladder.delays(self.worker_app.app.settings)
        effect = await self.actor.handler(self.worker_app, message, current_attempt(delivered, ladder))
        if replay:
            await outcomes.answered({replay: effect})

    async def _handle_batch(self, messages: Sequence[Parsed]) -> None:
        outcomes = self.worker_app.outcomes
        replays = [replay_of(message.options) for message, _ in messages]
        asked = {replay for replay in replays if replay}
        over = await outcomes.over([*asked]) if asked else set()
        due = [
            (parsed, replay)
            for (_, parsed), replay in zip(messages, replays, strict=True)
            if replay not in over
        ]
        if len(due) < len(messages):
            log.info("replay.skipped", actor=self.actor.name, count=len(messages) - len(due))
        if not due:
            return
        effects = await self.actor.handler(self.worker_app, [parsed for parsed, _ in due])
        if asked - over:
            had_effect = {replay for (_, replay), effect in zip(due, effects, strict=True) if effect}
            await outcomes.answered({replay: replay in had_effect for replay in asked - over})
