"""The audit: who did what, from where, on what, with which outcome. Rows are added, never changed.

An act is written down before it begins, in a row ``begun``, and again when it has ended. If the first row cannot be
written, the act does not happen; if its process dies, that row stays alone and says so.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from schema.errors import DatabaseUnavailable, PermanentError
from services.database.pool import Database
from services.process.logs import Mask

log = structlog.get_logger(__name__)

#: Every act that is put on record.
ACTS = (
    "account.add", "account.disable", "account.enable", "account.password", "account.remove", "account.role",
    "account.sign-out", "dead.drop", "dead.edit", "dead.export", "dead.import", "dead.note", "dead.replay",
    "dead.restore", "queue.pause", "queue.peek", "queue.purge", "queue.resume", "reader.forget", "run.cancel",
    "run.resume",
    "session.sign-in", "session.sign-out", "session.sign-out-everywhere", "text.order", "token.add", "token.revoke",
)  # fmt: skip

#: ``begun`` stands alone only if the process died, or lost PostgreSQL, in the middle of the act.
Outcome = Literal["begun", "done", "refused", "failed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)

#: The name on record of somebody who typed a name that no account has: it may have been a password.
UNKNOWN = "?"

#: The most entries that a list returns.
PAGE = 1000
#: Seconds in which a row must be written.
_PATIENCE_S = 4.0
#: The most characters that are kept of a name or an address, of what an act was on, of a detail, and of values.
_SHORT, _SUBJECT, _DETAIL, _VALUES = 100, 500, 1000, 8000

#: A number as Telegram gives them to people.
_NUMBER = re.compile(r"(?<!\d)\d{6,19}(?!\d)")

_ADD = text("""
    INSERT INTO audit (act, who, role, origin, what, subject, before, after, outcome, detail)
    VALUES (:act, :who, :role, :origin, :what, :subject, CAST(:before AS jsonb), CAST(:after AS jsonb), :outcome,
            :detail)
""")
# The row with which an act began is left out once the act has ended.
_LIST = text("""
    SELECT id, at, who, role, origin, what, subject, before, after, outcome, detail FROM audit
    WHERE (outcome <> 'begun' OR NOT EXISTS (SELECT FROM audit AS later WHERE later.act = audit.act AND later.id > audit.id))
      AND (CAST(:who AS text) IS NULL OR who = :who)
      AND (CAST(:what AS text) IS NULL OR what = :what OR what LIKE :group)
      AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
      AND (CAST(:until AS timestamptz) IS NULL OR at < :until)
      AND (CAST(:before AS bigint) IS NULL OR id < :before)
    ORDER BY id DESC LIMIT :limit
""")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who acts."""

    who: str  #: An account, or the name that was given on the command line
    role: str  #: One of the roles; :data:`services.accounts.roles.SHELL` for the command line
    origin: str  #: The address of the browser, or the user and host of the command line


@dataclass(slots=True)
class Entry:
    """What the audit will say of an act that is under way."""

    what: str  #: One of :data:`ACTS`
    subject: str = ""  #: What it is done to
    before: Any = None  #: A JSON value; None: nothing to tell
    after: Any = None  #: Likewise
    outcome: Outcome = "done"
    detail: str = ""  #: Why it was refused or failed

    def refuse(self, reason: str) -> None:
        """Record that the act did not happen, and why."""
        self.outcome, self.detail = "refused", reason

    def fail(self, error: BaseException) -> None:
        """Record how the act ended that raised an error."""
        if isinstance(error, PermanentError):
            self.refuse(str(error))
        elif isinstance(error, asyncio.CancelledError):
            self.outcome, self.detail = "failed", "it was interrupted"
        elif self.outcome == "done":
            self.outcome, self.detail = "failed", f"{type(error).__name__}: {error}".removesuffix(": ")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry of the audit; the fields are the columns of ``_LIST``."""

    id: int
    at: datetime
    who: str
    role: str
    origin: str
    what: str
    subject: str
    before: Any
    after: Any
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries a list shows; None: all."""

    who: str | None = None
    what: str | None = None  #: An act, or the part before its dot for all acts of a kind
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Audit:
    """Writes and reads the audit. Every method raises DatabaseUnavailable while PostgreSQL is away."""

    database: Database
    mask: Mask  #: Takes secrets out of everything that is written

    @asynccontextmanager
    async def recording(self, principal: Principal, what: str, subject: str = "") -> AsyncIterator[Entry]:
        """Put the act of the block on record, before it begins and when it has ended, whatever its outcome."""
        entry, act = Entry(what, subject), uuid4()
        await self._add(act, principal, entry, "begun")
        try:
            yield entry
        except BaseException as error:
            entry.fail(error)
            raise
        finally:
            try:
                await self._add(act, principal, entry, entry.outcome)
            except DatabaseUnavailable as error:
                log.error("audit.outcome_lost", what=what, outcome=entry.outcome, reason=str(error))

    async def add(
        self, principal: Principal, entry: Entry, connection: AsyncConnection | None = None
    ) -> None:
        """Put an act that has ended on record; in the transaction of a ``connection``, if one is given."""
        if connection is None:
            await self._add(uuid4(), principal, entry, entry.outcome)
        else:
            await connection.execute(_ADD, self._row(uuid4(), principal, entry, entry.outcome))

    async def listed(
        self, wanted: AuditFilter, *, limit: int = 50, before: int | None = None
    ) -> list[Recorded]:
        """Entries, latest first; only those with a smaller id than ``before``: the next page."""
        asked = {
            "who": wanted.who, "what": wanted.what, "group": f"{wanted.what}.%", "since": wanted.since,
            "until": wanted.until, "before": before, "limit": min(limit, PAGE),
        }  # fmt: skip
        async with self.database.transaction() as connection:
            return [Recorded(*row) for row in await connection.execute(_LIST, asked)]

    async def _add(self, act: UUID, principal: Principal, entry: Entry, outcome: Outcome) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S), self.database.transaction() as connection:
                await connection.execute(_ADD, self._row(act, principal, entry, outcome))
        except TimeoutError:
            raise DatabaseUnavailable(
                f"PostgreSQL cannot be reached: no answer within {_PATIENCE_S:g} s"
            ) from None

    def _row(self, act: UUID, principal: Principal, entry: Entry, outcome: Outcome) -> dict[str, Any]:
        if entry.what not in ACTS:
            raise ValueError(f"there is no act {entry.what!r}; add it to services.accounts.audit.ACTS")
        ended = outcome != "begun"
        return {
            "act": act,
            "who": self._text(principal.who, _SHORT),
            "role": principal.role,
            "origin": self._text(principal.origin, _SHORT),
            "what": entry.what,
            "subject": self._text(entry.subject, _SUBJECT),
            "before": self._values(entry.before) if ended else None,
            "after": self._values(entry.after) if ended else None,
            "outcome": outcome,
            "detail": self._text(_blotted(entry.detail), _DETAIL) if ended else "",
        }

    def _text(self, said: str, longest: int) -> str:
        """A text without secrets, as one line that PostgreSQL can store."""
        line = " ".join(self.mask(said).split()).replace("\0", "").encode(errors="replace").decode()
        return line if len(line) <= longest else f"{line[: longest - 1]}…"

    def _values(self, values: Any) -> str | None:
        if values is None:
            return None
        shown = orjson.dumps(_storable(self.mask.in_json(values))).decode()
        return shown if len(shown) <= _VALUES else orjson.dumps({"cut": f"{shown[:_VALUES]}…"}).decode()


def _storable(value: Any) -> Any:
    """A JSON value that PostgreSQL can store: no NUL, no half of a surrogate pair, no number beyond 64 bits."""
    if isinstance(value, dict):
        return {_storable(str(name)): _storable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(inner) for inner in value]
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 63):
        return value
    text = value.isoformat() if isinstance(value, datetime) else _blotted(str(value))
    return text.replace("\0", "").encode(errors="replace").decode()


def _blotted(said: str) -> str:
    """What people typed, without numbers that may be readers': nothing could take them out of the audit later."""
    return _NUMBER.sub("0", said)
