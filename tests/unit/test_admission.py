"""Which updates are answered, and which are passed over."""

from typing import Any

import pytest

from services.bot import admission
from services.bot.admission import BURST, UNDER_WAY_AT_MOST, Admission, Verdict, chat_of, reader_of

ADMITTED, SLOW_DOWN, PASSED_OVER = Verdict


def message(reader: int = 7, chat: int | None = None) -> dict[str, Any]:
    return {"message": {"from": {"id": reader}, "chat": {"id": reader if chat is None else chat}}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The monotonic clock, which stands still until the test moves it."""

    class Clock:
        now = 1000.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


def test_a_reader_who_writes_too_fast_is_told_once_and_then_passed_over(clock: Any) -> None:
    desk = Admission()
    verdicts = [desk.judge(message()) for _ in range(BURST + 5)]
    assert verdicts == [ADMITTED] * BURST + [SLOW_DOWN] + [PASSED_OVER] * 4
    assert desk.judge(message(reader=8)) is ADMITTED, "the bucket is one reader's"
    clock.now += admission.REFILL_S
    assert [desk.judge(message()) for _ in range(2)] == [ADMITTED, PASSED_OVER]
    clock.now += BURST * admission.REFILL_S
    verdicts = [desk.judge(message()) for _ in range(BURST + 2)]
    assert verdicts == [ADMITTED] * BURST + [SLOW_DOWN, PASSED_OVER], "told again after a rest"


def test_a_chat_has_only_a_few_updates_under_way(clock: Any) -> None:
    desk = Admission()
    for reader in range(UNDER_WAY_AT_MOST):
        assert desk.judge(message(reader, chat=-1)) is ADMITTED
        desk.began(-1)
    assert desk.judge(message(99, chat=-1)) is SLOW_DOWN
    for _ in range(3):
        clock.now += 60
        assert desk.judge(message(99, chat=-1)) is PASSED_OVER, "told once, however slowly the chat goes on"
    assert desk.judge(message(99, chat=99)) is ADMITTED
    desk.ended(-1)
    assert desk.judge(message(99, chat=-1)) is ADMITTED


def test_whoever_blocks_the_bot_again_and_again_is_passed_over_without_a_word(clock: Any) -> None:
    del clock
    desk = Admission()
    update = {"my_chat_member": {"from": {"id": 7}, "chat": {"id": 7}}}
    assert [desk.judge(update) for _ in range(BURST + 2)] == [ADMITTED] * BURST + [PASSED_OVER] * 2


def test_only_some_readers_are_remembered(clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    del clock
    monkeypatch.setattr(admission, "READERS_AT_MOST", 3)
    desk = Admission()
    for reader in range(100):
        for _ in range(BURST + 1):
            desk.judge(message(reader))
    assert len(desk._full_at) == len(desk._told) == 3


@pytest.mark.parametrize(
    "raw",
    [None, 7, [], {}, {"message": 7}, {"message": {"from": 7, "chat": 7}}, {"message": {"from": {"id": "x"}}},
     {"callback_query": {"from": {"id": None}, "message": None}}],
)  # fmt: skip
def test_a_malformed_update_names_nobody(raw: Any) -> None:
    assert reader_of(raw) is chat_of(raw) is None
    assert Admission().judge(raw) is ADMITTED
