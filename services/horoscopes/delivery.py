"""Answers the readers who wait for a text, each exactly once, in their own progress message."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog

from schema.errors import ReaderGone, TelegramUnavailable
from schema.messages import DeliverHoroscope, HoroscopeRequested
from services.days import Clock
from services.horoscopes.serving import Horoscopes
from services.horoscopes.waiters import CLAIM_S, Waiter, Waiters
from services.messaging.bus import Bus
from services.process.descriptions import said
from services.readers import replies
from services.readers.profiles import Readers
from services.telegram import Bot, TelegramAPIError
from services.telegram import client as telegram
from services.telegram.pace import Paces

log = structlog.get_logger(__name__)

#: Waiters that one process answers at the same time.
AT_ONCE = 50
#: Seconds for one answer: less than a claim, so that no other worker answers the same waiter meanwhile.
ANSWER_S = CLAIM_S - 10
#: Seconds that an answer waits because Telegram limits its chat; for longer it is set aside.
CHAT_PATIENCE_S = 3.0


class Delivery:
    """Edits the progress messages of the readers who wait for a text."""

    def __init__(
        self,
        bot: Bot,
        paces: Paces,
        horoscopes: Horoscopes,
        waiters: Waiters,
        readers: Readers,
        bus: Bus,
        clock: Clock,
    ) -> None:
        self._bot = bot
        self._paces = paces
        self._horoscopes = horoscopes
        self._waiters = waiters
        self._readers = readers
        self._bus = bus
        self._clock = clock
        self._settling = asyncio.Lock()
        self._to_settle: list[UUID] = []

    async def deliver(self, command: DeliverHoroscope) -> int:
        """Answer every reader who waits for the text of a sign and day; returns their number.

        A waiter is settled after Telegram has shown the answer and the view is published. A crash in between repeats both:
        the edit changes nothing, and the view is recognised by its receipt. A reader whose chat Telegram limits is set aside
        until the limit is over, and delays no other. Raises TelegramUnavailable if some readers could not be answered now;
        they still wait.
        """
        sign, day = command.sign, command.day
        text = await self._horoscopes.text(sign, day)
        if text is None and command.given_up_at is None:
            return 0
        before, after = (command.given_up_at, command.came_after) if text is None else (None, None)
        again_in = await self._waiters.seconds_until_again(sign, day) if text is None else None
        answered, troubles = await self._answer_all(
            lambda limit: self._waiters.claim(sign, day, limit=limit, before=before, after=after),
            text,
            again_in,
        )
        if answered:
            log.info("waiters.answered", sign=sign, day=day, count=answered, text=text is not None)
        if troubles:
            # Given back only now: given back earlier, the loop above would claim them again and delay the others.
            await self._waiters.set_aside({each: error.retry_after or 0 for each, error in troubles.items()})
            trouble = min(troubles.values(), key=lambda error: error.retry_after or 0)
            trouble.on_record = True
            raise trouble
        return answered

    async def _answer_all(
        self, claim: Callable[[int], Awaitable[list[Waiter]]], text: str | None, again_in: float | None
    ) -> tuple[int, dict[UUID, TelegramUnavailable]]:
        """Answer all waiters that can be claimed; returns the number of answers, and the error of each that failed."""
        answered = 0
        troubles: dict[UUID, TelegramUnavailable] = {}
        answering: dict[asyncio.Task[TelegramUnavailable | None], Waiter] = {}
        try:
            while True:
                limit = AT_ONCE - len(answering)
                claimed = await claim(limit)
                answering |= {
                    asyncio.create_task(self._answer(waiter, text, again_in)): waiter for waiter in claimed
                }
                if not answering:
                    break
                # More are claimed when half of the answers are out, so that a slow chat holds up nobody.
                left = AT_ONCE // 2 if len(claimed) == limit else 0
                while len(answering) > left:
                    done, _ = await asyncio.wait(answering, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        waiter = answering.pop(task)
                        if trouble := task.result():
                            troubles[waiter.request_id] = trouble
                        else:
                            answered += 1
        except asyncio.CancelledError:
            for task in answering:
                task.cancel()
            raise
        finally:
            await asyncio.gather(*answering, return_exceptions=True)
        return answered, troubles

    async def _answer(
        self, waiter: Waiter, text: str | None, again_in: float | None
    ) -> TelegramUnavailable | None:
        """Answer and settle one waiter; returns the error if it must be tried again.

        ``again_in``: without a text, the seconds until readers can have it begun again; None: they can now.
        """
        if text is None:
            reply = replies.failed(waiter.language, again_in)
        else:
            reply = replies.horoscope(waiter.sign, waiter.day, text, waiter.language)
        shown = False
        try:
            async with asyncio.timeout(ANSWER_S):
                await telegram.show(
                    self._bot,
                    waiter.chat_id,
                    waiter.message_id,
                    reply,
                    self._paces,
                    chat_patience=CHAT_PATIENCE_S,
                )
            shown = True
        except TimeoutError:
            return TelegramUnavailable(f"Telegram took longer than {ANSWER_S} s to show an answer")
        except TelegramUnavailable as trouble:
            return trouble
        except ReaderGone:
            await self._readers.blocked(waiter.chat_id)
        except TelegramAPIError as error:
            # Telegram will never accept this answer; a retry would only hide the reason.
            log.error("waiter.refused", request=waiter.request_id, reason=said(error))
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
