"""The two generators of load, and the updates that they send; here each has a process of its own.

wrk (compiled, closed loop) finds out how much is answered at the most; :mod:`ops.bench.steady` (open loop)
how fast, at a given rate.
"""

import asyncio
import itertools
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from ops.bench.stage import FIRST_READER, READERS, ROOT, SECRET, BenchError, sign_of
from ops.bench.steady import Plan, Steady
from ops.stack.leash import leashed
from ops.stack.programs import WRK
from schema.signs import Language

_SCRIPT = Path(__file__).with_name("today.lua")

#: Of wrk: enough that some wait to be read while others wait for PostgreSQL and RabbitMQ.
CONNECTIONS = 64

# As Telegram sends it; the numbers are the update, the message, the reader and the chat.
_UPDATE = (
    '{"update_id":%d,"message":{"message_id":%d,'
    '"from":{"id":%d,"is_bot":false,"first_name":"Анна","username":"anna","language_code":"ru"},'
    '"chat":{"id":%d,"first_name":"Анна","username":"anna","type":"private"},'
    '"date":DATE,"text":"/today","entities":[{"offset":0,"length":6,"type":"bot_command"}]}}'
)
# Ids of updates: a request is counted once only, so no two runs may share any.
_RESERVED = 10_000_000
_blocks = itertools.count(_RESERVED, _RESERVED)
_dice = random.Random(_RESERVED)


@dataclass(frozen=True, slots=True)
class Burst:
    """How much was answered with every connection always busy.

    Args:
        right: Answered as they should be.
        wrong: Answered otherwise.
        broken: Not answered: refused, cut off or timed out.
        seconds: How long it went on.
        p50_ms: The median latency.
        p99_ms: The 99th percentile.
        cpu: Share of one core that wrk took.
    """

    right: int
    wrong: int
    broken: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.right / self.seconds


async def burst(url: str, seconds: int, expected: str) -> Burst:
    """As many requests as are answered, over 64 connections.

    Args:
        url: Where to.
        seconds: For how long.
        expected: What a good answer contains; empty: anything.

    Raises:
        BenchError: wrk failed.
    """
    arguments = (SECRET, _template(), next(_blocks), FIRST_READER, READERS, expected)
    before = _children_s()
    said = await _run(
        *(str(WRK.path), "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s"),
        *("--script", str(_SCRIPT), url, "--", *map(str, arguments)),
    )
    figures = orjson.loads(said.rstrip().rpartition(b"\n")[2])
    return Burst(**figures, cpu=(_children_s() - before) / figures["seconds"])


async def steady(url: str, rate: float, count: int, expected: Callable[[int], list[str]]) -> Steady:
    """Updates at a constant rate.

    Args:
        url: Where to.
        rate: Updates a second.
        count: How many.
        expected: What the answer to a reader, named by id, contains.

    Raises:
        BenchError: The generator failed.
    """
    readers = [FIRST_READER + _dice.randrange(READERS) for _ in range(count)]
    plan = orjson.dumps(asdict(plan_of(url, rate, readers, expected)))
    return Steady(**orjson.loads(await _run(sys.executable, "-m", "ops.bench.steady", given=plan)))


def plan_of(url: str, rate: float, readers: Iterable[int], expected: Callable[[int], list[str]]) -> Plan:
    """Updates of these readers, one after another, at a constant rate."""
    template, first = _template(), next(_blocks)
    updates = [
        (template % (update, update, reader, reader), expected(reader))
        for update, reader in enumerate(readers, first)
    ]
    return Plan(url, rate, updates, SECRET)


def sent_in_response(reader: int, text: str) -> list[str]:
    """What our answer to a reader contains: the call, the chat, the reader's own sign, a text."""
    return ['"method":"sendMessage"', f'"chat_id":{reader},', sign_of(reader).name_in(Language.RU), text]


def _template() -> str:
    return _UPDATE.replace("DATE", str(int(time.time())))


def _children_s() -> float:
    """Processor time of our children that have ended; nothing but a generator ends while one runs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def _run(*command: str, given: bytes = b"") -> bytes:
    process = await asyncio.create_subprocess_exec(
        *leashed(command, death=signal.SIGKILL),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complained = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise BenchError(f"{command[0]} failed with {process.returncode}:\n{(said + complained).decode()}")
    return said
