"""The two load generators, each in its own process, and their updates.

wrk (compiled, closed loop) measures the highest throughput; :mod:`ops.bench.steady` (open loop) measures latencies at
a constant rate.
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson

from ops.bench.stage import FIRST_READER, READERS, ROOT, SECRET, BenchError, sign_of
from ops.bench.steady import Plan, Steady
from ops.stack.leash import leashed
from ops.stack.programs import WRK
from schema.signs import Language

_SCRIPT = Path(__file__).with_name("today.lua")

#: Of wrk: enough to keep the bot busy while others wait for PostgreSQL and RabbitMQ.
CONNECTIONS = 64

# In Telegram's format; the numbers are the ids of the update, the message, the reader and the chat.
_UPDATE = (
    '{"update_id":%d,"message":{"message_id":%d,'
    '"from":{"id":%d,"is_bot":false,"first_name":"Анна","username":"anna","language_code":"ru"},'
    '"chat":{"id":%d,"first_name":"Анна","username":"anna","type":"private"},'
    '"date":DATE,"text":"/today","entities":[{"offset":0,"length":6,"type":"bot_command"}]}}'
)
# Runs must not share ids of updates, because each request counts only once.
_RESERVED = 10_000_000
_blocks = itertools.count(_RESERVED, _RESERVED)
# Readers take turns, so that none asks twice within a second: the second answer would be a call, not a response.
_turns = itertools.cycle(range(FIRST_READER, FIRST_READER + READERS))


@dataclass(frozen=True, slots=True)
class Burst:
    """The result of wrk: counts of answers, and their latencies."""

    #: Answered with the expected text, and without.
    right: int
    wrong: int
    #: Refused, cut off or timed out.
    broken: int
    seconds: float
    p50_ms: float
    p99_ms: float
    #: Share of one core that wrk took.
    cpu: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.right / self.seconds


async def burst(url: str, seconds: int, expected: str) -> Burst:
    """Send as many requests as are answered, over 64 connections; an empty ``expected`` accepts any answer."""
    arguments = (SECRET, _template(), next(_blocks), FIRST_READER, READERS, expected)
    before = os.times()
    said = await _run(
        *(str(WRK.path), "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"),
        *("--script", str(_SCRIPT), url, "--", *map(str, arguments)),
    )
    figures = orjson.loads(said.rstrip().rpartition(b"\n")[2])
    cpu = sum(os.times()[2:4]) - sum(before[2:4])  # of ended children: wrk is the only one
    return Burst(**figures, cpu=cpu / figures["seconds"])


async def steady(url: str, rate: float, count: int, expected: Callable[[int], list[str]]) -> Steady:
    """Send ``count`` updates, ``rate`` a second; ``expected`` gives the parts of the answer to a reader's id."""
    readers = itertools.islice(_turns, count)
    return await carry_out(plan_of(url, rate, readers, expected))


async def carry_out(plan: Plan) -> Steady:
    """Send the updates of a plan from a process of their own."""
    given = orjson.dumps(plan)
    return Steady(**orjson.loads(await _run(sys.executable, "-m", "ops.bench.steady", given=given)))


def plan_of(url: str, rate: float, readers: Iterable[int], expected: Callable[[int], list[str]]) -> Plan:
    """The plan to send one update of each reader, in order, at a constant rate."""
    template, first = _template(), next(_blocks)
    updates = [
        (template % (update, update, reader, reader), expected(reader))
        for update, reader in enumerate(readers, first)
    ]
    return Plan(url, rate, updates, SECRET)


def sent_in_response(reader: int, text: str) -> list[str]:
    """The parts of our answer to a reader: the call, the chat, the reader's sign, and a text."""
    return ['"method":"sendMessage"', f'"chat_id":{reader},', sign_of(reader).name_in(Language.RU), text]


def _template() -> str:
    return _UPDATE.replace("DATE", str(int(time.time())))


async def _run(*command: str, given: bytes = b"") -> bytes:
    """The output of a generator; raises BenchError if it fails."""
    process = await asyncio.create_subprocess_exec(
        *leashed(command, death=signal.SIGKILL),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complained = await process.communicate(given)
    if process.returncode:
        raise BenchError(f"{command[0]} failed with {process.returncode}:\n{(said + complained).decode()}")
    return said
