"""Telegram's limits are kept by all together."""

import asyncio
import time

import pytest

from schema.errors import TelegramUnavailable
from services.telegram import client as telegram
from services.telegram.client import Pace


async def waited(pace: Pace, patience: float = 10) -> float:
    began = time.monotonic()
    await pace.turn(began + patience)
    return time.monotonic() - began


async def test_until_telegram_asks_for_a_pause_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: float) -> None:
        raise AssertionError("somebody waits")

    pace = Pace()
    monkeypatch.setattr(asyncio, "sleep", never)
    for _ in range(100):
        await pace.turn(time.monotonic() + 10)


async def test_a_pause_is_kept_by_all_and_then_they_go_one_by_one() -> None:
    pace = Pace()
    pace.hold(0.2)
    turns = sorted(await asyncio.gather(*(waited(pace) for _ in range(5))))
    assert turns[0] >= 0.19
    assert turns[-1] >= 0.19 + 4 * telegram.SHORTEST_GAP_S


async def test_whoever_sleeps_when_a_longer_pause_is_asked_for_keeps_that_one() -> None:
    pace = Pace()
    pace.hold(0.05)
    sleeping = asyncio.create_task(waited(pace))
    await asyncio.sleep(0)
    pace.hold(0.3)
    assert await sleeping >= 0.29


async def test_each_pause_slows_all_down_and_each_call_that_goes_well_speeds_them_up() -> None:
    pace = Pace()
    for _ in range(20):
        pace._until = 0
        pace.hold(0)
    assert pace._gap == telegram.LONGEST_GAP_S
    for _ in range(1000):
        pace.went_well()
    assert pace._gap == 0


async def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    pace = Pace()
    pace.hold(60)
    with pytest.raises(TelegramUnavailable) as unavailable:
        await waited(pace, patience=1)
    assert unavailable.value.retry_after == pytest.approx(60, abs=1)
