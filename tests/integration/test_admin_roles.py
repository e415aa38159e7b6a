"""What each role may do, on every route of the page; and that every form leaves its entry in the audit."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock

import asyncpg
import pytest
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from schema.messages import GenerateHoroscope
from schema.signs import Sign
from services.accounts.accounts import Accounts
from services.accounts.audit import ACTS
from services.accounts.roles import Role
from services.admin.routes import Guarded, demand_roles, table
from services.database.pool import Database
from tests.operators import PASSWORD, Operator, add_dead_letter
from tests.unit.test_compose import rows

pytestmark = pytest.mark.usefixtures("quick")

TODAY = datetime.now(UTC).date()
SECRET = "a password of nobody"
ROUTES = [route for route in table(MagicMock()) if isinstance(route, Guarded)]
METHODS = [(route, method) for route in ROUTES for method in sorted((route.methods or set()) - {"HEAD"})]
FORMS = [route for route, method in METHODS if method == "POST"]


def path_of(route: Route) -> str:
    """An address of a route."""
    values = {"day": str(TODAY), "sign": "leo", "fingerprint": "0123456789abcdef", "number:int": "1"}
    name = "views" if route.path.startswith("/queues") else "zoe"
    return re.sub(r"\{([^}]+)\}", lambda found: values.get(found[1], name), route.path)


@pytest.fixture
async def people(page: ASGIApp, database: Database) -> AsyncIterator[dict[Role | None, Operator]]:
    """Somebody of each role who has signed in, and somebody who has not."""
    accounts = Accounts(database)
    found: dict[Role | None, Operator] = {None: Operator(page)}
    for number, role in enumerate(Role):
        await accounts.add(f"{role.value}-1", role, SECRET)
        found[role] = Operator(page, f"192.0.2.{number + 10}")
        found[role].http.headers["accept-language"] = "en"
        assert (await found[role].sign_in(SECRET, name=f"{role.value}-1")).status_code == 303
    yield found
    for operator in found.values():
        await operator.http.aclose()


async def test_each_role_may_do_what_the_table_of_routes_says_and_nothing_else(
    people: dict[Role | None, Operator], database: Database, sql: asyncpg.Connection
) -> None:
    await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY))
    for route, method in METHODS:
        path = path_of(route)
        for role, operator in people.items():
            if path in {"/sign-out", "/sign-out-everywhere", "/account/password"} and role:
                continue  # everybody may; signing out would end this test
            case = (path, method, role)
            before = await sql.fetchval("SELECT max(id) FROM audit")
            if method == "GET":
                answer = await operator.get(path)
            else:
                token = await operator.token("/account" if role else "/sign-in")
                answer = await operator.http.post(path, data={"form_token": token})
            if role is None and route.needs is not None:
                expected = 401 if path.startswith("/api/") else 303
                assert answer.status_code == expected, case
                assert expected == 401 or answer.headers["location"].startswith("/sign-in"), case
            elif role is not None and route.needs is not None and not role.allows(route.needs):
                assert answer.status_code == 403, case
                assert "needs the role" in answer.text, case
                row = await sql.fetchrow("SELECT who, what, outcome, detail FROM audit WHERE id > $1", before)
                if method == "POST":
                    assert row[:3] == (f"{role.value}-1", route.act, "refused"), case
                    assert "needs the role" in row["detail"]
                else:
                    assert row is None
            elif path != "/sign-in":
                assert answer.status_code not in {401, 403, 500}, case


async def test_every_form_leaves_one_entry_whatever_comes_of_it(
    people: dict[Role | None, Operator], database: Database, sql: asyncpg.Connection
) -> None:
    await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY))
    admin = people[Role.ADMIN]
    for route in FORMS:
        if route.needs is None:
            continue
        path, before = path_of(route), await sql.fetchval("SELECT max(id) FROM audit")
        if not (await admin.get("/account")).is_success:  # it has signed out
            await admin.sign_in(SECRET, name="admin-1")
            before = await sql.fetchval("SELECT max(id) FROM audit")
        token = await admin.token("/account")
        answer = await admin.http.post(path, data={"form_token": token, "why": SECRET})
        found = await sql.fetch("SELECT * FROM audit WHERE id > $1 ORDER BY id", before)
        assert [row["what"] for row in found] == [route.act] * 2, path
        assert found[0]["outcome"] == "begun", path
        assert len({row["act"] for row in found}) == 1, path
        row = found[-1]
        assert (row["who"], row["role"], row["origin"]) == ("admin-1", "admin", "192.0.2.12"), path
        expected = "done" if answer.status_code < 400 else "refused"
        assert row["outcome"] in {expected, "refused"}, (path, answer.status_code, row)
        assert (row["outcome"] == "done") == (row["detail"] == ""), path


async def test_a_form_that_another_site_has_sent_is_on_record_as_refused(
    people: dict[Role | None, Operator], sql: asyncpg.Connection
) -> None:
    operator = people[Role.OPERATOR]
    sent = await operator.send("/queues/views/pause", of="/account", sec_fetch_site="cross-site")
    assert sent.status_code == 403
    row = await sql.fetchrow("SELECT * FROM audit WHERE what = 'queue.pause'")
    assert (row["who"], row["subject"], row["outcome"]) == ("operator-1", "views", "refused")
    assert "was not sent by this page" in row["detail"]


async def test_a_page_hides_what_the_role_may_not_do(
    people: dict[Role | None, Operator], database: Database
) -> None:
    letter = await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY))
    group = re.search(r"/dead/group/(\w+)", (await people[Role.VIEWER].get("/dead")).text)
    assert group
    for path in (
        "/", "/queues/views", "/dead", f"/dead/{letter}", group[0], f"/texts/{TODAY}/leo", "/processes", "/dead/runs",
    ):  # fmt: skip
        shown = {role: (await people[role].get(path)).text for role in Role}
        forms = set(re.findall(r'(?:action|formaction|href)="(/[^"?]*)', shown[Role.VIEWER]))
        needing = {
            each
            for each in forms
            for route, method in METHODS
            if route.needs
            and route.needs is not Role.VIEWER
            and route.path_regex.match(each)
            and ((method == "POST" and f'action="{each}"' in shown[Role.VIEWER]) or method == "GET")
        }
        assert needing == set(), path
        assert ("/purge" in shown[Role.OPERATOR]) is False, path
        for admins in ("/audit", "/accounts"):
            assert (f'href="{admins}"' in shown[Role.ADMIN]) is True, path
            assert (f'href="{admins}"' in shown[Role.OPERATOR]) is False, path
    assert "/queues/views/purge" in (await people[Role.ADMIN].get("/queues/views")).text
    for path, what in (
        ("/queues/views", "/queues/views/pause"),
        ("/dead", "/dead/drop"),
        (f"/dead/{letter}", f"/dead/{letter}/edit"),
        (group[0], f"{group[0]}/note"),
        (f"/texts/{TODAY}/leo", f'action="/texts/{TODAY}/leo"'),
    ):
        assert what in (await people[Role.OPERATOR].get(path)).text, path


def test_a_route_without_a_role_keeps_the_page_from_starting() -> None:
    async def answer(_: Any) -> Any: ...

    demand_roles(table(MagicMock()))
    for wrong, said in (
        (Route("/new", answer), "the route /new declares no role"),
        (Mount("/more", routes=[]), "the route /more declares no role"),
        (Guarded("/form", answer, Role.VIEWER, method="POST"), "names no act"),
        (Guarded("/form", answer, Role.VIEWER, "no.act", method="POST"), "unknown act 'no.act'"),
    ):
        with pytest.raises(TypeError, match=said):
            demand_roles([*ROUTES, wrong])


def test_only_an_operator_or_an_admin_changes_anything_but_their_own_account() -> None:
    own = {"/sign-out", "/sign-out-everywhere", "/account/password"}
    assert {route.path for route in FORMS if route.needs is Role.VIEWER} == own
    assert {route.path for route in FORMS if route.needs is None} == {"/sign-in", "/language"}


def test_the_document_says_what_each_role_may_do() -> None:
    told = {
        act.strip("`"): role
        for acts, role in rows("ops/docs/operating.md", "Roles")
        for act in acts.split(", ")
    }
    needed = {route.act: route.needs.value for route in ROUTES if route.act and route.needs}
    assert {act: role for act, role in told.items() if act in needed} == needed
    assert set(told) == set(ACTS)


async def test_the_built_in_account_counts_until_somebody_else_is_an_admin(
    page: ASGIApp, database: Database, sql: asyncpg.Connection
) -> None:
    accounts, operator = Accounts(database), Operator(page)
    await accounts.add("ann", Role.OPERATOR, SECRET)
    assert (await operator.sign_in(PASSWORD)).status_code == 303
    assert (await operator.get("/audit")).status_code == 200
    await accounts.add("eve", Role.ADMIN, SECRET)
    assert (await operator.get("/audit")).status_code == 303, "its session has ended"
    assert (await operator.sign_in(PASSWORD)).status_code == 403
    assert (await operator.http.get("/api/queues", auth=("x", PASSWORD))).status_code == 401
    await accounts.disable("eve")
    assert (await operator.sign_in(PASSWORD)).status_code == 403, (
        "an admin who is disabled is one all the same"
    )
    await accounts.remove("eve")
    assert (await operator.sign_in(PASSWORD)).status_code == 303
    assert await sql.fetchval("SELECT count(*) FROM audit WHERE who = '?' AND outcome = 'refused'") == 3
