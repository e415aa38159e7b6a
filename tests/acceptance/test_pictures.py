"""The pictures of the README, taken from the running service; `make screenshots` keeps them."""

import random
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal
from uuid import UUID

import asyncpg
import pytest
from playwright.async_api import Browser, Page, expect

from ops.sandbox import Sandbox
from ops.sandbox.telegram.world import Reader
from schema.messages import HoroscopeRequested
from schema.signs import Sign
from tests.acceptance.conftest import until_written
from tests.browser import chromium
from tests.operators import PASSWORD
from tests.processes import Processes, clock_from
from tests.queues import Queues
from tests.waiting import until_sql, until_views

IMAGES = Path(__file__).parents[2] / "ops" / "docs" / "images"
#: 19:40 in Moscow.
NOW = datetime(2026, 11, 22, 16, 40, tzinfo=UTC)
#: How busy each hour of the day is, from 0 to 23 in Moscow.
BUSY = (3, 2, 1, 1, 2, 6, 18, 34, 40, 31, 24, 21, 22, 24, 20, 18, 19, 23, 28, 30, 26, 18, 11, 6)
READERS = 36
PATIENCE_S = 30

Scheme = Literal["light", "dark"]


def _week_of_views() -> list[HoroscopeRequested]:
    """What readers asked for before now: a week whose hours and signs differ, the same in every run."""
    chance = random.Random(1)
    signs = list(Sign)
    liked = [chance.randint(4, 12) for _ in signs]
    views = []
    for ago in range(7):
        midnight = datetime(2026, 11, 21, 21, tzinfo=UTC) - timedelta(days=ago)
        for hour, busy in enumerate(BUSY):
            for _ in range(busy * chance.randint(6, 9 - ago // 3) // 6):
                at = midnight + timedelta(hours=hour, seconds=chance.randrange(3600))
                (sign,) = chance.choices(signs, liked)
                if at < NOW.replace(minute=0):  # whoever asks later does so in the chat
                    request = UUID(int=chance.getrandbits(128))
                    day = date(2026, 11, 22) - timedelta(days=ago)
                    views.append(HoroscopeRequested(request, sign, day, answered=True, at=at))
    return views


async def _until_received(reader: Reader, count: int) -> None:
    await reader.wait_for(lambda _: len(reader.received) == count, within=PATIENCE_S)


async def _read(reader: Reader, sign: Sign, times: int) -> int:
    """A new reader's first minutes; returns how often they were shown a text."""
    await reader.say("/start")
    await _until_received(reader, 1)
    await reader.press(f"sign:{sign}")
    await reader.wait_for_text("November 22", within=PATIENCE_S)
    for shown in range(1, times):
        await reader.say("/today")
        await _until_received(reader, shown + 2)
    return times


async def _take(page: Page, request: pytest.FixtureRequest, folder: Path, name: str) -> None:
    for image in await page.locator("img").all():
        await expect(image).not_to_have_js_property("naturalWidth", 0, timeout=PATIENCE_S * 1000)
    kept = IMAGES if request.config.getoption("screenshots") else folder
    picture = await page.screenshot(path=kept / name, animations="disabled")
    assert len(picture) < 200_000, "a README that takes long to load is not read"


async def _open(
    browser: Browser, address: str, scheme: Scheme, width: int, height: int, scale: float
) -> Page:
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        device_scale_factor=scale,
        color_scheme=scheme,
        locale="en-GB",
        timezone_id="Europe/Moscow",
        reduced_motion="reduce",
    )
    await page.goto(address)
    return page


async def test_a_reader_and_an_operator_see_what_the_readme_shows(
    sandbox: Sandbox,
    processes: Processes,
    sql: asyncpg.Connection,
    queues: Queues,
    free_port: int,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = clock_from(NOW)
    monkeypatch.setattr(time, "time", lambda: clock().timestamp())  # the sandbox's
    listen = f"127.0.0.1:{free_port}"
    settings = {"TEXT_LANGUAGE": "en", "ADMIN_LISTEN": listen, "ADMIN_PASSWORD": PASSWORD}
    await processes.workers(2, settings, clock=NOW)
    await until_written(sql)
    views = _week_of_views()
    for view in views:
        queues.publish(view)
    await until_views(sql, len(views))
    for command in ("scheduler", "admin"):
        process = await processes.start(command, environment=settings, clock=NOW)
        await process.said(f"{command}.ready")
    await processes.bot(settings, clock=NOW)

    asked = 0
    for number in range(READERS):
        reader = sandbox.telegram.reader(1001 + number, name="Anna", language="en")
        asked += await _read(reader, list(Sign)[(number + 4) % 12], times=1 + number % 2)
    await until_views(sql, len(views) + asked)
    await until_sql(sql, "SELECT sum(readers) FROM reader_days", READERS)
    await until_sql(sql, "SELECT sum(answers)::int FROM answer_times", asked)

    async with chromium() as browser:
        for scheme in ("light", "dark"):
            chat = await _open(browser, sandbox.url, scheme, 420, 730, 1.4)
            await expect(chat.locator(".message").last).to_contain_text("Leo · ", timeout=PATIENCE_S * 1000)
            await _take(chat, request, tmp_path, f"chat-{scheme}.png")

            page = await _open(browser, f"http://{listen}", scheme, 1180, 948, 1)
            await page.get_by_label("Password").fill(PASSWORD)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.locator("#horoscopes-today")).not_to_have_text("0", timeout=PATIENCE_S * 1000)
            await _take(page, request, tmp_path, f"operators-{scheme}.png")
