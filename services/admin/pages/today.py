"""The pages: each a handler that asks the gate, takes the snapshot and fills a template."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import text
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from schema.errors import DatabaseUnavailable
from schema.messages import GenerateHoroscope
from schema.signs import Sign
from services.admin.auth import NOTE_COOKIE, Gate, Session, local_path, remote, set_cookie
from services.admin.i18n import LANGUAGES
from services.admin.rendering import LANGUAGE_COOKIE, LIVE, Rendering, asked
from services.admin.snapshots import PATIENCE_S, Snapshots
from services.database.pool import Database
from services.days import ONE_DAY, Clock, day_in, days_to_write, first_day_alive
from services.messaging.bus import Bus
from services.status import SignStatus, read_day

log = structlog.get_logger(__name__)

_A_YEAR_S = 366 * 86_400

_CONTENT = text("SELECT content FROM horoscope_cache WHERE zodiac_sign = :sign AND horoscope_date = :day")

Handler = Callable[[Request], Awaitable[Response]]
SignedIn = Callable[[Request, Session], Awaitable[Response]]


class Pages:
    """What a browser is shown.

    Args:
        gate: Who comes in.
        rendering: How a page is made.
        snapshots: What there is to show.
        database: Where the texts are.
        bus: How orders go out.
        clock: The time.
        home: The zone whose days are shown.
    """

    def __init__(
        self,
        gate: Gate,
        rendering: Rendering,
        snapshots: Snapshots,
        database: Database,
        bus: Bus,
        clock: Clock,
        home: ZoneInfo,
    ) -> None:
        self._gate = gate
        self._rendering = rendering
        self._snapshots = snapshots
        self._database = database
        self._bus = bus
        self._clock = clock
        self._home = home

    def signed_in(self, handler: SignedIn) -> Handler:
        """A handler for those who have signed in; others are sent to do so, and come back afterwards."""

        async def handle(request: Request) -> Response:
            session = self._gate.session(request, "operator")
            if session is None:
                return self._to_sign_in(request)
            response = await handler(request, session)
            if LIVE not in request.headers:
                self._gate.renew(request, response, session)
            return response

        return handle

    def _to_sign_in(self, request: Request) -> Response:
        if LIVE in request.headers:
            return Response(status_code=401)
        back = local_path(asked(request)) if request.method in {"GET", "HEAD"} else "/"
        address = "/sign-in" if back == "/" else f"/sign-in?next={quote(back, safe='/')}"
        if request.headers.get("sec-fetch-site") == "cross-site":
            # Whoever follows a link from elsewhere does not bring the cookie along, signed in or not; from a page of
            # ours they do.
            return self._rendering.page(request, "forward.html", address=address)
        return RedirectResponse(address, 303)

    # Signing in and out

    async def sign_in_form(self, request: Request) -> Response:
        """``GET /sign-in``."""
        back = local_path(request.query_params.get("next", ""))
        if self._gate.session(request, "operator"):
            return RedirectResponse(back, 303)
        return self._sign_in(request, back)

    async def sign_in(self, request: Request) -> Response:
        """``POST /sign-in``."""
        form = await self._gate.form(request, self._gate.visitor(request))
        back = local_path(str(form.get("next", "")))
        result = self._gate.try_password(request, str(form.get("password", "")))
        if not result.welcome:
            return self._sign_in(request, back, wrong=True, locked_s=result.locked_s)
        response = RedirectResponse(back, 303)
        self._gate.enter(request, response)
        return response

    def _sign_in(self, request: Request, back: str, *, wrong: bool = False, locked_s: int = 0) -> Response:
        visitor = self._gate.visitor(request)
        response = self._rendering.page(
            request,
            "sign_in.html",
            visitor,
            back=back,
            wrong=wrong,
            wait=self._rendering.wording(request).wait(locked_s) if locked_s else "",
        )
        if locked_s:
            response.status_code = 429
            response.headers["Retry-After"] = str(locked_s)
        elif wrong:
            response.status_code = 403
        self._gate.keep(request, response, visitor)
        return response

    async def sign_out(self, request: Request, session: Session) -> Response:
        """``POST /sign-out``."""
        await self._gate.form(request, session)
        response = RedirectResponse("/sign-in", 303)
        self._gate.leave(response)
        return response

    async def set_language(self, request: Request) -> Response:
        """``POST /language``, also before signing in."""
        session = self._gate.session(request, "operator") or self._gate.visitor(request)
        form = await self._gate.form(request, session)
        response = RedirectResponse(local_path(str(form.get("next", "")), signing=True), 303)
        chosen = str(form.get("language", ""))
        if chosen in LANGUAGES:
            set_cookie(request, response, LANGUAGE_COOKIE, chosen, _A_YEAR_S)
        return response

    # What is shown

    async def today(self, request: Request, session: Session) -> Response:
        """``GET /``."""
        snapshot = await self._snapshots.lately()
        note = None if LIVE in request.headers else self._note(request)
        trouble = snapshot.service.troubles if snapshot.service else []
        response = self._rendering.watched(request, session, snapshot, "today", note=note, trouble=trouble)
        if note:
            response.delete_cookie(NOTE_COOKIE)
        return response

    async def processes(self, request: Request, session: Session) -> Response:
        """``GET /processes``."""
        return self._rendering.watched(request, session, await self._snapshots.lately(), "processes")

    # One text

    async def text(self, request: Request, session: Session) -> Response:
        """``GET /texts/{day}/{sign}``: what is known of it, and the question whether it shall be written again."""
        sign, day = self._which(request)
        return await self._text(request, session, sign, day)

    async def write_again(self, request: Request, session: Session) -> Response:
        """``POST /texts/{day}/{sign}``: order the text, in the place of the one that the operator saw."""
        form = await self._gate.form(request, session)
        sign, day = self._which(request)
        if day < first_day_alive(self._clock()):
            return await self._text(request, session, sign, day)
        try:
            replaces = datetime.fromisoformat(seen) if (seen := str(form.get("replaces", ""))) else None
        except ValueError:
            raise HTTPException(400) from None
        status, _ = await self._read_text(sign, day)
        if status.generated_at != replaces:
            return await self._text(request, session, sign, day, changed=True)
        confirmed = await self._bus.publish(GenerateHoroscope(sign, day, replaces=replaces))
        response = RedirectResponse("/", 303)
        outcome = "ordered" if confirmed else "order_kept"
        log.info(
            "admin.ordered",
            sign=sign,
            day=day,
            replaces=replaces,
            confirmed=confirmed,
            remote=remote(request),
        )
        self._gate.leave_note(request, response, f"{outcome} {sign} {day}")
        return response

    async def _text(
        self, request: Request, session: Session, sign: Sign, day: date, *, changed: bool = False
    ) -> Response:
        status, content = await self._read_text(sign, day)
        response = self._rendering.page(
            request,
            "text.html",
            session,
            sign=sign,
            day=day,
            status=status,
            content=content,
            over=day < first_day_alive(self._clock()),
            changed=changed,
        )
        if changed:
            response.status_code = 409
        return response

    async def _read_text(self, sign: Sign, day: date) -> tuple[SignStatus, str | None]:
        """What is known of a text, and the text.

        Raises:
            HTTPException: 503 when PostgreSQL cannot be reached.
        """
        try:
            async with asyncio.timeout(PATIENCE_S), self._database.transaction() as connection:
                known = await read_day(connection, day)
                content = (await connection.execute(_CONTENT, {"sign": sign.value, "day": day})).scalar()
        except (DatabaseUnavailable, TimeoutError):
            raise HTTPException(503) from None
        return next(each for each in known.signs if each.sign == sign), content

    def _which(self, request: Request) -> tuple[Sign, date]:
        """The sign and the day of the address, if the page shows such a text."""
        now = self._clock()
        try:
            sign, day = Sign(request.path_params["sign"]), date.fromisoformat(request.path_params["day"])
        except ValueError:
            raise HTTPException(404) from None
        if str(day) != request.path_params["day"]:
            raise HTTPException(404)  # a day can be written in other ways, too; each page has one address
        if not day_in(self._home, now) - ONE_DAY <= day <= days_to_write(now, self._home)[-1]:
            raise HTTPException(404)
        return sign, day

    def _note(self, request: Request) -> str | None:
        """What became of an order, told once."""
        match (self._gate.take_note(request) or "").split():
            case [("ordered" | "order_kept") as outcome, sign, day]:
                wording = self._rendering.wording(request)
                values = {"sign": wording.sign(sign), "day": wording.on(date.fromisoformat(day))}
                if outcome == "ordered":
                    return wording.gettext(
                        "Ordered: %(sign)s, %(day)s. RabbitMQ has confirmed it; a worker begins when it is its turn.",
                        **values,
                    )
                return wording.gettext(
                    "Accepted: %(sign)s, %(day)s. RabbitMQ takes no messages now; the order is kept and goes out "
                    "when it is back.",
                    **values,
                )
        return None

    # Errors

    async def refused(self, request: Request, error: Exception) -> Response:
        """A page for an error that Starlette or we foresaw."""
        assert isinstance(error, HTTPException)
        return self._error(request, error.status_code, error.headers)

    async def failed(self, request: Request, _: Exception) -> Response:
        """A page for one that nobody did."""
        return self._error(request, 500)

    def _error(self, request: Request, status: int, headers: Any = None) -> Response:
        response = self._rendering.page(request, "error.html", status=status)
        response.status_code = status
        response.headers.update(headers or {})
        return response
