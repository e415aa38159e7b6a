"""The pace of calls to Telegram: when it asks for a pause, only the calls that it concerns wait.

Telegram limits each chat, and the whole bot. Its answer 429 does not say which of the two it means.
"""

import asyncio
import time
from collections import OrderedDict, deque

from schema.errors import TelegramUnavailable

#: The shortest and longest gap between two calls of the whole bot, in seconds, after Telegram has asked for a pause.
SHORTEST_GAP_S, LONGEST_GAP_S = 1 / 30, 0.5
#: The same for the calls to one chat, which may have about one message a second.
SHORTEST_CHAT_GAP_S, LONGEST_CHAT_GAP_S = 1.1, 4.4
#: Seconds after a message to a chat in which one more may exceed the chat's limit.
CHAT_S = 1.0
#: Seconds after its last pause for which a chat counts as limited.
LIMITED_S = 60.0
#: Different chats that were asked to pause, with no good call in between, after which the whole bot counts as limited.
SEVERAL = 3
#: So many good calls within so many seconds are needed before that: whoever calls less does not exceed the bot's limit.
BUSY_CALLS, BUSY_S = 5, 2.0
#: Seconds of the first pause of the whole bot. While calls to further chats fail too, each pause is twice as long as the
#: one before, but not longer than Telegram asks for.
FIRST_PAUSE_S = 0.5


class Pace:
    """The pace of calls that share one of Telegram's limits.

    Calls are not slowed until Telegram asks for a pause. Then all calls wait for it, and afterwards run one after another
    with a gap. Every further pause doubles the gap; every successful call shrinks it.
    """

    def __init__(self, shortest: float = SHORTEST_GAP_S, longest: float = LONGEST_GAP_S) -> None:
        self._shortest = shortest
        self._longest = longest
        self._until = 0.0
        self._gap = 0.0
        self._next = 0.0

    @property
    def paused(self) -> bool:
        """Calls must wait for a pause that Telegram has asked for."""
        return time.monotonic() < self._until

    @property
    def slowed(self) -> bool:
        """A pause is on, or was lately."""
        return self._gap > 0

    async def turn(self, patience: float) -> None:
        """Wait for the caller's turn; raises TelegramUnavailable if it comes after ``patience`` (monotonic)."""
        while True:
            now = time.monotonic()
            turn = max(self._next + self._gap, self._until, now)
            if turn > max(patience, now):
                raise TelegramUnavailable(f"Telegram asks to wait {turn - now:.0f} s", retry_after=turn - now)
            self._next = turn
            if turn > now:
                await asyncio.sleep(turn - now)
            if not self.paused:  # otherwise another pause has begun meanwhile
                return

    def hold(self, seconds: float) -> None:
        """Pause all calls, because Telegram asks for it."""
        if not self.paused:  # several calls of one burst count as one pause
            self._gap = min(max(self._gap * 2, self._shortest), self._longest)
        self._until = max(self._until, time.monotonic() + seconds)
        self._next = self._until - self._gap  # the first call need not wait for the gap, too

    def went_well(self) -> None:
        """Shrink the gap after a successful call."""
        self._gap = self._gap * 0.98 if self._gap > self._shortest / 8 else 0.0


class Paces:
    """The pace of one process's calls: one for each chat that Telegram limits, and one for the whole bot.

    A 429 holds its own chat. It holds all others only if several chats were asked to pause in a row, none of them can have
    exceeded its own limit, and the bot was busy. Even then calls to other chats are tried again soon: the first that goes
    well shows that the bot is not limited.
    """

    def __init__(self) -> None:
        self._bot = Pace()
        # The limited chats, the one that was paused last at the end; each with its last pause's end.
        self._chats: OrderedDict[int, tuple[Pace, float]] = OrderedDict()
        # When each chat last got a message, for a second or two.
        self._sent: OrderedDict[int, float] = OrderedDict()
        # When the last calls went well.
        self._good: deque[float] = deque(maxlen=BUSY_CALLS)
        # Chats that were asked to pause since the last good call, and cannot have exceeded their own limit.
        self._refused: set[int | None] = set()
        self._pause = FIRST_PAUSE_S

    def is_free(self, chat_id: int) -> bool:
        """One more message to this chat exceeds no limit that we know of."""
        if self._bot.paused or self._limited(chat_id):
            return False
        return time.monotonic() - self._sent.get(chat_id, float("-inf")) >= CHAT_S

    async def turn(self, chat_id: int | None, patience: float, chat_patience: float) -> None:
        """Wait for the turn of a call to a chat; None: it concerns no chat.

        Raises TelegramUnavailable if the turn comes after ``patience``, or the chat's own after ``chat_patience`` (both
        monotonic).
        """
        while True:
            if chat_id is not None and (pace := self._limited(chat_id)):
                await pace.turn(min(patience, chat_patience))
            await self._bot.turn(patience)
            if chat_id is None or not (pace := self._limited(chat_id)) or not pace.paused:
                return

    def hold(self, chat_id: int | None, seconds: float) -> None:
        """Note that Telegram asks for a pause after a call to this chat."""
        now = time.monotonic()
        explained = False
        if chat_id is not None:
            pace = self._limited(chat_id)
            explained = pace is not None or now - self._sent.get(chat_id, float("-inf")) < CHAT_S
            pace = pace or Pace(SHORTEST_CHAT_GAP_S, LONGEST_CHAT_GAP_S)
            pace.hold(seconds)
            self._chats[chat_id] = pace, now + seconds
            self._chats.move_to_end(chat_id)
            self._forget(now)
        if explained:
            return
        self._refused.add(chat_id)
        busy = len(self._good) == BUSY_CALLS and now - self._good[0] <= BUSY_S
        if len(self._refused) >= SEVERAL and (busy or self._bot.slowed) and not self._bot.paused:
            self._bot.hold(min(seconds, self._pause))
            self._pause *= 2

    def went_well(self, chat_id: int | None) -> None:
        """Note a good call."""
        self._good.append(time.monotonic())
        self._refused.clear()
        self._pause = FIRST_PAUSE_S
        self._bot.went_well()
        if chat_id is not None:
            self.note_sent(chat_id)

    def note_sent(self, chat_id: int) -> None:
        """Note a message to a chat."""
        now = time.monotonic()
        self._sent[chat_id] = now
        self._sent.move_to_end(chat_id)
        while now - next(iter(self._sent.values())) > CHAT_S:
            self._sent.popitem(last=False)

    def _limited(self, chat_id: int) -> Pace | None:
        pace, until = self._chats.get(chat_id, (None, 0.0))
        return pace if pace and time.monotonic() < until + LIMITED_S else None

    def _forget(self, now: float) -> None:
        """Forget chats that were not paused lately, as far as they come first."""
        while now > next(iter(self._chats.values()))[1] + LIMITED_S:
            self._chats.popitem(last=False)
