"""Calls to Telegram that obey its limits, with errors mapped to our own."""

import asyncio
import time
from typing import Any, TypeVar

import orjson
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
)
from aiogram.methods import EditMessageText, GetMe, SendDocument, SendMessage, TelegramMethod
from aiogram.types import BufferedInputFile, InlineKeyboardButton, InlineKeyboardMarkup, MessageEntity

from schema.errors import ReaderGone, TelegramUnavailable
from services.process import metrics
from services.process.addresses import trusting
from services.process.descriptions import said
from services.readers.replies import Reply
from services.telegram.pace import Paces

CALL_TIMEOUT_S = 10.0
#: The most seconds, in total, that a call waits because Telegram asks for pauses.
PATIENCE_S = 30.0
#: The most calls at once. Calls to many slow chats must leave a connection to everybody else.
CONNECTIONS = 1000

_T = TypeVar("_T")

_NOT_MODIFIED = "message is not modified"
_VANISHED = ("message to edit not found", "message can't be edited", "message_id_invalid")
_GONE = ("chat not found", "user is deactivated", "bot was kicked", "peer_id_invalid")
#: The outcome under which a failed call is counted, by its error; any other error: refused.
_OUTCOMES: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((TelegramRetryAfter,), "pause"),
    ((TelegramForbiddenError, TelegramMigrateToChat), "gone"),
    # A cancelled call means that the caller's patience was shorter than the connection's.
    ((TelegramNetworkError, TelegramServerError, ClientDecodeError, asyncio.CancelledError), "unavailable"),
)


def open_bot(token: str, api_url: str, ca_file: str = "") -> Bot:
    """A client of the Bot API at ``api_url``; close its session when done.

    ``ca_file`` has the certificates of authorities that are trusted beside the public ones.
    """
    session = AiohttpSession(
        limit=CONNECTIONS,
        api=TelegramAPIServer.from_base(api_url),
        timeout=CALL_TIMEOUT_S,
        json_loads=orjson.loads,
        json_dumps=lambda value: orjson.dumps(value).decode(),
    )
    if ca_file:
        session._connector_init["ssl"] = trusting(ca_file)  # noqa: SLF001  aiogram has no option for it
    return Bot(token, session=session)


async def call(
    bot: Bot, method: TelegramMethod[_T], paces: Paces | None = None, *, chat_patience: float = PATIENCE_S
) -> _T:
    """Make a call; wait and repeat it when Telegram asks for a pause.

    Args:
        paces: The process's own; None: nothing else depends on this call.
        chat_patience: The most seconds to wait, in total, because Telegram limits the chat.

    Raises:
        TelegramUnavailable: No answer, an error inside Telegram, or a pause beyond our patience.
        ReaderGone: The reader blocked the bot, or the chat does not exist any more.
        TelegramBadRequest: Telegram refuses the call itself.
    """
    paces = paces or Paces()
    chat_id = getattr(method, "chat_id", None)
    now = time.monotonic()
    patience = now + PATIENCE_S
    while True:
        await paces.turn(chat_id, patience, now + chat_patience)
        try:
            result = await _counted(bot, method)
        except TelegramRetryAfter as error:
            paces.hold(chat_id, error.retry_after)
        except TelegramForbiddenError as error:
            raise ReaderGone(f"the reader cannot be reached: {error.message}") from error
        except TelegramBadRequest as error:
            if any(sign in error.message.lower() for sign in _GONE):
                raise ReaderGone(f"the reader cannot be reached: {error.message}") from error
            raise
        except TelegramMigrateToChat as error:
            raise ReaderGone(f"the chat is another one now: {error.message}") from error
        except (TelegramNetworkError, TelegramServerError, ClientDecodeError) as error:
            raise TelegramUnavailable(
                f"Telegram did not answer {method.__api_method__}: {said(error)}"
            ) from error
        else:
            paces.went_well(chat_id)
            return result


async def _counted(bot: Bot, method: TelegramMethod[_T]) -> _T:
    try:
        result = await bot(method)
    except BaseException as error:
        outcome = next((word for kinds, word in _OUTCOMES if isinstance(error, kinds)), "refused")
        metrics.TELEGRAM_CALLS.labels(outcome).inc()
        raise
    metrics.TELEGRAM_CALLS.labels("done").inc()
    return result


class _Send(SendMessage):
    """``sendMessage``. Only the message's id is read, so the answer is not built into models."""

    __returning__: Any = Any  # type: ignore[misc]


class _Edit(EditMessageText):
    """``editMessageText``. The answer is not read, so it is not built into models."""

    __returning__: Any = Any  # type: ignore[misc]


class _SendFile(SendDocument):
    """``sendDocument``. The answer is not read, so it is not built into models."""

    __returning__: Any = Any  # type: ignore[misc]


class WhoAmI(GetMe):
    """``getMe`` with the raw answer."""

    __returning__: Any = Any  # type: ignore[misc]


def showing(chat_id: int, message_id: int | None, reply: Reply) -> TelegramMethod[Any]:
    """The call that shows a reply: an edit of ``message_id``, or a new message when that is None."""
    entities = [MessageEntity(type="bold", offset=0, length=reply.bold)] if reply.bold else None
    keyboard = None
    if reply.buttons:
        keyboard = InlineKeyboardMarkup(
            inline_keyboard=[
                [InlineKeyboardButton(text=text, callback_data=data) for text, data in row]
                for row in reply.buttons
            ]
        )
    options: dict[str, Any] = {
        "chat_id": chat_id, "text": reply.text, "entities": entities, "reply_markup": keyboard, "parse_mode": None
    }  # fmt: skip
    return _Send(**options) if message_id is None else _Edit(message_id=message_id, **options)


def showing_in_response(chat_id: int, message_id: int | None, reply: Reply) -> dict[str, Any]:
    """The same call as JSON for the response of a webhook; many times cheaper than aiogram's models."""
    body: dict[str, Any] = {"method": "sendMessage", "chat_id": chat_id, "text": reply.text}
    if message_id is not None:
        body |= {"method": "editMessageText", "message_id": message_id}
    if reply.bold:
        body["entities"] = [{"type": "bold", "offset": 0, "length": reply.bold}]
    if reply.buttons:
        rows = [[{"text": text, "callback_data": data} for text, data in row] for row in reply.buttons]
        body["reply_markup"] = {"inline_keyboard": rows}
    return body


async def show(
    bot: Bot,
    chat_id: int,
    message_id: int | None,
    reply: Reply,
    paces: Paces | None = None,
    *,
    chat_patience: float = PATIENCE_S,
) -> int:
    """Edit a message to show a reply, or send a new one if it does not exist any more; returns the message's id.

    It can be repeated safely: Telegram refuses an edit that changes nothing. The arguments and the errors are those of
    :func:`call`.
    """
    if message_id is not None:
        try:
            await call(bot, showing(chat_id, message_id, reply), paces, chat_patience=chat_patience)
        except TelegramBadRequest as error:
            reason = error.message.lower()
            if _NOT_MODIFIED not in reason and not any(sign in reason for sign in _VANISHED):
                raise
            if _NOT_MODIFIED in reason:
                return message_id
        else:
            return message_id
    sent = await call(bot, showing(chat_id, None, reply), paces, chat_patience=chat_patience)
    try:
        return int(sent["message_id"])
    except (KeyError, TypeError, ValueError) as error:
        raise TelegramUnavailable("Telegram did not name the message that it sent") from error


async def send_file(bot: Bot, chat_id: int, name: str, content: bytes, caption: str) -> None:
    """Send a file with a caption; raises the errors of :func:`call`."""
    options: dict[str, Any] = {
        "chat_id": chat_id, "document": BufferedInputFile(content, name), "caption": caption, "parse_mode": None
    }  # fmt: skip
    await call(bot, _SendFile(**options))
