"""What the cluster knows of a model that does not answer."""

import asyncio

import asyncpg
import pytest

from schema.errors import ModelRefused, ModelUnavailable
from services.database.pool import Database
from services.horoscopes.outages import KNOWN_AFTER, Outages, endpoint

AWAY = ModelUnavailable("no answer")
KEY_WRONG = ModelRefused("wrong key", kind="401", everything=True)


@pytest.fixture
def outages(database: Database) -> Outages:
    return Outages(database, endpoint("http://model", "small", "key"))


async def test_an_outage_is_known_after_a_few_failures_in_a_row_and_over_with_an_answer(
    outages: Outages,
) -> None:
    for number in range(1, KNOWN_AFTER + 1):
        assert await outages.current() is None
        failed = await outages.failed(AWAY, "no answer")
        assert (failed.known_at is not None) == (number == KNOWN_AFTER)
    known = await outages.current()
    assert known
    again = await outages.failed(AWAY, "no answer")
    assert again.known_at == known.known_at, "known since the same instant"
    await outages.over()
    assert await outages.current() is None
    assert (await outages.failed(AWAY, "no answer")).known_at is None, "counted from the beginning"


async def test_old_failures_do_not_count(outages: Outages, sql: asyncpg.Connection) -> None:
    for _ in range(KNOWN_AFTER):
        await outages.failed(AWAY, "no answer")
    await sql.execute("UPDATE model_outages SET failed_at = now() - interval '11 minutes'")
    assert await outages.current() is None
    assert (await outages.failed(AWAY, "no answer")).known_at is None


async def test_a_refusal_is_known_at_once_and_only_the_first_is_news(outages: Outages) -> None:
    together = await asyncio.gather(*(outages.failed(KEY_WRONG, "wrong key") for _ in range(8)))
    assert sum(not each.repeated for each in together) == 1
    assert all(each.known_at for each in together)
    assert (await outages.failed(KEY_WRONG, "wrong key, request 7")).repeated, "whatever words it uses"
    assert not (
        await outages.failed(ModelRefused("no model", kind="404", everything=True), "no model")
    ).repeated
    assert await outages.current(), "known after one"


async def test_another_key_is_another_endpoint(outages: Outages, database: Database) -> None:
    await outages.failed(KEY_WRONG, "wrong key")
    assert await Outages(database, endpoint("http://model", "small", "new key")).current() is None
    assert "key" not in outages.endpoint
