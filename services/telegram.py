"""Telegram as the rest of the service sees it: calls that obey its limits, and errors told apart."""

import asyncio
from typing import TypeVar

import orjson
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
)
from aiogram.methods import EditMessageText, SendMessage, SetWebhook, TelegramMethod
from aiogram.types import Message

from schema.errors import ReaderGone, TelegramUnavailable
from services.replies import Reply

CALL_TIMEOUT_S = 10.0
#: A pause that Telegram asks for is waited out up to this many seconds, together.
PATIENCE_S = 30.0

_T = TypeVar("_T")

_NOT_MODIFIED = "message is not modified"
_VANISHED = ("message to edit not found", "message can't be edited", "message_id_invalid")
_GONE = ("chat not found", "user is deactivated", "bot was kicked", "peer_id_invalid")


def open_bot(token: str, api_url: str) -> Bot:
    """A client of the Bot API at ``api_url``; close its session when done."""
    session = AiohttpSession(
        api=TelegramAPIServer.from_base(api_url),
        timeout=CALL_TIMEOUT_S,
        json_loads=orjson.loads,
        json_dumps=lambda value: orjson.dumps(value).decode(),
    )
    return Bot(token, session=session)


async def call(bot: Bot, method: TelegramMethod[_T]) -> _T:
    """Make a call; wait and repeat it where Telegram says so.

    Raises:
        TelegramUnavailable: No answer, an error of Telegram's own, or a longer pause than is worth waiting.
        ReaderGone: The reader blocked the bot, or the chat is no more.
        TelegramBadRequest: Telegram refuses the call itself.
    """
    waited = 0.0
    while True:
        try:
            return await bot(method)
        except TelegramRetryAfter as error:
            if waited + error.retry_after > PATIENCE_S:
                raise TelegramUnavailable(
                    f"Telegram asks to wait {error.retry_after} s", retry_after=error.retry_after
                ) from error
            waited += error.retry_after
            await asyncio.sleep(error.retry_after)
        except TelegramForbiddenError as error:
            raise ReaderGone(f"the reader cannot be reached: {error.message}") from error
        except TelegramBadRequest as error:
            if any(sign in error.message.lower() for sign in _GONE):
                raise ReaderGone(f"the reader cannot be reached: {error.message}") from error
            raise
        except (TelegramNetworkError, TelegramServerError, ClientDecodeError) as error:
            raise TelegramUnavailable(f"Telegram did not answer {method.__api_method__}: {error}") from error


def send(chat_id: int, reply: Reply) -> SendMessage:
    """The call that sends a reply as a new message."""
    return SendMessage(
        chat_id=chat_id,
        text=reply.text,
        entities=reply.entities or None,
        reply_markup=reply.keyboard,
        parse_mode=None,
    )


def edit(chat_id: int, message_id: int, reply: Reply) -> EditMessageText:
    """The call that puts a reply in the place of an earlier message."""
    return EditMessageText(
        chat_id=chat_id,
        message_id=message_id,
        text=reply.text,
        entities=reply.entities or None,
        reply_markup=reply.keyboard,
        parse_mode=None,
    )


async def show(bot: Bot, chat_id: int, message_id: int | None, reply: Reply) -> int:
    """Put a reply in the place of a message; send it anew where that message is no more.

    Shown twice it looks the same as once: Telegram refuses an edit that changes nothing.

    Returns:
        The id of the message that now shows the reply.

    Raises:
        TelegramUnavailable, ReaderGone, TelegramBadRequest: As :func:`call` says.
    """
    if message_id is not None:
        try:
            await call(bot, edit(chat_id, message_id, reply))
        except TelegramBadRequest as error:
            said = error.message.lower()
            if _NOT_MODIFIED not in said and not any(sign in said for sign in _VANISHED):
                raise
            if _NOT_MODIFIED in said:
                return message_id
        else:
            return message_id
    sent: Message = await call(bot, send(chat_id, reply))
    return sent.message_id


def set_webhook(url: str, secret: str, allowed_updates: list[str]) -> SetWebhook:
    """The call that has Telegram post updates to ``url``."""
    return SetWebhook(url=url, secret_token=secret, allowed_updates=allowed_updates)
