"""A developer's way with dead letters: found, mended, replayed by the workers, and told what became of each."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import asyncpg

from schema.messages import GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.database import Database
from services.dead_letters.archive import Archive
from services.dead_letters.records import Filter
from tests.dead_letters import MASK, TODAY, desk_on, letter_of
from tests.processes import Processes


async def test_letters_are_mended_and_replayed_and_what_became_of_each_is_told(
    processes: Processes, database: Database, sql: asyncpg.Connection
) -> None:
    async def dead(*command: Any, code: int = 0) -> str:
        ended, said = await processes.run("dead", *map(str, command))
        assert ended == code, said
        return said

    old = HoroscopeRequested(
        uuid4(), Sign.LEO, TODAY - timedelta(days=60), answered=True, at=datetime.now(UTC)
    )
    archive = Archive(database, MASK)
    for letter in (letter_of(GenerateHoroscope(Sign.LEO, TODAY)), letter_of(old), letter_of(b"no message")):
        await archive.keep([letter])
    there = ZoneInfo("Asia/Tokyo")
    begun = await sql.fetchval("SELECT min(died_at) FROM dead_letters")
    since = f"{begun.astimezone(there).replace(tzinfo=None):%Y-%m-%dT%H:%M:%S}"
    code, said = await processes.run("dead", "list", "--since", since, environment={"TZ": there.key})
    assert (code, "3 of 3 dead letters" in said) == (0, True), "of the machine's zone"
    assert f"{begun.astimezone(there):%Y-%m-%d %H:%M:%S}" in said
    desk = desk_on(database)
    await desk.mending.edit(
        3,
        by="Anna",
        actor="generation.GenerateHoroscope",
        arguments={"sign": "virgo", "day": TODAY.isoformat()},
    )
    await processes.workers(queues=["generation", "views", "dead_letters"])
    waited = await dead("replay", "--all", "--why", "mended", "--by", "Anna", "--yes", "--wait", code=1)
    assert "3: 2 succeeded, 1 died again" in waited
    assert "horoscope dead list --state died_again --run 1" in waited
    (listed,) = await desk.records.listed(Filter())
    assert (listed.cause, listed.parent, listed.replays) == ("too old", 2, 1)
    assert f"died again as {listed.id}" in await dead("show", 2)
    assert await sql.fetchval("SELECT count(*) FROM horoscope_cache") == 2
