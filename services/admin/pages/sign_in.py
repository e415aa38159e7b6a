"""Signing in and out, and the page's language."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.accounts.audit import Entry, Principal
from services.accounts.roles import Role
from services.admin import snapshots
from services.admin.auth import Forbidden, Session, local_path, remote
from services.admin.cookies import NOTE_COOKIE, set_cookie
from services.admin.i18n import LANGUAGES
from services.admin.pages import page
from services.admin.pages.page import A_YEAR_S, Shown, Site, Visit
from services.admin.rendering import LANGUAGE_COOKIE, LIVE, asked, plain

Handler = Callable[[Request], Awaitable[Response]]
Answer = Callable[[Visit], Awaitable[Shown | Response]]


def signed_in(site: Site, handle: Answer, role: Role, *, act: str = "", slow: bool = False) -> Handler:
    """A handler for those who have signed in with this role; anybody else is sent to the sign-in form, and comes back.

    With an ``act`` it answers forms, which are accepted from the page's own pages only, and each goes on record. The
    servers get :data:`page.ACT_S` seconds for what is ``slow`` and for judging letters, and
    :data:`snapshots.PATIENCE_S` for any other page.
    """

    async def look(request: Request, session: Session) -> Response:
        if not session.role.allows(role):
            raise Forbidden(session, role)
        response = await _answer(handle, Visit(site, request, session, FormData(), Entry("")), slow=slow)
        if LIVE not in request.headers:
            await site.gate.renew(request, response, session)
        return response

    async def change(request: Request, session: Session) -> Response:
        principal = Principal(session.who, session.role.value, remote(request))
        entry = Entry(act, " ".join(map(str, request.path_params.values())))
        try:
            if not session.role.allows(role):
                raise Forbidden(session, role)
            form = await site.gate.form(request, session)
        except HTTPException as error:
            foreign = f"the form was not sent by this page (HTTP {error.status_code})"
            entry.refuse(error.detail if isinstance(error, Forbidden) else foreign)
            await site.audit.add(principal, entry)
            raise
        async with site.audit.recording(principal, act, entry.subject) as entry:
            return await _answer(handle, Visit(site, request, session, form, entry), slow=slow)

    async def answer(request: Request) -> Response:
        session = await site.gate.session(request)
        if session is None:
            return _to_sign_in(site, request)
        return await (change if act else look)(request, session)

    return answer


async def _answer(handle: Answer, visit: Visit, *, slow: bool) -> Response:
    judges = bool(visit.request.query_params.get("verdict"))
    try:
        async with asyncio.timeout(page.ACT_S if slow or judges else snapshots.PATIENCE_S):
            answer = await handle(visit)
    except HTTPException as error:
        visit.entry.refuse(f"HTTP {error.status_code}: {error.detail}")
        raise
    if isinstance(answer, Response):
        return answer
    if answer.status >= 400:
        visit.entry.refuse(_reason(answer))
    return await visit.answer(answer)


def _reason(shown: Shown) -> str:
    """Why a page says that nothing was done."""
    said = [str(shown.values.get(name) or "") for name in ("refused", "fault", "wrong")]
    faults = ", ".join(shown.values.get("faults") or ())
    return next(filter(None, said), f"missing or wrong: {faults}" if faults else f"HTTP {shown.status}")


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
    if await site.gate.session(request):
        return RedirectResponse(back, 303)
    return _form(site, request, back)


async def sign_in(site: Site, request: Request) -> Response:
    """``POST /sign-in``."""
    form = await site.gate.form(request, site.gate.visitor(request))
    back = local_path(str(form.get("next", "")))
    name, password = str(form.get("username", ""))[:100], str(form.get("password", ""))
    response = RedirectResponse(back, 303)
    result = await site.gate.sign_in(request, response, name, password)
    if not result.welcome:
        return _form(site, request, back, name, wrong=True, locked_s=result.locked_s)
    return response


def _form(
    site: Site, request: Request, back: str, name: str = "", *, wrong: bool = False, locked_s: int = 0
) -> Response:
    visitor, note = site.gate.visitor(request), site.gate.take_note(request)
    response = site.rendering.page(
        request,
        "sign_in.html",
        visitor,
        http_status=429 if locked_s else 403 if wrong else 200,
        note=note,
        back=back,
        username=plain(name[:60], site.mask),
        wrong=wrong,
        wait=site.rendering.wording(request).wait(locked_s) if locked_s else "",
    )
    if locked_s:
        response.headers["Retry-After"] = str(locked_s)
    if note:
        response.delete_cookie(NOTE_COOKIE)
    site.gate.keep_visitor(request, response, visitor)
    return response


async def sign_out(visit: Visit) -> Response:
    """``POST /sign-out``."""
    response = RedirectResponse("/sign-in", 303)
    await visit.site.gate.leave(visit.request, response)
    return response


async def sign_out_everywhere(visit: Visit) -> Response:
    """``POST /sign-out-everywhere``: end every session of this account, this one too."""
    response = RedirectResponse("/sign-in", 303)
    visit.entry.after = {"sessions": await visit.site.gate.leave_everywhere(visit.session, response)}
    return response


async def set_language(site: Site, request: Request) -> Response:
    """``POST /language``, also before signing in."""
    session = await site.gate.session(request) or site.gate.visitor(request)
    form = await site.gate.form(request, session)
    response = RedirectResponse(local_path(str(form.get("next", "")), signing=True), 303)
    chosen = str(form.get("language", ""))
    if chosen in LANGUAGES:
        set_cookie(request, response, LANGUAGE_COOKIE, chosen, A_YEAR_S)
    return response
