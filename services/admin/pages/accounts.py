"""The pages of the accounts: all of them, for admins, and one's own."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from schema.errors import Refused, text_of
from schema.sentences import Sentence
from services.accounts.passwords import LONGEST, SHORTEST
from services.accounts.roles import Role
from services.admin.pages.page import Shown, Visit


async def accounts(visit: Visit) -> Shown:
    """``GET /accounts``."""
    site = visit.site
    values = {
        "accounts": await site.accounts.listed(),
        "tokens": await site.tokens.listed(),
        "roles": [role.value for role in Role],
    }
    return Shown("accounts.html", values)


async def set_role(visit: Visit) -> Response:
    """``POST /accounts/{name}/role``."""
    name = _somebody_else(visit)
    try:
        role = Role(visit.said("role"))
    except ValueError:
        raise HTTPException(400) from None
    before = await visit.site.accounts.set_role(name, role)
    visit.entry.before, visit.entry.after = {"role": before.value}, {"role": role.value}
    return visit.done(
        "/accounts", visit.gettext("The role of %(name)s is now %(role)s.", name=name, role=role.value)
    )


async def disable(visit: Visit) -> Response:
    """``POST /accounts/{name}/disable``."""
    name = _somebody_else(visit)
    await visit.site.accounts.disable(name)
    return visit.done(
        "/accounts", visit.gettext("%(name)s is disabled and signed out everywhere.", name=name)
    )


async def enable(visit: Visit) -> Response:
    """``POST /accounts/{name}/enable``."""
    name = _somebody_else(visit)
    await visit.site.accounts.enable(name)
    return visit.done("/accounts", visit.gettext("%(name)s may sign in again.", name=name))


async def sign_out(visit: Visit) -> Response:
    """``POST /accounts/{name}/sign-out``."""
    name = _somebody_else(visit)
    visit.entry.after = {"sessions": await visit.site.accounts.sign_out(name)}
    return visit.done("/accounts", visit.gettext("%(name)s is signed out everywhere.", name=name))


async def revoke(visit: Visit) -> Response:
    """``POST /accounts/tokens/{name}/revoke``."""
    name: str = visit.request.path_params["name"]
    visit.entry.before = {"role": (await visit.site.tokens.revoke(name)).value}
    return visit.done("/accounts", visit.gettext("The token %(name)s is revoked.", name=name))


async def own(_: Visit, status: int = 200, *, wrong: str = "") -> Shown:
    """``GET /account``; a password that was refused is told as ``wrong``."""
    values = {"wrong": wrong, "shortest": SHORTEST, "longest": LONGEST}
    return Shown("account.html", values, {"here": "/account"}, status)


async def set_own_password(visit: Visit) -> Shown | Response:
    """``POST /account/password``: a new password; every browser has to sign in anew."""
    session, gate = visit.session, visit.site.gate
    visit.entry.subject = session.who
    if session.account is None:
        raise HTTPException(404)  # ADMIN_PASSWORD is a setting
    current, new, again = (str(visit.form.get(name, "")) for name in ("current", "new", "again"))
    if new != again:
        return await own(visit, 422, wrong=Sentence("The two new passwords are not the same."))
    result = await gate.is_own_password(visit.request, session, current)
    if not result.welcome:
        status = 429 if result.locked_s else 403
        return await own(visit, status, wrong=Sentence("The current password is wrong."))
    try:
        await visit.site.accounts.set_password(session.who, new)
    except Refused as error:
        return await own(visit, 422, wrong=text_of(error))
    return visit.done("/sign-in", visit.gettext("Your password is changed. Sign in with it."))


def _somebody_else(visit: Visit) -> str:
    """The account in the path.

    Raises:
        Refused: It is one's own.
    """
    name: str = visit.request.path_params["name"]
    if name == visit.session.who:
        raise Refused(Sentence("This is your own account. Another admin can change it, or the command line."))
    return name
