"""Waiters: chats that wait for a text. A waiter is a row, written before anything is published."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg

from schema.signs import Language, Sign
from services.database.coalescing import Coalescer
from services.database.pool import STATEMENT_TIMEOUT_S, Database
from services.horoscopes.leases import GRACE_S
from services.horoscopes.outages import BELIEVED_S

#: Seconds for which a claim on waiters is valid.
CLAIM_S = 60
#: Seconds for which only the bot that recorded a waiter may send its progress message. Another bot that receives a
#: copy of the update must wait.
SENDING_S = 10
#: Seconds after which a waiter is answered even without a progress message: its bot is gone. Longer than a bot tries
#: to send the message.
UNNAMED_S = 60
#: Seconds after which, again and again, the text of a waiter that no worker is handling is asked for.
OVERDUE_S = 30
#: Seconds after which a waiter gets an error, even if an attempt is still to come.
BOUND_S = 900
#: Seconds for a statement that a reader waits for.
STATEMENT_S = 5.0
#: Seconds after which a waiter is given up that Telegram accepts no answer for.
ABANDONED_S = 86_400


@dataclass(frozen=True, slots=True)
class Waiter:
    """A chat that waits for the text of a sign and a day."""

    request_id: UUID  #: The reader's request
    chat_id: int  #: Telegram's id of the chat
    sign: Sign
    day: date
    language: Language  #: The reader's interface language
    message_id: int | None  #: The progress message, which the answer replaces; None: it was not recorded
    created_at: datetime  #: When the wait began
    answered: bool = False  #: The wait is over
    ours: bool = True  #: The caller may send the progress message; other bots may not for some seconds


_COLUMNS = "request_id, chat_id, zodiac_sign, horoscope_date, language, message_id, created_at, answered_at"

_ADD = f"""
    INSERT INTO waiters
        (request_id, chat_id, zodiac_sign, horoscope_date, language, replaces, claimed_until)
    SELECT *, now() + make_interval(secs => $7)
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::date[], $5::text[], $6::bigint[]) AS request (request_id)
    ORDER BY request_id
    ON CONFLICT DO NOTHING
    RETURNING {_COLUMNS}
"""
_FIND = f"""
    SELECT {_COLUMNS} FROM waiters
    WHERE request_id = $1::uuid OR chat_id = $2::bigint AND replaces = $3::bigint
    ORDER BY request_id = $1::uuid DESC, answered_at DESC NULLS FIRST LIMIT 1
"""
_SEND_AGAIN = """
    UPDATE waiters SET claimed_until = now() + make_interval(secs => $2)
    WHERE request_id = $1 AND answered_at IS NULL AND message_id IS NULL
      AND (claimed_until IS NULL OR claimed_until < now())
    RETURNING request_id
"""
_NAME = """
    UPDATE waiters SET message_id = named.message_id, claimed_until = NULL
    FROM unnest($1::uuid[], $2::bigint[]) AS named (request_id, message_id)
    WHERE waiters.request_id = named.request_id
"""
# During a known outage, the worker that is writing does not answer new readers soon enough.
_IN_HAND = f"""
    SELECT EXISTS (
               SELECT FROM generations
               WHERE zodiac_sign = wanted.sign AND horoscope_date = wanted.day
                 AND state = 'writing' AND expires_at > now())
           AND NOT EXISTS (SELECT FROM model_outages
               WHERE known_at IS NOT NULL AND failed_at > now() - make_interval(secs => {BELIEVED_S}))
    FROM unnest($1::text[], $2::date[]) WITH ORDINALITY AS wanted (sign, day, place)
    ORDER BY place
"""
_ANSWERED = "SELECT 1 FROM waiters WHERE request_id = $1 AND answered_at IS NOT NULL"
_STILL_WAITING = "SELECT request_id FROM waiters WHERE request_id = ANY($1::uuid[]) AND answered_at IS NULL"
_OLDEST = f"""
    SELECT {_COLUMNS} FROM waiters
    WHERE zodiac_sign = $1 AND horoscope_date = $2 AND answered_at IS NULL
    ORDER BY created_at LIMIT 1
"""
_CLAIM = f"""
    UPDATE waiters SET claimed_until = now() + make_interval(secs => $6)
    WHERE request_id IN (
        SELECT request_id FROM waiters
        WHERE zodiac_sign = $1 AND horoscope_date = $2 AND answered_at IS NULL
          AND (claimed_until IS NULL OR claimed_until < now())
          AND (due_at IS NULL OR due_at < now())
          AND (message_id IS NOT NULL OR created_at < now() - make_interval(secs => $7))
          AND created_at <= COALESCE(CAST($4 AS timestamptz), 'infinity')
          AND created_at > COALESCE(CAST($5 AS timestamptz), '-infinity')
        ORDER BY created_at LIMIT $3
        FOR UPDATE SKIP LOCKED
    )
    RETURNING {_COLUMNS}
"""
_SETTLE = "UPDATE waiters SET answered_at = now(), claimed_until = NULL WHERE request_id = ANY($1::uuid[])"
_CANCEL = f"""
    UPDATE waiters SET claimed_until = now() + make_interval(secs => {CLAIM_S})
    WHERE chat_id = $1 AND answered_at IS NULL AND (claimed_until IS NULL OR claimed_until < now())
    RETURNING message_id
"""
_RELEASE = "UPDATE waiters SET claimed_until = NULL WHERE request_id = ANY($1::uuid[])"
_SET_ASIDE = """
    UPDATE waiters SET claimed_until = NULL, due_at = now() + make_interval(secs => aside.seconds)
    FROM unnest($1::uuid[], $2::float8[]) AS aside (request_id, seconds)
    WHERE waiters.request_id = aside.request_id
"""
_AGAIN = """
    SELECT extract(epoch FROM again_at - now())::float8 FROM generations
    WHERE zodiac_sign = $1 AND horoscope_date = $2 AND state = 'given_up' AND again_at > now()
"""
# Texts that no worker is handling: no live lease, and no ladder about to retry. Of several concurrent callers, one gets
# each text.
_OVERDUE = f"""
    WITH oldest AS (
        SELECT DISTINCT ON (zodiac_sign, horoscope_date) request_id
        FROM waiters LEFT JOIN generations AS generation USING (zodiac_sign, horoscope_date)
        WHERE answered_at IS NULL AND created_at < now() - make_interval(secs => $1)
          AND (claimed_until IS NULL OR claimed_until < now())
          AND (due_at IS NULL OR due_at < now())
          AND (state = 'writing' AND expires_at > now()) IS NOT TRUE
          AND (state = 'retrying' AND ladder = 'request' AND retry_at > now() - make_interval(secs => $3)
               AND created_at > now() - make_interval(secs => $2)) IS NOT TRUE
        ORDER BY zodiac_sign, horoscope_date, created_at
    )
    UPDATE waiters SET nudged_at = now()
    WHERE request_id IN (SELECT request_id FROM oldest)
      AND (nudged_at IS NULL OR nudged_at < now() - make_interval(secs => $1))
    RETURNING {_COLUMNS}, now() - make_interval(secs => $2) AS bound
"""
_ABANDON = f"""
    UPDATE waiters SET answered_at = now()
    WHERE answered_at IS NULL AND created_at < now() - make_interval(secs => $1)
    RETURNING {_COLUMNS}
"""
_PRUNE = "DELETE FROM waiters WHERE answered_at < now() - interval '2 days'"


class Waiters:
    """Records, claims and settles waiters.

    Every method raises :class:`schema.errors.DatabaseUnavailable` while PostgreSQL is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lane = database.lane()
        # Many readers who ask at the same time share these statements.
        self._adding = Coalescer(self._add_all)
        self._naming = Coalescer(self._name_all)
        self._looking = Coalescer(self._look_at_all)

    async def add(
        self,
        request_id: UUID,
        *,
        chat_id: int,
        sign: Sign,
        day: date,
        language: Language,
        replaces: int | None = None,
    ) -> Waiter:
        """Record that a chat waits for an answer, and claim the right to send its progress message.

        A repeated request finds its existing waiter. So does a second press of the button under one message
        (``replaces``), because that message can show only one answer.
        """
        if added := await self._adding.ask((request_id, chat_id, sign.value, day, language.value, replaces)):
            return added
        (row,) = await self._fetch(_FIND, request_id, chat_id, replaces)
        found = _waiter(row)
        claimed = await self._fetch(_SEND_AGAIN, request_id, SENDING_S)
        return replace(found, ours=found.request_id == request_id and bool(claimed))

    async def _add_all(self, waiters: Sequence[tuple[Any, ...]]) -> list[Waiter | None]:
        """The waiters that were added; None for each that existed."""
        rows = await self._database.writes.fetch(
            _ADD, *zip(*waiters, strict=True), SENDING_S, timeout=STATEMENT_S
        )
        added = {row["request_id"]: _waiter(row) for row in rows}
        return [added.pop(request_id, None) for request_id, *_ in waiters]

    async def name(self, request_id: UUID, message_id: int) -> None:
        """Record the progress message; from then on the waiter can be answered."""
        await self._naming.ask((request_id, message_id))

    async def _name_all(self, named: Sequence[tuple[UUID, int]]) -> list[None]:
        await self._database.writes.fetch(_NAME, *zip(*named, strict=True), timeout=STATEMENT_S)
        return [None] * len(named)

    async def is_being_written(self, sign: Sign, day: date) -> bool:
        """A worker is writing the text now, and will answer every waiter that is recorded by now."""
        return await self._looking.ask((sign.value, day))

    async def _look_at_all(self, texts: Sequence[tuple[str, date]]) -> list[bool]:
        rows = await self._database.reads.fetch(_IN_HAND, *zip(*texts, strict=True), timeout=STATEMENT_S)
        return [row[0] for row in rows]

    async def is_answered(self, request_id: UUID) -> bool:
        """The request has a waiter, which was answered."""
        return bool(await self._fetch(_ANSWERED, request_id))

    async def still_waiting(self, request_ids: Collection[UUID]) -> set[UUID]:
        """Those of the requests whose waiter has no answer yet."""
        return {row[0] for row in await self._fetch(_STILL_WAITING, list(request_ids))}

    async def oldest(self, sign: Sign, day: date) -> Waiter | None:
        """The waiter that has waited longest for a text; None: there is none."""
        rows = await self._fetch(_OLDEST, sign, day)
        return _waiter(rows[0]) if rows else None

    async def claim(
        self,
        sign: Sign,
        day: date,
        *,
        limit: int,
        before: datetime | None = None,
        after: datetime | None = None,
    ) -> list[Waiter]:
        """Claim waiters for a minute, if they were recorded by ``before`` and after ``after``; None: any time."""
        rows = await self._fetch(_CLAIM, sign, day, limit, before, after, CLAIM_S, UNNAMED_S)
        return [_waiter(row) for row in rows]

    async def settle(self, request_ids: Collection[UUID]) -> None:
        """Mark waiters as answered."""
        await self._fetch(_SETTLE, list(request_ids))

    async def release(self, request_ids: Collection[UUID]) -> None:
        """Give back claimed waiters that could not be answered now."""
        await self._fetch(_RELEASE, list(request_ids))

    async def cancel(self, chat_id: int) -> list[int]:
        """Claim a chat's waits that nobody is answering, so that nobody does; returns their progress messages."""
        rows = await self._fetch(_CANCEL, chat_id)
        return [row["message_id"] for row in rows if row["message_id"] is not None]

    async def seconds_until_again(self, sign: Sign, day: date) -> float | None:
        """The seconds until readers can have a text begun again that was given up; None: they can now."""
        rows = await self._fetch(_AGAIN, sign, day)
        return float(rows[0][0]) if rows else None

    async def set_aside(self, seconds: Mapping[UUID, float]) -> None:
        """Give back claimed waiters, each to be answered after so many seconds at the earliest."""
        await self._fetch(_SET_ASIDE, [*seconds], [*seconds.values()])

    async def overdue(self) -> list[tuple[Waiter, datetime]]:
        """For each text that no worker is handling, the waiter that has waited longest.

        One of several concurrent callers gets it, and none gets it again for half a minute. With each waiter comes the
        instant before which a wait counts as too long.
        """
        return [
            (_waiter(row), row["bound"]) for row in await self._fetch(_OVERDUE, OVERDUE_S, BOUND_S, GRACE_S)
        ]

    async def abandon(self) -> list[Waiter]:
        """Give up waiters that have waited for a whole day, because Telegram accepts no answer for them."""
        return [_waiter(row) for row in await self._fetch(_ABANDON, ABANDONED_S)]

    async def prune(self) -> None:
        """Delete waiters that were answered two days ago; until then a repeated update finds its answer."""
        await self._fetch(_PRUNE)

    async def _fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        return await self._lane.fetch(statement, *values, timeout=STATEMENT_TIMEOUT_S)


def _waiter(row: Sequence[Any]) -> Waiter:
    request_id, chat_id, sign, day, language, message_id, created_at, answered_at, *_ = row
    answered = answered_at is not None
    return Waiter(request_id, chat_id, Sign(sign), day, Language(language), message_id, created_at, answered)
