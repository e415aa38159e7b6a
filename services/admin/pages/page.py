"""What the pages of dead letters have in common: how they are filled in, who acts on them, what is told afterwards."""

import asyncio
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from schema.errors import DatabaseUnavailable
from services.admin.auth import NOTE_COOKIE, Gate, Session, remote, set_cookie
from services.admin.rendering import LIVE, Rendering, plain
from services.admin.snapshots import PATIENCE_S, Snapshots
from services.days import Clock
from services.dead_letters.filters import Query, read_query
from services.process.logs import Mask

#: The name that somebody gave for the record.
WHO_COOKIE = "horoscope_admin_who"
_A_YEAR_S = 366 * 86_400
_LONGEST_NAME = 60

_Found = TypeVar("_Found")


class DeadPage:
    """Fills the templates of dead letters.

    Args:
        gate: Checks forms.
        rendering: How a page is made.
        snapshots: What the navigation and the banners tell.
        mask: Applied to whatever is shown.
        clock: The time.
        home: The zone of times that name none.
    """

    def __init__(
        self, gate: Gate, rendering: Rendering, snapshots: Snapshots, mask: Mask, clock: Clock, home: ZoneInfo
    ) -> None:
        self.gate = gate
        self.clock = clock
        self._rendering = rendering
        self._snapshots = snapshots
        self._mask = mask
        self._home = home

    def query(self, given: QueryParams) -> Query:
        """What the query of an address asks for."""
        return read_query(given, given.getlist("id"), self.clock(), self._home)

    async def show(
        self,
        request: Request,
        session: Session,
        template: str,
        *,
        status: int = 200,
        own: Mapping[str, str] = MappingProxyType({}),
        **values: Any,
    ) -> Response:
        """A page; what the one before had to tell stands at its top.

        Args:
            request: What was asked for.
            session: Whose forms it holds.
            template: The template.
            status: Of HTTP.
            own: What its forms send back as it is: nobody else has written it, and nothing in it is masked.
            values: What else is filled in.
        """
        note = self._note(request)
        response = self._rendering.page(
            request,
            template,
            session,
            await self._snapshots.lately(),
            **{"name": "dead", "note": note, **plain({"who": who(request), **values}, self._mask), **own},
        )
        response.status_code = status
        if note:
            response.delete_cookie(NOTE_COOKIE)
        return response

    async def watch(self, request: Request, session: Session, content: str, **values: Any) -> Response:
        """A page that is kept up to date."""
        note = None if LIVE in request.headers else self._note(request)
        response = self._rendering.watched(
            request,
            session,
            await self._snapshots.now(),
            "dead",
            **{"content": content, "note": note, **plain(values, self._mask)},
        )
        if note:
            response.delete_cookie(NOTE_COOKIE)
        return response

    def done(self, request: Request, form: FormData, address: str, *note: object) -> Response:
        """Lead to a page that tells what was done; from now on who did it is known."""
        response = RedirectResponse(address, 303)
        self.gate.leave_note(request, response, " ".join(map(str, note)))
        set_cookie(request, response, WHO_COOKIE, quote(_name(form)), _A_YEAR_S)
        return response

    def _note(self, request: Request) -> str | None:
        """What was done, told once."""
        _ = self._rendering.wording(request).gettext
        name, number, *_rest = f"{self.gate.take_note(request) or ''} - -".split()
        return {
            "edited": _("The edit of letter %(number)s is saved.", number=number),
            "noted": _("The note is saved."),
            "unnoted": _("The note is deleted."),
            "dropped": _("Letters dropped: %(count)s.", count=number),
            "restored": _("Letters restored: %(count)s.", count=number),
            "ordered": _("Run %(number)s is on record.", number=number),
            "cancelled": _("Run %(number)s is being cancelled.", number=number),
            "resumed": _("Run %(number)s goes on.", number=number),
        }.get(name)


async def answered(asked: Awaitable[_Found], patience_s: float | None = None) -> _Found:
    """What PostgreSQL answers.

    Args:
        asked: The question.
        patience_s: Seconds that it may take; None: as many as on any page.

    Raises:
        HTTPException: 503 when it does not.
    """
    try:
        async with asyncio.timeout(patience_s or PATIENCE_S):
            return await asked
    except (DatabaseUnavailable, TimeoutError):
        raise HTTPException(503) from None


async def known(asked: Awaitable[_Found]) -> _Found | None:
    """What PostgreSQL answers; None when it does not, for pages that say so and go on asking."""
    try:
        return await answered(asked)
    except HTTPException:
        return None


def who(request: Request) -> str:
    """The name that somebody gave before."""
    return _clean(unquote(request.cookies.get(WHO_COOKIE, ""))[:_LONGEST_NAME])


def by(request: Request, form: FormData) -> str:
    """Who acts, as it goes on record: where they are, which nobody can make up, before what they call themselves."""
    name = _name(form)
    return f"page, {remote(request)}" + (f", {name}" if name else "")


def said(form: FormData, name: str, longest: int = 500) -> str:
    """What somebody typed into a field."""
    return str(form.get(name, "")).replace("\0", "").strip()[:longest]


def _name(form: FormData) -> str:
    return _clean(said(form, "who", _LONGEST_NAME))


def _clean(name: str) -> str:
    return "".join(letter for letter in name if letter.isprintable())
