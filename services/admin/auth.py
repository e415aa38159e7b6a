"""Who may use the operators' page, and which forms are the page's own.

Sessions are in PostgreSQL. The cookies of visitors, of known devices and of notes are signed.

While PostgreSQL is away, nobody's session can be looked up. A process goes on trusting, for a while, the sessions that
it has just seen; ADMIN_PASSWORD opens the page to look only. Nobody can act: an act that cannot be put on record does
not happen.
"""

import asyncio
import base64
import binascii
import math
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

import structlog
from sqlalchemy.exc import ProgrammingError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from schema.errors import DatabaseUnavailable
from services.accounts.accounts import Accounts, Candidate
from services.accounts.audit import UNKNOWN, Audit, Entry, Principal
from services.accounts.roles import BUILTIN, Role
from services.accounts.sessions import IDLE_S, Found, Sessions
from services.accounts.sign_in_limits import SignInLimits
from services.accounts.tokens import Tokens
from services.admin.cookies import COOKIES, KNOWN_COOKIE, NOTE_COOKIE, Cookies, set_cookie
from services.admin.sign_in_limits import Tries, neighbourhood
from services.days import Clock

log = structlog.get_logger(__name__)

#: Seconds after which an opened page renews the session.
RENEW_S = 600
#: Seconds that a visitor's cookie is valid.
VISITOR_S = 12 * 3600
#: Seconds for which a browser that has signed in once is remembered.
KNOWN_S = 366 * 86_400
#: Seconds that a note waits for the page that shows it.
NOTE_S = 60
#: Seconds that a session lasts that ADMIN_PASSWORD has opened while PostgreSQL was away.
OUTAGE_S = 3600
#: Seconds for which this process trusts a session that it has seen, while PostgreSQL is away; and the most of them.
TRUSTED_S = 1800.0
_TRUSTED = 1000
#: Seconds that PostgreSQL has to find a session.
_LOOK_S = 2.0
#: PostgreSQL's code for a table that does not exist.
_NO_TABLE = "42P01"

_FORM_TYPE = "application/x-www-form-urlencoded"
#: A form has few fields, and the longest is a note or a message's arguments.
_FORM_LIMITS = {"max_files": 0, "max_fields": 10, "max_part_size": 12_288}
_LOCAL_PATH = re.compile(r"/(?!/)[\w\-./%]{0,300}(\?[\w\-./?=&%+*]{0,1000})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's visit, or one request of a script; signing in begins another one."""

    key: str  #: What the tokens of its forms are derived from
    who: str = ""  #: The account's name; empty: a visitor, who has not signed in
    role: Role = Role.VIEWER
    account: int | None = None  #: The account's id; None: the built-in one
    stale: bool = False  #: It is due to be renewed


@dataclass(frozen=True, slots=True)
class SignInResult:
    """The outcome of an attempt to sign in."""

    welcome: bool  #: The password was right
    locked_s: int = 0  #: Seconds until the next attempt is accepted, after too many failures
    session: Session | None = None  #: For one request, of a script
    candidate: Candidate | None = None  #: The account


class Forbidden(HTTPException):
    """The role of the session does not allow this."""

    def __init__(self, session: Session, needed: Role) -> None:
        super().__init__(
            403,
            f"This needs the role {needed.value}. {session.who} has the role {session.role.value}; an admin can "
            "change that.",
        )
        self.session = session
        self.needed = needed


@dataclass(slots=True)
class Gate:
    """Lets people and scripts in, and checks that a form was sent by a page of theirs."""

    cookies: Cookies
    accounts: Accounts
    sessions: Sessions
    tokens: Tokens
    limits: SignInLimits
    audit: Audit
    clock: Clock
    tries: Tries = field(default_factory=Tries)  #: Limits attempts while PostgreSQL is away
    _trusted: dict[str, tuple[float, Found]] = field(default_factory=dict)
    _has_builtin: bool = True  #: As PostgreSQL last said

    async def session(self, request: Request) -> Session | None:
        """The session of a browser that has signed in."""
        if not hasattr(request.state, "session"):
            request.state.session = await self._session(request.cookies.get(COOKIES["operator"]))
        found: Session | None = request.state.session
        return found

    async def caller(self, request: Request) -> SignInResult:
        """The session of a browser, or of a script that sends a token or a password."""
        if session := await self.session(request):
            return SignInResult(welcome=True, session=session)
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            async with _answered():
                found = await self.tokens.find(value.strip())
            session = Session("", f"token {found[0]}", found[1]) if found else None
            return SignInResult(welcome=found is not None, session=session)
        if scheme.lower() != "basic":
            return SignInResult(welcome=False)
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            decoded = ""
        name, _, password = decoded.partition(":")
        # A right password here does not reset the failure count: a script that polls is right all the time.
        return await self._try(request, name, password, by_form=False)

    def visitor(self, request: Request) -> Session:
        """The session of a browser that is about to sign in; a new one if it has none."""
        key = self.cookies.unsigned("visitor", request.cookies.get(COOKIES["visitor"]), VISITOR_S)
        return Session(key or secrets.token_urlsafe(18))

    async def form(self, request: Request, session: Session) -> FormData:
        """The fields of a form; 403 if no page of this session sent it, 400, 413 or 415 if it is not a form of ours."""
        if not _from_here(request):
            log.warning("admin.form_refused", path=request.scope["path"], remote=remote(request))
            raise HTTPException(403)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
            raise HTTPException(415)
        try:
            form = await request.form(**_FORM_LIMITS)
        except ClientDisconnect:
            raise HTTPException(400) from None  # nobody reads the answer
        if not self.cookies.is_form_token(session.key, str(form.get("form_token", ""))):
            raise HTTPException(403)
        return form

    async def sign_in(self, request: Request, response: Response, name: str, password: str) -> SignInResult:
        """Check a name and a password from the form; if they are right, ``response`` signs the browser in."""
        result = await self._try(request, name, password, by_form=True)
        if result.welcome:
            await self._enter(request, response, result.candidate)
        return result

    async def is_own_password(self, request: Request, session: Session, password: str) -> SignInResult:
        """Check the password of the account that is signed in; attempts are limited as for signing in."""
        return await self._try(request, session.who, password, by_form=True, recorded=True)

    async def leave(self, request: Request, response: Response) -> None:
        """Sign the browser out."""
        token = request.cookies.get(COOKIES["operator"], "")
        self._trusted.pop(token, None)
        await self.sessions.end(token)
        response.delete_cookie(COOKIES["operator"])

    async def leave_everywhere(self, session: Session, response: Response) -> int:
        """Sign out every browser of this account; returns how many there were."""
        self._trusted.clear()
        count = await self.sessions.end_all(session.account)
        response.delete_cookie(COOKIES["operator"])
        return count

    def keep_visitor(self, request: Request, response: Response, session: Session) -> None:
        """Set a visitor's cookie."""
        signed = self.cookies.signed("visitor", session.key)
        set_cookie(request, response, COOKIES["visitor"], signed, VISITOR_S)

    async def renew(self, request: Request, response: Response, session: Session) -> None:
        """Renew a session that was last renewed :data:`RENEW_S` ago."""
        if session.stale:
            token = request.cookies[COOKIES["operator"]]
            try:
                await self.sessions.seen(token, self.clock())
            except DatabaseUnavailable:
                return  # the next page does it
            set_cookie(request, response, COOKIES["operator"], token, IDLE_S)

    def leave_note(self, request: Request, response: Response, note: str) -> None:
        """Leave a note for the next page."""
        set_cookie(request, response, NOTE_COOKIE, self.cookies.signed("note", quote(note)), NOTE_S)

    def take_note(self, request: Request) -> str | None:
        """The note that the previous page left; the page that shows it deletes the cookie."""
        note = self.cookies.unsigned("note", request.cookies.get(NOTE_COOKIE), NOTE_S)
        return unquote(note) if note else None

    async def _session(self, token: str | None) -> Session | None:
        if not token:
            return None
        if key := self.cookies.unsigned("outage", token, OUTAGE_S):
            with suppress(DatabaseUnavailable):  # then it is as it was last known
                self._has_builtin = (await self._found("")).has_builtin
            return Session(key, BUILTIN) if self._has_builtin else None
        try:
            async with _answered():
                found = await self.sessions.find(token, self.clock())
        except DatabaseUnavailable:
            seen, found = self._trusted.get(token, (-math.inf, None))
            if time.monotonic() - seen > TRUSTED_S:
                return None
        else:
            self._trusted.pop(token, None)
            if found:
                self._trusted[token] = (time.monotonic(), found)
                if len(self._trusted) > _TRUSTED:
                    del self._trusted[next(iter(self._trusted))]
        if found is None:
            return None
        stale = (self.clock() - found.seen_at).total_seconds() > RENEW_S
        return Session(token, found.who, found.role, found.account, stale)

    async def _try(
        self, request: Request, name: str, password: str, *, by_form: bool, recorded: bool = False
    ) -> SignInResult:
        """Check a name and a password; only a form can prove to come from a known browser, and clears failures.

        A failure goes on record, unless its caller sees to that (``recorded``).
        """
        origin = remote(request)
        try:
            candidate = await self._found(name)
            device = self._device(request, candidate.name) if by_form else None
            attempt = await self.limits.begin(candidate.name, origin, neighbourhood(origin), device)
        except DatabaseUnavailable:
            return self._try_in_outage(origin, password)
        if attempt.locked_s:
            log.warning("admin.sign_in_failed", remote=origin, locked_s=attempt.locked_s)
            return SignInResult(welcome=False, locked_s=attempt.locked_s)
        is_builtin = candidate.id is None and candidate.has_builtin
        right = (is_builtin and self.cookies.is_password(password)) or (
            await self.accounts.is_password(candidate, password)
        )
        if right and not candidate.disabled:
            await self.limits.succeeded(attempt, anew=by_form)
            session = Session("", candidate.name, candidate.role, candidate.id)
            return SignInResult(welcome=True, session=session, candidate=candidate)
        log.warning("admin.sign_in_failed", remote=origin)
        locked_s = await self.limits.failed(attempt)
        if not recorded:
            await self._record_failure(candidate, origin, disabled=right, locked_s=locked_s)
        return SignInResult(welcome=False, locked_s=locked_s)

    async def _record_failure(
        self, candidate: Candidate, origin: str, *, disabled: bool, locked_s: int
    ) -> None:
        reason = "the account is disabled" if disabled else "wrong name or password"
        locked = f"; further attempts are refused for {locked_s} s" if locked_s else ""
        role = candidate.role.value if candidate.name else ""
        entry = Entry("session.sign-in", candidate.name)
        entry.refuse(reason + locked)
        await self.audit.add(Principal(candidate.name or UNKNOWN, role, origin), entry)

    def _try_in_outage(self, origin: str, password: str) -> SignInResult:
        """Let ADMIN_PASSWORD look while PostgreSQL is away, unless accounts have taken its place."""
        if locked_s := self.tries.locked_for(origin):
            log.warning("admin.sign_in_failed", remote=origin, locked_s=math.ceil(locked_s))
            return SignInResult(welcome=False, locked_s=math.ceil(locked_s))
        if self._has_builtin and self.cookies.is_password(password):
            return SignInResult(welcome=True, session=Session("", BUILTIN))
        self.tries.failed(origin)
        log.warning("admin.sign_in_failed", remote=origin)
        raise DatabaseUnavailable("PostgreSQL cannot be reached: it has the accounts")

    async def _found(self, name: str) -> Candidate:
        async with _answered():
            candidate = await self.accounts.find(name)
        self._has_builtin = candidate.has_builtin
        return candidate

    def _device(self, request: Request, account: str) -> str | None:
        """The name of a browser that has signed in to this account before."""
        text = self.cookies.unsigned("known", request.cookies.get(KNOWN_COOKIE), KNOWN_S) or ""
        of, _, device = text.partition(" ")
        return device if device and of == account else None

    async def _enter(self, request: Request, response: Response, candidate: Candidate | None) -> None:
        """Sign the browser in, in a new session, and remember it as one that knew the password."""
        origin = remote(request)
        response.delete_cookie(COOKIES["visitor"])
        if candidate is None:  # PostgreSQL is away
            token = self.cookies.signed("outage", secrets.token_urlsafe(18))
            set_cookie(request, response, COOKIES["operator"], token, OUTAGE_S)
            log.warning("admin.signed_in_to_look", remote=origin)
            return
        principal = Principal(candidate.name, candidate.role.value, origin)
        async with self.sessions.database.transaction() as connection:
            token = await self.sessions.begin(connection, candidate.id, origin=origin, now=self.clock())
            await self.audit.add(principal, Entry("session.sign-in", candidate.name), connection)
        set_cookie(request, response, COOKIES["operator"], token, IDLE_S)
        device = self._device(request, candidate.name) or secrets.token_urlsafe(18)
        known = self.cookies.signed("known", f"{candidate.name} {device}")
        set_cookie(request, response, KNOWN_COOKIE, known, KNOWN_S)
        log.info("admin.signed_in", account=candidate.name, remote=origin)


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Take a PostgreSQL that is slow, or has no tables yet, for one that is away."""
    try:
        async with asyncio.timeout(_LOOK_S):
            yield
    except TimeoutError:
        raise DatabaseUnavailable(f"PostgreSQL cannot be reached: no answer within {_LOOK_S:g} s") from None
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", "") != _NO_TABLE:
            raise
        raise DatabaseUnavailable("the database has no tables yet; run: horoscope migrate") from error


def remote(request: Request) -> str:
    """The address that a request came from."""
    return request.client.host if request.client else "unknown"


def local_path(text: str, *, signing: bool = False) -> str:
    """The text if it is a plain path of this page (with ``signing`` also of its sign-in form), otherwise ``/``.

    Nobody is redirected to another site.
    """
    if not _LOCAL_PATH.fullmatch(text) or (text.startswith("/sign-") and not signing):
        return "/"
    return text


def _from_here(request: Request) -> bool:
    """Whether the form was sent by a page of ours, as far as the browser says."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")
