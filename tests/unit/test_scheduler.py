"""When the ticks are published."""

import signal
import time
from typing import Any

import pendulum
import periodiq
import pytest

from actors import TABLE, scheduler
from schema.messages import MidnightTick, ReconcileTick


class Published:
    """An actor of periodiq's that only remembers."""

    def __init__(self, message: Any) -> None:
        self.options = {"periodic": periodiq.cron(scheduler.SCHEDULE[message])}
        self.sent: list[str] = []

    def send_with_options(self, scheduled_at: str) -> None:
        self.sent.append(scheduled_at)


@pytest.mark.parametrize(
    ("now", "midnight", "reconcile"),
    [
        ("2026-11-22T00:00:00", 1, 1),
        ("2026-11-22T00:01:00", 0, 0),
        ("2026-11-22T00:05:00", 0, 1),
        ("2026-11-22T12:00:00", 0, 1),
        ("2026-11-22T23:59:00", 0, 0),
    ],
)
def test_midnight_ticks_once_a_day_and_reconcile_every_five_minutes(
    monkeypatch: pytest.MonkeyPatch, now: str, midnight: int, reconcile: int
) -> None:
    monkeypatch.setattr(periodiq.pendulum, "now", lambda: pendulum.parse(now, tz="Europe/Moscow"))
    monkeypatch.setattr(periodiq, "alarm", lambda _: None)
    monkeypatch.setattr(periodiq, "signal", lambda *_: None)
    monkeypatch.setattr(periodiq, "sleep", lambda _: None)
    night, often = Published(MidnightTick), Published(ReconcileTick)
    periodiq.Scheduler(actors=[night, often]).schedule()
    assert (len(night.sent), len(often.sent)) == (midnight, reconcile)


def test_every_tick_of_the_schedule_has_an_actor() -> None:
    assert set(scheduler.SCHEDULE) == {actor.message for actor in TABLE if actor.queue == "ticks"}


def test_a_clock_that_does_not_wake_when_it_should_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clockwork = scheduler.Clockwork([Published(ReconcileTick)])
    monkeypatch.setattr(periodiq.pendulum, "now", lambda: pendulum.parse("2026-11-22T12:01:00"))
    try:
        clockwork.schedule()
        assert clockwork.trouble() == ""
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 239 + scheduler.LATE_S)
        assert clockwork.trouble() == ""
        monkeypatch.setattr(time, "monotonic", lambda: now + 250 + scheduler.LATE_S)
        assert "periodiq should have woken" in clockwork.trouble()
    finally:
        signal.alarm(0)
