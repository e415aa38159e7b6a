"""Nobody comes in without the password, and no form is obeyed that is not the page's own."""

import base64
from collections.abc import AsyncIterator
from datetime import timedelta
from http.cookies import SimpleCookie
from typing import Any

import asyncpg
import httpx2
import pytest
from structlog.testing import capture_logs

from services.accounts import sign_in_limits
from services.admin import cookies
from services.admin.cookies import COOKIES, KNOWN_COOKIE, Cookies
from services.admin.security_headers import _HEADERS
from services.days import system_clock
from tests.operators import ORIGIN, PASSWORD, Operator, open_admin, settings_of

# Nothing listens there: whoever comes in is told so, and everything here works all the same.
NOWHERE = "amqp://nobody:nothing@127.0.0.1:1/"
OPERATOR, VISITOR = COOKIES["operator"], COOKIES["visitor"]
FORMS = (
    "/sign-in", "/sign-out", "/language", "/texts/2026-11-22/leo", "/dead/replay", "/dead/drop", "/dead/restore",
    "/dead/group/0123456789abcdef/note", "/dead/1/edit", "/dead/runs/1/cancel", "/dead/runs/1/resume",
    "/queues/views/pause", "/queues/views/resume", "/queues/views/peek", "/queues/views/purge",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is made quickly."""
    monkeypatch.setitem(cookies._SCRYPT, "n", 2)


@pytest.fixture
async def page(database_url: str) -> AsyncIterator[Any]:
    async with open_admin(settings_of(database_url, NOWHERE)) as (page, _):
        yield page


@pytest.fixture
async def operator(page: Any) -> AsyncIterator[Operator]:
    operator = Operator(page)
    async with operator.http:
        yield operator


def cookie(response: httpx2.Response, name: str) -> Any:
    """A cookie that a response sets."""
    for header in response.headers.get_list("set-cookie"):
        if header.startswith(f"{name}="):
            return SimpleCookie(header)[name]
    return None


async def is_in(operator: Operator) -> bool:
    return (await operator.get("/queues")).status_code == 200


# Signing in


async def test_whoever_is_not_signed_in_is_sent_to_do_so_and_comes_back(operator: Operator) -> None:
    for path in (
        "/",
        "/queues",
        "/processes",
        "/dead",
        "/dead/1",
        "/dead/replay",
        "/dead/runs/1",
        "/texts/2026-11-22/leo",
    ):
        sent = await operator.get(path)
        assert (sent.status_code, sent.text) == (303, "")
    assert sent.headers["location"] == "/sign-in?next=/texts/2026-11-22/leo"
    came = await operator.sign_in(to="/queues")
    assert (came.status_code, came.headers["location"]) == (303, "/queues")
    assert await is_in(operator)


async def test_a_wrong_password_is_refused_and_never_logged(operator: Operator) -> None:
    with capture_logs() as logs:
        answer = await operator.sign_in("Hunter2-Hunter2")
    assert answer.status_code == 403
    assert "Неверное имя или пароль." in answer.text
    assert cookie(answer, OPERATOR) is None
    assert not await is_in(operator)
    (told,) = (log for log in logs if log["event"].startswith("admin."))
    assert (told["event"], told["remote"]) == ("admin.sign_in_failed", "192.0.2.1")
    assert "Hunter2" not in f"{logs}{answer.text}"


async def test_the_cookie_is_for_this_page_alone_and_for_https_where_that_is_spoken(page: Any) -> None:
    for base, secure in ((ORIGIN, ""), ("https://page.test", True)):
        operator = Operator(page, base=base)
        came = await operator.sign_in()
        given = cookie(came, OPERATOR)
        assert given["httponly"]
        assert given["samesite"] == "strict"
        assert given["secure"] == secure
        assert given["path"] == "/"
        assert int(given["max-age"]) == 12 * 3600
        assert ("strict-transport-security" in came.headers) is bool(secure)


async def test_signing_out_ends_the_session(operator: Operator, page: Any) -> None:
    await operator.sign_in()
    copied = {"cookie": f"{OPERATOR}={operator.http.cookies[OPERATOR]}"}
    gone = await operator.send("/sign-out")
    assert (gone.status_code, gone.headers["location"]) == (303, "/sign-in")
    assert not await is_in(operator)
    assert (await Operator(page).http.get("/queues", headers=copied)).status_code == 303, (
        "nor by a copy of it"
    )


@pytest.mark.parametrize(
    "elsewhere",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "/%0d%0aSet-Cookie:x", "javascript:alert(1)",
     "/sign-out", "", "\t//evil.example", "/a\nb", "/" + 400 * "a", "/@evil.example", "/:80"],
)  # fmt: skip
async def test_nobody_is_sent_to_another_place_after_signing_in(operator: Operator, elsewhere: str) -> None:
    came = await operator.sign_in(to=elsewhere)
    location = came.headers["location"]
    assert (came.status_code, location) == (303, "/")
    again = await operator.http.get("/sign-in", params={"next": elsewhere})
    assert again.headers["location"] == location


# Guessing


async def test_after_five_wrong_tries_even_the_right_password_has_to_wait(
    page: Any, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses = [(await operator.sign_in(f"guess-{number}")).status_code for number in range(5)]
    assert statuses == [403, 403, 403, 403, 429]
    locked = await operator.sign_in()
    assert locked.status_code == 429
    assert 0 < int(locked.headers["retry-after"]) <= 300
    assert "Попробуйте снова через 5\u00a0мин" in locked.text
    assert not await is_in(operator)
    header = {"authorization": "Basic " + base64.b64encode(f"x:{PASSWORD}".encode()).decode()}
    assert (await operator.http.get("/api/today", headers=header)).status_code == 429
    somebody_else = Operator(page, "192.0.2.99")
    assert (await somebody_else.sign_in()).status_code == 303

    monkeypatch.setattr(sign_in_limits, "WITHIN_S", 0.0)
    assert (await operator.sign_in()).status_code == 303
    assert await is_in(operator)


async def test_guessing_by_http_basic_is_limited_in_the_same_way(operator: Operator) -> None:
    answers = [
        await operator.http.get("/api/today", auth=("operator", f"guess-{number}")) for number in range(6)
    ]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 401, 429, 429]
    assert answers[0].json()["error"] == "not_signed_in"
    assert answers[0].headers["www-authenticate"].startswith("Basic ")
    assert answers[-1].json()["error"] == "too_many_tries"
    assert int(answers[-1].headers["retry-after"]) > 0
    assert (await operator.sign_in()).status_code == 429


async def test_a_script_that_polls_takes_nothing_from_the_limit(operator: Operator) -> None:
    async def script(password: str) -> int:
        return (await operator.http.get("/api/queues", auth=("x", password))).status_code

    answers = []
    for number in range(5):
        answers += [await script(f"guess-{number}"), await script(PASSWORD)]
    assert answers == 4 * [401, 503] + [429, 429], "the right ones are told that RabbitMQ is away"


async def test_a_browser_that_has_signed_in_before_is_not_locked_out_by_others(
    operator: Operator, page: Any
) -> None:
    for _ in range(2):  # the second time it keeps its name
        given = cookie(await operator.sign_in(), KNOWN_COOKIE)
        assert (given["httponly"], given["samesite"], int(given["max-age"])) == (True, "strict", 366 * 86_400)
        await operator.send("/sign-out")
    stranger = Operator(page)
    for number in range(5):
        await stranger.sign_in(f"guess-{number}")
    assert (await stranger.sign_in()).status_code == 429
    header = {"authorization": "Basic " + base64.b64encode(f"x:{PASSWORD}".encode()).decode()}
    assert (await operator.http.get("/api/today", headers=header)).status_code == 429
    assert (await operator.sign_in("wrong-once")).status_code == 403
    assert (await operator.sign_in()).status_code == 303
    await operator.send("/sign-out")
    for number in range(5):
        await operator.sign_in(f"guess-{number}")
    assert (await operator.sign_in()).status_code == 429, "it has five, too"
    other = Cookies("another password", system_clock).signed("known", "admin stolen")
    forger = Operator(page)
    forger.http.cookies[KNOWN_COOKIE] = other
    assert (await forger.sign_in()).status_code == 429


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic ???", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Bearer x"]
)
async def test_a_header_that_says_nothing_lets_nobody_in(operator: Operator, header: str) -> None:
    answer = await operator.http.get("/api/queues", headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json().keys() == {"error", "message"}


# Cookies


async def test_a_cookie_is_worth_something_only_as_it_was_given(
    operator: Operator, page: Any, sql: asyncpg.Connection
) -> None:
    await operator.sign_in()
    given = operator.http.cookies[OPERATOR]
    visitor = Operator(page)
    await visitor.token()
    stored = (await sql.fetchval("SELECT digest FROM sessions")).hex()
    cookies = Cookies(PASSWORD, system_clock)
    forged = {
        "another token": f"{given[:-1]}{'a' if given[-1] != 'a' else 'b'}",
        "half a token": given[: len(given) // 2],
        "what is stored": stored,
        "a visitor's": visitor.http.cookies[VISITOR],
        "a note": cookies.signed("note", given),
        "of an outage, with another password": Cookies("another password", system_clock).signed(
            "outage", "x"
        ),
        "nonsense": "....%00\x80",
        "empty": "",
    }
    for what, value in forged.items():
        forger = Operator(page)
        answer = await forger.http.get(
            "/queues", headers=[(b"cookie", f"{OPERATOR}={value}".encode("latin-1"))]
        )
        assert answer.status_code == 303, what
    right = await Operator(page).http.get("/queues", headers={"cookie": f"{OPERATOR}={given}"})
    assert right.status_code == 200


async def test_a_session_holds_for_every_process_with_the_same_password_and_no_other(
    operator: Operator, database_url: str
) -> None:
    await operator.sign_in()
    given = operator.http.cookies[OPERATOR]
    for password, status in ((PASSWORD, 200), ("another password", 303)):
        async with open_admin(settings_of(database_url, NOWHERE, password=password)) as (another, _):
            answer = await Operator(another).http.get("/queues", headers={"cookie": f"{OPERATOR}={given}"})
            assert answer.status_code == status


async def test_a_page_that_is_opened_prolongs_the_session_and_one_that_keeps_itself_up_to_date_does_not(
    database_url: str,
) -> None:
    now = system_clock()
    async with open_admin(settings_of(database_url, NOWHERE), clock=lambda: now) as (page, _):
        operator = Operator(page)
        await operator.sign_in()
        now += timedelta(minutes=5)
        assert cookie(await operator.get("/queues"), OPERATOR) is None
        now += timedelta(hours=8)
        assert cookie(await operator.get("/queues", x_live="1"), OPERATOR) is None
        renewed = cookie(await operator.get("/queues"), OPERATOR)
        assert int(renewed["max-age"]) == 12 * 3600
        now += timedelta(hours=8)
        assert await is_in(operator)
        now += timedelta(hours=12, seconds=1)
        assert (await operator.get("/queues", x_live="1")).status_code == 401
        assert not await is_in(operator)


async def test_a_session_ends_after_a_week_however_often_it_was_renewed(database_url: str) -> None:
    now = system_clock()
    async with open_admin(settings_of(database_url, NOWHERE), clock=lambda: now) as (page, _):
        operator = Operator(page)
        await operator.sign_in()
        for _ in range(15):
            now += timedelta(hours=11)
            assert await is_in(operator)
        now += timedelta(hours=3, seconds=1)
        assert not await is_in(operator)


# Forms


@pytest.mark.parametrize("token", [None, "", "0" * 64, "\u00ff" * 10])
async def test_a_form_without_its_token_is_refused(operator: Operator, token: str | None) -> None:
    await operator.sign_in()
    data = {"language": "en", "password": PASSWORD} | ({} if token is None else {"form_token": token})
    for path in FORMS:
        answer = await operator.http.post(path, data=data)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False), path
    assert await is_in(operator)


async def test_a_token_is_of_one_session_only(operator: Operator, page: Any) -> None:
    other = Operator(page)
    await other.sign_in()
    await operator.sign_in()
    stolen = await other.token("/")
    assert (await operator.http.post("/sign-out", data={"form_token": stolen})).status_code == 403
    visitors = await Operator(page).token()
    assert (await operator.http.post("/sign-out", data={"form_token": visitors})).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": ORIGIN},
        {"sec-fetch-site": "none"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"{ORIGIN}.evil.example"},
    ],
)
async def test_a_form_of_another_site_is_refused_though_it_knew_the_token(
    operator: Operator, headers: dict[str, str]
) -> None:
    token = await operator.token()
    data = {"form_token": token, "password": PASSWORD}
    assert (await operator.http.post("/sign-in", data=data, headers=headers)).status_code == 403
    own = {"sec-fetch-site": "same-origin", "origin": "https://name-of-the-proxy.example"}
    assert (await operator.http.post("/sign-in", data=data, headers=own)).status_code == 303


async def test_a_form_that_is_too_large_or_none_is_refused(operator: Operator) -> None:
    token = await operator.token()
    large = {"form_token": token, "password": PASSWORD, "x": "y" * 20_000}
    assert (await operator.http.post("/sign-in", data=large)).status_code == 413
    many = {f"x{number}": "y" for number in range(50)} | {"form_token": token, "password": PASSWORD}
    assert (await operator.http.post("/sign-in", data=many)).status_code == 400
    files = {"password": ("a", b"b")}
    assert (await operator.http.post("/sign-in", data={"form_token": token}, files=files)).status_code == 415
    json = await operator.http.post("/sign-in", json={"form_token": token, "password": PASSWORD})
    assert json.status_code == 415
    with capture_logs() as logs:
        for kind in (
            "multipart/form-data",
            "multipart/form-data; boundary=x; charset=no-such",
            "text/plain",
            "",
        ):
            odd = await operator.http.post("/sign-in", content=b"--y", headers={"content-type": kind})
            assert odd.status_code == 415
    assert not [log for log in logs if log["event"].startswith("admin.")]


async def test_a_form_that_breaks_off_is_no_bug(page: Any) -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def nobody(_: Any) -> None:
        pass

    headers = [(b"host", b"page.test"), (b"content-type", b"application/x-www-form-urlencoded")]
    scope = {
        "type": "http", "method": "POST", "path": "/sign-in", "query_string": b"", "headers": headers,
        "scheme": "http", "client": ("192.0.2.1", 50000), "server": ("page.test", 80), "root_path": "",
    }  # fmt: skip
    with capture_logs() as logs:
        await page(scope, gone, nobody)
    assert not [log for log in logs if log["event"].startswith("admin.")]


# Browsers


async def test_every_response_is_protected(operator: Operator) -> None:
    async def responses() -> AsyncIterator[httpx2.Response]:
        for path in (
            "/",
            "/sign-in",
            "/static/admin.css",
            "/static/nothing",
            "/nothing",
            "/api/today",
            "/api/x",
        ):
            yield await operator.get(path)
        yield await operator.http.post("/", data={})
        yield await operator.http.put("/api/today")
        yield await operator.sign_in("wrong-password")
        yield await operator.sign_in()
        yield await operator.get("/")
        yield await operator.get("/", x_live="1")
        yield await operator.get("/texts/2026-11-22/ophiuchus")

    statuses = []
    async for response in responses():
        statuses.append(response.status_code)
        for name, value in _HEADERS.items():
            assert response.headers[name] == value, response.url
        assert response.headers["cache-control"] == (
            "no-cache" if "/static/" in str(response.url) else "no-store"
        )
        assert "server" not in response.headers
    assert statuses == [303, 200, 200, 404, 404, 401, 404, 405, 405, 403, 303, 200, 200, 404]


async def test_a_bug_is_logged_and_shown_as_a_page_without_a_word_about_the_code(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operator.sign_in()
    monkeypatch.setattr("services.admin.snapshots.Snapshots.now", None)
    with capture_logs() as logs:
        page = await operator.get("/")
        json = await operator.get("/api/today")
    ours = [log["event"] for log in logs if log["event"].startswith("admin.")]
    assert ours == ["admin.failed", "admin.failed"]
    assert (page.status_code, json.status_code) == (500, 500)
    assert "admin.failed" in page.text
    assert json.json()["error"] == "failed"
    assert "NoneType" not in page.text + json.text
    assert page.headers["x-frame-options"] == "DENY"


async def test_nothing_is_put_together_from_the_host_that_a_request_names(operator: Operator) -> None:
    await operator.sign_in()
    for path in ("/", "/queues/", "/sign-in", "/nothing"):
        answer = await operator.http.get(path, headers={"host": "evil.example"})
        assert "evil.example" not in f"{answer.headers}{answer.text}"


async def test_a_link_from_elsewhere_leads_in_whoever_has_signed_in(operator: Operator) -> None:
    # The browser keeps the cookie back, since the link stands on a page of another site.
    hop = await operator.get("/queues", sec_fetch_site="cross-site")
    assert hop.status_code == 200
    assert '<meta http-equiv="refresh" content="0; url=/sign-in?next=/queues">' in hop.text
    await operator.sign_in()
    led = await operator.get("/sign-in?next=/queues", sec_fetch_site="same-origin")
    assert (led.status_code, led.headers["location"]) == (303, "/queues")


@pytest.mark.parametrize(
    ("wanted", "language"),
    [("", "ru"), ("en-GB,en;q=0.9", "en"), ("de,en;q=0.5,ru;q=0.7", "ru"), ("fr", "ru"), ("en;q=x, ru;q=0", "ru"), ("ru;q=0,en", "en")],
)  # fmt: skip
async def test_the_language_is_the_browsers_until_another_is_chosen(
    operator: Operator, wanted: str, language: str
) -> None:
    operator.http.headers["accept-language"] = wanted
    assert f'<html lang="{language}">' in (await operator.get("/sign-in")).text
    other = "en" if language == "ru" else "ru"
    fields = {"language": other, "next": "/sign-in?next=/queues"}
    chosen = await operator.send("/language", fields, of="/sign-in")
    assert chosen.headers["location"] == "/sign-in?next=/queues"
    assert f'<html lang="{other}">' in (await operator.get("/sign-in")).text
    await operator.sign_in()
    assert f'<html lang="{other}">' in (await operator.get("/")).text
