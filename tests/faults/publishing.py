"""A program that publishes views as a bot does, whatever happens to the servers meanwhile.

``python -m tests.faults.publishing FIRST COUNT``: views with the numbers from FIRST on, a tenth of them twice.
"""

import asyncio
import random
import sys
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from actors import topology
from schema.errors import DatabaseUnavailable
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.app import open_servers
from services.messaging.bus import HELD_AT_MOST, Bus
from services.process.settings import Settings
from tests.waiting import DEADLINE_S

_TOGETHER = 200


async def _publish(first: int, count: int) -> None:
    settings = Settings.read("database_url", "rabbitmq_url")
    now = datetime.now(UTC)
    dice = random.Random(first)
    numbers = [*range(first, first + count), *dice.sample(range(first, first + count), count // 10)]
    signs = list(Sign)
    async with (
        open_servers(settings, topology.queues(settings), process="test") as (database, publisher),
        Bus(publisher, database) as bus,
    ):
        await publisher.wait_ready(DEADLINE_S)
        for start in range(0, len(numbers), _TOGETHER):
            views = [
                HoroscopeRequested(UUID(int=number), signs[number % 12], now.date(), answered=True, at=now)
                for number in numbers[start : start + _TOGETHER]
            ]
            await asyncio.gather(*(bus.publish(view) for view in views))
            while len(bus._held) > HELD_AT_MOST // 2:  # readers do not ask so fast
                await asyncio.sleep(0.1)
                with suppress(DatabaseUnavailable):
                    await bus.send_parked()
        while bus._held:  # while both servers were away
            with suppress(DatabaseUnavailable):
                await bus.send_parked()
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(_publish(int(sys.argv[1]), int(sys.argv[2])))
