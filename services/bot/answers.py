"""The answer that a handler returns: the reply to the reader, and the view to publish."""

import time
from dataclasses import dataclass
from typing import Any

from schema.errors import ReaderGone
from schema.messages import HoroscopeRequested
from services.app import App
from services.readers.activity import CACHE
from services.readers.replies import Reply
from services.telegram import client as telegram


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an update."""

    chat_id: int  #: The reader's chat
    reply: Reply
    message_id: int | None = None  #: The message that the reply replaces; None: the reply is a new message
    view: HoroscopeRequested | None = None  #: Published when the reply shows a text; None: it shows none
    source: str = CACHE  #: The source of the text; see :mod:`services.readers.activity`
    began: float = 0.0  #: When the update arrived, on the monotonic clock


async def by_call(answer: Answer, app: App) -> None:
    """Answer with a call to Telegram, then publish the view. A reader who has blocked the bot is marked as blocked.

    Raises:
        TelegramUnavailable: The update must be handled again.
        TelegramBadRequest: Telegram refuses the answer.
    """
    try:
        await telegram.show(app.bot, answer.chat_id, answer.message_id, answer.reply, app.paces)
    except ReaderGone:
        await app.readers.blocked(answer.chat_id)
        return
    if answer.view:
        app.activity.note_answer(answer.source, time.monotonic() - answer.began)
        await app.bus.publish(answer.view)


async def in_response(answer: Answer, app: App) -> dict[str, Any]:
    """The body of a webhook response that answers the update, which saves a call.

    The view is published first, because Telegram does not report what happened to the response.
    """
    if answer.view:
        await app.bus.publish(answer.view)
        app.activity.note_answer(answer.source, time.monotonic() - answer.began)
    return telegram.showing_in_response(answer.chat_id, answer.message_id, answer.reply)
