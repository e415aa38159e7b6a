"""Who may use the operators' page: the password, the signed cookies, and which forms are the page's own.

The server keeps no sessions. The key that signs the cookies is derived from the password, so a session survives a
restart and is valid in every process with the same password; it ends when the password changes.
"""

import base64
import binascii
import hashlib
import hmac
import math
import re
import secrets
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

import structlog
from itsdangerous import BadSignature, TimestampSigner
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.admin.sign_in_limits import Tries
from services.days import Clock

log = structlog.get_logger(__name__)

#: Seconds that a session cookie is valid; a page that is opened meanwhile renews it.
SESSION_S = 12 * 3600
#: Seconds that a session lasts at most, however often its cookie was renewed.
LONGEST_S = 7 * 86_400
#: Seconds after which an opened page renews the cookie.
RENEW_S = 600
#: Seconds for which a browser that has signed in once is remembered.
KNOWN_S = 366 * 86_400
#: Seconds that a note waits for the page that shows it.
NOTE_S = 60

# With a stolen cookie the password can be guessed offline; this makes each guess cost 32 MiB and a tenth of a second.
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 1 << 26, "dklen": 32}

#: An operator has signed in; a visitor was shown the sign-in form.
Kind = Literal["operator", "visitor"]

COOKIES: dict[Kind, str] = {"operator": "horoscope_admin", "visitor": "horoscope_admin_visitor"}
NOTE_COOKIE = "horoscope_admin_note"
KNOWN_COOKIE = "horoscope_admin_known"

_FORM_TYPE = "application/x-www-form-urlencoded"
#: A form has few fields, and the longest is a note or a message's arguments.
_FORM_LIMITS = {"max_files": 0, "max_fields": 10, "max_part_size": 12_288}
_LOCAL_PATH = re.compile(r"/(?!/)[\w\-./%]{0,300}(\?[\w\-./?=&%+*]{0,1000})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's visit; signing in begins another one."""

    kind: Kind
    name: str  #: The second in which it began, and a random part
    age_s: float = 0.0  #: Seconds since its cookie was made


@dataclass(frozen=True, slots=True)
class SignInResult:
    """The outcome of an attempt to sign in."""

    welcome: bool  #: The password was right
    locked_s: int = 0  #: Seconds until the next attempt is accepted, after too many failures


class Sessions:
    """Makes and reads the values of the cookies."""

    def __init__(self, password: str, clock: Clock) -> None:
        # The salt is the same everywhere, or the processes could not read each other's cookies.
        self._key = hashlib.scrypt(password.encode(), salt=b"horoscope admin 1", **_SCRYPT)
        self._password = self._digest("password", password)
        self._clock = clock

    def is_password(self, password: str) -> bool:
        """Whether this is the password; compares in constant time."""
        return hmac.compare_digest(self._digest("password", password), self._password)

    def begin(self, kind: Kind) -> Session:
        """A new session."""
        return Session(kind, f"{self._clock().timestamp():.0f}-{secrets.token_urlsafe(18)}")

    def read(self, kind: Kind, cookie: str | None) -> Session | None:
        """The session of a cookie; None: it is forged, too old or of another kind."""
        found = self._unsigned(kind, cookie, SESSION_S)
        if not found:
            return None
        began = int(found[0].partition("-")[0])
        return Session(kind, *found) if self._clock().timestamp() - began < LONGEST_S else None

    def form_token(self, session: Session) -> str:
        """The token that the forms of this session's pages send along."""
        return self._digest("form", f"{session.kind} {session.name}").hex()

    def is_form_token(self, session: Session, token: str) -> bool:
        """Whether a form comes from a page of this session; compares in constant time."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode(errors="replace"))

    def signed(self, purpose: str, text: str) -> str:
        """A cookie's value: the text, the time and a signature that holds for this purpose only."""
        return self._signer(purpose).sign(text.encode()).decode()

    def unsigned(self, purpose: str, cookie: str | None, most_s: int) -> str | None:
        """The text of such a value; None: it is forged, older than ``most_s`` seconds or for another purpose."""
        found = self._unsigned(purpose, cookie, most_s)
        return found[0] if found else None

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}:{text}".encode(errors="surrogatepass"), "sha256")

    def _signer(self, purpose: str) -> TimestampSigner:
        return _Signer(self._clock, self._key, purpose)

    def _unsigned(self, purpose: str, cookie: str | None, most_s: int) -> tuple[str, float] | None:
        if not cookie:
            return None
        try:
            text, made = self._signer(purpose).unsign(cookie, max_age=most_s, return_timestamp=True)
            return text.decode(), (self._clock() - made).total_seconds()
        except (BadSignature, ValueError):  # too old, or no text
            return None


class _Signer(TimestampSigner):
    """itsdangerous's signer with a clock that is passed in."""

    def __init__(self, clock: Clock, key: bytes, purpose: str) -> None:
        super().__init__(
            key, salt=f"horoscope admin {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock().timestamp())


@dataclass(frozen=True, slots=True)
class Gate:
    """Lets operators in, and checks that a form was sent by a page of theirs."""

    sessions: Sessions
    tries: Tries

    def session(self, request: Request, kind: Kind) -> Session | None:
        """The request's session of this kind, if it has one."""
        return self.sessions.read(kind, request.cookies.get(COOKIES[kind]))

    def visitor(self, request: Request) -> Session:
        """The session of a browser that is about to sign in; a new one if it has none."""
        return self.session(request, "visitor") or self.sessions.begin("visitor")

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
        if not self.sessions.is_form_token(session, str(form.get("form_token", ""))):
            raise HTTPException(403)
        return form

    def try_password(self, request: Request, password: str) -> SignInResult:
        """Check a password from the form; a right one clears the failures of this browser or address."""
        browser = self._known(request)
        result = self._try(remote(request), browser, password)
        if result.welcome:
            self.tries.succeeded(remote(request), browser)
        return result

    def try_header(self, request: Request) -> SignInResult | None:
        """Check the password of the header ``Authorization: Basic``, with any user name; None: no such header.

        A right password here does not reset the failure count: a script that polls is right all the time.
        """
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            decoded = ""
        return self._try(remote(request), None, decoded.partition(":")[2])

    def _try(self, address: str, browser: str | None, password: str) -> SignInResult:
        if locked_s := self.tries.locked_for(address, browser):
            log.warning("admin.sign_in_failed", remote=address, locked_s=math.ceil(locked_s))
            return SignInResult(welcome=False, locked_s=math.ceil(locked_s))
        if self.sessions.is_password(password):
            return SignInResult(welcome=True)
        self.tries.failed(address, browser)
        log.warning("admin.sign_in_failed", remote=address)
        return SignInResult(welcome=False, locked_s=math.ceil(self.tries.locked_for(address, browser)))

    def _known(self, request: Request) -> str | None:
        """The name of a browser that has signed in before."""
        return self.sessions.unsigned("known", request.cookies.get(KNOWN_COOKIE), KNOWN_S)

    def enter(self, request: Request, response: Response) -> None:
        """Sign the browser in, in a new session, and remember it as one that knew the password."""
        self.keep(request, response, self.sessions.begin("operator"))
        known = self.sessions.signed("known", self._known(request) or secrets.token_urlsafe(18))
        set_cookie(request, response, KNOWN_COOKIE, known, KNOWN_S)
        response.delete_cookie(COOKIES["visitor"])
        log.info("admin.signed_in", remote=remote(request))

    def leave(self, response: Response) -> None:
        """Sign the browser out."""
        response.delete_cookie(COOKIES["operator"])

    def keep(self, request: Request, response: Response, session: Session) -> None:
        """Set the session's cookie, valid for :data:`SESSION_S` from now."""
        set_cookie(
            request,
            response,
            COOKIES[session.kind],
            self.sessions.signed(session.kind, session.name),
            SESSION_S,
        )

    def renew(self, request: Request, response: Response, session: Session) -> None:
        """Renew the session's cookie if it is older than :data:`RENEW_S`."""
        if session.age_s > RENEW_S:
            self.keep(request, response, session)

    def leave_note(self, request: Request, response: Response, note: str) -> None:
        """Leave a note for the next page."""
        set_cookie(request, response, NOTE_COOKIE, self.sessions.signed("note", quote(note)), NOTE_S)

    def take_note(self, request: Request) -> str | None:
        """The note that the previous page left; the page that shows it deletes the cookie."""
        note = self.sessions.unsigned("note", request.cookies.get(NOTE_COOKIE), NOTE_S)
        return unquote(note) if note else None


def set_cookie(request: Request, response: Response, name: str, value: str, lasts_s: int) -> None:
    """Set a cookie that scripts cannot read and other sites' pages do not send."""
    secure = request.scope["scheme"] == "https"
    response.set_cookie(name, value, max_age=lasts_s, httponly=True, samesite="strict", secure=secure)


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
