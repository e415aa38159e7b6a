"""Keeps updates that take long in PostgreSQL, so that they can be confirmed to Telegram before they are finished.

Telegram gives out at most a hundred unconfirmed updates, or posts over forty connections. So an update that waits, for
example until Telegram takes another message to its chat, must not occupy one of these places. Its bot puts it on record
here, confirms it, and goes on with it. If that bot dies, another one takes the update over and handles it anew, as if
Telegram had repeated it.
"""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import uuid4

import orjson

from services.bot.admission import reader_of
from services.database.coalescing import Coalescer
from services.database.pool import Database

#: Seconds for which a bot holds its updates on record; it renews that while it runs.
HELD_S = 30
#: Seconds between two renewals, and between two looks for updates that nobody holds.
RENEW_S = 10
#: Seconds to put updates on record; a longer wait would defeat the purpose. And for other statements.
KEEP_S, STATEMENT_S = 0.5, 5.0
#: Updates that are taken over at once.
TAKEN_AT_ONCE = 100

# Names are nobody's business here; the handlers do not read them.
_UNREAD = frozenset({"last_name", "username", "title", "reply_to_message", "external_reply", "quote"})

_KEEP = """
    INSERT INTO unfinished_updates (update_id, reader_id, body, holder, held_until)
    SELECT update_id, reader_id, body, $4, now() + make_interval(secs => $5)
    FROM unnest($1::bigint[], $2::bigint[], $3::text[]) AS update (update_id, reader_id, body)
    ORDER BY update_id
    ON CONFLICT (update_id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
"""
_FINISH = "DELETE FROM unfinished_updates WHERE update_id = ANY($1::bigint[])"
_RENEW = "UPDATE unfinished_updates SET held_until = now() + make_interval(secs => $2) WHERE holder = $1"
_RELEASE = "UPDATE unfinished_updates SET held_until = now() WHERE holder = $1"
_ON_RECORD = "SELECT update_id FROM unfinished_updates"
# Telegram itself keeps no update for longer than a day.
_PRUNE = "DELETE FROM unfinished_updates WHERE kept_at < now() - interval '1 day'"
_TAKE_OVER = """
    UPDATE unfinished_updates SET holder = $1, held_until = now() + make_interval(secs => $2)
    WHERE update_id IN (
        SELECT update_id FROM unfinished_updates WHERE held_until <= now()
        ORDER BY update_id LIMIT $3 FOR UPDATE SKIP LOCKED
    )
    RETURNING update_id, body
"""


class Inbox:
    """The updates on record of one bot.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database) -> None:
        self._lane = database.lane()
        self._holder = uuid4()
        self._keeping = Coalescer(self._keep_all)
        self._finishing = Coalescer(self._finish_all)

    async def keep(self, raw: Any) -> None:
        """Put a numbered update on record; from then on it may be confirmed."""
        await self._keeping.ask(raw)

    async def _keep_all(self, updates: Sequence[Any]) -> list[None]:
        numbers = [raw["update_id"] for raw in updates]
        bodies = [orjson.dumps(without_names(raw)).decode() for raw in updates]
        readers = [reader_of(raw) for raw in updates]
        await self._lane.fetch(_KEEP, numbers, readers, bodies, self._holder, HELD_S, timeout=KEEP_S)
        return [None] * len(updates)

    async def finish(self, number: int) -> None:
        """Delete a finished update."""
        await self._finishing.ask(number)

    async def _finish_all(self, numbers: Sequence[int]) -> list[None]:
        await self._lane.fetch(_FINISH, numbers, timeout=STATEMENT_S)
        return [None] * len(numbers)

    async def on_record(self) -> Collection[int]:
        """The numbers of all updates on record, of any bot."""
        return {row[0] for row in await self._lane.fetch(_ON_RECORD, timeout=STATEMENT_S)}

    async def renew(self) -> None:
        """Hold this bot's updates for longer, and delete those that are out of date."""
        await self._lane.fetch(_RENEW, self._holder, HELD_S, timeout=STATEMENT_S)
        await self._lane.fetch(_PRUNE, timeout=STATEMENT_S)

    async def release(self) -> None:
        """Leave this bot's updates to others."""
        await self._lane.fetch(_RELEASE, self._holder, timeout=STATEMENT_S)

    async def take_over(self) -> list[Any]:
        """Take updates that no living bot holds, the oldest first."""
        rows = await self._lane.fetch(_TAKE_OVER, self._holder, HELD_S, TAKEN_AT_ONCE, timeout=STATEMENT_S)
        return [orjson.loads(body) for _, body in sorted(rows)]


def without_names(value: Any) -> Any:
    """A part of an update without the names of people and chats, and without what no handler reads."""
    if isinstance(value, list):
        return [without_names(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: "" if key == "first_name" else without_names(each)
        for key, each in value.items()
        if key not in _UNREAD
    }
