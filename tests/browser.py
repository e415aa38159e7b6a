"""Debian's Chromium, as tests drive it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Error, async_playwright

_CHROMIUM = "/usr/bin/chromium"
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
    """A browser without a window; the test fails, and says what to do, when it is missing."""
    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_FLAGS)
        except Error as error:
            pytest.fail(f"Chromium does not start; install it with: ops/stack/apt.sh chromium ({error})")
        yield browser
        await browser.close()
