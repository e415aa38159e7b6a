"""Chats that are owed an answer. A waiter is a row, written before anything is published."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from schema.signs import Language, Sign
from services.database.coalescing import Coalescer
from services.database.pool import Database
from services.horoscopes.leases import GRACE_S
from services.horoscopes.outages import BELIEVED_S

#: Seconds for which whoever claimed waiters may answer them before somebody else does.
CLAIM_S = 60
#: Seconds for which only the bot that recorded a waiter may send its progress message; a copy of the update
#: that comes to another bot meanwhile has to wait.
SENDING_S = 10
#: A waiter without a progress message after this many seconds: whoever meant to send one is gone. Longer than
#: a bot goes on trying to send it.
UNNAMED_S = 60
#: Seconds after which somebody makes sure that a waiter's answer is on its way, and does so again.
OVERDUE_S = 30
#: Seconds after which a waiter is told that it did not work, whatever may still be tried.
BOUND_S = 900
#: Seconds for one statement that readers wait for.
STATEMENT_S = 5.0
#: Seconds after which a waiter whom Telegram could not be made to tell is forgotten.
ABANDONED_S = 86_400


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
        ours: Whoever was given this waiter may send the progress message, and nobody else for a while.
    """

    request_id: UUID
    chat_id: int
    sign: Sign
    day: date
    language: Language
    message_id: int | None
    created_at: datetime
    answered: bool = False
    ours: bool = True


_COLUMNS = "request_id, chat_id, zodiac_sign, horoscope_date, language, message_id, created_at, answered_at"

_ADD = f"""
    INSERT INTO waiters
        (request_id, chat_id, zodiac_sign, horoscope_date, language, replaces, claimed_until)
    SELECT *, now() + make_interval(secs => $7)
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::date[], $5::text[], $6::bigint[]) AS asked (request_id)
    ORDER BY request_id
    ON CONFLICT DO NOTHING
    RETURNING {_COLUMNS}
"""
_FIND = text(f"""
    SELECT {_COLUMNS} FROM waiters
    WHERE request_id = :request_id OR chat_id = :chat_id AND replaces = :replaces
    ORDER BY request_id = :request_id DESC, answered_at DESC NULLS FIRST LIMIT 1
""")
_SEND_AGAIN = text("""
    UPDATE waiters SET claimed_until = now() + make_interval(secs => :sending)
    WHERE request_id = :request_id AND answered_at IS NULL AND message_id IS NULL
      AND (claimed_until IS NULL OR claimed_until < now())
""")
_NAME = """
    UPDATE waiters SET message_id = named.message_id, claimed_until = NULL
    FROM unnest($1::uuid[], $2::bigint[]) AS named (request_id, message_id)
    WHERE waiters.request_id = named.request_id
"""
# While the model is known to be down, whoever writes does not stand for those who come now.
_IN_HAND = f"""
    SELECT EXISTS (
               SELECT FROM generations
               WHERE zodiac_sign = asked.sign AND horoscope_date = asked.day
                 AND state = 'writing' AND expires_at > now())
           AND NOT EXISTS (SELECT FROM model_outages
               WHERE known_at IS NOT NULL AND failed_at > now() - make_interval(secs => {BELIEVED_S}))
    FROM unnest($1::text[], $2::date[]) WITH ORDINALITY AS asked (sign, day, place)
    ORDER BY place
"""
_ANSWERED = text("""
    SELECT EXISTS (SELECT FROM waiters WHERE request_id = :request_id AND answered_at IS NOT NULL)
""")
_STILL_WAITING = text("""
    SELECT request_id FROM waiters WHERE request_id = ANY(:request_ids) AND answered_at IS NULL
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
          AND created_at > COALESCE(CAST(:after AS timestamptz), '-infinity')
        ORDER BY created_at LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    RETURNING {_COLUMNS}
""")
_SETTLE = text(
    "UPDATE waiters SET answered_at = now(), claimed_until = NULL WHERE request_id = ANY(:request_ids)"
)
_RELEASE = text("UPDATE waiters SET claimed_until = NULL WHERE request_id = ANY(:request_ids)")
# Nobody is at work on these: no live lease, no ladder that is about to try again. Several may look at once:
# each text is nudged by one of them.
_OVERDUE = text(f"""
    WITH oldest AS (
        SELECT DISTINCT ON (zodiac_sign, horoscope_date) request_id
        FROM waiters LEFT JOIN generations AS generation USING (zodiac_sign, horoscope_date)
        WHERE answered_at IS NULL AND created_at < now() - make_interval(secs => :overdue)
          AND (claimed_until IS NULL OR claimed_until < now())
          AND (state = 'writing' AND expires_at > now()) IS NOT TRUE
          AND (state = 'retrying' AND ladder = 'request' AND retry_at > now() - make_interval(secs => :grace)
               AND created_at > now() - make_interval(secs => :bound)) IS NOT TRUE
        ORDER BY zodiac_sign, horoscope_date, created_at
    )
    UPDATE waiters SET nudged_at = now()
    WHERE request_id IN (SELECT request_id FROM oldest)
      AND (nudged_at IS NULL OR nudged_at < now() - make_interval(secs => :overdue))
    RETURNING {_COLUMNS}, now() - make_interval(secs => :bound) AS bound
""")
_ABANDON = text(f"""
    UPDATE waiters SET answered_at = now()
    WHERE answered_at IS NULL AND created_at < now() - make_interval(secs => :abandoned)
    RETURNING {_COLUMNS}
""")
_PRUNE = text("DELETE FROM waiters WHERE answered_at < now() - interval '2 days'")


class Waiters:
    """Who waits, for what, and until when."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # A crowd that asks at once shares these statements.
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
        """Record that a chat is owed an answer, and claim the right to send the progress message.

        A repeated request finds the waiter it made before; so does a second press of the button under one
        message, since that message can show one answer only.

        Args:
            request_id: The request.
            chat_id: Telegram's id of the chat.
            sign: Whose text.
            day: Of which day.
            language: The reader's interface language.
            replaces: The message whose button was pressed; None: the answer is a message of its own.
        """
        asked = (request_id, chat_id, sign.value, day, language.value, replaces)
        if added := await self._adding.ask(asked):
            return added
        values = {"request_id": request_id, "chat_id": chat_id, "replaces": replaces, "sending": SENDING_S}
        async with self._database.transaction() as connection:
            found = _waiter((await connection.execute(_FIND, values)).one())
            claimed = await connection.execute(_SEND_AGAIN, values)
            return replace(found, ours=found.request_id == request_id and claimed.rowcount == 1)

    async def _add_all(self, asked: Sequence[tuple[Any, ...]]) -> list[Waiter | None]:
        """The new waiters among several; None for each that was there before."""
        rows = await self._database.writes.fetch(
            _ADD, *zip(*asked, strict=True), SENDING_S, timeout=STATEMENT_S
        )
        added = {row["request_id"]: _waiter(row) for row in rows}
        return [added.pop(request_id, None) for request_id, *_ in asked]

    async def name(self, request_id: UUID, message_id: int) -> None:
        """Remember the progress message, which makes the waiter ready to be answered."""
        await self._naming.ask((request_id, message_id))

    async def _name_all(self, named: Sequence[tuple[UUID, int]]) -> list[None]:
        await self._database.writes.fetch(_NAME, *zip(*named, strict=True), timeout=STATEMENT_S)
        return [None] * len(named)

    async def in_hand(self, sign: Sign, day: date) -> bool:
        """Somebody is writing the text at this moment, and will answer everyone who is on record by now."""
        return await self._looking.ask((sign.value, day))

    async def _look_at_all(self, asked: Sequence[tuple[str, date]]) -> list[bool]:
        rows = await self._database.reads.fetch(_IN_HAND, *zip(*asked, strict=True), timeout=STATEMENT_S)
        return [row[0] for row in rows]

    async def is_answered(self, request_id: UUID) -> bool:
        """The request made a waiter, and the waiter had its answer."""
        async with self._database.transaction() as connection:
            answered = await connection.execute(_ANSWERED, {"request_id": request_id})
            return bool(answered.scalar_one())

    async def still_waiting(self, request_ids: Collection[UUID]) -> set[UUID]:
        """Those of the requests whose answer is still owed."""
        async with self._database.transaction() as connection:
            waiting = await connection.execute(_STILL_WAITING, {"request_ids": list(request_ids)})
            return set(waiting.scalars())

    async def oldest(self, sign: Sign, day: date) -> Waiter | None:
        """The one who has waited longest, if anybody does."""
        async with self._database.transaction() as connection:
            row = (await connection.execute(_OLDEST, {"sign": sign, "day": day})).one_or_none()
        return _waiter(row) if row else None

    async def claim(
        self,
        sign: Sign,
        day: date,
        *,
        limit: int,
        before: datetime | None = None,
        after: datetime | None = None,
    ) -> list[Waiter]:
        """Take waiters to answer them; nobody else is given them for a minute.

        Args:
            sign: Whose text they wait for.
            day: Of which day.
            limit: The most to take.
            before: Only those who waited by then; None: all.
            after: Only those who began to wait after this; None: all.
        """
        values = {
            "sign": sign, "day": day, "limit": limit, "before": before, "after": after,
            "claim": CLAIM_S, "unnamed": UNNAMED_S,
        }  # fmt: skip
        async with self._database.transaction() as connection:
            return [_waiter(row) for row in await connection.execute(_CLAIM, values)]

    async def settle(self, request_ids: Collection[UUID]) -> None:
        """Nothing is owed to these any more."""
        await self._update(_SETTLE, request_ids)

    async def release(self, request_ids: Collection[UUID]) -> None:
        """Give back claimed waiters that could not be answered now."""
        await self._update(_RELEASE, request_ids)

    async def overdue(self) -> list[tuple[Waiter, datetime]]:
        """For each text, the one who has waited longest while nobody is at work on it.

        Whoever is given one sees to it; nobody else is given it for half a minute.

        Returns:
            Each such waiter, and the instant before which nobody may have begun to wait.
        """
        bounds = {"overdue": OVERDUE_S, "bound": BOUND_S, "grace": GRACE_S}
        async with self._database.transaction() as connection:
            return [(_waiter(row), row.bound) for row in await connection.execute(_OVERDUE, bounds)]

    async def abandon(self) -> list[Waiter]:
        """Give up those whom nobody could be told for a whole day."""
        async with self._database.transaction() as connection:
            abandoned = await connection.execute(_ABANDON, {"abandoned": ABANDONED_S})
            return [_waiter(row) for row in abandoned]

    async def prune(self) -> None:
        """Forget who was answered long ago; until then a repeated update finds its answer given."""
        async with self._database.transaction() as connection:
            await connection.execute(_PRUNE)

    async def _update(self, statement: Any, request_ids: Collection[UUID]) -> None:
        if request_ids:
            async with self._database.transaction() as connection:
                await connection.execute(statement, {"request_ids": list(request_ids)})


def _waiter(row: Any) -> Waiter:
    request_id, chat_id, sign, day, language, message_id, created_at, answered_at, *_ = row
    return Waiter(
        request_id=request_id,
        chat_id=chat_id,
        sign=Sign(sign),
        day=day,
        language=Language(language),
        message_id=message_id,
        created_at=created_at,
        answered=answered_at is not None,
    )
