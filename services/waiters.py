"""Chats that are owed an answer. A waiter is a row, written before anything is published."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from schema.signs import Language, Sign
from services.database import Database

#: Seconds for which whoever claimed waiters may answer them before somebody else does.
CLAIM_S = 60
#: A waiter without a progress message after this many seconds: whoever meant to send one is gone. Longer than
#: a bot goes on trying to send it.
UNNAMED_S = 300
#: Seconds after which the reconcile tick looks at a waiter that nobody answered.
OVERDUE_S = 90
#: Seconds after which a waiter is told that it did not work, whatever may still be tried.
BOUND_S = 900


@dataclass(frozen=True, slots=True)
class Waiter:
    """A chat that is owed the text of a sign and a day.

    Args:
        request_id: The request that began the wait.
        chat_id: Telegram's id of the chat.
        sign: Whose text.
        day: Of which day.
        language: The reader's interface language.
        message_id: The progress message that the answer replaces; None when it never got a name.
        created_at: Since when.
        answered: Nothing is owed any more.
    """

    request_id: UUID
    chat_id: int
    sign: Sign
    day: date
    language: Language
    message_id: int | None
    created_at: datetime
    answered: bool = False


_COLUMNS = "request_id, chat_id, zodiac_sign, horoscope_date, language, message_id, created_at, answered_at"

_ADD = text(f"""
    INSERT INTO waiters (request_id, chat_id, zodiac_sign, horoscope_date, language)
    VALUES (:request_id, :chat_id, :sign, :day, :language)
    ON CONFLICT (request_id) DO NOTHING
    RETURNING {_COLUMNS}
""")
_FIND = text(f"SELECT {_COLUMNS} FROM waiters WHERE request_id = :request_id")
_NAME = text("UPDATE waiters SET message_id = :message_id WHERE request_id = :request_id")
_ANSWERED = text("""
    SELECT EXISTS (SELECT FROM waiters WHERE request_id = :request_id AND answered_at IS NOT NULL)
""")
_OLDEST = text(f"""
    SELECT {_COLUMNS} FROM waiters
    WHERE zodiac_sign = :sign AND horoscope_date = :day AND answered_at IS NULL
    ORDER BY created_at LIMIT 1
""")
_CLAIM = text(f"""
    UPDATE waiters SET claimed_until = now() + make_interval(secs => :claim)
    WHERE request_id IN (
        SELECT request_id FROM waiters
        WHERE zodiac_sign = :sign AND horoscope_date = :day AND answered_at IS NULL
          AND (claimed_until IS NULL OR claimed_until < now())
          AND (message_id IS NOT NULL OR created_at < now() - make_interval(secs => :unnamed))
          AND created_at <= COALESCE(CAST(:before AS timestamptz), 'infinity')
        ORDER BY created_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    RETURNING {_COLUMNS}
""")
_SETTLE = text(
    "UPDATE waiters SET answered_at = now(), claimed_until = NULL WHERE request_id = ANY(:request_ids)"
)
_RELEASE = text("UPDATE waiters SET claimed_until = NULL WHERE request_id = ANY(:request_ids)")
# Nobody is at work on these: no live lease, no ladder that is about to try again.
_OVERDUE = text(f"""
    SELECT DISTINCT ON (zodiac_sign, horoscope_date) {_COLUMNS},
           created_at < now() - make_interval(secs => :bound) AS out_of_time
    FROM waiters w LEFT JOIN generations g USING (zodiac_sign, horoscope_date)
    WHERE answered_at IS NULL AND created_at < now() - make_interval(secs => :overdue)
      AND (claimed_until IS NULL OR claimed_until < now())
      AND NOT COALESCE(g.state = 'writing' AND g.expires_at > now(), FALSE)
      AND NOT COALESCE(g.state = 'retrying' AND g.ladder = 'request'
                       AND g.retry_at > now() - make_interval(secs => 15), FALSE)
    ORDER BY zodiac_sign, horoscope_date, created_at
""")
_PRUNE = text("DELETE FROM waiters WHERE answered_at < now() - interval '2 days'")


class Waiters:
    """Who waits, for what, and until when."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self,
        request_id: UUID,
        *,
        chat_id: int,
        sign: Sign,
        day: date,
        language: Language,
    ) -> Waiter:
        """Record that a chat is owed an answer; a repeated request finds the waiter it made before."""
        values = {
            "request_id": request_id,
            "chat_id": chat_id,
            "sign": sign,
            "day": day,
            "language": language,
        }
        async with self._database.transaction() as connection:
            added = (await connection.execute(_ADD, values)).one_or_none()
            return _waiter(added or (await connection.execute(_FIND, {"request_id": request_id})).one())

    async def name(self, request_id: UUID, message_id: int) -> None:
        """Remember the progress message, which makes the waiter ready to be answered."""
        async with self._database.transaction() as connection:
            await connection.execute(_NAME, {"request_id": request_id, "message_id": message_id})

    async def is_answered(self, request_id: UUID) -> bool:
        """The request made a waiter, and the waiter had its answer."""
        async with self._database.transaction() as connection:
            answered = await connection.execute(_ANSWERED, {"request_id": request_id})
            return bool(answered.scalar_one())

    async def oldest(self, sign: Sign, day: date) -> Waiter | None:
        """The one who has waited longest, if anybody does."""
        async with self._database.transaction() as connection:
            row = (await connection.execute(_OLDEST, {"sign": sign, "day": day})).one_or_none()
        return _waiter(row) if row else None

    async def claim(self, sign: Sign, day: date, *, limit: int, before: datetime | None) -> list[Waiter]:
        """Take waiters to answer them; nobody else is given them for a minute.

        Args:
            sign: Whose text they wait for.
            day: Of which day.
            limit: The most to take.
            before: Only those who waited by then; None: all.
        """
        values = {
            "sign": sign, "day": day, "limit": limit, "before": before, "claim": CLAIM_S, "unnamed": UNNAMED_S,
        }  # fmt: skip
        async with self._database.transaction() as connection:
            return [_waiter(row) for row in await connection.execute(_CLAIM, values)]

    async def settle(self, request_ids: Collection[UUID]) -> None:
        """Nothing is owed to these any more."""
        await self._update(_SETTLE, request_ids)

    async def release(self, request_ids: Collection[UUID]) -> None:
        """Give back claimed waiters that could not be answered now."""
        await self._update(_RELEASE, request_ids)

    async def overdue(self) -> list[tuple[Waiter, bool]]:
        """For each text, the one who has waited longest while nobody is at work on it.

        Returns:
            Each such waiter, and whether it has waited longer than anybody may.
        """
        bounds = {"overdue": OVERDUE_S, "bound": BOUND_S}
        async with self._database.transaction() as connection:
            return [(_waiter(row), row.out_of_time) for row in await connection.execute(_OVERDUE, bounds)]

    async def prune(self) -> None:
        """Forget who was answered long ago; until then a repeated update finds its answer given."""
        async with self._database.transaction() as connection:
            await connection.execute(_PRUNE)

    async def _update(self, statement: Any, request_ids: Collection[UUID]) -> None:
        if request_ids:
            async with self._database.transaction() as connection:
                await connection.execute(statement, {"request_ids": list(request_ids)})


def _waiter(row: Any) -> Waiter:
    return Waiter(
        request_id=row.request_id,
        chat_id=row.chat_id,
        sign=Sign(row.zodiac_sign),
        day=row.horoscope_date,
        language=Language(row.language),
        message_id=row.message_id,
        created_at=row.created_at,
        answered=row.answered_at is not None,
    )
