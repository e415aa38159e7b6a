"""Handles one update: from Telegram's JSON, valid or not, to the answer."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog
from aiogram import Dispatcher
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import CallbackQuery, Message, TelegramObject, Update
from pydantic import ValidationError

from schema.errors import PassingError, TelegramUnavailable, UpdateUnfinished
from services.app import App
from services.bot.answers import Answer
from services.bot.handlers import Asker, Handlers
from services.bot.personal_data import PersonalDataHandlers
from services.bot.typing import Typing
from services.process.descriptions import hide, said
from services.readers import replies
from services.readers.privacy import read_texts
from services.readers.strings import interface_language

log = structlog.get_logger(__name__)

#: The kinds of updates that the bot asks Telegram for.
ALLOWED_UPDATES = ["message", "callback_query", "my_chat_member"]


def request_id(bot_id: int, update_id: int) -> UUID:
    """The request id of an update; the same for every copy of the update."""
    return uuid5(NAMESPACE_URL, f"tg://bot/{bot_id}/update/{update_id}")


class Updates:
    """Turns updates into answers.

    Raises:
        WrongSettings: The operator's privacy text cannot be shown.
    """

    def __init__(self, app: App) -> None:
        settings = app.settings
        privacy = read_texts(settings.privacy_texts, settings.reader_retention)
        self._bot = app.bot
        self.typing = Typing(app.bot, app.waiters)
        self._handlers = Handlers(app, self.typing)
        self._dispatcher = Dispatcher(disable_fsm=True)
        # First: the other router has a handler for any text and any button.
        self._dispatcher.include_router(PersonalDataHandlers(app, privacy, self._handlers.forget).router())
        self._dispatcher.include_router(self._handlers.router())
        self._dispatcher.message.outer_middleware(_introduce)
        self._dispatcher.callback_query.outer_middleware(_introduce)

    async def handle(self, raw: Any, *, unfinished: bool = False) -> Answer | None:
        """Handle one update; returns its answer, or None if it needs none.

        Errors in the update or in our code end here: an update that fails for such a reason would fail again. Only an
        unreachable Telegram or an unfinished wait is worth another attempt.

        Args:
            unfinished: An earlier attempt began a wait, so an error message would be a second answer.

        Raises:
            TelegramUnavailable, UpdateUnfinished: The update must be handled again.
        """
        hide(raw)
        try:
            update = Update.model_validate(raw, context={"bot": self._bot})
        except ValidationError as error:
            number = raw.get("update_id") if isinstance(raw, dict) else None
            log.warning("update.malformed", update_id=number, reason=said(error))
            return None
        request = request_id(self._bot.id, update.update_id)
        try:
            answer = await self._dispatcher.feed_update(self._bot, update, request_id=request)
        except (TelegramUnavailable, UpdateUnfinished):
            raise
        except PassingError as error:
            if unfinished or self._handlers.owes(request):
                raise
            log.warning("update.failed", update_id=update.update_id, reason=str(error))
            return self._apology(update)
        except TelegramBadRequest as error:
            log.error("update.refused", update_id=update.update_id, reason=said(error))
            return None
        except Exception:
            log.exception("update.failed", update_id=update.update_id, kind=_kind(update))
            return self._apology(update)
        return answer if isinstance(answer, Answer) else None

    def slow_down(self, raw: Any) -> Answer | None:
        """The answer to an update of a reader who writes faster than the bot answers; None for a malformed update."""
        try:
            update = Update.model_validate(raw, context={"bot": self._bot})
        except ValidationError:
            return None
        asker = self._asker(update)
        return asker.answer(replies.slow_down(asker.language)) if asker else None

    def _apology(self, update: Update) -> Answer | None:
        asker = self._asker(update)
        return asker.answer(replies.failed(asker.language)) if asker else None

    def _asker(self, update: Update) -> Asker | None:
        event = update.message or update.callback_query
        return _asker(event, request_id(self._bot.id, update.update_id)) if event else None


def _kind(update: Update) -> str:
    """The kind of an update, as the bot asks Telegram for it."""
    return next((kind for kind in ALLOWED_UPDATES if getattr(update, kind, None)), "unknown")


async def _introduce(
    handler: Callable[[TelegramObject, dict[str, Any]], Awaitable[Any]],
    event: TelegramObject,
    data: dict[str, Any],
) -> Any:
    """Pass the sender to the handler; skip updates without a human sender."""
    assert isinstance(event, Message | CallbackQuery)
    asker = _asker(event, data["request_id"])
    if asker is None:
        return None
    data["asker"] = asker
    return await handler(event, data)


def _asker(event: Message | CallbackQuery, request: UUID) -> Asker | None:
    person = event.from_user
    if person is None or person.is_bot:
        return None
    if isinstance(event, Message):
        chat_id = event.chat.id
    else:
        # Telegram omits very old messages; a private chat has the person's own id.
        chat_id = event.message.chat.id if event.message else person.id
    return Asker(person.id, chat_id, interface_language(person.language_code), request)
