"""The pages of the whole service: today, and its processes."""

from services.admin.pages.page import Shown, Visit


async def today(_: Visit) -> Shown:
    """``GET /``."""
    return Shown("today.html", live=True)


async def processes(_: Visit) -> Shown:
    """``GET /processes``."""
    return Shown("processes.html", live=True)
