"""What each process does for itself, and how it ends."""

import asyncio
import logging

import pytest

from services.process.logs import Mask, configure
from services.process.periodic import periodic
from tests.waiting import DEADLINE_S


async def test_a_chore_that_is_under_way_when_the_process_stops_is_no_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def look() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with periodic({look: 0.01}):
        await asyncio.wait_for(begun.wait(), DEADLINE_S)
    await asyncio.wait_for(ended.wait(), DEADLINE_S)
    await asyncio.sleep(0)  # whoever ran it is told of its end in the loop's next turn
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_a_run_that_is_skipped_on_a_busy_machine_is_not_logged() -> None:
    configure("json", Mask([]), process="test")
    assert not logging.getLogger("apscheduler.scheduler").isEnabledFor(logging.WARNING)
