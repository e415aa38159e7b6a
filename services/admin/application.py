"""The ASGI application: which address is answered by what."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from services.admin import api
from services.admin.api import Api
from services.admin.pages import Pages
from services.admin.protection import Protected

#: Bytes of a request's body; the forms are far smaller.
LARGEST_BODY = 16_384


def application(pages: Pages, figures: Api) -> ASGIApp:
    """The whole page.

    Args:
        pages: What a browser is shown.
        figures: What a script is told.
    """

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _failure(request, error.status_code, error) or await pages.refused(request, error)

    async def failed(request: Request, error: Exception) -> Response:
        return _failure(request, 500) or await pages.failed(request, error)

    app = Starlette(
        routes=[
            Route("/", pages.signed_in(pages.today)),
            Route("/queues", pages.signed_in(pages.queues)),
            Route("/processes", pages.signed_in(pages.processes)),
            Route("/texts/{day}/{sign}", pages.signed_in(pages.text)),
            Route("/texts/{day}/{sign}", pages.signed_in(pages.write_again), methods=["POST"]),
            Route("/sign-in", pages.sign_in_form),
            Route("/sign-in", pages.sign_in, methods=["POST"]),
            Route("/sign-out", pages.signed_in(pages.sign_out), methods=["POST"]),
            Route("/language", pages.set_language, methods=["POST"]),
            Route("/api/today", figures.told(api.today)),
            Route("/api/queues", figures.told(api.queues)),
            Route("/api/processes", figures.told(api.processes)),
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
        max_body_size=LARGEST_BODY,
    )
    # The address to go to would be put together from the header Host, which anybody may set.
    app.router.redirect_slashes = False
    return Protected(app)


def _failure(request: Request, status: int, error: HTTPException | None = None) -> Response | None:
    """An error as JSON, where JSON was asked for."""
    if not request.scope["path"].startswith("/api/"):
        return None
    return api.failure(status, headers=dict(error.headers or {}) if error else None)
