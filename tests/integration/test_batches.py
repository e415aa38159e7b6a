"""Batch actors, on their own: one broker, one queue, no service behind it."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import dramatiq
import pika
import pytest
from dramatiq.errors import ConnectionClosed
from prometheus_client import REGISTRY

from actors import batches
from actors.batches import BatchConsumer, Batches, Parsed
from actors.broker import Broker, Delivered, blocking_publish
from actors.dead_letters import DeadLetters
from actors.poison import PoisonGuard
from actors.retries import Retries
from actors.table import Batch
from actors.topology import rung_of
from schema.errors import DatabaseUnavailable, HoroscopeError
from schema.messages import DEAD_LETTERS
from services.database.pool import Database
from services.messaging import poison
from services.messaging.publisher import Publisher, Queue
from services.process.logs import Mask
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S

WORK = "work"
RUNG = rung_of(WORK, 1, static=True)


class Bench:
    """A broker with actors that note what they are called with; its worker is started and stopped by the test."""

    def __init__(self, url: str, publisher: Publisher, database: Database) -> None:
        self.publisher = publisher
        publish = blocking_publish(publisher, asyncio.get_running_loop())
        self.broker = Broker(
            url,
            [Queue(WORK), RUNG, Queue(DEAD_LETTERS)],
            publish,
            DeadLetters(publish, Mask([])),
            consumers={WORK: BatchConsumer},
        )
        self.poison = PoisonGuard(poison.PoisonMessages(database), asyncio.get_running_loop())
        for middleware in (Retries(), Batches()):
            self.broker.add_middleware(middleware)
        self.calls: list[tuple[str, list[int]]] = []
        #: Called by each batch with its numbers before it is noted.
        self.work: Callable[[Sequence[int]], None] = lambda _: None
        self._called = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._worker: dramatiq.Worker | None = None

    def batch_actor(self, name: str, batch: Batch) -> None:
        """Declare a batch actor."""

        def called(parsed: Sequence[Parsed]) -> None:
            numbers = [number for _, number in parsed]
            self.work(numbers)
            self._note(name, numbers)

        def answer(messages: Sequence[Delivered]) -> None:
            batches.handle(self.poison, messages, _number, called)

        options: dict[str, Any] = {"batch": batch, "ladder": (1,), "throws": HoroscopeError}
        dramatiq.actor(broker=self.broker, actor_name=name, queue_name=WORK, **options)(answer)

    def plain_actor(self, name: str) -> None:
        """Declare an actor of the usual kind."""

        def answer(number: int) -> None:
            self._note(name, [number])

        dramatiq.actor(broker=self.broker, actor_name=name, queue_name=WORK)(answer)

    def _note(self, name: str, numbers: list[int]) -> None:
        self.calls.append((name, numbers))
        self._loop.call_soon_threadsafe(self._called.set)

    async def put(self, actor: str, *numbers: Any) -> None:
        """Publish messages."""
        for number in numbers:
            message = dramatiq.Message[Any](WORK, actor, (), {"number": number}, {})
            await self.publisher.send(WORK, message.encode())

    def start(self) -> None:
        """Start the worker."""
        self._worker = dramatiq.Worker(self.broker, worker_threads=4)
        self._worker.start()

    async def stop(self) -> None:
        """Stop it as a process does that is asked to end."""
        if self._worker:
            await asyncio.to_thread(self._worker.stop, 20_000)
            self._worker = None

    @property
    def consumer(self) -> Any:
        """The consumer of now."""
        assert self._worker
        return self._worker.consumers[WORK].consumer

    async def gathered(self, count: int) -> None:
        """Wait until so many messages are being gathered."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                consumer = self.consumer
                if consumer and sum(len(each.messages) for each in consumer._gathered.values()) == count:
                    return
                await asyncio.sleep(0.01)

    async def called_with(self, *numbers: int) -> None:
        """Wait until each of these numbers was handled."""
        async with asyncio.timeout(DEADLINE_S):
            while not {*numbers} <= {number for _, each in self.calls for number in each}:
                self._called.clear()
                await self._called.wait()


def _number(arguments: dict[str, Any]) -> int:
    number = arguments["number"]
    if not isinstance(number, int):
        raise TypeError(f"{number!r} is no number")
    return number


@pytest.fixture
async def bench(rabbitmq_url: str, database: Database) -> AsyncIterator[Bench]:
    async with Publisher(rabbitmq_url, [Queue(WORK), RUNG, Queue(DEAD_LETTERS)]) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        bench = Bench(rabbitmq_url, publisher, database)
        yield bench
        await bench.stop()


async def test_a_call_gets_as_many_as_its_size_or_what_came_within_the_linger(
    bench: Bench, queues: Queues
) -> None:
    bench.batch_actor("gather", Batch(size=3, linger_ms=200))
    await bench.put("gather", 1, 2, 3, 4, 5)
    bench.start()
    await bench.called_with(1, 2, 3, 4, 5)
    assert bench.calls == [("gather", [1, 2, 3]), ("gather", [4, 5])]
    await bench.stop()
    assert queues.count(WORK) == 0


async def test_sizes_and_ages_of_batches_are_told(bench: Bench) -> None:
    def told(name: str) -> float:
        return REGISTRY.get_sample_value(name, {"queue": WORK}) or 0.0

    names = [f"horoscope_batch_{what}" for what in ("messages_count", "messages_sum", "age_seconds_sum")]
    before = [told(name) for name in names]
    bench.batch_actor("gather", Batch(size=3, linger_ms=100))
    an_hour_ago = int((time.time() - 3600) * 1000)
    old = dramatiq.Message[Any](WORK, "gather", (), {"number": 1}, {}, message_timestamp=an_hour_ago)
    await bench.publisher.send(WORK, old.encode())
    await bench.put("gather", 2, 3, 4)
    bench.start()
    await bench.called_with(1, 2, 3, 4)
    await bench.stop()
    batches_told, messages, age = (told(name) - was for name, was in zip(names, before, strict=True))
    assert (batches_told, messages) == (2, 4)
    assert 3600 <= age < 3700


async def test_each_actor_of_a_queue_gathers_its_own_and_a_plain_one_gets_one_at_a_time(
    bench: Bench, queues: Queues
) -> None:
    bench.batch_actor("odd", Batch(size=10, linger_ms=300))
    bench.batch_actor("even", Batch(size=2, linger_ms=300))
    bench.plain_actor("plain")
    for number in range(6):
        await bench.put("odd" if number % 2 else "even", number)
        await bench.put("plain", 10 + number)
    bench.start()
    await bench.called_with(*range(6), *range(10, 16))
    await bench.stop()
    assert sorted(bench.calls) == [
        ("even", [0, 2]), ("even", [4]), ("odd", [1, 3, 5]), *(("plain", [10 + n]) for n in range(6))
    ]  # fmt: skip
    assert queues.count(WORK) == 0


async def test_a_batch_that_fails_is_halved_until_the_message_to_blame_stands_alone(
    bench: Bench, queues: Queues
) -> None:
    def poisoned(numbers: Sequence[int]) -> None:
        if 5 in numbers:
            raise ArithmeticError("five")

    bench.work = poisoned
    bench.batch_actor("gather", Batch(size=8, linger_ms=300))
    await bench.put("gather", *range(8))
    bench.start()
    await bench.called_with(0, 1, 2, 3, 4, 6, 7)
    # It climbs its own ladder, a second later, and only then it is dead.
    letter = await queues.next(DEAD_LETTERS)
    assert letter.message["kwargs"] == {"number": 5}
    assert len(letter.message["options"]["attempts"]) == 2
    assert "ArithmeticError: five" in letter.message["options"]["traceback"]
    await bench.stop()
    assert sorted(number for _, numbers in bench.calls for number in numbers) == [0, 1, 2, 3, 4, 6, 7]
    assert queues.count(WORK) == 0


async def test_what_is_no_message_and_wrong_arguments_cost_their_neighbours_nothing(
    bench: Bench, queues: Queues
) -> None:
    bench.batch_actor("gather", Batch(size=100, linger_ms=300))
    bench.plain_actor("plain")
    await bench.put("gather", 1)
    await bench.publisher.send(WORK, b"\x00\xff no message")
    await bench.put("gather", 2)
    await bench.put("nobody", 3)
    await bench.put("gather", "four")
    stumbling = dramatiq.Message[Any](WORK, "plain", (), {"wrong": 7}, {"throws": "no class"})
    await bench.publisher.send(WORK, stumbling.encode())
    positional = dramatiq.Message[Any](WORK, "gather", (5,), {"number": 5}, {})
    await bench.publisher.send(WORK, positional.encode())
    await bench.put("gather", 6)
    bench.start()
    await bench.called_with(1, 2, 6)
    dead = [await queues.next(DEAD_LETTERS) for _ in range(5)]
    assert bench.calls == [("gather", [1, 2, 6])]
    assert {letter.headers["cause"] for letter in dead} == {
        "undecodable", "unknown actor", "ladder exhausted", "wrong arguments"
    }  # fmt: skip
    await bench.stop()
    assert queues.count(WORK) == 0


async def test_a_message_whose_id_cannot_be_put_on_record_costs_its_neighbours_nothing(
    bench: Bench, queues: Queues
) -> None:
    bench.batch_actor("gather", Batch(size=100, linger_ms=300))
    long = "".join(chr(0x4E00 + place) for place in range(5000))
    for number, identity in enumerate(("1", "a\0b", long)):
        message = dramatiq.Message[Any](WORK, "gather", (), {"number": number}, {}, message_id=identity)
        await bench.publisher.send(WORK, message.encode())
    queues.lose(WORK, 3)
    bench.start()
    await bench.called_with(0)
    dead = [await queues.next(DEAD_LETTERS) for _ in range(2)]
    assert [letter.headers["cause"] for letter in dead] == ["undecodable"] * 2
    await bench.stop()
    assert queues.count(WORK) == 0


async def test_one_of_a_batch_is_given_up_only_if_it_was_lost_with_its_worker_while_it_was_answered_alone(
    bench: Bench, queues: Queues
) -> None:
    """Whoever kills a worker must not make dead letters of a thousand views, nor of one in a thousand."""
    bench.batch_actor("gather", Batch(size=100, linger_ms=300))
    for number, identity in enumerate(("innocent", "guilty")):
        message = dramatiq.Message[Any](WORK, "gather", (), {"number": number}, {}, message_id=identity)
        await bench.publisher.send(WORK, message.encode())
    records = bench.poison._records
    for _ in range(2):
        await records.begin(WORK, ["innocent", "guilty"], alone=False)
        await records.begin(WORK, ["guilty"], alone=True)
    await records.begin(WORK, ["innocent"], alone=True)
    queues.lose(WORK, 2)
    bench.start()
    await bench.called_with(0)
    letter = await queues.next(DEAD_LETTERS)
    assert letter.message["kwargs"] == {"number": 1}
    assert letter.headers["cause"] == "killed its worker"
    assert len(letter.options["attempts"]) == 5, "those on record, and this one"
    await bench.stop()
    assert queues.count(WORK) == 0


async def test_threads_that_have_the_same_tries_to_end_do_not_stumble_over_each_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> None:
        raise DatabaseUnavailable("away")

    records = bench.poison._records
    first = dramatiq.Message[Any](WORK, "gather", (), {}, {}, message_id="first")
    watched = Delivered(first, cast("Any", None), 1, redelivered=True)
    with monkeypatch.context() as patched:
        patched.setattr(records, "end", away)
        await asyncio.to_thread(_watch, bench.poison, watched)
    assert await records.lost(WORK, ["first"])
    found = await asyncio.gather(*(asyncio.to_thread(bench.poison.lost, [watched]) for _ in range(16)))
    assert found == [{}] * 16, "the try had ended, though that could not be put on record at once"


def _watch(watching: PoisonGuard, message: Delivered) -> None:
    with watching.watching([message]):
        pass


async def test_nobody_is_to_blame_when_a_server_is_away(
    bench: Bench, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.retries.PAUSE_S", 0.1)
    tried = 0

    def away(_: Sequence[int]) -> None:
        nonlocal tried
        tried += 1
        if tried < 3:
            raise DatabaseUnavailable("away")

    bench.work = away
    bench.batch_actor("gather", Batch(size=4, linger_ms=300))
    await bench.put("gather", 1, 2, 3, 4)
    bench.start()
    await bench.called_with(1, 2, 3, 4)
    await bench.stop()
    assert tried == 3  # never halved
    assert {queue: queues.count(queue) for queue in (WORK, RUNG.name, DEAD_LETTERS)} == {
        WORK: 0, RUNG.name: 0, DEAD_LETTERS: 0
    }  # fmt: skip


async def test_what_is_done_of_a_batch_stays_done_when_a_server_goes_away_in_the_middle(
    bench: Bench, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.retries.PAUSE_S", 0.1)
    away = iter([True])

    def work(numbers: Sequence[int]) -> None:
        if len(numbers) == 4:
            raise ArithmeticError("one of the four")
        if 3 in numbers and next(away, False):
            raise DatabaseUnavailable("away")

    bench.work = work
    bench.batch_actor("gather", Batch(size=4, linger_ms=300))
    await bench.put("gather", 1, 2, 3, 4)
    bench.start()
    await bench.called_with(1, 2, 3, 4)
    await bench.put("gather", 5)
    await bench.called_with(5)
    consumer: Any = bench.consumer
    await bench.stop()
    assert [numbers for _, numbers in bench.calls] == [[1, 2], [3, 4], [5]]
    assert queues.count(WORK) == 0
    assert not consumer._unsettled


async def test_a_batch_is_settled_by_the_consumer_that_it_came_from(
    rabbitmq_url: str, queues: Queues, database: Database
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work(_: Sequence[int]) -> None:
        begun.set()
        go_on.wait(20)

    async with Cable(rabbitmq_url) as cable, Publisher(rabbitmq_url, [Queue(WORK), RUNG]) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        bench = Bench(cable.url, publisher, database)
        bench.work = work
        bench.batch_actor("gather", Batch(size=2, linger_ms=100))
        await bench.put("gather", 1, 2)
        bench.start()
        assert await asyncio.to_thread(begun.wait, 20)
        first = bench.consumer
        cable.cut()
        async with asyncio.timeout(DEADLINE_S):
            while bench.consumer is first or not bench.consumer:
                await asyncio.sleep(0.02)
        second: Any = bench.consumer
        go_on.set()
        async with asyncio.timeout(DEADLINE_S):
            while len(bench.calls) < 2 or second._under_way > 0:
                await asyncio.sleep(0.02)
        await queues.drained(WORK)
        assert (first._under_way, second._under_way) == (0, 0)
        await bench.stop()
        assert second.flushed.is_set()
    assert bench.calls == [("gather", [1, 2])] * 2
    assert queues.count(WORK) == 0


async def test_a_crash_leaves_the_whole_batch_in_the_queue_and_blames_nobody(
    rabbitmq_url: str, queues: Queues, database: Database
) -> None:
    async with Cable(rabbitmq_url) as cable, Publisher(rabbitmq_url, [Queue(WORK), RUNG]) as publisher:
        await publisher.wait_ready(DEADLINE_S)
        bench = Bench(cable.url, publisher, database)
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        async def work() -> None:
            begun.set()
            while not go_on.is_set():
                await asyncio.sleep(0.01)

        def answer(messages: Sequence[Delivered]) -> None:
            def call(parsed: Sequence[Parsed]) -> None:
                messages[0].consumer.run(work(), loop)
                bench._note("gather", [number for _, number in parsed])

            batches.handle(bench.poison, messages, _number, call)

        options: dict[str, Any] = {"batch": Batch(size=3), "ladder": (1,), "throws": HoroscopeError}
        dramatiq.actor(broker=bench.broker, actor_name="gather", queue_name=WORK, **options)(answer)
        await bench.put("gather", 1, 2, 3)
        bench.start()
        await asyncio.wait_for(begun.wait(), DEADLINE_S)
        begun.clear()
        cable.cut()
        await asyncio.wait_for(begun.wait(), DEADLINE_S)  # all three come again
        assert bench.calls == []
        go_on.set()
        await bench.called_with(1, 2, 3)
        await bench.stop()
    assert bench.calls == [("gather", [1, 2, 3])]
    assert queues.count(WORK) == queues.count(RUNG.name) == 0


async def test_a_batch_is_acknowledged_without_the_one_before_that_is_still_under_way(
    bench: Bench, queues: Queues
) -> None:
    first_may_end = threading.Event()

    def work(numbers: Sequence[int]) -> None:
        if 1 in numbers:
            first_may_end.wait(20)
            raise DatabaseUnavailable("the first one never got through")

    bench.work = work
    bench.batch_actor("gather", Batch(size=2, linger_ms=100))
    await bench.put("gather", 1, 2, 3, 4)
    bench.start()
    await bench.called_with(3, 4)
    await queues.drained(WORK)
    first_may_end.set()
    await bench.stop()
    assert [queues.take(WORK).message["kwargs"]["number"] for _ in range(2)] == [1, 2]  # type: ignore[union-attr]
    assert queues.count(WORK) == 0


async def test_a_worker_that_stops_handles_what_it_has_begun_to_gather(bench: Bench, queues: Queues) -> None:
    bench.batch_actor("gather", Batch(size=1000, linger_ms=60_000))
    await bench.put("gather", 1, 2, 3)
    bench.start()
    await bench.gathered(3)
    await bench.stop()
    assert bench.calls == [("gather", [1, 2, 3])]
    assert queues.count(WORK) == 0


async def test_a_consumer_that_is_refused_leaves_no_connection_behind(
    bench: Bench, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Any] = []

    class Connection(pika.BlockingConnection):  # type: ignore[misc]
        def __init__(self, parameters: Any) -> None:
            opened.append(self)
            super().__init__(parameters)

    monkeypatch.setattr(pika, "BlockingConnection", Connection)
    bench.broker.topology = [Queue(WORK, {"x-max-length": 1})]  # it is there already, with other arguments

    with pytest.raises(ConnectionClosed, match="inequivalent arg"):
        await asyncio.to_thread(bench.broker.consume, WORK, 1, 100)

    assert [connection.is_closed for connection in opened] == [True]
