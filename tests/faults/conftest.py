"""The scene that most faults are played in: all texts are there but one, and a reader asks for that one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from actors import topology
from ops.sandbox import Sandbox
from ops.sandbox.telegram.world import Reader
from ops.stack.ports import free_port
from schema.messages import DELIVERY, GENERATION, REQUESTS, VIEWS
from schema.signs import Sign
from services.app import App
from services.bot import answers
from services.bot.updates import Updates
from tests.acceptance.conftest import FAILED, GENERATING, heading, reader_of, write_all_but
from tests.conftest import WEBHOOK_SECRET
from tests.dead import Dead
from tests.processes import Process, Processes
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S, until_sql, until_views

#: The queues of a worker that is asked for what the test wants, and not for what is missing as it starts.
WORK = (VIEWS, REQUESTS, GENERATION, DELIVERY)
#: Seconds instead of a minute until others take over what somebody had claimed.
SOON = {
    "services.horoscopes.waiters:CLAIM_S": 4,
    "services.horoscopes.delivery:ANSWER_S": 3,
    "services.horoscopes.waiters:SENDING_S": 1,
    "services.horoscopes.waiters:OVERDUE_S": 1,
    "actors.worker:WAITERS_S": 1,
}


@dataclass(slots=True)
class Scene:
    """Today's text for Leo is missing, all others are there.

    Args:
        today: At home.
        readers: Who have asked.
    """

    app: App
    sandbox: Sandbox
    sql: asyncpg.Connection
    queues: Queues
    dead: Dead
    processes: Processes
    today: date
    readers: list[Reader] = field(default_factory=list)

    async def reader(self) -> Reader:
        """Somebody whose sign is Leo."""
        reader = await reader_of(self.sql, self.sandbox, 100 + len(self.readers), Sign.LEO)
        self.readers.append(reader)
        return reader

    async def ask(self) -> Reader:
        """A reader asks; what a bot would do is done in this process."""
        reader = await self.reader()
        await self.bot_handles(await reader.say("/today"))
        return reader

    async def bot_handles(self, update: int) -> None:
        """What a bot does with an update."""
        if answer := await Updates(self.app).handle(self.sandbox.telegram.updates.recent[update]):
            await answers.by_call(answer, self.app)

    async def written_once(self) -> None:
        """The text is there, once; for no text were two calls to the model in flight together."""
        count = "SELECT count(*) FROM horoscope_cache WHERE zodiac_sign = 'leo' AND horoscope_date = $1"
        await until_sql(self.sql, count, 1, self.today)
        assert set(self.sandbox.model.max_in_flight_of.values()) <= {1}

    async def answered_once(self, within: float = DEADLINE_S) -> None:
        """Every reader has the text in the progress message, and nothing else; every view is counted, once."""
        for reader in self.readers:
            await reader.wait_for(lambda messages: heading("Лев") in messages[-1].text, within)
        await until_views(self.sql, len(self.readers))
        await self.at_rest()
        for reader in self.readers:
            (answer,) = reader.received
            assert answer.texts == [GENERATING, answer.text]
            assert heading("Лев") in answer.text
        await until_views(self.sql, len(self.readers))
        assert await self.dead.count() == 0

    async def refused_once(self, within: float = DEADLINE_S) -> None:
        """Every reader has the apology in the progress message, and nothing else; no view is counted."""
        for reader in self.readers:
            await reader.wait_for(lambda messages: FAILED in messages[-1].text, within)
        await self.at_rest()
        for reader in self.readers:
            (answer,) = reader.received
            assert answer.texts == [GENERATING, answer.text]
        await until_views(self.sql, 0)

    async def at_rest(self) -> None:
        """Nothing is left to do: nobody is owed an answer, the workers have stopped, the queues are empty."""
        await until_sql(self.sql, "SELECT count(*) FROM waiters WHERE answered_at IS NULL", 0)
        # In the order in which a message goes on.
        rungs = [queue.name for queue in topology.queues(self.app.settings) if ".retry." in queue.name]
        await self.queues.drained(*rungs, *WORK)
        await self.processes.stop("worker")
        left = {queue: self.queues.count(queue) for queue in (*rungs, *WORK)}
        assert not any(left.values()), left


@pytest.fixture
async def scene(
    app: App, sandbox: Sandbox, sql: asyncpg.Connection, queues: Queues, dead: Dead, processes: Processes
) -> Scene:
    """A service whose processes are not started yet."""
    today = datetime.now(ZoneInfo("Europe/Moscow")).date()
    await write_all_but(sql, Sign.LEO, today)
    return Scene(app, sandbox, sql, queues, dead, processes, today)


@asynccontextmanager
async def webhook_bots(processes: Processes, count: int, **arranged: Any) -> AsyncIterator[list[Process]]:
    """Bots behind one address that leads each connection to the next of them that is alive."""
    ports = [free_port() for _ in range(count)]
    async with Cable(*(f"http://127.0.0.1:{port}/hook" for port in ports)) as cable:
        hook = {"WEBHOOK_URL": cable.url, "WEBHOOK_SECRET": WEBHOOK_SECRET}
        yield [
            await processes.bot(hook | {"WEBHOOK_LISTEN": f"127.0.0.1:{port}"}, **arranged) for port in ports
        ]
