"""The document of the JSON API names the fields that it answers with."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from schema.messages import HoroscopeRequested
from schema.signs import Sign
from services.admin import cookies
from services.database.pool import Database
from tests.operators import Operator, add_dead_letter, open_admin, put_process, settings_of
from tests.unit.test_compose import rows
from tests.waiting import DEADLINE_S

#: Fields of every answer.
EVERYWHERE = {"at", "away"}


def _documented(fields: str) -> tuple[set[str], dict[str, set[str]]]:
    """The fields of an answer, and those of the lists in it that are told one by one."""
    inner = {
        name: set(re.findall(r"`(\w+)`", told))
        for name, told in re.findall(r"`(\w+)`[^`(]*\(((?:`\w+`(?:, )?)+)\)", fields)
    }
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", fields))), inner


async def test_the_document_names_the_fields_of_each_answer(
    database_url: str,
    rabbitmq_url: str,
    database: Database,
    sql: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(cookies._SCRYPT, "n", 2)
    now = datetime.now(UTC)
    view = HoroscopeRequested(UUID(int=1), Sign.LEO, now.date(), answered=True, at=now)
    letter = await add_dead_letter(database, view)
    await add_dead_letter(database, replace(view, request_id=UUID(int=2)))
    await put_process(sql, "worker", "a-host")
    async with open_admin(settings_of(database_url, rabbitmq_url)) as (page, publisher):
        await publisher.wait_ready(DEADLINE_S)
        operator = Operator(page)
        async with operator.http:
            await operator.sign_in()
            await operator.confirm(f"/dead/replay?id={letter}", why="the model is back", rate="50")
            for address, fields in rows("ops/docs/api.md", "JSON API"):
                answer = (await operator.get(address.strip("`"))).json()
                names, inner = _documented(fields)
                assert names | EVERYWHERE == answer.keys(), address
                for name, expected in inner.items():
                    value = answer[name]
                    assert expected == (value[0] if isinstance(value, list) else value).keys(), name
