"""``python -m ops.bench.steady``: send updates at a constant rate, whether they are answered or not.

A generator that waits for an answer before it sends again spares a server that is slow. This one keeps to its
schedule, and a latency starts when the update was due, not when it was sent. Like Telegram it opens at most 40
connections; an update waits for a free one.

Reads a plan as JSON from standard input, and prints the result as JSON.
"""

import asyncio
import contextlib
import gc
import re
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import orjson
import uvloop

from ops.bench.figures import percentile

#: Telegram's default for ``max_connections`` of a webhook.
CONNECTIONS = 40
#: Seconds to wait for answers after the last update.
PATIENCE_S = 15.0

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Plan:
    """The updates to send, and the answers to expect."""

    url: str
    #: Updates a second.
    rate: float
    #: Each update as JSON, with the parts that its answer must contain.
    updates: list[tuple[str, list[str]]]
    secret: str


@dataclass(frozen=True, slots=True)
class Steady:
    """The result: counts of updates, and their latencies in milliseconds."""

    #: Answered with the expected parts, and without.
    answered: int
    wrong: int
    #: Not answered until the end, up to which their latency counts.
    unanswered: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    #: The 99th percentile of the generator's own delay.
    late_ms: float
    #: Share of one core that the generator took.
    cpu: float


@dataclass(slots=True)
class Update:
    """One update and its answer; times by ``time.perf_counter``."""

    #: The HTTP request.
    request: bytes
    #: The parts that its answer must contain.
    expected: list[bytes]
    due: float
    #: When it was sent or began to wait for a connection.
    began: float = 0.0
    #: Seconds from ``due`` to the answer; None without one.
    took: float | None = None
    body: bytes = b""
    right: bool = False


class _Connection(asyncio.Protocol):
    """A connection, which carries one update at a time."""

    def __init__(self, generator: "Generator") -> None:
        self._generator = generator
        self._update: Update | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._received = b""

    def connection_lost(self, _: Exception | None) -> None:
        self._generator.lost(self)

    def send(self, update: Update) -> None:
        self._update = update
        self._received = b""
        self._transport.write(update.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = _LENGTH.search(head)
        if length is None:
            raise ValueError(f"an answer without a length: {head!r}")
        if len(body) < int(length[1]) or self._update is None:
            return
        update, self._update = self._update, None
        update.took = time.perf_counter() - update.due
        update.body = body
        update.right = head.startswith(b"HTTP/1.1 200") and all(part in body for part in update.expected)
        self._generator.free(self)


class Generator:
    """Sends each update when it is due, or as soon as a connection is free."""

    def __init__(self, plan: Plan) -> None:
        #: In the order of the plan; empty until :meth:`run`.
        self.updates: list[Update] = []
        self._plan = plan
        self._free: list[_Connection] = []
        self._waiting: deque[Update] = deque()
        self._left = len(plan.updates)
        self._all_answered = asyncio.Event()

    async def run(self) -> Steady:
        """Send all updates and wait for the answers."""
        loop = asyncio.get_running_loop()
        address = urlsplit(self._plan.url)
        host, _, port = address.netloc.partition(":")
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: _Connection(self), host, int(port))
            self._free.append(connection)
        start = time.perf_counter() + 0.1
        updates = self.updates = [
            Update(
                _request(address.path, address.netloc, self._plan.secret, body.encode()),
                [part.encode() for part in expected],
                start + number / self._plan.rate,
            )
            for number, (body, expected) in enumerate(self._plan.updates)
        ]
        gc.freeze()  # a garbage collection here would look like a slow answer
        cpu, now = time.process_time(), time.perf_counter()
        for update in updates:
            loop.call_later(update.due - now, self._begin, update)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_answered.wait(), updates[-1].due - now + PATIENCE_S)
        end = time.perf_counter()
        took = sorted(end - update.due if update.took is None else update.took for update in updates)
        late = sorted(update.began - update.due for update in updates)
        answered = [update for update in updates if update.took is not None]
        return Steady(
            answered=sum(update.right for update in answered),
            wrong=sum(not update.right for update in answered),
            unanswered=len(updates) - len(answered),
            p50_ms=percentile(took, 50) * 1000,
            p99_ms=percentile(took, 99) * 1000,
            max_ms=took[-1] * 1000,
            late_ms=percentile(late, 99) * 1000,
            cpu=(time.process_time() - cpu) / (end - now),
        )

    def free(self, connection: _Connection) -> None:
        """A connection has its answer: give it the update that has waited longest."""
        self._left -= 1
        if not self._left:
            self._all_answered.set()
        if self._waiting:
            connection.send(self._waiting.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection was closed; an update on it stays unanswered."""
        if connection in self._free:
            self._free.remove(connection)

    def _begin(self, update: Update) -> None:
        update.began = time.perf_counter()
        if self._free:
            self._free.pop().send(update)
        else:
            self._waiting.append(update)


def _request(path: str, host: str, secret: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        f"X-Telegram-Bot-Api-Secret-Token: {secret}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _main() -> None:
    plan = Plan(**orjson.loads(sys.stdin.buffer.read()))
    print(orjson.dumps(await Generator(plan).run()).decode())


if __name__ == "__main__":
    uvloop.run(_main())
