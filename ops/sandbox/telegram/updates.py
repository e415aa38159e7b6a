"""The bot's updates, kept until a later offset or the webhook's 2xx confirms them."""

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice, takewhile
from typing import Any

from ops.sandbox.telegram.calls import ApiError
from ops.sandbox.watch import Watch

_MOST_RECENT = 10_000  # updates that can be repeated
_MOST_PENDING = 100_000
_BETWEEN_POLLS = 5.0  # seconds a living bot may take to poll again
# Sent only to a bot that asks for them by name.
_ON_REQUEST = {"chat_member", "message_reaction", "message_reaction_count"}

Update = dict[str, Any]


def chat_of(update: Update) -> int:
    """The chat of an update; 0 where a malformed one names none."""
    for payload in update.values():
        for place in (payload, payload.get("message")) if isinstance(payload, dict) else ():
            chat = place.get("chat") if isinstance(place, dict) else None
            if isinstance(chat, dict) and isinstance(chat.get("id"), int):
                return int(chat["id"])
    return 0


class Updates:
    """The bot's updates in order.

    Attributes:
        allowed: The kinds the bot asked for; empty for the usual ones.
        pending: Unconfirmed updates by id.
        recent: The latest updates by id, confirmed or not.
        post: Posts an update to the webhook; false where none is set.
    """

    def __init__(self, watch: Watch) -> None:
        # Random, so that ids do not repeat those of an earlier sandbox.
        self.next_id = random.randrange(100_000_000, 1_000_000_000)
        self.allowed: list[str] = []
        self.pending: OrderedDict[int, Update] = OrderedDict()
        self.recent: OrderedDict[int, Update] = OrderedDict()
        self.post: Callable[[Update], bool] = lambda _: False
        self._watch = watch
        self._again: list[Update] = []
        self._polled = -math.inf
        self._poll: asyncio.Future[None] | None = None

    def add(self, kind: str, payload: dict[str, Any]) -> int:
        """Queue an update and return its id; 0 where the bot asked for no such kind."""
        wanted = kind in self.allowed if self.allowed else kind not in _ON_REQUEST
        return self.add_raw({kind: payload}) if wanted else 0

    def add_raw(self, update: Update) -> int:
        """Queue an update, however malformed; it gets an id if it has none."""
        update = {"update_id": self.next_id, **update}
        update_id = int(update["update_id"])
        self.next_id = max(self.next_id, update_id + 1)
        self.pending[update_id] = self.recent[update_id] = update
        for kept, most in ((self.pending, _MOST_PENDING), (self.recent, _MOST_RECENT)):
            if len(kept) > most:
                kept.popitem(last=False)
        if not self.post(update):
            self.release_poll()
        return update_id

    def repeat(self, update_id: int) -> None:
        """Deliver an update once more, whether it was confirmed or not.

        Raises:
            KeyError: The update is unknown or too old.
        """
        update = self.recent[update_id]
        if not self.post(update):
            self._again.append(update)
            self.release_poll()

    def forget(self, update_id: int) -> None:
        """Remove an update that the bot has taken."""
        self.pending.pop(update_id, None)
        self._watch.notify()

    def drop_chat(self, chat_id: int) -> None:
        """Drop what is pending or could be repeated of one chat."""
        self._again = [update for update in self._again if chat_of(update) != chat_id]
        for kept in (self.pending, self.recent):
            for update_id in [key for key, update in kept.items() if chat_of(update) == chat_id]:
                del kept[update_id]
        self._watch.notify()

    def clear(self) -> None:
        """Drop all pending updates."""
        self.pending.clear()
        self._again.clear()

    # Polling

    @property
    def waiting(self) -> bool:
        """Whether a long poll waits for updates."""
        return self._poll is not None

    @property
    def polled(self) -> bool:
        """Whether a bot is polling."""
        return self.waiting or time.monotonic() - self._polled < _BETWEEN_POLLS

    async def poll(self, offset: int, limit: int, within: float) -> list[Update]:
        """The result of `getUpdates`.

        Raises:
            ApiError: 409, another poll began meanwhile.
        """
        self._confirm(offset)
        self.abort_poll(
            "terminated by other getUpdates request; make sure that only one bot instance is running"
        )
        updates = self._batch(limit)
        if updates or within <= 0:
            return updates
        poll = self._poll = asyncio.get_running_loop().create_future()
        self._watch.notify()
        try:
            async with asyncio.timeout(within):
                await poll
        except TimeoutError:
            return []
        finally:
            self._polled = time.monotonic()
            if self._poll is poll:
                self._poll = None
        return self._batch(limit)

    def abort_poll(self, reason: str) -> None:
        """End the long poll under way with a 409."""
        if self._poll and not self._poll.done():
            self._poll.set_exception(ApiError(409, f"Conflict: {reason}"))
        self._poll = None

    def release_poll(self) -> None:
        """Let the long poll under way return now."""
        if self._poll and not self._poll.done():
            self._poll.set_result(None)

    def _confirm(self, offset: int) -> None:
        if offset < 0:
            # Counted from the end; all before is forgotten.
            confirmed = list(self.pending)[:offset]
        else:
            confirmed = list(takewhile(lambda update_id: update_id < offset, self.pending))
        for update_id in confirmed:
            self.forget(update_id)

    def _batch(self, limit: int) -> list[Update]:
        again, self._again = self._again, []
        return again + list(islice(self.pending.values(), max(0, limit - len(again))))
