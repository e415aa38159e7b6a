"""``python -m ops.bench.telegram PORT``: a minimal Telegram that costs hardly any processor time.

The sandbox imitates Telegram faithfully, but takes more processor time than the bot under measurement. This one
accepts every call. It remembers the text of each message, so it refuses an edit that changes nothing, as Telegram
does. ``GET /journal`` returns everything shown since the last call, with the times.

``POST /push`` takes updates as lines of JSON, in ascending order of their numbers, for a bot that polls.
``POST /limit`` with the body ``1`` limits each chat to one new message a second, until the body ``0``.
"""

import asyncio
import json
import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast
from urllib.parse import unquote_plus

import uvloop

READY = "telegram.ready"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_NUMBER = re.compile(rb'"update_id":(\d+)')
_METHOD = re.compile(rb"/(\w+)(?:\?\S*)? HTTP/1\.1\r\n")


def _response(document: Any, status: bytes = b"200 OK") -> bytes:
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (
        status,
        len(body),
    )
    return head + body


def _updates(updates: list[bytes]) -> bytes:
    body = b'{"ok":true,"result":[%s]}' % b",".join(updates)
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _refusal(what: str) -> bytes:
    said = {"ok": False, "error_code": 400, "description": f"Bad Request: {what}"}
    return _response(said, b"400 Bad Request")


_BOT = {"id": 42, "is_bot": True, "first_name": "Horoscope", "username": "horoscope_bot"}
_I_AM = _response({"ok": True, "result": _BOT})
_TRUE = _response({"ok": True, "result": True})
_TOO_MANY = _response(
    {
        "ok": False,
        "error_code": 429,
        "description": "Too Many Requests: retry after 1",
        "parameters": {"retry_after": 1},
    },
    b"429 Too Many Requests",
)
_NOT_FOUND = _refusal("message to edit not found")
_NOT_MODIFIED = _refusal(
    "message is not modified: specified new message content and reply markup are exactly the same as a current "
    "content and reply markup of the message"
)


@dataclass(frozen=True, slots=True)
class Shown:
    """Something shown in a reader's chat."""

    #: By ``time.perf_counter``, a clock that all processes share.
    at: float
    chat: int
    message: int
    text: str
    #: ``sent``, ``edited``, or ``refused`` for an edit that changed nothing.
    how: str


class Chats:
    """The contents of all chats."""

    def __init__(self) -> None:
        self._contents: list[bytes] = []
        self._journal: list[tuple[float, int, int, bytes, str]] = []
        self._same: dict[bytes, bytes] = {}
        self._limited = False
        self._sent_at: dict[int, float] = {}
        # Unconfirmed updates by number, and the long poll under way with its limit.
        self._pending: deque[tuple[int, bytes]] = deque()
        self._poll: tuple[asyncio.WriteTransport, int] | None = None

    def poll(self, transport: asyncio.WriteTransport, body: bytes) -> None:
        """Answer ``getUpdates`` as soon as there are updates."""
        form = dict(part.split(b"=", 1) for part in body.split(b"&") if part)
        offset, limit = int(form.get(b"offset", 0)), int(form.get(b"limit", 100))
        while self._pending and self._pending[0][0] < offset:
            self._pending.popleft()
        self._poll = poll = transport, limit
        timeout = int(form.get(b"timeout", 0))
        if self._pending or not timeout:
            self._end_poll(poll)
        else:
            asyncio.get_running_loop().call_later(timeout, self._end_poll, poll)

    def _end_poll(self, poll: tuple[asyncio.WriteTransport, int]) -> None:
        if self._poll is poll:
            self._poll = None
            transport, limit = poll
            if not transport.is_closing():
                transport.write(_updates([update for _, update in islice(self._pending, limit)]))

    def _order(self, method: bytes, body: bytes) -> None:
        """Carry out an order of the benchmark."""
        if method == b"limit":
            self._limited = body == b"1"
        elif method == b"push":
            for update in body.splitlines():
                number = _NUMBER.search(update)
                assert number
                self._pending.append((int(number[1]), update))
            if self._poll:
                self._end_poll(self._poll)

    def _exceeds_limit(self, chat_id: int, now: float) -> bool:
        if not self._limited:
            return False
        if now - self._sent_at.get(chat_id, 0.0) < 1:
            return True
        self._sent_at[chat_id] = now
        return False

    def call(self, method: bytes, body: bytes) -> bytes:
        """The response to a call with form parameters."""
        now = time.perf_counter()
        if method == b"journal":
            return _response(self._handed_out())
        if method == b"getMe":
            return _I_AM
        if method not in {b"sendMessage", b"editMessageText"}:
            self._order(method, body)
            return _TRUE
        chat_id, message_id, content = _read(body)
        if method == b"sendMessage" and self._exceeds_limit(chat_id, now):
            return _TOO_MANY
        content = self._same.setdefault(content, content)
        if method == b"sendMessage":
            self._contents.append(content)
            message_id = len(self._contents)
            response, how = _sent(chat_id, message_id), "sent"
        elif not 0 < message_id <= len(self._contents):
            return _NOT_FOUND
        elif self._contents[message_id - 1] is content:
            response, how = _NOT_MODIFIED, "refused"
        else:
            self._contents[message_id - 1] = content
            response, how = _TRUE, "edited"
        self._journal.append((now, chat_id, message_id, content, how))
        return response

    def _handed_out(self) -> list[tuple[float, int, int, str, str]]:
        journal, self._journal = self._journal, []
        return [(at, chat, message, _text(content), how) for at, chat, message, content, how in journal]


def _read(body: bytes) -> tuple[int, int, bytes]:
    """The chat, the message or 0, and the other parameters of a form, undecoded."""
    chat_id, message_id, content = 0, 0, []
    for part in body.split(b"&"):
        name, _, value = part.partition(b"=")
        if name == b"chat_id":
            chat_id = int(value)
        elif name == b"message_id":
            message_id = int(value)
        else:
            content.append(part)
    return chat_id, message_id, b"&".join(content)


def _sent(chat_id: int, message_id: int) -> bytes:
    chat = {"id": chat_id, "type": "private", "first_name": "Reader"}
    message = {"message_id": message_id, "from": _BOT, "chat": chat, "date": int(time.time()), "text": "…"}
    return _response({"ok": True, "result": message})


def _text(content: bytes) -> str:
    for part in content.split(b"&"):
        if part.startswith(b"text="):
            return unquote_plus(part[5:].decode())
    return ""


class Telegram(asyncio.Protocol):
    """A connection of a client that waits for each answer before its next call."""

    def __init__(self, chats: Chats) -> None:
        self._chats = chats

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Handle a new connection."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Handle a part of a request, or all of it."""
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or (length and len(body) < int(length[1])):
            return
        method = _METHOD.search(head + b"\r\n")
        self._received = b""
        if method and method[1] == b"getUpdates":
            self._chats.poll(self._transport, body)
        else:
            self._transport.write(self._chats.call(method[1] if method else b"", body))


async def _serve(port: int) -> None:
    chats = Chats()
    server = await asyncio.get_running_loop().create_server(lambda: Telegram(chats), "127.0.0.1", port)
    print(READY, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
