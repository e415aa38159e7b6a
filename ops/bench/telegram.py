"""``python -m ops.bench.telegram PORT``: Telegram reduced to a yes, so that it costs next to nothing.

The sandbox plays Telegram faithfully, which takes more processor time than the bot that it is meant to
measure. This one does not look at what it is told.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any, cast

import uvloop

READY = "telegram.ready"

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_METHOD = re.compile(rb"/(\w+)(?:\?\S*)? HTTP/1\.1\r\n")


def _response(result: Any) -> bytes:
    body = json.dumps({"ok": True, "result": result}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


_BOT = {"id": 42, "is_bot": True, "first_name": "Horoscope", "username": "horoscope_bot"}
_TRUE = _response(True)
_RESPONSES = {
    b"getMe": _response(_BOT),
    b"sendMessage": _response(
        {
            "message_id": 1,
            "from": _BOT,
            "chat": {"id": 1, "type": "private", "first_name": "Reader"},
            "date": int(time.time()),
            "text": "…",
        }
    ),
}


class Telegram(asyncio.Protocol):
    """One connection of a client that waits for each answer before it asks again."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.WriteTransport, transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """A part of a request, or all of it."""
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not blank or (length and len(body) < int(length[1])):
            return
        method = _METHOD.search(head + b"\r\n")
        self._transport.write(_RESPONSES.get(method[1] if method else b"", _TRUE))
        self._received = b""


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Telegram, "127.0.0.1", port)
    print(READY, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
