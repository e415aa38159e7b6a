"""The gate of the operators' page: who comes in, and which forms are the page's own."""

import base64
import binascii
import math
import re
from dataclasses import dataclass

import structlog
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from services.admin.sessions import KNOWN_S, NOTE_S, RENEW_S, SESSION_S, Kind, Session, Sessions
from services.admin.sign_in_limits import Tries

log = structlog.get_logger(__name__)

COOKIES: dict[Kind, str] = {"operator": "horoscope_admin", "visitor": "horoscope_admin_visitor"}
NOTE_COOKIE = "horoscope_admin_note"
KNOWN_COOKIE = "horoscope_admin_known"

_FORM_TYPE = "application/x-www-form-urlencoded"
#: The fields of a form are few, and none is longer than a note or a message's arguments.
_FORM_LIMITS = {"max_files": 0, "max_fields": 10, "max_part_size": 12_288}
_LOCAL_PATH = re.compile(r"/(?!/)[\w\-./%]{0,300}(\?[\w\-./?=&%+*]{0,1000})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a try to sign in.

    Args:
        welcome: The password was right.
        locked_s: There were too many tries; in so many seconds another one will be looked at.
    """

    welcome: bool
    locked_s: int = 0


class Gate:
    """Lets operators in.

    Args:
        sessions: Who is signed in.
        tries: Who has tried too often.
    """

    def __init__(self, sessions: Sessions, tries: Tries) -> None:
        self._sessions = sessions
        self._tries = tries

    def session(self, request: Request, kind: Kind) -> Session | None:
        """The request's session of this kind; None: it has none."""
        return self._sessions.read(kind, request.cookies.get(COOKIES[kind]))

    def visitor(self, request: Request) -> Session:
        """The session of somebody who is about to sign in, begun now if need be."""
        return self.session(request, "visitor") or self._sessions.begin("visitor")

    def form_token(self, session: Session) -> str:
        """What the session's forms send along."""
        return self._sessions.form_token(session)

    async def form(self, request: Request, session: Session) -> FormData:
        """The fields of a form, if it is one of the session's own.

        Raises:
            HTTPException: 403 when it is not; 400, 413 or 415 when it is no form of ours at all.
        """
        if not _from_here(request):
            log.warning("admin.form_refused", path=request.scope["path"], remote=remote(request))
            raise HTTPException(403)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM_TYPE:
            raise HTTPException(415)
        try:
            form = await request.form(**_FORM_LIMITS)
        except ClientDisconnect:
            raise HTTPException(400) from None  # which nobody reads any more
        if not self._sessions.is_form_token(session, str(form.get("form_token", ""))):
            raise HTTPException(403)
        return form

    def try_password(self, request: Request, password: str) -> Verdict:
        """Hold a password from the form against the right one, unless that was tried too often."""
        browser = self._known(request)
        verdict = self._try(remote(request), browser, password)
        if verdict.welcome:
            self._tries.succeeded(remote(request), browser)
        return verdict

    def try_header(self, request: Request) -> Verdict | None:
        """The same for the header ``Authorization: Basic``, any user's; None: there is none.

        A script that polls is right again and again: that takes back nothing that failed meanwhile.
        """
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            decoded = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            decoded = ""
        return self._try(remote(request), None, decoded.partition(":")[2])

    def _try(self, address: str, browser: str | None, password: str) -> Verdict:
        if locked_s := self._tries.locked_for(address, browser):
            log.warning("admin.sign_in_failed", remote=address, locked_s=math.ceil(locked_s))
            return Verdict(welcome=False, locked_s=math.ceil(locked_s))
        if self._sessions.knows(password):
            return Verdict(welcome=True)
        self._tries.failed(address, browser)
        log.warning("admin.sign_in_failed", remote=address)
        return Verdict(welcome=False, locked_s=math.ceil(self._tries.locked_for(address, browser)))

    def _known(self, request: Request) -> str | None:
        """The name of a browser that has signed in before; None: it has not."""
        return self._sessions.read_known(request.cookies.get(KNOWN_COOKIE))

    def enter(self, request: Request, response: Response) -> None:
        """Sign whoever asks in, in a session that nobody has had before."""
        self.keep(request, response, self._sessions.begin("operator"))
        known = self._sessions.known(self._known(request))
        set_cookie(request, response, KNOWN_COOKIE, known, KNOWN_S)
        response.delete_cookie(COOKIES["visitor"])
        log.info("admin.signed_in", remote=remote(request))

    def leave(self, response: Response) -> None:
        """Sign out."""
        response.delete_cookie(COOKIES["operator"])

    def keep(self, request: Request, response: Response, session: Session) -> None:
        """Have the browser show that it is this session, for as long as one lasts from now."""
        set_cookie(request, response, COOKIES[session.kind], self._sessions.cookie(session), SESSION_S)

    def renew(self, request: Request, response: Response, session: Session) -> None:
        """Make the session last on, if its cookie has some age."""
        if session.age_s > RENEW_S:
            self.keep(request, response, session)

    def leave_note(self, request: Request, response: Response, note: str) -> None:
        """Tell the next page something."""
        set_cookie(request, response, NOTE_COOKIE, self._sessions.note(note), NOTE_S)

    def take_note(self, request: Request) -> str | None:
        """What the page before had to tell; whoever shows it deletes the cookie."""
        return self._sessions.read_note(request.cookies.get(NOTE_COOKIE))


def set_cookie(request: Request, response: Response, name: str, value: str, lasts_s: int) -> None:
    """A cookie that no script reads and no other site's page brings along."""
    response.set_cookie(
        name,
        value,
        max_age=lasts_s,
        httponly=True,
        samesite="strict",
        secure=request.scope["scheme"] == "https",
    )


def remote(request: Request) -> str:
    """The address that a request came from."""
    return request.client.host if request.client else "unknown"


def local_path(text: str, *, signing: bool = False) -> str:
    """The text, if it is a path of this page with nothing odd in it; otherwise where the page begins.

    Args:
        text: What somebody says is a path.
        signing: It may be where one signs in.
    """
    if not _LOCAL_PATH.fullmatch(text) or (text.startswith("/sign-") and not signing):
        return "/"
    return text


def _from_here(request: Request) -> bool:
    """Whether the browser says that a form was sent by a page of ours, as far as it says anything."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host")
