"""The operators' page does in a real browser what it promises, on a phone and on a desktop."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import uuid4

import asyncpg
import pika
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, Route, expect

from actors import REPLAYABLE, topology
from ops.stack.ports import free_port
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.admin import cookies, rendering, snapshots
from services.admin.server import make_page, open_snapshots, serve_http
from services.app import open_servers
from services.database.pool import Database
from services.days import ONE_DAY, day_in
from services.messaging.bus import Bus
from tests.browser import chromium
from tests.operators import (
    PASSWORD,
    RUNBOOK,
    add_dead_letter,
    put_generation,
    put_process,
    put_text,
    settings_of,
)
from tests.proxy import Cable
from tests.waiting import DEADLINE_S

# One browser for all tests here, so one event loop too.
pytestmark = pytest.mark.asyncio(loop_scope="module")

Scheme = Literal["light", "dark"]
ERROR = "the model's server answered 503: upstream connect error <b>reset</b> " + "x" * 120
SIZES = pytest.mark.parametrize(
    "screen",
    [(1440, 900, "light", "ru-RU"), (360, 740, "dark", "en-GB")],
    ids=["1440 light ru", "360 dark en"],
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="module")
async def cable(database_url: str) -> AsyncIterator[Cable]:
    """The page's connection to PostgreSQL, to be unplugged."""
    async with Cable(database_url) as cable:
        yield cable


@pytest_asyncio.fixture(loop_scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest_asyncio.fixture(loop_scope="module")
async def address(
    cable: Cable, rabbitmq_url: str, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """Where the page is, with a day behind it that has its troubles."""
    monkeypatch.setitem(cookies._SCRYPT, "n", 2)
    monkeypatch.setattr(snapshots, "FRESH_S", 0.0)
    monkeypatch.setattr(rendering, "REFRESH_S", 0.5)
    settings = settings_of(cable.url, rabbitmq_url, admin_listen=f"127.0.0.1:{free_port()}")
    today = day_in(settings.home_timezone, datetime.now(UTC))
    for sign in ("aries", "taurus", "gemini"):
        await put_text(db, sign, today)
        await put_text(db, sign, today + ONE_DAY)
    await put_generation(db, "leo", today, "given_up", error=ERROR, writer="worker-7f9c4d 41", attempts=4)
    retry_at = datetime.now(UTC) + timedelta(minutes=12)
    await put_generation(db, "virgo", today, "retrying", error=ERROR, retry_at=retry_at)
    for day, views in ((today, 13_884), (today - ONE_DAY, 121_004)):
        await db.execute("INSERT INTO horoscope_views VALUES (DEFAULT, 'leo', $1, $2)", day, views)
    await put_process(db, "worker", "a-host-with-a-rather-long-name-0123456789.example.org")
    await put_process(db, "worker", "lost-host", silent_s=600)
    queues = topology.queues(settings)
    async with (
        open_servers(settings, queues, process="test") as (database, publisher),
        open_snapshots(settings, queues, database) as shown,
        serve_http(
            make_page(settings, shown, database, Bus(publisher, database), REPLAYABLE, runbook=RUNBOOK),
            settings.admin_listen,
            (),
        ),
    ):
        await publisher.wait_ready(DEADLINE_S)
        yield f"http://{settings.admin_listen}"


@pytest.fixture
def screen() -> tuple[int, int, Scheme, str]:
    return 1440, 900, "light", "en-GB"


@pytest_asyncio.fixture(loop_scope="module")
async def page(address: str, browser: Browser, screen: tuple[int, int, Scheme, str]) -> AsyncIterator[Page]:
    """A browser that is signed in; nothing but the page itself may be asked for, and nothing may fail."""
    width, height, scheme, locale = screen
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        locale=locale,
        reduced_motion="reduce",
    )
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on(
        "request", lambda asked: None if asked.url.startswith(f"{address}/") else problems.append(asked.url)
    )
    await page.goto(address)
    await sign_in(page)
    await page.locator("#refresh:not([hidden])").wait_for()
    yield page
    await page.close()
    expected = (
        "net::ERR",
        "status of 401",
        "status of 403",
        "status of 422",
        "status of 503",
    )  # a page that is away, or refuses
    assert [problem for problem in problems if not any(each in problem for each in expected)] == []


def view() -> HoroscopeRequested:
    """A view that is not counted: its replay is ready."""
    now = datetime.now(UTC)
    return HoroscopeRequested(uuid4(), Sign.LEO, now.date(), answered=True, at=now)


async def sign_in(page: Page, password: str = PASSWORD) -> None:
    await page.locator("#password").fill(password)
    await page.keyboard.press("Enter")


async def fits(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


@SIZES
async def test_every_page_fits_its_screen_and_speaks_both_languages(
    page: Page, address: str, tmp_path: Path
) -> None:
    for path in (
        "/",
        "/queues",
        "/dead",
        "/dead/runs",
        "/processes",
        "/queues/views",
        "/queues/dead_letters/purge",
        "/runbook",
        "/audit",
        "/accounts",
        "/account",
    ):
        await page.goto(address + path)
        assert await fits(page), path
        await page.screenshot(path=tmp_path / f"{path.strip('/').replace('/', '-') or 'today'}.png")
    await page.goto(address)
    await page.locator('a[id^="again-"][id$="-aries"]').first.click()
    await expect(page.locator("main form .main-button")).to_be_visible()
    assert await fits(page)
    before = await page.locator("html").get_attribute("lang") or ""
    await page.locator("button[name=language]").click()
    await expect(page.locator("html")).not_to_have_attribute("lang", before)
    await expect(page.locator("h1")).to_contain_text("Aries" if before == "ru" else "Овен")


async def test_a_wrong_password_is_told_and_signing_out_works(page: Page, address: str) -> None:
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="For operators")).to_be_visible()
    await expect(page.locator("#password")).to_be_focused()
    await sign_in(page, "not the password")
    await expect(page.get_by_role("alert")).to_have_text("Wrong name or password.")
    await page.goto(f"{address}/queues")
    await sign_in(page)
    await expect(page.get_by_role("heading", name="Queues", exact=True)).to_be_visible()


@SIZES
async def test_the_grid_changes_when_a_text_is_written_and_what_somebody_does_meanwhile_stays(
    page: Page, db: asyncpg.Connection
) -> None:
    today = await db.fetchval("SELECT horoscope_date FROM generations WHERE zodiac_sign = 'leo'")
    cell = page.locator(f"#text-{today}-leo")
    await expect(cell).to_have_class(re.compile("is-given_up"))
    await page.locator("#hours summary").click()
    link = page.locator(f"#again-{today}-pisces")
    await link.focus()
    scrolled = await page.evaluate("scrollY")
    await page.evaluate("window.still = document.getElementById('texts')")
    await page.evaluate(
        "document.getElementById('title').insertAdjacentHTML('beforebegin', '<p id=gone>Over</p>')"
    )
    assert "13" in await page.locator("#horoscopes-today").inner_text()

    await put_text(db, "leo", today)
    await db.execute("DELETE FROM generations")
    await db.execute("UPDATE horoscope_views SET view_count = 14001 WHERE view_date = $1", today)

    await expect(cell).to_have_class(re.compile("is-written"))
    await expect(page.locator("#horoscopes-today")).to_have_text(re.compile(r"14.001"))
    await expect(page.locator(".trouble")).to_have_count(0)
    await expect(page.locator("#hours")).to_have_attribute("open", "")
    await expect(page.locator("#gone")).to_have_count(0)
    await expect(link).to_be_focused()
    assert abs(await page.evaluate("scrollY") - scrolled) < 400, "what came above the grid may have gone"
    assert await page.evaluate("window.still === document.getElementById('texts')"), "it was not loaded anew"


async def test_selected_text_is_left_alone_and_a_lost_connection_is_told(
    page: Page, db: asyncpg.Connection
) -> None:
    said = page.locator("#refresh-said")
    await page.evaluate("getSelection().selectAllChildren(document.getElementById('horoscopes-today'))")
    await db.execute("UPDATE horoscope_views SET view_count = 15002 WHERE view_count = 13884")
    await expect(said).to_have_text("Not updating while text is selected")
    assert await page.evaluate("getSelection().toString()") == "13,884"
    await page.evaluate("getSelection().removeAllRanges()")
    await expect(page.locator("#horoscopes-today")).to_have_text("15,002")

    await page.context.set_offline(True)
    await expect(said).to_contain_text("Connection lost; figures of")
    await page.context.set_offline(False)
    await expect(said).to_contain_text("Updated at")
    await page.context.clear_cookies()  # the session has ended
    await expect(page.locator("#password")).to_be_visible()


async def test_it_can_be_used_by_keyboard_alone_and_a_pause_holds_it_still(
    page: Page, db: asyncpg.Connection
) -> None:
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator("#refresh-pause")).to_be_focused()
    under_way, paused = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        await db.execute("UPDATE horoscope_views SET view_count = 15002 WHERE view_count = 13884")
        answer = await route.fetch()
        under_way.set()
        await paused.wait()
        await route.fulfill(response=answer)

    await page.route("**", hold, times=1)
    await asyncio.wait_for(under_way.wait(), DEADLINE_S)
    await page.keyboard.press("Space")
    await expect(page.locator("#refresh-said")).to_contain_text("Paused since")
    paused.set()  # what was asked for before comes now
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as if the tab came back
    await page.wait_for_timeout(1000 * rendering.REFRESH_S + 200)
    await expect(page.locator("#horoscopes-today")).to_have_text("13,884")
    assert asked == []
    await page.keyboard.press("Space")
    await expect(page.locator("#horoscopes-today")).to_have_text("15,002")
    await expect(page.locator("#refresh-said")).to_contain_text("Updated at")

    today = await db.fetchval("SELECT horoscope_date FROM generations WHERE zodiac_sign = 'leo'")
    await page.locator(f"#again-{today}-aries").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_contain_text("Aries")
    await page.get_by_role("button", name="Write again").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").first).to_contain_text("Ordered: Aries")


async def test_a_queue_is_paused_looked_into_purged_and_resumed(
    page: Page, address: str, rabbitmq_url: str
) -> None:
    with closing(pika.BlockingConnection(pika.URLParameters(rabbitmq_url))) as connection:
        for number in (1, 2):
            connection.channel().basic_publish("", "views", f"message {number} <b>".encode())
    await page.get_by_role("link", name="Queues").click()
    await page.get_by_role("link", name="views", exact=True).click()
    await page.get_by_label("Reason").fill("counters <b>are</b> being repaired")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_have_text("views is paused.")
    await expect(page.locator("#paused")).to_contain_text("counters <b>are</b> being repaired")
    await page.get_by_role("button", name="Peek").click()
    await expect(page.locator("#seen .error-said")).to_have_text(["b'message 1 <b>'", "b'message 2 <b>'"])
    await page.locator("button[name=language]").click()
    await expect(page.locator("#paused")).to_contain_text("На паузе с")
    await page.locator("button[name=language]").click()
    await page.get_by_role("link", name="Purge").click()
    await expect(page.locator("h1")).to_have_text("Delete all 2 messages in views?")
    await page.get_by_role("button", name="Delete").click()
    await expect(page.get_by_role("status")).to_have_text("Deleted messages of views: 2.")
    await page.goto(f"{address}/queues")
    await expect(page.locator("#queue-views .paused")).to_contain_text("counters <b>are</b> being repaired")
    await page.get_by_role("link", name="views", exact=True).click()
    await page.get_by_role("button", name="Resume").click()
    await expect(page.locator("#paused")).to_have_count(0)


PHONE = pytest.mark.parametrize(
    "screen", [(390, 844, "light", "ru-RU"), (390, 844, "light", "en-GB")], ids=["ru", "en"]
)
LINES = """selector => {
    const range = document.createRange();
    range.selectNodeContents(document.querySelector(selector));
    return new Set([...range.getClientRects()].map((box) => Math.round(box.bottom))).size;
}"""


async def test_the_live_marker_covers_nothing(page: Page, address: str, database: Database) -> None:
    await add_dead_letter(database, view())
    await page.goto(f"{address}/dead/replay?state=dead")
    await page.get_by_label("Why").fill("the model is back")
    await page.get_by_role("button", name="Replay").click()
    for path in (None, "/", "/queues", "/dead", "/dead/runs", "/processes"):
        if path:
            await page.goto(address + path)
        else:
            await expect(page.get_by_role("status").first).to_have_text("Run 1 is ordered.")
        for width in (1440, 900, 390):
            await page.set_viewport_size({"width": width, "height": 900})
            covered = await page.evaluate("""() => {
                const marker = document.getElementById("refresh").getBoundingClientRect();
                return [...document.querySelectorAll("main > .banner, #content > *, #content a, .top")]
                    .filter((each) => {
                        const box = each.getBoundingClientRect();
                        return box.left < marker.right && box.right > marker.left
                            && box.top < marker.bottom && box.bottom > marker.top;
                    }).map((each) => each.outerHTML.slice(0, 80));
            }""")
            assert covered == [], (path, width)


async def test_the_title_of_a_live_page_stands_where_other_pages_have_it(page: Page, address: str) -> None:
    for path in ("/", "/queues", "/processes"):
        await page.goto(address + path)
        top, inset = await page.evaluate("""() => {
            const main = document.getElementById("main");
            const title = document.querySelector("h1").getBoundingClientRect();
            return [title.top - main.getBoundingClientRect().top, parseFloat(getComputedStyle(main).paddingTop)];
        }""")
        assert top == inset, path


async def test_the_runbook_looks_like_a_document(page: Page, address: str) -> None:
    await page.goto(f"{address}/runbook#no-queues")
    style = "([selector, name]) => getComputedStyle(document.querySelector(`.runbook ${selector}`))[name]"
    assert await page.evaluate(style, ["ul", "listStyleType"]) == "disc"
    assert await page.evaluate(style, ["ol", "listStyleType"]) == "decimal"
    assert await page.evaluate(style, ["td", "paddingTop"]) != "0px"
    assert "mono" in await page.evaluate(style, ["code", "fontFamily"])
    assert await page.evaluate(style, ["p", "marginTop"]) != "0px"
    await expect(page.locator("#no-queues")).to_be_in_viewport()


async def test_the_heading_of_a_narrow_column_stays_in_one_line(
    page: Page, address: str, database: Database
) -> None:
    for _ in range(2):
        await add_dead_letter(database, view())
    letter = await add_dead_letter(database, view())
    await page.goto(f"{address}/dead/replay?id={letter}")
    await page.get_by_label("Why").fill(
        "the model is back, and this tells at length why the letters are replayed " * 4
    )
    await page.get_by_role("button", name="Replay").click()
    await expect(page.locator("h1")).to_contain_text("Run 1")
    for path in ("/dead", "/dead/runs"):
        await page.goto(address + path)
        assert await page.evaluate(LINES, ".cards:is(.letters, .runs) thead th:first-child") == 1, path


@PHONE
async def test_the_menu_of_a_phone_is_one_row(page: Page, database: Database) -> None:
    for _ in range(12):
        await add_dead_letter(database, view())
    await page.reload()
    await expect(page.locator("#dead-waiting")).to_contain_text("12")
    rows = "[...document.querySelectorAll('#nav > a')].map((link) => link.getBoundingClientRect().top)"
    assert len(set(await page.evaluate(rows))) == 1
    assert await page.evaluate("nav.scrollWidth <= nav.clientWidth"), "nothing is out of sight"


async def test_the_list_of_dead_letters_is_live_and_keeps_what_somebody_does_meanwhile(
    page: Page, address: str, database: Database, db: asyncpg.Connection
) -> None:
    letters = [await add_dead_letter(database, view()) for _ in range(30)]
    await page.goto(f"{address}/dead")
    await page.evaluate("window.still = true")
    chosen = page.locator(f"#letter-{letters[10]} input")
    await chosen.check()
    gone = page.locator(f"#letter-{letters[12]}")
    await gone.locator("input").check()
    link = page.locator(f"#letter-{letters[10]}").get_by_role("link")
    await link.focus()
    top = "(link) => link.getBoundingClientRect().top"
    place = await link.evaluate(top)

    new = await add_dead_letter(database, view())
    await expect(page.locator(f"#letter-{new}")).to_be_attached()
    await expect(page.locator("#dead-waiting")).to_contain_text("31")
    await expect(link).to_be_focused()
    await expect(chosen).to_be_checked()
    assert abs(await link.evaluate(top) - place) < 2, "what is read does not move"

    await db.execute("UPDATE dead_letters SET state = 'dropped' WHERE id = ANY($1)", letters[11:13])
    await expect(page.locator(f"#letter-{letters[11]}")).to_have_count(0)
    await expect(gone, "it is chosen").to_have_class("is-gone")
    await gone.locator("input").uncheck()
    await expect(gone).to_have_count(0)
    assert await page.evaluate("window.still"), "it was not loaded anew"
    await page.get_by_role("button", name="Drop the chosen").click()
    await expect(page.locator("h1")).to_contain_text("Drop 1 letter?")


async def test_a_filter_that_cannot_be_understood_is_not_taken_for_a_lost_connection(
    page: Page, address: str
) -> None:
    await page.goto(f"{address}/dead?day=x")
    for _ in range(2):  # when the second answer comes, the first has been dealt with
        await page.wait_for_event("response", lambda answer: "x-live" in answer.request.headers)
    await expect(page.locator("#refresh")).to_have_attribute("data-state", "live")
    await expect(page.locator("#wrong-day")).to_be_visible()


async def test_what_was_done_is_told_once(page: Page, address: str) -> None:
    await page.goto(f"{address}/queues/views")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("status")).to_have_text("views is paused.")
    await page.reload()
    await expect(page.locator("#paused")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_count(0)


async def test_a_page_that_needs_a_server_comes_back_with_it(page: Page, address: str, cable: Cable) -> None:
    cable.unplug()
    await page.goto(f"{address}/dead/runs")
    await expect(page.locator("h1")).to_have_text("Error 503")
    await expect(page.locator("#away-postgresql")).to_be_visible()
    cable.plug()
    await expect(page.locator("h1")).to_have_text("Runs of replays")


async def test_without_scripts_the_page_is_whole(
    address: str, browser: Browser, db: asyncpg.Connection
) -> None:
    context = await browser.new_context(java_script_enabled=False, locale="en-GB")
    page = await context.new_page()
    await page.goto(address)
    await sign_in(page)
    await expect(page.locator("#horoscopes-today")).to_have_text("13,884")
    await expect(page.get_by_role("link", name="Reload")).to_be_visible()
    await expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    await page.locator("#hours summary").click()
    await expect(page.locator("#hours table")).to_be_visible()
    await page.locator('a[id^="again-"][id$="-pisces"]').nth(1).click()
    await page.get_by_role("button", name="Order").click()
    await expect(page.get_by_role("status").first).to_contain_text("Ordered: Pisces")
    await context.close()
