"""Judges dead letters: what a replay of each would do, before anything is published."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import InvalidEnvelope, InvalidMessage, text_of
from schema.messages import (
    DeliverHoroscope,
    GenerateDay,
    GenerateHoroscope,
    HoroscopeRequested,
    Message,
    MidnightTick,
    ReconcileTick,
)
from schema.sentences import Sentence
from schema.signs import Sign
from services.database.pool import Database
from services.days import Clock, first_day_alive
from services.dead_letters.contents import AT_ONCE, too_large
from services.dead_letters.filters import Judgement, State
from services.horoscopes.night import MIDNIGHT, RECONCILE
from services.messaging.envelope import decode, too_many_bytes
from services.readers.views import OLDEST

#: A message that died again after so many replays is ``capped``.
REPLAYS_AT_MOST = 2

#: Letters with one of these verdicts are replayed if a person insists.
FORCED: tuple[Judgement, ...] = ("ready", "done", "capped", "waiting")

#: Why a letter in another state than ``dead`` is not replayed.
NOT_DEAD: dict[State, Sentence] = {
    "waiting": Sentence("it is not dead any more: its replay has no outcome yet"),
    "did_it": Sentence("it is not dead any more: its replay did it"),
    "nothing_to_do": Sentence("it is not dead any more: its replay found nothing to do"),
    "died_again": Sentence("it is not dead any more: it died again as another letter"),
    "dropped": Sentence("it is not dead any more: it was dropped"),
}

#: Seconds between two calls of :meth:`Preflight.note_done`.
NOTE_S = 15.0
#: Letters that are judged in one transaction.
_JUDGED_AT_ONCE = 1000

_LETTERS = text("""
    SELECT letter.id, letter.death, letter.state, octet_length(letter.body) AS size, letter.masked, letter.replays,
           letter.published_at, edit.id AS edit, edit.actor AS edited_actor, edit.arguments AS edited_arguments
    FROM dead_letters AS letter
    LEFT JOIN LATERAL (
        SELECT id, actor, arguments FROM dead_letter_edits WHERE letter = letter.id ORDER BY id DESC LIMIT 1
    ) AS edit ON true
    WHERE letter.id = ANY(:ids) ORDER BY letter.id
""")
_BODIES = text("SELECT id, body FROM dead_letters WHERE id = ANY(:ids)")
_NEXT_DEAD = text("""
    SELECT id FROM dead_letters WHERE state = 'dead' AND id > :after ORDER BY id LIMIT :limit
""")
# Rows that are locked at this moment are skipped; a later round finds them.
_NOTE_DONE = text("""
    UPDATE dead_letters SET done = NOT done
    WHERE id = ANY(ARRAY(
        SELECT id FROM dead_letters WHERE id = ANY(:ids) AND done <> (id = ANY(:done)) FOR UPDATE SKIP LOCKED))
""")
_COUNTED = text("SELECT request_id FROM view_receipts WHERE request_id = ANY(:ids)")
_OWED = text("SELECT request_id FROM waiters WHERE answered_at IS NULL AND request_id = ANY(:ids)")
_WRITTEN = text("""
    SELECT zodiac_sign, horoscope_date, generated_at FROM horoscope_cache WHERE horoscope_date = ANY(:days)
""")
_AWAITED = text("""
    SELECT DISTINCT zodiac_sign, horoscope_date FROM waiters
    WHERE answered_at IS NULL AND horoscope_date = ANY(:days)
""")
_TICKED = text("SELECT name, at FROM ticks")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a replay of one letter would do."""

    id: Annotated[int, Field(ge=1, lt=1 << 63)]
    judgement: Judgement
    reason: str  #: In words; empty for a letter that is ready
    actor: str | None  #: The actor that would answer it; None: its message fits none
    queue: str | None
    replays: int  #: How often it had been replayed before it died
    death: UUID  #: The id of its death, wherever the letter is kept
    edit: int | None  #: The edit that would be published; None: the message as it died


@dataclass(frozen=True, slots=True)
class _Facts:
    """The effects that messages have had so far."""

    counted: set[UUID]  #: Requests whose view is counted
    owed: set[UUID]  #: Requests whose reader still waits
    texts: dict[tuple[str, date], datetime]  #: When each text was written, by sign and day
    awaited: set[tuple[str, date]]  #: Signs and days whose text a reader waits for
    ticked_at: dict[str, datetime]  #: When the last tick of each kind came
    first_day: date  #: The earliest day that some time zone lives in


@dataclass(slots=True, eq=False)
class Preflight:
    """Says what a replay of each letter would do."""

    database: Database
    actors: Mapping[str, type[Message]]  #: The message that each actor answers, by the actor's name
    clock: Clock
    _noted_up_to: int = field(default=0, init=False)

    def message(self, actor: str | None, arguments: dict[str, Any]) -> Message:
        """The message that an actor would answer.

        Raises:
            InvalidMessage: There is no such actor, or the arguments do not fit it.
        """
        if actor is None:
            if fitting := tuple(name for name in self.actors if self._is_fit(name, arguments)):
                raise InvalidMessage(
                    Sentence(
                        "the letter names no actor; name one, on the command line with --actor, and its arguments: "
                        "these arguments fit %(actors)s",
                        actors=fitting,
                    )
                )
            takes = [
                f"{name} takes {', '.join(each.name for each in fields(message))}"
                for name, message in sorted(self.actors.items())
            ]
            raise InvalidMessage(
                Sentence(
                    "the letter names no actor; name one, on the command line with --actor, and its arguments: "
                    "%(signatures)s",
                    signatures="; ".join(takes),
                )
            )
        if actor not in self.actors:
            raise InvalidMessage(
                Sentence(
                    "there is no actor %(actor)s; there are %(actors)s",
                    actor=repr(actor),
                    actors=tuple(sorted(self.actors)),
                )
            )
        message = self.actors[actor].parse(arguments)
        if message.actor != actor:
            raise InvalidMessage(
                Sentence(
                    "these are arguments for %(other)s, not for %(actor)s", other=message.actor, actor=actor
                )
            )
        return message

    def _is_fit(self, actor: str, arguments: dict[str, Any]) -> bool:
        try:
            return self.message(actor, arguments) is not None
        except InvalidMessage:
            return False

    async def verdicts(self, ids: Sequence[int]) -> list[Verdict]:
        """A verdict on each of these letters, in the order of their ids; deleted ones are left out.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        verdicts = []
        in_order = sorted(ids)
        for start in range(0, len(in_order), _JUDGED_AT_ONCE):
            async with self.database.transaction() as connection:
                verdicts += await self._judge(connection, in_order[start : start + _JUDGED_AT_ONCE])
        return verdicts

    async def note_done(self) -> None:
        """Judge the next thousand dead letters and note, for the alarm, which have nothing left to do.

        Called every :data:`NOTE_S`; each call goes on where the last one ended, and after the last letter with the first.

        Raises:
            DatabaseUnavailable: PostgreSQL is away.
        """
        async with self.database.transaction() as connection:
            asked = {"after": self._noted_up_to, "limit": _JUDGED_AT_ONCE}
            ids = (await connection.execute(_NEXT_DEAD, asked)).scalars().all()
            verdicts = await self._judge(connection, ids)
            done = [each.id for each in verdicts if each.judgement == "done"]
            await connection.execute(_NOTE_DONE, {"ids": ids, "done": done})
        self._noted_up_to = ids[-1] if len(ids) == _JUDGED_AT_ONCE else 0

    async def _judge(self, connection: AsyncConnection, ids: Sequence[int]) -> list[Verdict]:
        rows = (await connection.execute(_LETTERS, {"ids": ids})).all()
        messages: dict[int, Message | str] = {}
        for some in _portions(rows):
            unread = [
                row.id for row in some if row.edit is None and not row.masked and not too_large(row.size)
            ]
            found = await connection.execute(_BODIES, {"ids": unread})
            bodies = {row.id: row.body for row in found}
            messages |= {row.id: self._fits(row, bodies.get(row.id)) for row in some}
        fit = [message for message in messages.values() if isinstance(message, Message)]
        facts = await self._facts(connection, fit)
        return [self._verdict(row, messages[row.id], facts) for row in rows]

    def _fits(self, row: Row[Any], body: bytes | None) -> Message | str:
        """The message that would be published; or the reason why there is none."""
        try:
            if row.edit is not None:
                return self.message(row.edited_actor, row.edited_arguments)
            if row.masked:
                return Sentence("a secret was masked in it; edit its arguments first")
            if body is None:
                raise too_many_bytes(row.size)
            parts = decode(body)
            if parts["args"]:
                return Sentence("it has positional arguments; actors take only named arguments")
            return self.message(parts["actor_name"], parts["kwargs"])
        except InvalidEnvelope as error:
            return Sentence(
                "it is no message: %(error)s; edit it: give it an actor and arguments", error=str(error)
            )
        except InvalidMessage as error:
            return text_of(error)

    def _verdict(self, row: Row[Any], message: Message | str, facts: _Facts) -> Verdict:
        judgement, reason = self._judged(row, message, facts)
        known = message if isinstance(message, Message) else None
        actor, queue = (known.actor, known.queue) if known else (None, None)
        return Verdict(row.id, judgement, reason, actor, queue, row.replays, row.death, row.edit)

    def _judged(self, row: Row[Any], message: Message | str, facts: _Facts) -> tuple[Judgement, str]:
        if isinstance(message, str):
            return "unfit", message
        if row.state == "waiting":
            return "waiting", Sentence("it is being replayed; the outcome is not known yet")
        if row.state != "dead":
            return "settled", NOT_DEAD[row.state]
        if done := _done(message, facts, row.published_at):
            return "done", done
        if row.replays >= REPLAYS_AT_MOST:
            return "capped", Sentence.counted(
                "it died after %(count)s replay", "it died after %(count)s replays", count=row.replays
            )
        return "ready", ""

    async def _facts(self, connection: AsyncConnection, messages: Sequence[Message]) -> _Facts:
        requests = [each.request_id for each in messages if isinstance(each, HoroscopeRequested)]
        days = list({each.day for each in messages if hasattr(each, "day")})
        texts = await connection.execute(_WRITTEN, {"days": days})
        awaited = await connection.execute(_AWAITED, {"days": days})
        return _Facts(
            counted=set((await connection.execute(_COUNTED, {"ids": requests})).scalars()),
            owed=set((await connection.execute(_OWED, {"ids": requests})).scalars()),
            texts={(row.zodiac_sign, row.horoscope_date): row.generated_at for row in texts},
            awaited={(row.zodiac_sign, row.horoscope_date) for row in awaited},
            ticked_at={row.name: row.at for row in await connection.execute(_TICKED)},
            first_day=first_day_alive(self.clock()),
        )


def _portions(rows: Sequence[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """The rows, in portions whose bodies can be in memory at once."""
    portion: list[Row[Any]] = []
    size = 0
    for row in rows:
        if portion and size + row.size > AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(row)
        size += row.size
    if portion:
        yield portion


def _done(message: Message, facts: _Facts, published_at: datetime | None) -> str:
    """Why a message has nothing left to do; empty if it has something to do."""
    done, reason = False, ""
    match message:
        case HoroscopeRequested(answered=True, day=day) if day < facts.first_day - OLDEST:
            done = True
            reason = Sentence("its view of %(day)s is too old: it may have been counted already", day=day)
        case HoroscopeRequested(answered=True):
            done, reason = message.request_id in facts.counted, Sentence("its view is counted")
        case HoroscopeRequested():
            done = message.request_id not in facts.owed
            reason = Sentence("its reader is not waiting any more")
        case DeliverHoroscope(sign=sign, day=day):
            done = (sign.value, day) not in facts.awaited
            reason = Sentence("no reader waits for %(sign)s on %(day)s", sign=sign, day=day)
        case GenerateDay(day=day) | GenerateHoroscope(day=day) if day < facts.first_day:
            done, reason = True, Sentence("%(day)s is over everywhere", day=day)
        case GenerateHoroscope(sign=sign, day=day):
            written_at = facts.texts.get((sign.value, day))
            done = written_at is not None and written_at != message.replaces
            reason = Sentence("the text of %(sign)s for %(day)s exists", sign=sign, day=day)
        case GenerateDay(day=day):
            done = all((sign.value, day) in facts.texts for sign in Sign)
            reason = Sentence("every text of %(day)s exists", day=day)
        case MidnightTick() | ReconcileTick():
            last = facts.ticked_at.get(MIDNIGHT if isinstance(message, MidnightTick) else RECONCILE)
            done = bool(last and published_at and last > published_at)
            reason = Sentence("a later tick has come")
    return reason if done else ""
