"""Thin handlers: each calls one service."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from schema.errors import LeaseHeld, LeaseLost
from schema.messages import (
    DeadLetter,
    DeliverHoroscope,
    GenerateDay,
    GenerateHoroscope,
    HoroscopeRequested,
    MidnightTick,
    ReconcileTick,
)
from services.horoscopes.leases import Order, Refusal
from services.messaging.attempts import Attempt, Ladder

if TYPE_CHECKING:  # processes without the model and Telegram read the table too
    from actors.app import WorkerApp


async def count_views(worker: "WorkerApp", events: Sequence[HoroscopeRequested]) -> list[bool]:
    """Count the texts that readers were shown."""
    counted = await worker.app.views.count(events)
    return [event.request_id in counted for event in events]


async def write_requested(worker: "WorkerApp", event: HoroscopeRequested, attempt: Attempt) -> bool:
    """Write a missing text, or leave it to the worker that is writing it and will answer every waiter."""
    waiters = worker.app.waiters
    if not attempt.again and await waiters.is_answered(event.request_id):
        return False
    with suppress(LeaseLost):  # the lease's new holder answers every waiter
        refusal = await worker.writer.write(event.sign, event.day, Order(attempt, Ladder.REQUEST))
        if refusal is Refusal.WRITTEN and attempt.replayed:  # the reader gets the text that exists
            return bool(await waiters.still_waiting([event.request_id]))
        return refusal is None
    return False


async def order_day(worker: "WorkerApp", command: GenerateDay, attempt: Attempt) -> bool:
    """Delete out-of-date texts, then order the day's missing ones."""
    return bool(await worker.app.night.order(command.day, anew=command.anew, again=attempt.again))


async def write_ordered(worker: "WorkerApp", command: GenerateHoroscope, attempt: Attempt) -> bool:
    """Write the text of one sign and day."""
    with suppress(LeaseLost):
        order = Order(attempt, Ladder.NIGHT, command.replaces)
        refusal = await worker.writer.write(command.sign, command.day, order)
        if refusal is Refusal.HELD:
            raise LeaseHeld(f"{command.sign} {command.day} is being written on a reader's request")
        return refusal is None
    return False


async def answer_waiters(worker: "WorkerApp", command: DeliverHoroscope, _: Attempt) -> bool:
    """Answer every reader who waits for the text."""
    return bool(await worker.delivery.deliver(command))


async def begin_night(worker: "WorkerApp", _: MidnightTick, __: Attempt) -> bool:
    """Order today's missing texts and tomorrow's, then forget readers who are long gone."""
    await worker.app.night.begin()
    await worker.app.personal_data.prune()
    return True


async def reconcile(worker: "WorkerApp", _: ReconcileTick, attempt: Attempt) -> bool:
    """Order the texts that should exist and do not."""
    return bool(await worker.app.night.reconcile(again=attempt.again))


async def archive(worker: "WorkerApp", letters: Sequence[DeadLetter]) -> list[bool]:
    """Keep messages that finally failed."""
    await worker.archive.keep(letters)
    return [True] * len(letters)
