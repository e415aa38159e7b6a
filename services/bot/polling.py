"""Fetching updates by long polling.

aiogram's own polling confirms updates before their handlers have finished; this one afterwards. A batch is
confirmed by asking for what follows it, which is done only when the whole batch has been handled.
"""

import asyncio
from collections import defaultdict
from typing import Any

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramAPIError
from aiogram.methods import TelegramMethod

from schema.errors import PassingError
from services.bot import answers
from services.bot.updates import ALLOWED_UPDATES, Updates
from services.bus import Bus

log = structlog.get_logger(__name__)

#: Seconds that Telegram holds a request open while there is nothing new.
POLL_S = 25
#: Seconds before an update that could not be answered is handled again, and before Telegram is asked again.
PAUSES_S = (1, 2, 5)


class GetUpdates(TelegramMethod[list[Any]]):
    """``getUpdates`` with the updates as they came: a malformed one must not hide the others."""

    __returning__ = list[Any]
    __api_method__ = "getUpdates"

    offset: int | None = None
    limit: int | None = None
    timeout: int | None = None
    allowed_updates: list[str] | None = None


async def poll(bot: Bot, updates: Updates, bus: Bus, stop: asyncio.Event) -> None:
    """Fetch and handle updates until ``stop`` is set; what was fetched by then is finished and confirmed."""
    offset: int | None = None
    pauses = 0
    stopping = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            request = GetUpdates(offset=offset, timeout=POLL_S, allowed_updates=ALLOWED_UPDATES)
            fetching = asyncio.create_task(bot(request, request_timeout=POLL_S + 10))
            await asyncio.wait({fetching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not fetching.done():
                fetching.cancel()
                break
            try:
                batch = fetching.result()
            except TelegramAPIError as error:
                pause = PAUSES_S[min(pauses, len(PAUSES_S) - 1)]
                pauses += 1
                log.warning("updates.not_fetched", reason=str(error), again_in=pause)
                await asyncio.wait({stopping}, timeout=pause)
                continue
            pauses = 0
            await _handle_batch(bot, updates, bus, batch)
            if numbers := [number for raw in batch if (number := _update_id(raw)) is not None]:
                offset = max(numbers) + 1
            elif batch:
                log.error("updates.unnumbered", count=len(batch))
                await asyncio.wait({stopping}, timeout=PAUSES_S[-1])
    finally:
        stopping.cancel()
    if offset is not None:
        # Asking is what confirms; nothing of the answer is used.
        try:
            await bot(GetUpdates(offset=offset, limit=1, timeout=0), request_timeout=5)
        except TelegramAPIError as error:
            log.warning("updates.not_confirmed", reason=str(error))


async def _handle_batch(bot: Bot, updates: Updates, bus: Bus, batch: list[Any]) -> None:
    """Handle the updates of different chats side by side, those of one chat in their order."""
    by_chat: dict[Any, list[Any]] = defaultdict(list)
    for raw in batch:
        by_chat[_chat(raw)].append(raw)

    async def one_chat(raws: list[Any]) -> None:
        for raw in raws:
            await _handle(bot, updates, bus, raw)

    await asyncio.gather(*(one_chat(raws) for raws in by_chat.values()))


async def _handle(bot: Bot, updates: Updates, bus: Bus, raw: Any) -> None:
    """Handle one update; repeat it a few times while Telegram, or everything behind us, is away."""
    for pause in (*PAUSES_S, None):
        try:
            answer = await updates.handle(raw)
            if answer:
                await answers.by_call(answer, bot, bus)
        except PassingError as error:
            if pause is None:
                log.error("update.given_up", update_id=_update_id(raw), reason=str(error))
                return
            await asyncio.sleep(pause)
        except TelegramAPIError as error:
            log.error("answer.refused", update_id=_update_id(raw), reason=str(error))
            return
        else:
            return


def _update_id(raw: Any) -> int | None:
    number = raw.get("update_id") if isinstance(raw, dict) else None
    return number if isinstance(number, int) else None


def _chat(raw: Any) -> Any:
    """Something that two updates of one chat have in common."""
    try:
        event = raw.get("message") or raw["callback_query"]["message"]
        return event["chat"]["id"]
    except (AttributeError, KeyError, TypeError):
        return id(raw)
