"""Signing in and out, and the page's language."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.admin import snapshots
from services.admin.auth import local_path, set_cookie
from services.admin.i18n import LANGUAGES
from services.admin.pages import page
from services.admin.pages.page import A_YEAR_S, Shown, Site, Visit
from services.admin.rendering import LANGUAGE_COOKIE, LIVE, asked

Handler = Callable[[Request], Awaitable[Response]]
Answer = Callable[[Visit], Awaitable[Shown | Response]]


def signed_in(site: Site, handle: Answer, *, slow: bool = False) -> Handler:
    """A handler for operators; anybody else is sent to the sign-in form, and comes back afterwards.

    A form is accepted from the operator's own pages only. The servers get :data:`page.ACT_S` seconds for what is
    ``slow`` and for judging letters, and :data:`snapshots.PATIENCE_S` for any other page.
    """

    async def answer(request: Request) -> Response:
        session = site.gate.session(request, "operator")
        if session is None:
            return _to_sign_in(site, request)
        form = await site.gate.form(request, session) if request.method == "POST" else FormData()
        visit = Visit(site, request, session, form)
        judges = bool(request.query_params.get("verdict"))
        async with asyncio.timeout(page.ACT_S if slow or judges else snapshots.PATIENCE_S):
            answer = await handle(visit)
        response = await visit.answer(answer) if isinstance(answer, Shown) else answer
        if LIVE not in request.headers:
            site.gate.renew(request, response, session)
        return response

    return answer


def _to_sign_in(site: Site, request: Request) -> Response:
    if LIVE in request.headers:
        return Response(status_code=401)
    back = local_path(asked(request)) if request.method in {"GET", "HEAD"} else "/"
    address = "/sign-in" if back == "/" else f"/sign-in?next={quote(back, safe='/')}"
    if request.headers.get("sec-fetch-site") == "cross-site":
        # A browser that follows a link from another site keeps the cookie back; from a page of ours it sends it.
        return site.rendering.page(request, "forward.html", address=address)
    return RedirectResponse(address, 303)


async def sign_in_form(site: Site, request: Request) -> Response:
    """``GET /sign-in``."""
    back = local_path(request.query_params.get("next", ""))
    if site.gate.session(request, "operator"):
        return RedirectResponse(back, 303)
    return _form(site, request, back)


async def sign_in(site: Site, request: Request) -> Response:
    """``POST /sign-in``."""
    form = await site.gate.form(request, site.gate.visitor(request))
    back = local_path(str(form.get("next", "")))
    result = site.gate.try_password(request, str(form.get("password", "")))
    if not result.welcome:
        return _form(site, request, back, wrong=True, locked_s=result.locked_s)
    response = RedirectResponse(back, 303)
    site.gate.enter(request, response)
    return response


def _form(site: Site, request: Request, back: str, *, wrong: bool = False, locked_s: int = 0) -> Response:
    visitor = site.gate.visitor(request)
    response = site.rendering.page(
        request,
        "sign_in.html",
        visitor,
        http_status=429 if locked_s else 403 if wrong else 200,
        back=back,
        wrong=wrong,
        wait=site.rendering.wording(request).wait(locked_s) if locked_s else "",
    )
    if locked_s:
        response.headers["Retry-After"] = str(locked_s)
    site.gate.keep(request, response, visitor)
    return response


async def sign_out(visit: Visit) -> Response:
    """``POST /sign-out``."""
    response = RedirectResponse("/sign-in", 303)
    visit.site.gate.leave(response)
    return response


async def set_language(site: Site, request: Request) -> Response:
    """``POST /language``, also before signing in."""
    session = site.gate.session(request, "operator") or site.gate.visitor(request)
    form = await site.gate.form(request, session)
    response = RedirectResponse(local_path(str(form.get("next", "")), signing=True), 303)
    chosen = str(form.get("language", ""))
    if chosen in LANGUAGES:
        set_cookie(request, response, LANGUAGE_COOKIE, chosen, A_YEAR_S)
    return response
