"""Shows «печатает…» while a reader waits for a text."""

import asyncio
from uuid import UUID

import structlog
from aiogram import Bot
from aiogram.enums import ChatAction
from aiogram.exceptions import AiogramError
from aiogram.methods import SendChatAction

from services.horoscopes.waiters import Waiters
from services.process.descriptions import said

log = structlog.get_logger(__name__)

#: Telegram shows an action for five seconds.
TYPING_S = 4.5
#: The most chats that one process shows it in at once, to stay far from Telegram's limits.
AT_MOST = 20


class Typing:
    """Shows the chat action to some waiting readers; if Telegram refuses it, nothing else fails."""

    def __init__(self, bot: Bot, waiters: Waiters) -> None:
        self._bot = bot
        self._waiters = waiters
        self._chats: dict[UUID, int] = {}
        self._beside: set[asyncio.Task[None]] = set()

    def begin(self, request_id: UUID, chat_id: int) -> None:
        """Show the action to a reader who begins to wait."""
        if len(self._chats) < AT_MOST and request_id not in self._chats:
            self._chats[request_id] = chat_id
            task = asyncio.create_task(self._show(request_id, chat_id))
            self._beside.add(task)
            task.add_done_callback(self._beside.discard)

    async def show(self) -> None:
        """Show the action again to the readers who still wait; may raise DatabaseUnavailable."""
        if not self._chats:
            return
        waiting = await self._waiters.still_waiting(self._chats)
        for request_id in set(self._chats) - waiting:
            del self._chats[request_id]
        await asyncio.gather(*(self._show(request_id, chat) for request_id, chat in self._chats.items()))

    async def _show(self, request_id: UUID, chat_id: int) -> None:
        try:
            action = SendChatAction(chat_id=chat_id, action=ChatAction.TYPING)
            await self._bot(action, request_timeout=round(TYPING_S))
        except AiogramError as error:
            log.info("typing.not_shown", reason=said(error))
            self._chats.pop(request_id, None)
