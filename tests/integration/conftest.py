"""The operators' page as an application, and somebody who has signed in to it."""

import os
from collections.abc import AsyncIterator

import pytest
from starlette.types import ASGIApp

from services.admin import cookies, snapshots
from tests.operators import Operator, open_admin, settings_of
from tests.waiting import DEADLINE_S


@pytest.fixture
def management() -> str:
    """The management API of the tests' RabbitMQ, as the operators' page reaches it."""
    return os.environ["TEST_RABBITMQ_WATCHING"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are made quickly, and every look is a new one."""
    monkeypatch.setitem(cookies._SCRYPT, "n", 2)
    monkeypatch.setattr(snapshots, "FRESH_S", 0.0)


@pytest.fixture
async def page(quick: None, database_url: str, rabbitmq_url: str) -> AsyncIterator[ASGIApp]:
    """The page on a database and a virtual host of the test's own."""
    async with open_admin(settings_of(database_url, rabbitmq_url)) as (page, publisher):
        await publisher.wait_ready(DEADLINE_S)
        yield page


@pytest.fixture
async def operator(page: ASGIApp) -> AsyncIterator[Operator]:
    """A browser that is signed in, in English."""
    operator = Operator(page)
    operator.http.headers["accept-language"] = "en"
    async with operator.http:
        await operator.sign_in()
        yield operator
