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


async def count_views(worker: "WorkerApp", events: Sequence[HoroscopeRequested]) -> None:
    """Count the texts that readers were shown."""
    await worker.app.views.count(events)


async def write_requested(worker: "WorkerApp", event: HoroscopeRequested, attempt: Attempt) -> None:
    """Write a missing text, or leave it to the worker that is writing it and will answer every waiter."""
    if not attempt.again and await worker.app.waiters.is_answered(event.request_id):
        return
    with suppress(LeaseLost):  # the lease's new holder answers every waiter
        await worker.writer.write(event.sign, event.day, Order(attempt, Ladder.REQUEST))


async def order_day(worker: "WorkerApp", command: GenerateDay, attempt: Attempt) -> None:
    """Delete out-of-date texts, then order the day's missing ones."""
    await worker.app.night.order(command.day, anew=command.anew, again=attempt.again)


async def write_ordered(worker: "WorkerApp", command: GenerateHoroscope, attempt: Attempt) -> None:
    """Write the text of one sign and day."""
    refusal = None
    with suppress(LeaseLost):
        order = Order(attempt, Ladder.NIGHT, command.replaces)
        refusal = await worker.writer.write(command.sign, command.day, order)
    if refusal is Refusal.HELD:
        raise LeaseHeld(f"{command.sign} {command.day} is being written on a reader's request")


async def answer_waiters(worker: "WorkerApp", command: DeliverHoroscope, _: Attempt) -> None:
    """Answer every reader who waits for the text."""
    await worker.delivery.deliver(command)


async def begin_night(worker: "WorkerApp", _: MidnightTick, __: Attempt) -> None:
    """Order today's missing texts and tomorrow's."""
    await worker.app.night.begin()


async def reconcile(worker: "WorkerApp", _: ReconcileTick, attempt: Attempt) -> None:
    """Order the texts that should exist and do not."""
    await worker.app.night.reconcile(again=attempt.again)


async def archive(worker: "WorkerApp", letters: Sequence[DeadLetter]) -> None:
    """Keep messages that finally failed."""
    await worker.archive.keep(letters)
