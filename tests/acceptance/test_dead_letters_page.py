"""An operator mends a dead letter and replays it, in a real browser, with the real processes behind the page."""

from datetime import datetime
from zoneinfo import ZoneInfo

import asyncpg
from playwright.async_api import expect

from schema.errors import ModelRefused
from schema.messages import GenerateHoroscope
from schema.signs import Sign
from services.database.pool import Database
from tests.browser import chromium
from tests.operators import PASSWORD, add_dead_letter
from tests.processes import Processes
from tests.waiting import until_sql

# The process that serves the page publishes what is replayed, too, while no worker lives.
ALONE = {"BOT_TOKEN": "", "OPENAI_API_KEY": "", "ADMIN_PASSWORD": PASSWORD}
QUICK = {"services.admin.rendering:REFRESH_S": 0.3, "services.admin.snapshots:FRESH_S": 0.1}


async def test_an_operator_walks_from_the_group_to_the_end_of_the_replay(
    processes: Processes, database: Database, sql: asyncpg.Connection, free_port: int
) -> None:
    today = datetime.now(ZoneInfo("Europe/Moscow")).date()
    letter = await add_dead_letter(
        database, GenerateHoroscope(Sign.LEO, today), ModelRefused("401 no such key")
    )
    listen = {**ALONE, "ADMIN_LISTEN": f"127.0.0.1:{free_port}"}
    admin = await processes.start("admin", environment=listen, constants=QUICK)
    await admin.said("admin.ready")
    async with chromium() as browser:
        page = await browser.new_page(locale="en-GB")
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
        await page.goto(f"http://127.0.0.1:{free_port}")
        await page.locator("#password").fill(PASSWORD)
        await page.keyboard.press("Enter")

        await page.get_by_role("link", name="Dead letters 1 need a decision").click()
        await page.get_by_role("link", name="ModelRefused").click()
        await expect(page.locator("h1")).to_contain_text("ModelRefused")
        await page.get_by_role("link", name=str(letter), exact=True).click()
        await expect(page.locator("#verdict")).to_contain_text("ready")

        arguments = page.get_by_label("Arguments (JSON)")
        await arguments.fill('{"sign": "cat"}')
        await page.get_by_role("button", name="Save the edit").click()
        await expect(page.locator("#fault")).to_contain_text("sign: Input should be")
        await expect(arguments).to_have_value('{"sign": "cat"}')
        await arguments.fill(f'{{"sign": "virgo", "day": "{today}"}}')
        await page.get_by_role("button", name="Save the edit").click()
        await expect(page.locator("#edits ins")).to_have_text("virgo")

        await page.get_by_role("link", name="Replay…").click()
        await expect(page.get_by_role("heading", name="1 letter will be replayed")).to_be_visible()
        await page.get_by_label("Why").fill("the key is right now")
        await page.get_by_role("button", name="Replay").click()

        await expect(page.locator("h1")).to_contain_text("Run 1")
        await page.evaluate("window.still = true")
        await expect(page.locator("#count-waiting")).to_have_text("1")
        await expect(page.locator("#about")).to_contain_text(str(admin.pid))
        assert await sql.fetchval("SELECT count(*) FROM horoscope_cache") == 0

        await processes.workers()
        await expect(page.locator("#count-did_it")).to_have_text("1")
        await expect(page.locator("#settled")).to_be_visible()
        await expect(page.locator("#dead-waiting")).to_have_count(0)
        assert await page.evaluate("window.still"), "it was not loaded anew"
        assert [said for said in problems if "422" not in said] == []
    await until_sql(sql, "SELECT count(*) FROM horoscope_cache WHERE zodiac_sign = 'virgo'", 2)
    run = await sql.fetchrow("SELECT started_by, why, state FROM replay_runs")
    assert tuple(run) == ("admin (page, 127.0.0.1)", "the key is right now", "finished")
    assert await sql.fetchval("SELECT state FROM dead_letters") == "did_it"
