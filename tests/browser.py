"""Debian's Chromium, as tests drive it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright, expect

from ops.stack.programs import CHROMIUM
from tests.waiting import DEADLINE_S

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM.path, args=_FLAGS)
        expect.set_options(timeout=DEADLINE_S * 1000)
        yield browser
        await browser.close()
