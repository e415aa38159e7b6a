"""Thin handlers: each turns a message into one call of a service."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

from actors.table import Attempt
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
from services.horoscopes.leases import Ladder, Order, Refusal

if TYPE_CHECKING:  # the table is read by processes that have no use for the model and Telegram
    from actors.app import WorkerApp


async def count_views(worker_app: "WorkerApp", events: Sequence[HoroscopeRequested]) -> None:
    """Readers were shown texts."""
    await worker_app.app.views.count(events)


async def write_requested(worker_app: "WorkerApp", event: HoroscopeRequested, attempt: Attempt) -> None:
    """A reader waits: write the text, or leave it to whoever is writing it and will answer all."""
    if not attempt.again and await worker_app.app.waiters.is_answered(event.request_id):
        return
    with suppress(LeaseLost):  # whoever took it over answers everybody
        await worker_app.writer.write(event.sign, event.day, _order(attempt, "request"))


async def order_day(worker_app: "WorkerApp", command: GenerateDay, attempt: Attempt) -> None:
    """Prune, then order the signs that are missing."""
    await worker_app.app.night.order(command.day, anew=command.anew, again=attempt.again)


async def write_ordered(worker_app: "WorkerApp", command: GenerateHoroscope, attempt: Attempt) -> None:
    """Write one sign; the queue passes the turn on, whether it was written or failed."""
    refusal = None
    with suppress(LeaseLost):
        order = _order(attempt, "night", command.replaces)
        refusal = await worker_app.writer.write(command.sign, command.day, order)
    if refusal is Refusal.HELD:
        raise LeaseHeld(f"{command.sign} {command.day} is being written on a reader's request")


async def answer_waiters(worker_app: "WorkerApp", command: DeliverHoroscope, _: Attempt) -> None:
    """Edit the progress message of everyone who waits."""
    await worker_app.delivery.deliver(command)


async def begin_night(worker_app: "WorkerApp", _: MidnightTick, __: Attempt) -> None:
    """Order today's missing texts and all of tomorrow's."""
    await worker_app.app.night.begin()


async def reconcile(worker_app: "WorkerApp", _: ReconcileTick, attempt: Attempt) -> None:
    """Compare what should exist with what does."""
    await worker_app.app.night.reconcile(again=attempt.again)


async def archive(worker_app: "WorkerApp", letters: Sequence[DeadLetter]) -> None:
    """Messages that finally failed are kept."""
    await worker_app.archive.keep(letters)


def _order(attempt: Attempt, ladder: Ladder, replaces: datetime | None = None) -> Order:
    return Order(
        holder=attempt.message_id,
        ladder=ladder,
        published_at=attempt.published_at,
        attempt=attempt.number,
        again=attempt.again,
        redelivered=attempt.redelivered,
        retry_in=attempt.retry_in,
        replaces=replaces,
    )
