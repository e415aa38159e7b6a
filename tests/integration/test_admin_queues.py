"""What an operator sees and does on the page of a queue."""

import re
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest
from starlette.types import ASGIApp

from schema.messages import DEAD_LETTERS, VIEWS
from tests.integration.test_queues import message
from tests.operators import Operator, open_admin, settings_of
from tests.proxy import Cable
from tests.queues import Queues
from tests.waiting import DEADLINE_S

pytestmark = pytest.mark.usefixtures("quick")

BY = "admin (page, 192.0.2.1)"
HTML = "<img src=x onerror=alert(1)>"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;"


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("\u00a0", " ").split())


async def test_a_pause_is_shown_wherever_the_queue_is_with_who_and_why_until_it_is_resumed(
    operator: Operator, sql: asyncpg.Connection
) -> None:
    sent = await operator.send(f"/queues/{VIEWS}/pause", {"why": HTML}, of=f"/queues/{VIEWS}")
    assert (sent.status_code, sent.headers["location"]) == (303, f"/queues/{VIEWS}")
    assert [*await sql.fetchrow("SELECT queue, paused_by, why FROM paused_queues")] == [
        VIEWS, BY, HTML
    ]  # fmt: skip
    shown = (await operator.get(f"/queues/{VIEWS}")).text
    assert "views is paused." in shown
    assert "views is paused." not in (await operator.get(f"/queues/{VIEWS}")).text, "it is told once"
    for html in (shown, (await operator.get("/queues")).text):
        assert re.search(rf"Paused since \d\d:\d\d by {re.escape(BY)} — {re.escape(ESCAPED)}", html)
        assert HTML not in html
    told = (await operator.get("/api/queues")).json()
    (views,) = [queue for queue in told["queues"] if queue["name"] == VIEWS]
    assert (views["paused"], views["paused_by"], views["paused_why"]) == (True, BY, HTML)
    since = datetime.fromisoformat(views["paused_since"])
    assert (datetime.now(UTC) - since).total_seconds() < 60
    assert "no worker consumes the queue views" not in str(
        (await operator.get("/api/today")).json()["alarms"]
    )

    sent = await operator.send(f"/queues/{VIEWS}/resume", of=f"/queues/{VIEWS}")
    assert sent.status_code == 303
    assert await sql.fetch("SELECT * FROM paused_queues") == []
    shown = (await operator.get(f"/queues/{VIEWS}")).text
    assert "views is resumed." in shown
    assert "Paused since" not in shown
    assert "no worker consumes the queue views" in str((await operator.get("/api/today")).json()["alarms"])


async def test_purging_asks_first_and_deletes_no_more_than_it_named(
    operator: Operator, queues: Queues
) -> None:
    for number in range(2):
        queues.put(DEAD_LETTERS, message(number))
    purge = f"/queues/{DEAD_LETTERS}/purge"
    asked = text_of((await operator.get(purge)).text)
    assert "Delete all 2 messages in dead_letters?" in asked
    assert "These letters are not archived yet" in asked
    assert "archived" not in (await operator.get("/queues/views/purge")).text
    form = await operator.shown(purge)
    queues.put(DEAD_LETTERS, message(3))
    for sent in [await operator.send(purge, each, of=purge) for each in (form, {"shown": "all"}, {})]:
        assert (sent.status_code, queues.count(DEAD_LETTERS)) == (409, 3)
        assert "Something has changed meanwhile. Nothing was done" in sent.text
        assert "Delete all 3 messages in dead_letters?" in sent.text
    form = await operator.shown(purge)
    queues.take(DEAD_LETTERS)
    sent = await operator.send(purge, form, of=purge)
    assert (sent.status_code, queues.count(DEAD_LETTERS)) == (303, 0), "fewer than were shown are no surprise"
    shown = (await operator.get(sent.headers["location"])).text
    assert "Deleted messages of dead_letters: 2." in shown


async def test_a_look_shows_messages_escaped_and_leaves_them_where_they_are(
    operator: Operator, queues: Queues
) -> None:
    bodies = [message(1, attempts=[{}, {}]), b"\xff " + HTML.encode(), message(2)]
    for body in bodies:
        queues.put(VIEWS, body)
    sent = await operator.send(f"/queues/{VIEWS}/peek", of=f"/queues/{VIEWS}")
    assert sent.status_code == 200
    seen = text_of(sent.text)
    assert (
        "act id-1 published November 22, 09:35:00, failed attempts: 2" in seen or "failed attempts: 2" in seen
    )
    assert "&#34;number&#34;: 1" in sent.text
    assert f"no message b&#39;\\xff {ESCAPED}" in seen
    assert HTML not in sent.text
    assert 'value="/queues/views"' in sent.text, "the other language is one of a page that can be asked for"
    assert [letter.body for letter in (queues.take(VIEWS) for _ in bodies) if letter] == bodies

    queues._channel.basic_consume(VIEWS, lambda *_: None)
    refused = await operator.send(f"/queues/{VIEWS}/peek", of=f"/queues/{VIEWS}")
    assert refused.status_code == 409
    assert "views has 1 consumers" in refused.text
    assert "/queues/views/peek" not in refused.text


@pytest.mark.parametrize("what", ["pause", "resume", "peek", "purge"])
async def test_orders_are_taken_from_forms_of_those_who_have_signed_in_alone(
    operator: Operator, page: ASGIApp, queues: Queues, sql: asyncpg.Connection, what: str
) -> None:
    queues.put(VIEWS, message(1))
    fields: dict[str, Any] = {"shown": "1"}
    address = f"/queues/{VIEWS}/{what}"
    forged = await operator.http.post(address, data=fields)
    assert forged.status_code == 403
    elsewhere = await operator.send(address, fields, sec_fetch_site="cross-site")
    assert elsewhere.status_code == 403
    stranger = await Operator(page).http.post(address, data=fields)
    assert (stranger.status_code, stranger.headers["location"]) == (303, "/sign-in")
    assert queues.count(VIEWS) == 1
    assert await sql.fetch("SELECT * FROM paused_queues") == []
    unknown = await operator.send(f"/queues/nonsense/{what}", fields)
    assert unknown.status_code == 404
    if what in {"pause", "resume"}:
        rung = await operator.send(f"/queues/generation.retry.300s/{what}", fields)
        assert rung.status_code == 404, "nobody consumes it"


async def test_queues_of_others_have_no_page(operator: Operator, queues: Queues) -> None:
    queues._channel.queue_declare("foreign", durable=True)
    assert (await operator.get("/queues/foreign")).status_code == 404
    assert (await operator.get("/queues/foreign/purge")).status_code == 404
    assert (await operator.get("/queues/generation.retry.300s")).status_code == 200


async def test_a_server_that_is_away_is_told(database_url: str, rabbitmq_url: str) -> None:
    async with (
        Cable(rabbitmq_url) as broker,
        Cable(database_url) as database,
        open_admin(settings_of(database.url, broker.url)) as (page, publisher),
    ):
        await publisher.wait_ready(DEADLINE_S)
        operator = Operator(page)
        operator.http.headers["accept-language"] = "en"
        await operator.sign_in()
        token = await operator.token(f"/queues/{VIEWS}")
        database.unplug()
        sent = await operator.http.post(f"/queues/{VIEWS}/pause", data={"form_token": token})
        assert (sent.status_code, "PostgreSQL cannot be reached" in sent.text) == (503, True)
        told = (await operator.get("/api/queues")).json()
        assert {queue["paused"] for queue in told["queues"]} == {None}
        database.plug()
        broker.unplug()
        sent = await operator.http.post(f"/queues/{VIEWS}/resume", data={"form_token": token})
        assert (sent.status_code, "RabbitMQ cannot be reached" in sent.text) == (502, True)
