"""The ASGI application: which address is answered by what."""

from dataclasses import dataclass
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
from services.admin.dead_api import DeadApi
from services.admin.pages.dead_letters import DeadPages
from services.admin.pages.drops import DeadForms
from services.admin.pages.queues import QueuePages
from services.admin.pages.replays import DeadReplays
from services.admin.pages.today import Pages, SignedIn
from services.admin.security_headers import Protected

#: Bytes of a request's body; the forms are smaller.
LARGEST_BODY = 16_384


@dataclass(frozen=True, slots=True)
class Dead:
    """Whatever answers about dead letters."""

    pages: DeadPages
    forms: DeadForms
    replays: DeadReplays
    api: DeadApi


def application(pages: Pages, queue_pages: QueuePages, dead: Dead, figures: Api) -> ASGIApp:
    """The whole page.

    Args:
        pages: What a browser is shown.
        queue_pages: The same of the queues.
        dead: The same, and more, of dead letters.
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
            Route("/queues", pages.signed_in(queue_pages.queues)),
            Route("/queues/{name}", pages.signed_in(queue_pages.queue)),
            Route("/queues/{name}/pause", pages.signed_in(queue_pages.pause), methods=["POST"]),
            Route("/queues/{name}/resume", pages.signed_in(queue_pages.resume), methods=["POST"]),
            Route("/queues/{name}/peek", pages.signed_in(queue_pages.peek), methods=["POST"]),
            Route("/queues/{name}/purge", pages.signed_in(queue_pages.ask_to_purge)),
            Route("/queues/{name}/purge", pages.signed_in(queue_pages.purge), methods=["POST"]),
            Route("/processes", pages.signed_in(pages.processes)),
            Route("/texts/{day}/{sign}", pages.signed_in(pages.text)),
            Route("/texts/{day}/{sign}", pages.signed_in(pages.write_again), methods=["POST"]),
            *_dead(pages, dead),
            Route("/sign-in", pages.sign_in_form),
            Route("/sign-in", pages.sign_in, methods=["POST"]),
            Route("/sign-out", pages.signed_in(pages.sign_out), methods=["POST"]),
            Route("/language", pages.set_language, methods=["POST"]),
            Route("/api/today", figures.told(api.today)),
            Route("/api/queues", figures.told(api.queues)),
            Route("/api/processes", figures.told(api.processes)),
            Route("/api/dead", figures.signed_in(dead.api.told(dead.api.overview))),
            Route("/api/dead/letters", figures.signed_in(dead.api.told(dead.api.letters))),
            Route("/api/dead/runs", figures.signed_in(dead.api.told(dead.api.runs))),
            Mount("/static", StaticFiles(directory=Path(__file__).with_name("static"))),
        ],
        exception_handlers={HTTPException: refused, Exception: failed},
        max_body_size=LARGEST_BODY,
    )
    # The address to go to would be put together from the header Host, which anybody may set.
    app.router.redirect_slashes = False
    return Protected(app)


def _dead(pages: Pages, dead: Dead) -> list[Route]:
    """The addresses of dead letters."""
    shown: dict[str, SignedIn] = {
        "": dead.pages.letters,
        "/replay": dead.replays.ask,
        "/drop": dead.forms.ask_to_drop,
        "/restore": dead.forms.ask_to_restore,
        "/group/{fingerprint}": dead.pages.group,
        "/runs": dead.replays.runs,
        "/runs/{number:int}": dead.replays.run,
        "/runs/{number:int}/cancel": dead.replays.ask_to_cancel,
        "/runs/{number:int}/resume": dead.replays.ask_to_resume,
        "/{number:int}": dead.pages.letter,
    }
    done: dict[str, SignedIn] = {
        "/replay": dead.replays.start,
        "/drop": dead.forms.drop,
        "/restore": dead.forms.restore,
        "/group/{fingerprint}/note": dead.forms.note,
        "/runs/{number:int}/cancel": dead.replays.cancel,
        "/runs/{number:int}/resume": dead.replays.resume,
        "/{number:int}/edit": dead.forms.edit,
        "/{number:int}/drop": dead.forms.drop_one,
        "/{number:int}/restore": dead.forms.restore_one,
    }
    return [
        *(Route(f"/dead{path}", pages.signed_in(handler)) for path, handler in shown.items()),
        *(
            Route(f"/dead{path}", pages.signed_in(handler), methods=["POST"])
            for path, handler in done.items()
        ),
    ]


def _failure(request: Request, status: int, error: HTTPException | None = None) -> Response | None:
    """An error as JSON, where JSON was asked for."""
    if not request.scope["path"].startswith("/api/"):
        return None
    return api.failure(status, headers=dict(error.headers or {}) if error else None)
