"""Handlers for a reader's own data: /privacy, /mydata and /forget."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import orjson
import structlog
from aiogram import F, Router
from aiogram.exceptions import AiogramError, TelegramAPIError
from aiogram.filters import Command
from aiogram.methods import AnswerCallbackQuery
from aiogram.types import CallbackQuery, Message

from schema.errors import DatabaseUnavailable, HoroscopeError, ReaderGone
from schema.signs import Language
from services.app import App
from services.bot.answers import Answer
from services.bot.handlers import ACKNOWLEDGE_TIMEOUT_S, Asker
from services.readers import replies
from services.readers.personal_data import Reason
from services.readers.replies import Reply
from services.readers.strings import STRINGS
from services.telegram import client as telegram

log = structlog.get_logger(__name__)

#: Seconds in which the progress messages of cancelled waits are edited; the rest stay as they are.
CANCEL_S = 10.0

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


class PersonalDataHandlers:
    """The handlers.

    Args:
        privacy: The privacy text in each language, as messages.
        forget: Drops a reader from the memory of the other handlers.
    """

    def __init__(
        self, app: App, privacy: Mapping[Language, Sequence[str]], forget: Callable[[int], None]
    ) -> None:
        self._app = app
        self._privacy = privacy
        self._forget_elsewhere = forget

    def router(self) -> Router:
        """The router that maps updates to handlers."""
        router = Router(name="personal data")
        router.message.register(self.privacy, Command("privacy"))
        router.message.register(self.my_data, Command("mydata"))
        router.message.register(self.ask_to_forget, Command("forget"))
        router.callback_query.register(self.keep_pressed, F.data == replies.KEEP)
        router.callback_query.register(self.forget_pressed, F.data.startswith(replies.FORGET_PREFIX))
        return router

    async def privacy(self, _: Message, asker: Asker) -> Answer:
        """Show the privacy text."""
        *first, last = self._privacy[asker.language]
        for part in first:
            await telegram.show(self._app.bot, asker.chat_id, None, Reply(part))
        return asker.answer(Reply(last))

    async def my_data(self, _: Message, asker: Asker) -> Answer | None:
        """Send everything that is kept about the reader, as a file."""
        strings = STRINGS[asker.language]
        if not _is_private(asker):
            return asker.answer(Reply(strings.only_private))
        try:
            data = await self._app.personal_data.export(asker.reader)
        except DatabaseUnavailable as error:
            log.warning("personal_data.unavailable", reason=str(error))
            return asker.answer(Reply(strings.data_unavailable))
        if data is None:
            return asker.answer(Reply(strings.nothing_kept))
        content = orjson.dumps(data, option=orjson.OPT_INDENT_2)
        try:
            await telegram.send_file(
                self._app.bot, asker.chat_id, f"horoscope-{asker.reader}.json", content, strings.my_data
            )
        except ReaderGone:
            await self._app.readers.blocked(asker.reader)
        return None

    async def ask_to_forget(self, _: Message, asker: Asker) -> Answer:
        """Ask whether everything is to be deleted."""
        strings = STRINGS[asker.language]
        if not _is_private(asker):
            return asker.answer(Reply(strings.only_private))
        try:
            asked_at = await self._app.personal_data.ask(asker.reader)
        except DatabaseUnavailable as error:
            log.warning("personal_data.unavailable", reason=str(error))
            return asker.answer(Reply(strings.data_unavailable))
        if asked_at is None:
            return asker.answer(Reply(strings.nothing_kept))
        asked = str((asked_at - _EPOCH) // _MICROSECOND)
        return asker.answer(replies.forget_question(strings.forget_question, asked, asker.language))

    async def keep_pressed(self, query: CallbackQuery, asker: Asker) -> Answer:
        """Leave everything as it is."""
        await self._acknowledge(query)
        return _instead(query, asker, Reply(STRINGS[asker.language].kept))

    async def forget_pressed(self, query: CallbackQuery, asker: Asker) -> Answer:
        """Delete everything about the reader, unless the button is out of date."""
        await self._acknowledge(query)
        strings = STRINGS[asker.language]
        asked = (query.data or "").removeprefix(replies.FORGET_PREFIX)
        if not _is_private(asker) or not (asked.isascii() and asked.isdecimal() and len(asked) <= 16):
            return _instead(query, asker, Reply(strings.forget_outdated))
        try:
            done = await self._forget(asker, _EPOCH + int(asked) * _MICROSECOND)
        except DatabaseUnavailable as error:
            log.warning("personal_data.unavailable", reason=str(error))
            return _instead(
                query, asker, replies.forget_question(strings.data_unavailable, asked, asker.language)
            )
        return _instead(query, asker, Reply(strings.forgotten if done else strings.forget_outdated))

    async def _forget(self, asker: Asker, asked_at: datetime) -> bool:
        """Forget a reader everywhere; False: the question is out of date, and nothing was deleted."""
        app = self._app
        await app.activity.write()  # counts the reader's day while there is a row to count it by
        if not await app.personal_data.is_current(asker.reader, asked_at):
            return False
        await self._cancel_waits(asker)
        done = await app.personal_data.forget(asker.reader, Reason.ASKED, asked_at=asked_at)
        if done is None:
            return False
        app.horoscopes.forget(asker.reader)
        self._forget_elsewhere(asker.reader)
        return True

    async def _cancel_waits(self, asker: Asker) -> None:
        """End the reader's waits: no worker answers them, and their progress messages say so."""
        reply = Reply(STRINGS[asker.language].wait_cancelled)
        waits = await self._app.waiters.cancel(asker.chat_id)

        async def end(message_id: int) -> None:
            with suppress(HoroscopeError, AiogramError):  # it must not keep the reader from being forgotten
                await telegram.show(self._app.bot, asker.chat_id, message_id, reply)

        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await asyncio.gather(*map(end, waits))

    async def _acknowledge(self, query: CallbackQuery) -> None:
        """Stop the button's spinner; it may fail."""
        try:
            answer = AnswerCallbackQuery(callback_query_id=query.id)
            await self._app.bot(answer, request_timeout=ACKNOWLEDGE_TIMEOUT_S)
        except TelegramAPIError as error:
            log.info("button.not_acknowledged", reason=str(error))


def _is_private(asker: Asker) -> bool:
    """A private chat has its reader's number. Nobody's data is shown in a group, and nobody presses for another."""
    return asker.chat_id == asker.reader


def _instead(query: CallbackQuery, asker: Asker, reply: Reply) -> Answer:
    """A reply in place of the question."""
    return Answer(asker.chat_id, reply, query.message.message_id if query.message else None)
