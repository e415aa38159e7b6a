"""What a handler gives back: the call that answers the reader, and the view that it makes."""

from dataclasses import dataclass
from typing import Any

from aiogram import Bot
from aiogram.methods import TelegramMethod

from schema.errors import ReaderGone
from schema.messages import HoroscopeRequested
from services import telegram
from services.bus import Bus


@dataclass(frozen=True, slots=True)
class Answer:
    """How an update is answered.

    Args:
        method: The call to Telegram that shows the answer.
        view: Published when the answer shows a text.
    """

    method: TelegramMethod[Any]
    view: HoroscopeRequested | None = None


async def by_call(answer: Answer, bot: Bot, bus: Bus) -> None:
    """Answer by a call of our own; the view is published once Telegram has shown the text.

    Raises:
        TelegramUnavailable: The update must be handled again.
    """
    try:
        await telegram.call(bot, answer.method)
    except ReaderGone:
        return
    if answer.view:
        await bus.publish(answer.view)


async def in_response(answer: Answer, bot: Bot, bus: Bus) -> dict[str, Any]:
    """The body of a webhook's response that answers the update, which spares a call.

    Telegram does not say what became of it, so the view is published before.
    """
    if answer.view:
        await bus.publish(answer.view)
    body: dict[str, Any] = answer.method.model_dump(mode="json", exclude_none=True, context={"bot": bot})
    return {"method": answer.method.__api_method__, **body}
