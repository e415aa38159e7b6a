"""Handlers for messages and buttons of readers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from aiogram import F, Router
from aiogram.exceptions import TelegramAPIError
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.methods import AnswerCallbackQuery
from aiogram.types import CallbackQuery, ChatMemberUpdated, InaccessibleMessage, Message

from schema.errors import DatabaseUnavailable, ReaderGone, TelegramUnavailable, UpdateUnfinished
from schema.messages import HoroscopeRequested
from schema.signs import Language, Sign
from services.app import App
from services.bot import signs, zones
from services.bot.answers import Answer
from services.bot.typing import Typing
from services.horoscopes.serving import Today
from services.horoscopes.waiters import UNNAMED_S
from services.readers import replies
from services.readers.activity import CACHE, MEMORY, MISSING
from services.readers.replies import Reply
from services.readers.strings import STRINGS
from services.telegram import client as telegram

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

#: Seconds after which the bot gives up stopping a pressed button's spinner.
ACKNOWLEDGE_TIMEOUT_S = 5
#: Seconds for which a step is repeated while PostgreSQL is away, perhaps for a restart.
INSIST_S = 15
#: The most waits that a bot remembers as begun, and the most readers that it remembers to have asked for a zone.
BEGUN_AT_MOST = PROMPTED_AT_MOST = 10_000
#: Seconds for which a city that a reader types is the answer to the bot's question.
PROMPT_S = 600
#: Seconds to show a progress message; less than the workers wait for it.
PROGRESS_S = UNNAMED_S - INSIST_S - 10


@dataclass(frozen=True, slots=True)
class Asker:
    """The sender of an update."""

    reader: int  #: Telegram's id of the person
    chat_id: int  #: Telegram's id of the chat
    language: Language  #: The reader's interface language
    request_id: UUID  #: The same for every copy of the update
    began: float = field(default_factory=time.monotonic)  #: When the update arrived, on the monotonic clock

    def answer(self, reply: Reply) -> Answer:
        """A reply as a new message in the chat."""
        return Answer(self.chat_id, reply)


class Handlers:
    """The handlers and their services."""

    def __init__(self, app: App, typing: Typing) -> None:
        self._app = app
        self._readers = app.readers
        self._waiters = app.waiters
        self._typing = typing
        self._beside: set[asyncio.Task[None]] = set()
        # Waits that are begun and not completely recorded yet, each with its progress message's id; None until that
        # is shown.
        self._begun: dict[UUID, int | None] = {}
        # When readers were asked for their time zone, on the monotonic clock. A city that is typed later, or to
        # another bot process, is offered as a button instead of being stored.
        self._prompted: dict[int, float] = {}

    def router(self) -> Router:
        """The router that maps updates to handlers."""
        router = Router(name="readers")
        private = router.message
        private.register(self.start, CommandStart())
        private.register(self.today, Command("today"))
        private.register(self.choose_sign, Command("sign"))
        private.register(self.choose_zone, Command("timezone"))
        private.register(self.help, Command("help"))
        private.register(self.anything_else)
        pressed = router.callback_query
        pressed.register(self.today_pressed, F.data == replies.TODAY)
        pressed.register(self.again_pressed, F.data == replies.AGAIN)
        pressed.register(self.choose_sign_pressed, F.data == replies.CHOOSE_SIGN)
        pressed.register(self.sign_pressed, F.data.startswith(replies.SIGN_PREFIX))
        pressed.register(self.zone_pressed, F.data.startswith(replies.ZONE_PREFIX))
        pressed.register(self.unknown_pressed)
        router.my_chat_member.register(self.membership)
        return router

    def owes(self, request_id: UUID) -> bool:
        """A wait for this request has begun, so no other answer may be given."""
        return request_id in self._begun

    def forget(self, reader: int) -> None:
        """Drop from memory what a reader was asked for."""
        self._prompted.pop(reader, None)

    # Messages

    async def start(self, _: Message, asker: Asker) -> Answer:
        """Greet the reader and ask for the sign."""
        try:
            await self._readers.unblocked(asker.reader)
        except DatabaseUnavailable as error:  # the greeting needs no database
            log.warning("reader.not_unblocked", reason=str(error))
        return asker.answer(replies.sign_picker(STRINGS[asker.language].welcome, asker.language))

    async def today(self, _: Message, asker: Asker) -> Answer | None:
        """Show today's text, or begin to wait for it."""
        return await self._show_today(asker)

    async def choose_sign(self, _: Message, asker: Asker, command: CommandObject) -> Answer | None:
        """Show the twelve signs, or store the one typed after the command."""
        strings = STRINGS[asker.language]
        if not command.args:
            return asker.answer(replies.sign_picker(strings.choose_sign, asker.language))
        if sign := signs.find(command.args):
            return await self._choose_sign(asker, sign)
        if suggestions := signs.suggest(command.args):
            return asker.answer(replies.sign_picker(strings.sign_suggestions, asker.language, suggestions))
        text = strings.sign_unknown.format(typed=command.args.strip()[:64])
        return asker.answer(replies.sign_picker(text, asker.language))

    async def choose_zone(self, _: Message, asker: Asker, command: CommandObject) -> Answer:
        """Show time zones, or store the one typed after the command."""
        if command.args:
            return await self._typed_zone(asker, command.args)
        zone = await self._readers.zone(asker.reader)
        return self._ask_for_zone(
            asker, self._about_zone(STRINGS[asker.language].choose_zone, asker, zone.key)
        )

    async def help(self, _: Message, asker: Asker) -> Answer:
        """Show the help."""
        return asker.answer(replies.with_today_button(STRINGS[asker.language].help, asker.language))

    async def anything_else(self, message: Message, asker: Asker) -> Answer | None:
        """Understand the name of a sign or a city; otherwise show a hint.

        A city is stored only if the bot has asked for one; otherwise it is offered as a button.
        """
        if message.chat.type != "private":
            return None
        typed = message.text or ""
        strings = STRINGS[asker.language]
        if sign := signs.find(typed):
            return await self._choose_sign(asker, sign)
        zone = zones.find(typed)
        prompted = time.monotonic() - self._prompted.get(asker.reader, -PROMPT_S) < PROMPT_S
        if prompted and (zone or zones.suggest(typed)):
            return await self._typed_zone(asker, typed)
        if zone:
            text = self._about_zone(strings.zone_offered, asker, zone)
            return asker.answer(replies.zone_picker(text, self._labels(asker, [zone])))
        if suggestions := signs.suggest(typed):
            return asker.answer(replies.sign_picker(strings.sign_suggestions, asker.language, suggestions))
        return asker.answer(replies.with_today_button(strings.hint, asker.language))

    # Buttons

    async def today_pressed(self, query: CallbackQuery, asker: Asker) -> Answer | None:
        """Show today's text in a new message."""
        self._acknowledge(query)
        return await self._show_today(asker)

    async def again_pressed(self, query: CallbackQuery, asker: Asker) -> Answer | None:
        """Try again, in place of the error message."""
        message_id = query.message.message_id if query.message else None
        self._acknowledge(query)
        return await self._show_today(asker, message_id)

    async def choose_sign_pressed(self, query: CallbackQuery, asker: Asker) -> Answer:
        """Show the twelve signs."""
        self._acknowledge(query)
        return asker.answer(replies.sign_picker(STRINGS[asker.language].choose_sign, asker.language))

    async def sign_pressed(self, query: CallbackQuery, asker: Asker) -> Answer | None:
        """Store the sign and show its text."""
        chosen = (query.data or "").removeprefix(replies.SIGN_PREFIX)
        if chosen not in set(Sign):
            return await self.unknown_pressed(query, asker)
        sign = Sign(chosen)
        name = STRINGS[asker.language].sign_saved.format(sign=sign.name_in(asker.language))
        self._acknowledge(query, name)
        return await self._choose_sign(asker, sign)

    async def zone_pressed(self, query: CallbackQuery, asker: Asker) -> Answer:
        """Store the time zone."""
        self._acknowledge(query)
        return await self._typed_zone(asker, (query.data or "").removeprefix(replies.ZONE_PREFIX))

    async def unknown_pressed(self, query: CallbackQuery, asker: Asker) -> Answer | None:
        """Answer a button of an older release, or a forged one."""
        self._acknowledge(query)
        if query.message is None or isinstance(query.message, InaccessibleMessage):
            return None
        return asker.answer(replies.with_today_button(STRINGS[asker.language].hint, asker.language))

    async def membership(self, update: ChatMemberUpdated) -> None:
        """Note that a reader has blocked or unblocked the bot; in a group, it is somebody else's act."""
        if update.chat.type != "private":
            return
        if update.new_chat_member.status == "kicked":
            await self._readers.blocked(update.from_user.id)
        else:
            await self._readers.unblocked(update.from_user.id)

    # Shared steps

    async def _choose_sign(self, asker: Asker, sign: Sign) -> Answer | None:
        await self._readers.choose_sign(asker.reader, sign, asker.language)
        return await self._show_today(asker)

    async def _show_today(self, asker: Asker, message_id: int | None = None) -> Answer | None:
        """Show the text, in place of the message ``message_id`` if given; ask for the sign; or begin to wait."""
        now = self._app.clock()
        today = await self._app.horoscopes.today(asker.reader, asker.request_id)
        if today is None:
            return asker.answer(replies.sign_picker(STRINGS[asker.language].choose_sign, asker.language))
        self._app.activity.note_request(asker.reader, today.day)
        if today.text is None or today.asked_before:
            await self._wait(asker, today, message_id, now)
            return None
        reply = replies.horoscope(today.sign, today.day, today.text, asker.language)
        view = HoroscopeRequested(asker.request_id, today.sign, today.day, answered=True, at=now)
        source = MEMORY if today.from_memory else CACHE
        return Answer(asker.chat_id, reply, message_id, view, source, asker.began)

    async def _wait(self, asker: Asker, today: Today, message_id: int | None, now: datetime) -> None:
        """Begin a wait: record the waiter, show the progress message, then ask for the text.

        After a crash at any step the update comes again, finds the recorded waiter and continues from there; or a worker
        finds the waiter overdue.
        """
        self._begin(asker.request_id)
        waiter = await _insist(
            lambda: self._waiters.add(
                asker.request_id,
                chat_id=asker.chat_id,
                sign=today.sign,
                day=today.day,
                language=asker.language,
                replaces=message_id,
            )
        )
        if waiter.answered or waiter.request_id != asker.request_id:
            # A copy of the update, or a second press of a button that is being answered.
            self._begun.pop(asker.request_id, None)
            return
        if waiter.message_id is None:
            if not waiter.ours:
                raise UpdateUnfinished("another bot is sending the progress message")
            try:
                # Until the progress message is shown, no worker may replace it with the answer.
                await self._show_progress(asker, message_id)
            except ReaderGone:
                await self._waiters.settle([asker.request_id])
                await self._readers.blocked(asker.reader)
                self._begun.pop(asker.request_id, None)
                return
            self._app.activity.note_answer(MISSING)
        self._begun.pop(asker.request_id, None)
        self._typing.begin(asker.request_id, asker.chat_id)
        with suppress(DatabaseUnavailable):
            # Checked after the waiter is recorded: a worker that is writing then will also answer this waiter.
            if await self._waiters.is_being_written(waiter.sign, waiter.day):
                return
        await self._app.bus.publish(
            HoroscopeRequested(asker.request_id, waiter.sign, waiter.day, answered=False, at=now)
        )

    async def _show_progress(self, asker: Asker, message_id: int | None) -> None:
        """Show the progress message and record its id.

        Raises:
            ReaderGone: The reader cannot be reached.
            TelegramUnavailable, UpdateUnfinished: The update must be handled again.
        """
        progress = replies.generating(asker.language)
        try:
            if (shown := self._begun.get(asker.request_id)) is None:
                async with asyncio.timeout(PROGRESS_S):
                    shown = await telegram.show(
                        self._app.bot, asker.chat_id, message_id, progress, self._app.paces
                    )
            named = self._begun[asker.request_id] = shown
            await _insist(lambda: self._waiters.name(asker.request_id, named))
        except TimeoutError:
            raise UpdateUnfinished(f"Telegram took longer than {PROGRESS_S} s") from None
        except TelegramUnavailable:
            with suppress(DatabaseUnavailable):
                await self._waiters.release([asker.request_id])
            raise

    def _begin(self, request_id: UUID) -> None:
        self._begun.setdefault(request_id, None)
        if len(self._begun) > BEGUN_AT_MOST:
            del self._begun[next(iter(self._begun))]

    async def _typed_zone(self, asker: Asker, typed: str) -> Answer:
        strings = STRINGS[asker.language]
        zone = zones.find(typed)
        if zone and await self._readers.choose_zone(asker.reader, zone, asker.language):
            self._prompted.pop(asker.reader, None)
            text = self._about_zone(strings.zone_saved, asker, zone)
            return asker.answer(replies.with_today_button(text, asker.language))
        shown = typed.strip()[:64]
        if suggestions := zones.suggest(typed):
            return self._ask_for_zone(asker, strings.zone_suggestions.format(typed=shown), suggestions)
        return self._ask_for_zone(asker, strings.zone_unknown.format(typed=shown))

    def _ask_for_zone(self, asker: Asker, text: str, choices: Sequence[str] = zones.COMMON) -> Answer:
        self._prompted.pop(asker.reader, None)
        self._prompted[asker.reader] = time.monotonic()
        if len(self._prompted) > PROMPTED_AT_MOST:
            del self._prompted[next(iter(self._prompted))]
        return asker.answer(replies.zone_picker(text, self._labels(asker, choices)))

    def _labels(self, asker: Asker, choices: Sequence[str]) -> dict[str, str]:
        now = self._app.clock()
        return {zone: zones.label(zone, asker.language, now) for zone in choices}

    def _about_zone(self, text: str, asker: Asker, zone: str) -> str:
        local = f"{self._app.clock().astimezone(ZoneInfo(zone)):%H:%M}"
        return text.format(zone=self._labels(asker, [zone])[zone], time=local)

    def _acknowledge(self, query: CallbackQuery, text: str | None = None) -> None:
        """Stop the button's spinner in the background; it may fail."""

        async def acknowledge() -> None:
            try:
                answer = AnswerCallbackQuery(callback_query_id=query.id, text=text)
                await self._app.bot(answer, request_timeout=ACKNOWLEDGE_TIMEOUT_S)
            except TelegramAPIError as error:
                log.info("button.not_acknowledged", reason=str(error))

        task = asyncio.create_task(acknowledge())
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)


async def _insist(step: Callable[[], Awaitable[_T]]) -> _T:
    """Carry out a step, and repeat it for some seconds while PostgreSQL is away.

    The step must be safe to repeat: it may have been carried out without a confirmation. An error message to the reader
    would be no way out, because the recorded waiter gets an answer too.

    Raises:
        UpdateUnfinished: PostgreSQL is away for longer.
    """
    patience = time.monotonic() + INSIST_S
    while True:
        try:
            return await step()
        except DatabaseUnavailable as error:
            if time.monotonic() > patience:
                raise UpdateUnfinished(f"the wait is not recorded: {error}") from error
            await asyncio.sleep(0.5)
