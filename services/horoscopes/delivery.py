"""Answers the readers who wait for a text, each exactly once, in their own progress message."""

import asyncio
from uuid import UUID

import structlog

from schema.errors import ReaderGone, TelegramUnavailable
from schema.messages import DeliverHoroscope, HoroscopeRequested
from services.days import Clock
from services.horoscopes.serving import Horoscopes
from services.horoscopes.waiters import CLAIM_S, Waiter, Waiters
from services.messaging.bus import Bus
from services.readers import replies
from services.readers.profiles import Readers
from services.telegram import Bot, TelegramAPIError
from services.telegram import client as telegram

log = structlog.get_logger(__name__)

#: Waiters that one process answers at the same time.
AT_ONCE = 50
#: Seconds for one answer: less than a claim, so that no other worker answers the same waiter meanwhile.
ANSWER_S = CLAIM_S - 10


class Delivery:
    """Edits the progress messages of the readers who wait for a text."""

    def __init__(
        self, bot: Bot, horoscopes: Horoscopes, waiters: Waiters, readers: Readers, bus: Bus, clock: Clock
    ) -> None:
        self._bot = bot
        self._horoscopes = horoscopes
        self._waiters = waiters
        self._readers = readers
        self._bus = bus
        self._clock = clock
        self._pace = telegram.Pace()
        self._settling = asyncio.Lock()
        self._to_settle: list[UUID] = []

    async def deliver(self, command: DeliverHoroscope) -> int:
        """Answer every reader who waits for the text of a sign and day; returns their number.

        A waiter is settled after Telegram has shown the answer and the view is published. A crash in between repeats both:
        the edit changes nothing, and the view is recognised by its receipt. Raises TelegramUnavailable if some readers
        could not be answered now; they still wait.
        """
        sign, day = command.sign, command.day
        text = await self._horoscopes.text(sign, day)
        if text is None and command.given_up_at is None:
            return 0
        before, after = (command.given_up_at, command.came_after) if text is None else (None, None)
        answered = 0
        troubles: dict[UUID, TelegramUnavailable] = {}
        while claimed := await self._waiters.claim(sign, day, limit=AT_ONCE, before=before, after=after):
            outcomes = await asyncio.gather(*(self._answer(waiter, text) for waiter in claimed))
            troubled = {
                waiter.request_id: trouble
                for waiter, trouble in zip(claimed, outcomes, strict=True)
                if trouble is not None
            }
            troubles |= troubled
            count = len(claimed) - len(troubled)
            answered += count
            log.info("waiters.answered", sign=sign, day=day, count=count, text=text is not None)
        if troubles:
            # Released only now: released earlier, the loop above would claim them again and delay the others.
            await self._waiters.release(list(troubles))
            trouble = next(iter(troubles.values()))
            trouble.on_record = True
            raise trouble
        return answered

    async def _answer(self, waiter: Waiter, text: str | None) -> TelegramUnavailable | None:
        """Answer and settle one waiter; returns the error if it must be tried again."""
        if text is None:
            reply = replies.failed(waiter.language)
        else:
            reply = replies.horoscope(waiter.sign, waiter.day, text, waiter.language)
        shown = False
        try:
            async with asyncio.timeout(ANSWER_S):
                await telegram.show(self._bot, waiter.chat_id, waiter.message_id, reply, self._pace)
            shown = True
        except TimeoutError:
            return TelegramUnavailable(f"Telegram took longer than {ANSWER_S} s to show an answer")
        except TelegramUnavailable as trouble:
            return trouble
        except ReaderGone:
            await self._readers.blocked(waiter.chat_id)
        except TelegramAPIError as error:
            # Telegram will never accept this answer; a retry would only hide the reason.
            log.error("waiter.refused", chat_id=waiter.chat_id, reason=error.message)
        if shown and text is not None:
            await self._bus.publish(
                HoroscopeRequested(
                    waiter.request_id, waiter.sign, waiter.day, answered=True, at=self._clock()
                )
            )
        await self._settle(waiter.request_id)
        return None

    async def _settle(self, request_id: UUID) -> None:
        """Settle a waiter. Waiters that finish while a statement runs share the next one."""
        self._to_settle.append(request_id)
        async with self._settling:
            batch, self._to_settle = self._to_settle, []
            if not batch:
                return
            try:
                await self._waiters.settle(batch)
            except BaseException:
                self._to_settle += batch
                raise
