"""A queue that is paused: in one worker's consumers, and in what the workers know of it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import dramatiq
import pytest

from actors.meter import Meter, Threads
from actors.table import Batch
from schema.errors import DatabaseUnavailable
from schema.messages import DEAD_LETTERS
from services.database.pool import Database
from services.messaging.pauses import Pauses, followed, pause, read_pauses, resume
from services.messaging.publisher import Publisher, Queue
from tests.integration.test_batches import RUNG, WORK, Bench
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S

BATCH = Batch(size=1000, linger_ms=60_000)


class PausedBench(Bench):
    """The same, with a pause that the test makes."""

    def __init__(self, url: str, publisher: Publisher, database: Database) -> None:
        super().__init__(url, publisher, database)
        self.paused: set[str] = set()
        self.broker.paused = self.paused

    def start(self) -> None:
        """Start a worker whose consumers look up more often."""
        self._worker = dramatiq.Worker(self.broker, worker_threads=4, worker_timeout=50)
        self._worker.start()

    @property
    def consumes(self) -> bool:
        """Whether the worker's consumer consumes at this moment."""
        return self.consumer is not None and self.consumer._consuming is not None

    def one_at_a_time(self) -> None:
        """Consume with a plain consumer and a prefetch of one."""
        self.broker._consumers.clear()
        self.broker._prefetch[WORK] = 1


@pytest.fixture
async def bench(rabbitmq_url: str, database: Database) -> AsyncIterator[PausedBench]:
    async with Publisher(rabbitmq_url, [Queue(WORK), RUNG, Queue(DEAD_LETTERS)]) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        bench = PausedBench(rabbitmq_url, publisher, database)
        yield bench
        await bench.stop()


async def until(condition: Callable[[], object], within: float = DEADLINE_S) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.01)


def numbers_in(queues: Queues) -> list[int]:
    """Take all that waits, in its order."""
    found = []
    while (letter := queues.take(WORK)) is not None:
        found.append(letter.message["kwargs"]["number"])
    return found


async def test_what_is_gathered_goes_back_to_its_place_and_the_connection_stays(
    bench: PausedBench, queues: Queues
) -> None:
    bench.batch_actor("gather", BATCH)
    await bench.put("gather", *range(500))
    bench.start()
    await bench.gathered(500)
    connection = bench.consumer._connection
    bench.paused.add(WORK)
    await until(lambda: not bench.consumes)
    await bench.put("gather", *range(500, 510))
    await until(lambda: queues.count(WORK) == 510)
    assert numbers_in(queues) == [*range(510)]

    await bench.put("gather", *range(1000))
    bench.paused.clear()
    await bench.called_with(*range(1000))
    assert bench.consumer._connection is connection
    await bench.stop()
    assert bench.calls == [("gather", [*range(1000)])]
    assert queues.count(WORK) == 0


async def test_a_batch_under_way_is_finished_and_settled_while_its_queue_is_paused(
    bench: PausedBench, queues: Queues
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(_: Sequence[int]) -> None:
        begun.set()
        go_on.wait(20)

    bench.work = work
    bench.batch_actor("gather", Batch(size=3, linger_ms=60_000))
    await bench.put("gather", *range(5))
    bench.start()
    assert await asyncio.to_thread(begun.wait, 20)
    await bench.gathered(2)
    bench.paused.add(WORK)
    await until(lambda: queues.count(WORK) == 2)
    go_on.set()
    await bench.called_with(0, 1, 2)
    await bench.stop()
    assert numbers_in(queues) == [3, 4], "what was under way is acknowledged, the rest is where it was"


async def test_a_paused_consumer_is_no_trouble_and_stops_at_once(bench: PausedBench, queues: Queues) -> None:
    bench.batch_actor("gather", BATCH)
    bench.paused.add(WORK)
    await bench.put("gather", 1)
    bench.start()
    assert bench._worker
    threads = Threads(bench.broker, bench._worker, Meter(()))
    await until(lambda: bench.consumer is not None)
    first_turn = bench.broker.turned[WORK]
    await until(lambda: bench.broker.turned[WORK] > first_turn)
    assert (threads.trouble(), threads.consumers_trouble()) == ("", "")
    consumer = bench.consumer
    await bench.stop()
    assert consumer.flushed.is_set()
    assert bench.calls == []
    method, *_ = queues._channel.basic_get(WORK, auto_ack=True)
    assert not method.redelivered, "nobody had it in between"


async def test_a_consumer_that_connects_anew_heeds_the_pause(
    rabbitmq_url: str, database: Database, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    async with Cable(rabbitmq_url) as cable, Publisher(rabbitmq_url, [Queue(WORK), RUNG]) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        bench = PausedBench(cable.url, publisher, database)
        bench.batch_actor("gather", Batch(size=1, linger_ms=10))
        bench.start()
        await until(lambda: bench.consumes)
        first = bench.consumer
        bench.paused.add(WORK)
        await until(lambda: not bench.consumes)
        cable.cut()
        await until(lambda: bench.consumer not in {first, None} and bench.consumer.is_open)
        await bench.put("gather", 1)
        turned = bench.broker.turned[WORK]
        await until(lambda: bench.broker.turned[WORK] > turned)
        assert (bench.calls, queues.count(WORK)) == ([], 1)
        bench.paused.clear()
        await bench.called_with(1)
        await bench.stop()


async def test_one_at_a_time_stays_one_at_a_time_across_a_pause(bench: PausedBench, queues: Queues) -> None:
    """The consumer that is at work is not let go of, so that nobody else becomes the single active one."""
    begun, go_on = threading.Event(), threading.Event()
    bench.one_at_a_time()

    def answer(number: int) -> None:
        bench._note("single", [number])
        begun.set()
        go_on.wait(20)

    dramatiq.actor(broker=bench.broker, actor_name="single", queue_name=WORK)(answer)
    await bench.put("single", 1, 2, 3)
    bench.start()
    assert await asyncio.to_thread(begun.wait, 20)
    bench.paused.add(WORK)
    turned = bench.broker.turned[WORK]
    await until(lambda: bench.broker.turned[WORK] > turned)
    assert bench.consumes
    go_on.set()
    await until(lambda: not bench.consumes)
    await until(lambda: queues.count(WORK) == 2)
    assert bench.calls == [("single", [1])]
    assert numbers_in(queues) == [2, 3]


async def test_what_arrived_at_a_plain_consumer_and_has_not_begun_is_put_back_in_order(
    bench: PausedBench, queues: Queues
) -> None:
    """A consumer outside of Dramatiq's threads: it iterates when the test has it do so."""
    bench.broker._consumers.clear()
    dramatiq.actor(broker=bench.broker, actor_name="plain", queue_name=WORK)(lambda number: None)
    await bench.put("plain", 1, 2, 3, 4)
    consumer: Any = await asyncio.to_thread(bench.broker.consume, WORK, 10, 50)
    first = await asyncio.to_thread(next, consumer)
    assert first.kwargs == {"number": 1}
    await until(lambda: consumer._connection.process_data_events(0) or len(consumer._arrived) == 3)
    bench.paused.add(WORK)
    assert await asyncio.to_thread(next, consumer) is None
    await until(lambda: queues.count(WORK) == 3)
    consumer.ack(first)
    bench.paused.clear()
    again = [await asyncio.to_thread(next, consumer) for _ in range(3)]
    assert [each.kwargs["number"] for each in again] == [2, 3, 4]
    assert all(each.redelivered for each in again)
    await asyncio.to_thread(consumer.close)
    assert numbers_in(queues) == [2, 3, 4]


# What workers know


async def test_a_pause_is_put_down_once_and_told_with_its_reason(database: Database) -> None:
    assert await pause(database, "views", by="ann@host", why="  the counters\nare being mended\x00 ")
    assert not await pause(database, "views", by="bob@host")
    (views,) = (await read_pauses(database)).values()
    assert (views.by, views.why) == ("ann@host", "the counters are being mended")
    assert str(views).endswith(" UTC by ann@host: the counters are being mended")
    assert 0 <= views.age_s < 60
    assert await resume(database, "views", by="bob@host")
    assert not await resume(database, "views", by="bob@host")
    assert await read_pauses(database) == {}


async def test_workers_follow_the_pauses_and_keep_what_they_knew_while_postgresql_is_away(
    database_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.messaging.pauses.LOOK_S", 0.05)
    await pause(database, "views", by="ann")
    async with Cable(database_url) as cable, Database(cable.url) as behind_the_cable:
        async with followed(behind_the_cable) as pauses:
            assert "views" in pauses
            assert "requests" not in pauses
            cable.unplug()
            await resume(database, "views", by="ann")
            with pytest.raises(DatabaseUnavailable):
                await pauses.look(1.0)
            await pauses.follow()
            assert "views" in pauses
            cable.plug()
            await until(lambda: "views" not in pauses)
        cable.unplug()
        with pytest.raises(DatabaseUnavailable):
            await anext(_entered(behind_the_cable))


async def _entered(database: Database) -> AsyncIterator[Pauses]:
    async with followed(database) as pauses:
        yield pauses
