"""What a handler gives back: the reply that answers the reader, and the view that it makes."""

import time
from dataclasses import dataclass
from typing import Any

from aiogram import Bot

from schema.errors import ReaderGone
from schema.messages import HoroscopeRequested
from services.messaging.bus import Bus
from services.readers.activity import CACHE, Activity
from services.readers.profiles import Readers
from services.readers.replies import Reply
from services.telegram import client as telegram


@dataclass(frozen=True, slots=True)
class Answer:
    """How an update is answered.

    Args:
        chat_id: Where the reader is.
        reply: What is shown.
        message_id: The message that the reply replaces; None: it is a new one.
        view: Published when the reply shows a text.
        source: Where the text came from; see :mod:`services.readers.activity`.
        began: When the update came, on the monotonic clock.
    """

    chat_id: int
    reply: Reply
    message_id: int | None = None
    view: HoroscopeRequested | None = None
    source: str = CACHE
    began: float = 0.0


async def by_call(answer: Answer, bot: Bot, bus: Bus, readers: Readers, activity: Activity) -> None:
    """Answer by a call of our own; the view is published once Telegram has shown the text.

    A reader who has blocked the bot is marked as such.

    Raises:
        TelegramUnavailable: The update must be handled again.
        TelegramBadRequest: Telegram refuses the answer.
    """
    try:
        await telegram.show(bot, answer.chat_id, answer.message_id, answer.reply)
    except ReaderGone:
        await readers.blocked(answer.chat_id)
        return
    if answer.view:
        activity.answered(answer.source, time.monotonic() - answer.began)
        await bus.publish(answer.view)


async def in_response(answer: Answer, bus: Bus, activity: Activity) -> dict[str, Any]:
    """The body of a webhook's response that answers the update, which spares a call.

    Telegram does not say what became of it, so the view is published before.
    """
    if answer.view:
        await bus.publish(answer.view)
        activity.answered(answer.source, time.monotonic() - answer.began)
    return telegram.showing_in_response(answer.chat_id, answer.message_id, answer.reply)
