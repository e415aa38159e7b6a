"""Telegram's rate limits: about one message a second to a chat and thirty a second to all."""

import math
import time
from collections import defaultdict, deque

from ops.sandbox.telegram.calls import ApiError

_NEW = {"sendmessage", "senddocument"}
_COUNTED = _NEW | {"editmessagetext"}


class Limits:
    """Counts messages over the last second and refuses those above the limits.

    Attributes:
        per_chat: New messages a second to one chat; None for no limit.
        overall: New and edited messages a second to all; None for no limit.
    """

    def __init__(self) -> None:
        self.per_chat: int | None = None
        self.overall: int | None = None
        self._sent: defaultdict[int | None, deque[float]] = defaultdict(deque)

    def check(self, method: str, chat_id: int | None) -> None:
        """Count a call.

        Raises:
            ApiError: 429, with the seconds to wait.
        """
        if method not in _COUNTED:
            return
        if method in _NEW and self.per_chat is not None:
            self._count(chat_id, self.per_chat)
        if self.overall is not None:
            self._count(None, self.overall)

    def _count(self, key: int | None, most: int) -> None:
        now, sent = time.monotonic(), self._sent[key]
        while sent and sent[0] <= now - 1:
            sent.popleft()
        if len(sent) >= most:
            retry_after = max(1, math.ceil(sent[0] + 1 - now))
            raise ApiError(429, f"Too Many Requests: retry after {retry_after}", retry_after)
        sent.append(now)
