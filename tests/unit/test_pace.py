"""Telegram's limits are kept by all together."""

import asyncio
import time

import pytest

from schema.errors import TelegramUnavailable
from services.telegram import pace as paces_module
from services.telegram.pace import BUSY_CALLS, FIRST_PAUSE_S, SEVERAL, Pace, Paces


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
    assert turns[-1] >= 0.19 + 4 * paces_module.SHORTEST_GAP_S


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
    assert pace._gap == paces_module.LONGEST_GAP_S
    for _ in range(1000):
        pace.went_well()
    assert pace._gap == 0


async def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    pace = Pace()
    pace.hold(60)
    with pytest.raises(TelegramUnavailable) as unavailable:
        await waited(pace, patience=1)
    assert unavailable.value.retry_after == pytest.approx(60, abs=1)


async def wait_of(paces: Paces, chat: int | None) -> float:
    """Seconds until a call to a chat may be made; 0: at once."""
    now = time.monotonic()
    try:
        await paces.turn(chat, now, now)
    except TelegramUnavailable as unavailable:
        return unavailable.retry_after or 0
    return 0


async def test_a_pause_for_one_chat_holds_only_that_chat() -> None:
    paces = Paces()
    for _ in range(SEVERAL):
        paces.hold(7, 60)
    assert await wait_of(paces, 7) == pytest.approx(60, abs=1)
    assert await wait_of(paces, 8) == 0
    assert not paces.is_free(7)
    assert paces.is_free(8)


async def test_after_its_pause_a_chat_gets_one_message_a_second() -> None:
    paces = Paces()
    paces.hold(7, 0)
    assert await wait_of(paces, 7) == 0
    for _ in range(3):
        assert await wait_of(paces, 7) == pytest.approx(paces_module.SHORTEST_CHAT_GAP_S, abs=0.1)


async def test_pauses_for_several_chats_of_a_busy_bot_hold_all_until_a_call_goes_well() -> None:
    paces = Paces()
    for chat in range(BUSY_CALLS):
        paces.went_well(chat)
    for chat in range(100, 100 + SEVERAL):
        assert await wait_of(paces, 99) == 0
        paces.hold(chat, 30)
    assert await wait_of(paces, 99) == pytest.approx(FIRST_PAUSE_S, abs=0.2)
    paces._bot._until = paces._bot._next = 0
    for _ in range(SEVERAL):
        paces.hold(200 + chat, 30)
    assert await wait_of(paces, 99) == pytest.approx(2 * FIRST_PAUSE_S, abs=0.2), "the bot is limited indeed"
    paces._bot._until = paces._bot._next = 0
    paces.went_well(99)
    for chat in range(300, 300 + SEVERAL - 1):
        paces.hold(chat, 30)
    assert await wait_of(paces, 98) < FIRST_PAUSE_S


async def test_chats_that_exceed_their_own_limit_are_no_sign_that_the_bot_exceeds_its_own() -> None:
    paces = Paces()
    for chat in range(BUSY_CALLS):
        paces.went_well(chat)
    for chat in range(BUSY_CALLS):  # each got a message a moment ago
        paces.hold(chat, 30)
    assert await wait_of(paces, 99) == 0


async def test_a_bot_that_hardly_calls_does_not_exceed_its_limit() -> None:
    paces = Paces()
    for chat in range(100):
        paces.hold(chat, 30)
    assert await wait_of(paces, 999) == 0


async def test_a_call_that_concerns_no_chat_waits_only_for_the_bots_own_pause() -> None:
    paces = Paces()
    paces.hold(7, 60)
    assert await wait_of(paces, None) == 0


async def test_a_chat_that_has_just_got_a_message_is_not_free_for_another() -> None:
    paces = Paces()
    paces.note_sent(7)
    assert not paces.is_free(7)
    assert paces.is_free(8)
    paces._sent[7] -= paces_module.CHAT_S
    assert paces.is_free(7)
