"""The table of addresses, and what is answered when something fails."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from schema.errors import (
    DatabaseUnavailable,
    HoroscopeError,
    NotFound,
    NotPublished,
    Refused,
    UnknownQueue,
    text_of,
)
from services.accounts.audit import ACTS
from services.accounts.roles import Role
from services.admin import api
from services.admin.auth import Forbidden, Session
from services.admin.pages import (
    accounts,
    audit,
    dead_letters,
    drops,
    edits,
    queues,
    replays,
    runbook,
    runs,
    sign_in,
    texts,
    today,
)
from services.admin.pages.page import Act, Site, section_of
from services.admin.rendering import asked, plain
from services.admin.security_headers import Protected

#: Bytes of a request's body at most; every form is smaller.
LARGEST_BODY = 16_384

#: The HTTP status of each error of ours.
_STATUSES: dict[type[Exception], int] = {
    NotFound: 404,
    UnknownQueue: 404,
    Refused: 409,
    NotPublished: 502,
    DatabaseUnavailable: 503,
    TimeoutError: 503,
    Exception: 500,
}


class Guarded(Route):
    """A route with the role that it needs; None: anybody may, also before signing in."""

    def __init__(
        self, path: str, endpoint: sign_in.Handler, needs: Role | None, act: str = "", method: str = "GET"
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.needs = needs
        self.act = act  #: What the audit calls it; empty: nothing is changed


def application(site: Site) -> ASGIApp:
    """The pages and the API."""
    routes = table(site)
    demand_roles(routes)
    app = Starlette(
        routes=routes,
        exception_handlers=dict.fromkeys((HTTPException, *_STATUSES), partial(_failed, site)),
        max_body_size=LARGEST_BODY,
    )
    # A redirect would be built from the header Host, which anybody can set.
    app.router.redirect_slashes = False
    return Protected(app)


def table(site: Site) -> list[BaseRoute]:
    """Every route: its path, the role that it needs, what the audit calls it if it changes something, its handler."""

    def page(path: str, role: Role, handler: sign_in.Answer) -> Guarded:
        return Guarded(path, sign_in.signed_in(site, handler, role), role)

    def form(path: str, role: Role, act: str, handler: sign_in.Answer) -> Guarded:
        return Guarded(
            path, sign_in.signed_in(site, handler, role, act=act, slow=True), role, act, method="POST"
        )

    def ask(
        path: str, role: Role, act: str, question: Act, *, look: Role | None = None
    ) -> tuple[Guarded, Guarded]:
        looks = look or role
        handler = sign_in.signed_in(site, question.ask, looks, slow=question.slow)
        return Guarded(path, handler, looks), form(path, role, act, question.carry_out)

    def json(path: str, role: Role, figures: api.Figures) -> Guarded:
        return Guarded(path, api.endpoint(site, figures, role), role)

    viewer, operator, admin = Role
    return [
        page("/", viewer, today.today),
        page("/processes", viewer, today.processes),
        page("/runbook", viewer, runbook.runbook),
        *ask("/texts/{day}/{sign}", operator, "text.order", texts.WRITE, look=viewer),
        page("/queues", viewer, queues.queues),
        page("/queues/{name}", viewer, queues.queue),
        form("/queues/{name}/pause", operator, "queue.pause", queues.pause),
        form("/queues/{name}/resume", operator, "queue.resume", queues.resume),
        form("/queues/{name}/peek", operator, "queue.peek", queues.peek),
        *ask("/queues/{name}/purge", admin, "queue.purge", queues.PURGE),
        page("/dead", viewer, dead_letters.letters),
        *ask("/dead/drop", operator, "dead.drop", drops.DROP),
        *ask("/dead/restore", operator, "dead.restore", drops.RESTORE),
        *ask("/dead/replay", operator, "dead.replay", replays.REPLAY),
        page("/dead/runs", viewer, runs.runs),
        page("/dead/runs/{number:int}", viewer, runs.run),
        *ask("/dead/runs/{number:int}/cancel", operator, "run.cancel", runs.CANCEL),
        *ask("/dead/runs/{number:int}/resume", operator, "run.resume", runs.RESUME),
        page("/dead/group/{fingerprint}", viewer, dead_letters.group),
        form("/dead/group/{fingerprint}/note", operator, "dead.note", edits.note),
        page("/dead/{number:int}", viewer, dead_letters.letter),
        form("/dead/{number:int}/edit", operator, "dead.edit", edits.edit),
        page("/audit", admin, audit.entries),
        page("/accounts", admin, accounts.accounts),
        form("/accounts/{name}/role", admin, "account.role", accounts.set_role),
        form("/accounts/{name}/disable", admin, "account.disable", accounts.disable),
        form("/accounts/{name}/enable", admin, "account.enable", accounts.enable),
        form("/accounts/{name}/sign-out", admin, "account.sign-out", accounts.sign_out),
        form("/accounts/tokens/{name}/revoke", admin, "token.revoke", accounts.revoke),
        page("/account", viewer, accounts.own),
        form("/account/password", viewer, "account.password", accounts.set_own_password),
        Guarded("/sign-in", partial(sign_in.sign_in_form, site), None),
        Guarded("/sign-in", partial(sign_in.sign_in, site), None, "session.sign-in", method="POST"),
        form("/sign-out", viewer, "session.sign-out", sign_in.sign_out),
        form("/sign-out-everywhere", viewer, "session.sign-out-everywhere", sign_in.sign_out_everywhere),
        Guarded("/language", partial(sign_in.set_language, site), None, method="POST"),
        json("/api/today", viewer, api.today),
        json("/api/queues", viewer, api.queues),
        json("/api/processes", viewer, api.processes),
        json("/api/dead", viewer, api.dead),
        json("/api/dead/letters", viewer, api.dead_letters),
        json("/api/dead/runs", viewer, api.dead_runs),
        json("/api/audit", admin, api.audit),
        Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
    ]


def demand_roles(routes: Sequence[BaseRoute]) -> None:
    """Hold every route against the rule that it declares who may use it, and that the audit knows its act.

    Raises:
        TypeError: A route does not.
    """
    for route in routes:
        if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
            continue
        if not isinstance(route, Guarded):
            raise TypeError(f"the route {getattr(route, 'path', route)} declares no role; make it Guarded")
        if route.act and route.act not in ACTS:
            raise TypeError(f"the route {route.path} has an unknown act {route.act!r}")
        if "POST" in (route.methods or ()) and route.needs and not route.act:
            raise TypeError(f"the route {route.path} takes forms and names no act for the audit")


async def _failed(site: Site, request: Request, error: Exception) -> Response:
    """A page for an error; JSON below ``/api/``."""
    headers = error.headers if isinstance(error, HTTPException) else None
    known = (_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    status = error.status_code if isinstance(error, HTTPException) else next(known)
    if request.scope["path"].startswith("/api/"):
        return await api.failed(site, error, status)
    session = await _session_of(site, request)
    section = section_of(request)
    back = "/" if section == "today" or isinstance(error, Forbidden) else f"/{section}"
    is_away = status in {502, 503}
    snapshot = (
        None if session is None else await site.snapshots.lately() if is_away else site.snapshots.latest
    )
    response = site.rendering.page(
        request,
        "error.html",
        session,
        snapshot,
        http_status=status,
        status=status,
        reason=plain(text_of(error), site.mask) if status == 409 else "",
        forbidden=error if isinstance(error, Forbidden) else None,
        name=section,
        back=back,
        here=asked(request) if request.method == "GET" else back,
        recovers=is_away and session is not None and request.method == "GET",
    )
    response.headers.update(headers or {})
    return response


async def _session_of(site: Site, request: Request) -> Session | None:
    """The session for the page of an error, which must not fail in its turn."""
    try:
        return await site.gate.session(request)
    except (HoroscopeError, OSError):
        return None
