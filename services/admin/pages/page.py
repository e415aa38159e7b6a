"""One request of an operator: what the form says, which page answers it, and what an act needs before it happens."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from markupsafe import Markup
from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from schema.errors import Refused, text_of
from schema.messages import Message
from schema.sentences import Sentence
from services.accounts.accounts import Accounts
from services.accounts.audit import Audit, Entry
from services.accounts.tokens import Tokens
from services.admin.auth import Gate, Session, remote
from services.admin.cookies import NOTE_COOKIE
from services.admin.rendering import LIVE, Rendering, plain
from services.admin.snapshots import Snapshots
from services.database.pool import Database
from services.days import Clock, shown_in
from services.dead_letters.filters import Query, read_query
from services.dead_letters.inspector import Inspector
from services.dead_letters.replays import FASTEST
from services.messaging.bus import Bus
from services.process.logs import Mask

#: Seconds that the servers are given for an act, which may concern many letters.
ACT_S = 30.0
A_YEAR_S = 366 * 86_400
#: The sections beside ``today``.
SECTIONS = ("queues", "dead", "processes", "audit", "accounts", "account")
_LARGEST = 2**63
_BEFORE = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that the pages and the API are made of."""

    gate: Gate
    accounts: Accounts
    tokens: Tokens
    audit: Audit
    rendering: Rendering
    snapshots: Snapshots
    database: Database
    bus: Bus
    inspector: Inspector
    actors: Mapping[str, type[Message]]
    mask: Mask
    clock: Clock
    home: ZoneInfo
    runbook: Markup

    def query(self, given: QueryParams) -> Query:
        """The dead letters that the query of an address selects; its times are shown in the home zone."""
        query = read_query(given, given.getlist("id"), self.clock(), self.home)
        times = {"since": query.wanted.since, "until": query.wanted.until}
        at_home: dict[str, Any] = {name: shown_in(self.home, at) for name, at in times.items() if at}
        return replace(query, wanted=replace(query.wanted, **at_home))


@dataclass(frozen=True, slots=True)
class Shown:
    """A page to show."""

    template: str
    values: Mapping[str, Any] = field(default_factory=dict)  #: Secrets in them are masked
    own: Mapping[str, str] = field(default_factory=dict)  #: Our own values, which are not masked
    status: int = 200
    live: bool = False  #: The browser keeps the page up to date


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of an operator who has signed in."""

    site: Site
    request: Request
    session: Session
    form: FormData  #: Empty for a page that is only looked at
    entry: Entry  #: What the audit will say of the act; not written for a page that is only looked at

    @property
    def number(self) -> int:
        """The number in the path; 404 if it is beyond PostgreSQL's numbers."""
        number: int = self.request.path_params["number"]
        if number >= _LARGEST:
            raise HTTPException(404)
        return number

    @property
    def before(self) -> int | None:
        """Where this page of a list begins: below the entry of this number; None: at the top."""
        return before_of(self.request.query_params)

    @property
    def query(self) -> Query:
        """The dead letters that the address selects, or the ones that a form was shown for."""
        shown_for = QueryParams(str(self.form.get("of", "")))
        return self.site.query(shown_for if self.form else self.request.query_params)

    @property
    def by(self) -> str:
        """Who acts, as the record of a letter or a queue names them; the audit says more."""
        return f"{self.session.who} (page, {remote(self.request)})"

    def said(self, name: str, longest: int = 500) -> str:
        """What was typed into a field."""
        return str(self.form.get(name, "")).replace("\0", "").strip()[:longest]

    def gettext(self, message: str, **values: object) -> str:
        """A message in the operator's language."""
        return self.site.rendering.wording(self.request).gettext(message, **values)

    def done(self, address: str, note: str) -> Response:
        """Lead to a page that shows a note once."""
        response = RedirectResponse(address, 303)
        self.site.gate.leave_note(self.request, response, note)
        return response

    async def answer(self, shown: Shown) -> Response:
        """The page as a response, with the note that the page before it left."""
        gate, rendering = self.site.gate, self.site.rendering
        is_update = LIVE in self.request.headers
        note = None if is_update else gate.take_note(self.request)
        values = {
            "name": section_of(self.request),
            "note": note,
            **plain(dict(shown.values), self.site.mask),
        }
        template = shown.template
        if shown.live:
            values["content"] = template
            template = "live.html" if is_update else "watched.html"
        snapshot = await self.site.snapshots.lately()
        response = rendering.page(
            self.request, template, self.session, snapshot, http_status=shown.status, **values, **shown.own
        )
        if note:
            response.delete_cookie(NOTE_COOKIE)
        return response


@dataclass(frozen=True, slots=True)
class Question:
    """What an operator is asked before an act."""

    basis: str  #: What the answer rests on; the form sends it back
    back: str  #: The page that the operator comes from
    values: Mapping[str, Any]  #: For the template
    own: Mapping[str, str] = field(default_factory=dict)  #: More values that the form sends back
    subject: Any = None  #: What the act is carried out on
    possible: bool = True  #: There is something to do


@dataclass(frozen=True, slots=True)
class Act:
    """An act that an operator confirms: a page asks, and if anything has changed meanwhile, nothing happens."""

    template: str
    look: Callable[[Visit], Awaitable[Question]]  #: Finds out what the act would do now
    do: Callable[[Visit, Question], Awaitable[Response]]
    required: tuple[str, ...] = ()  #: The fields that have to be filled in
    slow: bool = False  #: It may be about many letters

    async def ask(self, visit: Visit) -> Shown:
        """Show what the act would do."""
        return self._shown(visit, await self.look(visit))

    async def carry_out(self, visit: Visit) -> Shown | Response:
        """Do it if it is still what the operator was shown."""
        question = await self.look(visit)
        if not question.possible or question.basis != visit.said("shown"):
            changed = Sentence("Something has changed meanwhile. Nothing was done; look again.")
            return self._shown(visit, question, 409, refused=changed)
        faults = tuple(name for name in self.required if not _CHECKS[name](visit.said(name)))
        if faults:
            return self._shown(visit, question, 422, faults=faults)
        try:
            return await self.do(visit, question)
        except Refused as error:
            return self._shown(visit, await self.look(visit), 409, refused=text_of(error))

    def _shown(self, visit: Visit, question: Question, status: int = 200, **problem: object) -> Shown:
        typed = {name: visit.said(name) for name in ("why", "rate", "force")}
        about = {"possible": question.possible, "typed": typed, "faults": (), "refused": ""}
        values = {**question.values, **about, **problem}
        action = visit.request.scope["path"]
        own = {**question.own, "shown": question.basis, "back": question.back, "action": action}
        return Shown(self.template, values, own, status)


def section_of(request: Request) -> str:
    """The section of the navigation that the request's path belongs to."""
    first: str = request.scope["path"].split("/")[1]
    return first if first in SECTIONS else "today"


def before_of(given: QueryParams) -> int | None:
    """The number of the entry below which a page of a list begins; None: at the top; 400 if it is no number."""
    before = given.get("before", "")
    if before and not _BEFORE.fullmatch(before):
        raise HTTPException(400, "before is the number of an entry.")
    return int(before) if before else None


def digest_of(shown: object) -> str:
    """A digest of what an operator was shown, to be compared with what would be shown now."""
    return hashlib.sha256(orjson.dumps(shown)).hexdigest()


def _is_rate(typed: str) -> bool:
    return typed.isascii() and typed.isdigit() and len(typed) < 10 and 0 < int(typed) <= FASTEST


_CHECKS: dict[str, Callable[[str], bool]] = {"why": bool, "rate": _is_rate}
