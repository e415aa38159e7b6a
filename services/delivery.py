"""Answering those who wait, each in their own progress message, each exactly once."""

import asyncio
from datetime import date, datetime
from uuid import UUID

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramAPIError

from schema.errors import ReaderGone, TelegramUnavailable
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services import replies, telegram
from services.bus import Bus
from services.days import Clock
from services.horoscopes import Horoscopes
from services.readers import Readers
from services.waiters import Waiter, Waiters

log = structlog.get_logger(__name__)

#: Waiters answered side by side by one process.
AT_ONCE = 50


class Delivery:
    """Edits the progress message of everyone who waits for a text."""

    def __init__(
        self, bot: Bot, horoscopes: Horoscopes, waiters: Waiters, readers: Readers, bus: Bus, clock: Clock
    ) -> None:
        self._bot = bot
        self._horoscopes = horoscopes
        self._waiters = waiters
        self._readers = readers
        self._bus = bus
        self._clock = clock

    async def deliver(self, sign: Sign, day: date, given_up_at: datetime | None = None) -> None:
        """Answer everyone who waits for the text of a sign and a day.

        A waiter is settled only after Telegram has shown the answer and the view is published, so a crash
        repeats an edit that changes nothing and a view whose receipt is there; it loses neither.

        Args:
            sign: Whose text.
            day: Of which day.
            given_up_at: Tell those who waited by then that it did not work, if there is still no text.

        Raises:
            TelegramUnavailable: Some could not be answered now; they are still owed their answer.
        """
        text = await self._horoscopes.text(sign, day)
        if text is None and given_up_at is None:
            return
        before = given_up_at if text is None else None
        troubles: dict[UUID, TelegramUnavailable] = {}
        while claimed := await self._waiters.claim(sign, day, limit=AT_ONCE, before=before):
            outcomes = await asyncio.gather(*(self._answer(waiter, text) for waiter in claimed))
            troubled = {
                waiter.request_id: trouble
                for waiter, trouble in zip(claimed, outcomes, strict=True)
                if trouble is not None
            }
            settled = [waiter.request_id for waiter in claimed if waiter.request_id not in troubled]
            await self._waiters.settle(settled)
            troubles |= troubled
            log.info("waiters.answered", sign=sign, day=day, count=len(settled), text=text is not None)
        if troubles:
            # Claimed until here, so that they did not come up again and hold up the others.
            await self._waiters.release(list(troubles))
            raise next(iter(troubles.values()))

    async def _answer(self, waiter: Waiter, text: str | None) -> TelegramUnavailable | None:
        """Show one waiter the outcome; the trouble, if it has to be tried again."""
        if text is None:
            reply = replies.failed(waiter.language)
        else:
            reply = replies.horoscope(waiter.sign, waiter.day, text, waiter.language)
        try:
            await telegram.show(self._bot, waiter.chat_id, waiter.message_id, reply)
        except TelegramUnavailable as trouble:
            return trouble
        except ReaderGone:
            await self._readers.blocked(waiter.chat_id)
            return None
        except TelegramAPIError as error:
            # Telegram will never take it: to repeat it would only hide the reason.
            log.error("waiter.refused", chat_id=waiter.chat_id, reason=error.message)
            return None
        if text is not None:
            await self._bus.publish(
                HoroscopeRequested(
                    waiter.request_id, waiter.sign, waiter.day, answered=True, at=self._clock()
                )
            )
        return None
