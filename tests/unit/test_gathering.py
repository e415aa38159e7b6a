"""One call for many callers."""

import asyncio
from collections.abc import Sequence

import pytest

from schema.errors import DatabaseUnavailable
from services.database.coalescing import Coalescer


class Doubler:
    """Doubles numbers, call by call, as slowly as the test wants."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def double(self, numbers: Sequence[int]) -> list[int]:
        self.calls.append(list(numbers))
        await self.open.wait()
        if -1 in numbers:
            raise ValueError("-1")
        if -2 in numbers:
            raise DatabaseUnavailable("away")
        return [2 * number for number in numbers]


async def test_those_who_ask_at_once_share_a_call_and_each_get_their_own_answer() -> None:
    doubler = Doubler()
    gathering = Coalescer(doubler.double)
    assert await asyncio.gather(*map(gathering.ask, range(5))) == [0, 2, 4, 6, 8]
    assert doubler.calls == [[0, 1, 2, 3, 4]]


async def test_those_who_come_while_a_call_is_under_way_go_together_afterwards() -> None:
    doubler = Doubler()
    gathering = Coalescer(doubler.double)
    doubler.open.clear()
    asking = []
    for number in range(4):
        asking.append(asyncio.create_task(gathering.ask(number)))
        while not doubler.calls:
            await asyncio.sleep(0)
    await asyncio.sleep(0)  # the last one, too, has asked
    doubler.open.set()
    assert await asyncio.gather(*asking) == [0, 2, 4, 6]
    assert doubler.calls == [[0], [1, 2, 3]]


async def test_who_gave_up_is_left_out_and_holds_up_nobody() -> None:
    doubler = Doubler()
    gathering = Coalescer(doubler.double)
    doubler.open.clear()
    first = asyncio.create_task(gathering.ask(1))
    while not doubler.calls:
        await asyncio.sleep(0)
    others = [asyncio.create_task(gathering.ask(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    for impatient in (first, others[0]):
        impatient.cancel()
    await asyncio.wait({first, others[0]})
    doubler.open.set()
    assert await others[1] == 6
    assert doubler.calls == [[1], [3]]


async def test_one_who_is_to_blame_fails_alone() -> None:
    gathering = Coalescer(Doubler().double)
    answers = await asyncio.gather(*map(gathering.ask, [1, -1, 2]), return_exceptions=True)
    assert answers[0] == 2
    assert isinstance(answers[1], ValueError)
    assert answers[2] == 4


async def test_what_passes_fails_all_of_them_by_one_call_and_then_is_over() -> None:
    doubler = Doubler()
    gathering = Coalescer(doubler.double)
    answers = await asyncio.gather(*map(gathering.ask, [1, -2, 2]), return_exceptions=True)
    assert all(isinstance(answer, DatabaseUnavailable) for answer in answers)
    assert len(doubler.calls) == 1
    with pytest.raises(DatabaseUnavailable):
        await gathering.ask(-2)
    assert await gathering.ask(3) == 6


async def test_whoever_has_given_up_is_not_kept() -> None:
    answer = asyncio.Event()
    asked: list[int] = []

    async def answer_all(several: Sequence[int]) -> list[int]:
        asked.extend(several)
        await answer.wait()
        return [*several]

    gathering = Coalescer(answer_all)
    first = asyncio.create_task(gathering.ask(1))
    while not asked:
        await asyncio.sleep(0)
    others = [asyncio.create_task(gathering.ask(number)) for number in (2, 3)]
    await asyncio.sleep(0)
    others[0].cancel()
    await asyncio.gather(others[0], return_exceptions=True)
    assert [number for number, _ in gathering._gathered] == [3]
    answer.set()
    assert [*await asyncio.gather(first, others[1])] == [1, 3]
    assert asked == [1, 3]
