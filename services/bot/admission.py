"""Decides which updates are answered, so that one reader's flood costs nobody else anything.

Each reader has a token bucket, and each chat may have a few updates under way. The first update over these limits gets a
kind word; the further ones are passed over: confirmed and counted, but not answered. That decision reads the raw JSON,
so it costs microseconds. The buckets are this process's own.
"""

import time
from collections import Counter, OrderedDict
from enum import Enum, auto
from typing import Any

import structlog

from services.process import metrics

log = structlog.get_logger(__name__)

#: Updates of one reader that are answered at once, and the seconds until one more is.
BURST, REFILL_S = 10, 1.0
#: Updates of one chat under way. More only wait: Telegram takes about one message a second for a chat.
UNDER_WAY_AT_MOST = 10
#: The most readers whose buckets are remembered; the one that wrote least recently is forgotten first.
READERS_AT_MOST = 50_000
#: Seconds between two logs of what was passed over.
REPORT_S = 30.0


class Verdict(Enum):
    """What becomes of an update."""

    ADMITTED = auto()
    SLOW_DOWN = auto()  #: Answered with a kind word instead
    PASSED_OVER = auto()


class Admission:
    """The token buckets of readers, and the updates under way of chats."""

    def __init__(self) -> None:
        # When the bucket of each reader will be full again, on the monotonic clock. The bucket is as empty as that is far off.
        self._full_at: OrderedDict[int, float] = OrderedDict()
        #: Readers who got the kind word; they get another one only after a rest.
        self._told: set[int] = set()
        self._under_way: Counter[int] = Counter()
        self._passed_over: Counter[int | None] = Counter()

    def judge(self, raw: Any) -> Verdict:
        """Decide on an update; one that is not passed over must be reported by :meth:`began` and :meth:`ended`."""
        reader = reader_of(raw)
        if reader is None:
            return Verdict.ADMITTED  # malformed, or of a kind that readers cannot send at will
        now = time.monotonic()
        full_at = max(self._full_at.get(reader, now), now)
        chat = chat_of(raw)
        crowded = chat is not None and self._under_way[chat] >= UNDER_WAY_AT_MOST
        if full_at == now and not crowded:
            self._told.discard(reader)
        if not crowded and full_at - now <= (BURST - 1) * REFILL_S:
            self._full_at[reader] = full_at + REFILL_S
            self._full_at.move_to_end(reader)
            if len(self._full_at) > READERS_AT_MOST:
                self._told.discard(self._full_at.popitem(last=False)[0])
            return Verdict.ADMITTED
        if reader not in self._told and "my_chat_member" not in raw:
            self._told.add(reader)
            self._full_at.setdefault(reader, now)  # remembered together
            return Verdict.SLOW_DOWN
        metrics.PASSED_OVER.inc()
        self._passed_over[reader] += 1
        return Verdict.PASSED_OVER

    def began(self, chat: int | None) -> None:
        """An update of a chat is under way."""
        if chat is not None:
            self._under_way[chat] += 1
        metrics.UNDER_WAY.inc()

    def ended(self, chat: int | None) -> None:
        """An update of a chat is not under way any more."""
        if chat is not None:
            self._under_way[chat] -= 1
            if not self._under_way[chat]:
                del self._under_way[chat]
        metrics.UNDER_WAY.dec()

    async def report(self) -> None:
        """Log in one line what was passed over since the last report."""
        if self._passed_over:
            log.warning(
                "updates.passed_over", count=self._passed_over.total(), readers=len(self._passed_over)
            )
            self._passed_over.clear()


def reader_of(raw: Any) -> int | None:
    """Telegram's id of the person who caused an update; None if it names none."""
    try:
        event = raw.get("message") or raw.get("callback_query") or raw["my_chat_member"]
        reader = event["from"]["id"]
    except (AttributeError, KeyError, TypeError):
        return None
    return reader if isinstance(reader, int) else None


def chat_of(raw: Any) -> int | None:
    """Telegram's id of the chat of an update; None if it names none."""
    try:
        event = raw.get("message") or raw.get("my_chat_member") or raw["callback_query"]["message"]
        chat = event["chat"]["id"]
    except (AttributeError, KeyError, TypeError):
        return None
    return chat if isinstance(chat, int) else None
