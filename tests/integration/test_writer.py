"""Storing texts side by side."""

import asyncio
from datetime import UTC, datetime

import asyncpg

from actors.app import open_worker_app
from ops.sandbox.model.prompts import Prompt
from ops.sandbox.model.texts import compose
from schema.errors import TextRejected
from schema.signs import Sign
from services.app import App
from services.days import day_in
from services.horoscopes.leases import Lease, Leases, Order
from services.horoscopes.model import Draft
from services.messaging.attempts import Attempt, Ladder


async def test_of_signs_that_are_stored_at_once_with_one_text_one_gets_it(
    app: App, sql: asyncpg.Connection
) -> None:
    day = day_in(app.settings.home_timezone, app.clock())
    text = compose(Prompt("leo", day.isoformat(), "ru"))
    draft = Draft("m", None, None, 1, text, "v2")
    leases = []
    for sign in Sign:
        lease = await Leases(app.database).acquire(
            sign, day, Order(Attempt(sign, datetime.now(UTC)), Ladder.REQUEST)
        )
        assert isinstance(lease, Lease)
        leases.append(lease)
    # Open connections enough that nobody is ahead because others have to connect.
    open_connections = asyncio.Barrier(8)

    async def connect() -> None:
        async with app.database.transaction():
            await open_connections.wait()

    await asyncio.gather(*(connect() for _ in range(8)))
    async with open_worker_app(app) as worker_app:
        stored = await asyncio.gather(
            *(worker_app.writer._store(lease, draft) for lease in leases), return_exceptions=True
        )
    assert sum(outcome is None for outcome in stored) == 1, stored
    rejected = [outcome for outcome in stored if isinstance(outcome, TextRejected)]
    assert {outcome.rule for outcome in rejected} == {"likeness"}
    assert len(rejected) == 11
    assert await sql.fetchval("SELECT count(*) FROM horoscope_cache") == 1
