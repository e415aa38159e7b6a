"""The table of addresses, and what is answered when something fails."""

from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from schema.errors import DatabaseUnavailable, NotFound, NotPublished, Refused, UnknownQueue, text_of
from services.admin import api
from services.admin.pages import (
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


def application(site: Site) -> ASGIApp:
    """The pages and the API."""

    def page(path: str, handler: sign_in.Answer) -> Route:
        return Route(path, sign_in.signed_in(site, handler))

    def form(path: str, handler: sign_in.Answer) -> Route:
        return Route(path, sign_in.signed_in(site, handler, slow=True), methods=["POST"])

    def act(path: str, act: Act) -> tuple[Route, Route]:
        return Route(path, sign_in.signed_in(site, act.ask, slow=act.slow)), form(path, act.carry_out)

    def json(path: str, figures: api.Figures) -> Route:
        return Route(path, api.endpoint(site, figures))

    app = Starlette(
        routes=[
            page("/", today.today),
            page("/processes", today.processes),
            page("/runbook", runbook.runbook),
            *act("/texts/{day}/{sign}", texts.WRITE),
            page("/queues", queues.queues),
            page("/queues/{name}", queues.queue),
            form("/queues/{name}/pause", queues.pause),
            form("/queues/{name}/resume", queues.resume),
            form("/queues/{name}/peek", queues.peek),
            *act("/queues/{name}/purge", queues.PURGE),
            page("/dead", dead_letters.letters),
            *act("/dead/drop", drops.DROP),
            *act("/dead/restore", drops.RESTORE),
            *act("/dead/replay", replays.REPLAY),
            page("/dead/runs", runs.runs),
            page("/dead/runs/{number:int}", runs.run),
            *act("/dead/runs/{number:int}/cancel", runs.CANCEL),
            *act("/dead/runs/{number:int}/resume", runs.RESUME),
            page("/dead/group/{fingerprint}", dead_letters.group),
            form("/dead/group/{fingerprint}/note", edits.note),
            page("/dead/{number:int}", dead_letters.letter),
            form("/dead/{number:int}/edit", edits.edit),
            Route("/sign-in", partial(sign_in.sign_in_form, site)),
            Route("/sign-in", partial(sign_in.sign_in, site), methods=["POST"]),
            form("/sign-out", sign_in.sign_out),
            Route("/language", partial(sign_in.set_language, site), methods=["POST"]),
            json("/api/today", api.today),
            json("/api/queues", api.queues),
            json("/api/processes", api.processes),
            json("/api/dead", api.dead),
            json("/api/dead/letters", api.dead_letters),
            json("/api/dead/runs", api.dead_runs),
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
        ],
        exception_handlers=dict.fromkeys((HTTPException, *_STATUSES), partial(_failed, site)),
        max_body_size=LARGEST_BODY,
    )
    # A redirect would be built from the header Host, which anybody can set.
    app.router.redirect_slashes = False
    return Protected(app)


async def _failed(site: Site, request: Request, error: Exception) -> Response:
    """A page for an error; JSON below ``/api/``."""
    headers = error.headers if isinstance(error, HTTPException) else None
    known = (_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    status = error.status_code if isinstance(error, HTTPException) else next(known)
    if request.scope["path"].startswith("/api/"):
        return await api.failed(site, error, status)
    session = site.gate.session(request, "operator")
    section = section_of(request)
    back = "/" if section == "today" else f"/{section}"
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
        name=section,
        back=back,
        here=asked(request) if request.method == "GET" else back,
        recovers=is_away and session is not None and request.method == "GET",
    )
    response.headers.update(headers or {})
    return response
