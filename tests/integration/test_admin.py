"""What the operators' page shows and orders, on real servers."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from unittest.mock import ANY

import asyncpg
import pytest
from starlette.types import ASGIApp

from schema.errors import NotPublished
from schema.messages import DeadLetter, GenerateHoroscope
from schema.signs import Sign
from services import status
from services.admin import cookies, snapshots
from services.admin.pages import page as page_module
from services.database.pool import Database
from services.days import ONE_DAY, day_in
from services.dead_letters.archive import Archive
from services.process.logs import Mask
from services.process.settings import Settings
from tests.operators import PASSWORD, Operator, open_admin, put_generation, put_process, put_text, settings_of
from tests.proxy import Cable
from tests.queues import Queues, open_queues
from tests.waiting import DEADLINE_S

NOW = datetime(2026, 11, 22, 11, 37, tzinfo=UTC)  # 14:37 in Moscow; yesterday is still lived in, at UTC-12
TODAY = date(2026, 11, 22)
HTML = "<img src=x onerror=alert(1)>&\"'"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are made quickly, and every look is a new one."""
    monkeypatch.setitem(cookies._SCRYPT, "n", 2)
    monkeypatch.setattr(snapshots, "FRESH_S", 0.0)


@pytest.fixture
def page_settings(database_url: str, rabbitmq_url: str) -> Settings:
    return settings_of(database_url, rabbitmq_url)


@pytest.fixture
async def page(page_settings: Settings) -> AsyncIterator[ASGIApp]:
    async with open_admin(page_settings, clock=lambda: NOW) as (page, publisher):
        await publisher.wait_ready(DEADLINE_S)
        yield page


@pytest.fixture
async def operator(page: ASGIApp) -> AsyncIterator[Operator]:
    operator = Operator(page)
    operator.http.headers["accept-language"] = "en"
    async with operator.http:
        await operator.sign_in()
        yield operator


async def api(operator: Operator, name: str) -> Any:
    answer = await operator.get(f"/api/{name}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def text_of(html: str) -> str:
    """What a person reads, without the elements."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).replace("\u00a0", " ").split())


# Today


async def test_the_day_as_json_and_as_a_page_is_the_same(operator: Operator, sql: asyncpg.Connection) -> None:
    for day, views in ((TODAY, 1234), (TODAY - ONE_DAY, 2000), (TODAY - 6 * ONE_DAY, 700)):
        await sql.execute(
            "INSERT INTO horoscope_views (zodiac_sign, view_date, view_count) VALUES ('leo', $1, $2)",
            day,
            views,
        )
    at = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
    for day, when, views in (
        (TODAY, at, 1200),
        (TODAY - ONE_DAY, at - ONE_DAY, 1000),
        (TODAY - ONE_DAY, at - ONE_DAY - ONE_DAY / 24, 2),
    ):
        await sql.execute(
            "INSERT INTO view_times (view_date, at, zodiac_sign, view_count) VALUES ($1, $2, 'leo', $3)",
            day,
            when,
            views,
        )
    await sql.execute("INSERT INTO reader_days VALUES ($1, 321)", TODAY)
    await sql.execute("INSERT INTO answer_times VALUES ($1, 'cache', 20, 97), ($1, 'missing', 0, 3)", TODAY)
    await put_text(sql, "leo", TODAY)

    told = await api(operator, "today")
    assert told["horoscopes_today"] == 1234
    assert told["yesterday"] == 2000
    assert told["trend"] == {"until": "2026-11-22T11:35:00Z", "today": 1200, "yesterday": 1002, "change": ANY}
    assert told["trend"]["change"] == pytest.approx(1200 / 1002 - 1)
    assert [day["views"] for day in told["week"]] == [700, 0, 0, 0, 0, 2000, 1234]
    assert next(sign for sign in told["signs"] if sign["sign"] == "leo")["views"] == 1234
    assert told["hours"][11] == {"hour": 11, "today": 1200, "yesterday": 1000}
    assert told["hours"][15] == {"hour": 15, "today": None, "yesterday": 0}
    assert (told["readers_today"], told["answered"], told["waited"], told["from_cache"]) == (321, 97, 3, 0.97)
    assert 0 < told["p50_s"] < told["p99_s"] < 0.1
    assert [(day["day"], day["ready"], day["over"]) for day in told["texts"]] == [
        ("2026-11-21", 0, False), ("2026-11-22", 1, False), ("2026-11-23", 0, False),
    ]  # fmt: skip

    seen = text_of((await operator.get("/")).text)
    assert "Today November 22, Sunday" in seen
    assert "Horoscopes today 1,234" in seen
    assert "up by 20% against yesterday by 14:35" in seen
    assert "Yesterday in full: 2,000" in seen
    assert "Readers today 321" in seen
    assert "Answered at once 97% the others waited for a text: 3" in seen
    assert "Leo 1,234 ▲ up by 20%" in seen
    assert "11–12 1,200 1,000" in seen
    assert "14–15 0 not over yet 0" in seen
    assert "yesterday November 21" in seen
    assert "tomorrow November 23" in seen
    assert "Times: Europe/Moscow (UTC+3)" in seen
    assert len(told["alarms"]) == 11
    for alarm in told["alarms"]:
        assert alarm.replace("2026-11-22", "November 22").replace("2026-11-23", "November 23") in seen


async def test_the_hours_count_the_same_views_as_the_day(operator: Operator, sql: asyncpg.Connection) -> None:
    noon = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    for day, when, views in (
        (TODAY, noon, 5),
        (TODAY - ONE_DAY, noon, 4),  # in Hawaii it is still yesterday
        (TODAY + ONE_DAY, noon, 3),  # on Kiribati it is tomorrow
        (TODAY, noon - ONE_DAY, 2),  # and was today already when it was yesterday here
    ):
        await sql.execute(
            "INSERT INTO view_times (view_date, at, zodiac_sign, view_count) VALUES ($1, $2, 'leo', $3)",
            day, when, views,
        )  # fmt: skip
        await sql.execute(
            "INSERT INTO horoscope_views AS seen (zodiac_sign, view_date, view_count) VALUES ('leo', $1, $2) "
            "ON CONFLICT (zodiac_sign, view_date) DO UPDATE SET view_count = seen.view_count + $2",
            day, views,
        )  # fmt: skip
    told = await api(operator, "today")
    assert told["horoscopes_today"] == 7
    assert told["hours"][12] == {"hour": 12, "today": 5, "yesterday": 0}
    assert sum(hour["today"] or 0 for hour in told["hours"]) == 5
    assert "2 more views of today's texts came before midnight here." in text_of(
        (await operator.get("/")).text
    )


async def test_each_alarm_leads_to_its_page_and_to_its_section_of_the_runbook(
    operator: Operator, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "INSERT INTO paused_queues VALUES ('ticks', 'ann', 'a why', now() - interval '2 hours')"
    )
    await put_generation(sql, "leo", TODAY, "given_up", error="the model's server answered 503")
    page = (await operator.get("/")).text
    runbook = (await operator.get("/runbook")).text
    assert "docker compose ps" in runbook
    assert "<table>" in runbook
    links = re.findall(r'<li><a href="([^"]+)">.*?href="/runbook#([^"]+)">What to do</a></li>', page)
    told = (await api(operator, "today"))["alarms"]
    assert len(links) == len(told) > 8
    assert ("/queues/ticks", "pause-forgotten") in links
    assert ("/queues/views", "queue-without-worker") in links
    assert ("#texts", "texts-given-up") in links
    for address, section in links:
        assert f'<h3 id="{section}">' in runbook
        if address.startswith("#"):
            assert f'id="{address[1:]}"' in page
        else:
            assert (await operator.get(address)).status_code == 200, address


async def test_alarms_and_their_details_are_said_in_the_operators_language(
    operator: Operator, sql: asyncpg.Connection
) -> None:
    await put_generation(sql, "leo", TODAY, "given_up", error="the model's server answered 503")
    await sql.execute("INSERT INTO parked_messages (queue, body, reason) VALUES ('views', '', 'away')")
    operator.http.headers["accept-language"] = "ru"
    page = (await operator.get("/")).text
    (alarms,) = re.findall(r'<ul class="alarms">(.*?)</ul>', page, re.DOTALL)
    said = text_of(alarms)
    assert "не работает ни один планировщик Что делать" in said
    assert "22 ноября: не удалось написать: Лев; устраните причину, затем: horoscope generate" in said
    assert "23 ноября: не хватает 12 текстов, и их никто не пишет" in said
    assert "1 сообщение отложено" in said
    assert "no " not in said


async def test_the_grid_tells_what_became_of_each_text(operator: Operator, sql: asyncpg.Connection) -> None:
    await put_text(sql, "aries", TODAY)
    await put_generation(sql, "aries", TODAY, "written", attempts=3, writer="host-a 7")
    await put_generation(
        sql, "leo", TODAY, "retrying", attempts=2, error="the model's server answered 503",
        writer="host-b 8", since=NOW - timedelta(minutes=5), retry_at=NOW + timedelta(minutes=10),
    )  # fmt: skip
    await put_generation(sql, "virgo", TODAY, "given_up", attempts=4, error="the model's server answered 503")
    writing_until = datetime.now(UTC) + timedelta(minutes=1)
    await put_generation(sql, "libra", TODAY, "writing", writer="host-c 9", expires_at=writing_until)
    await put_text(sql, "pisces", TODAY)
    await put_generation(sql, "pisces", TODAY, "writing", expires_at=writing_until)

    told = (await api(operator, "today"))["texts"][1]
    signs = {sign["sign"]: sign for sign in told["signs"]}
    assert told["ready"] == 2
    assert [signs[sign]["state"] for sign in ("aries", "leo", "virgo", "libra", "pisces", "taurus")] == [
        "written", "retrying", "given_up", "writing", "written", "missing",
    ]  # fmt: skip
    assert signs["leo"]["retry_at"] == "2026-11-22T11:47:00Z"
    assert (signs["aries"]["attempts"], signs["aries"]["anew"], signs["pisces"]["anew"]) == (
        3,
        None,
        "writing",
    )

    html = (await operator.get("/")).text
    seen = text_of(html)
    assert "2 of 12 ready" in seen
    assert 'id="text-2026-11-22-leo" class="cell is-retrying is-today"' in html
    assert "retrying today, November 22 Last error: the model's server answered 503" in seen.replace(
        "&#39;", "'"
    )
    assert "Leo since 14:32 · 2 attempts · next try: 14:47 · host-b 8" in seen
    assert "A new text is being written; readers see this one until it is ready. Pisces since" in seen
    assert (
        'href="/texts/2026-11-23/leo" title="Write again" aria-label="Write again: Leo, November 23"' in html
    )


async def test_texts_of_yesterday_that_were_never_written_are_no_trouble(
    operator: Operator, sql: asyncpg.Connection
) -> None:
    for sign in Sign:
        await put_text(sql, sign, TODAY)
    html = (await operator.get("/")).text
    assert html.count('class="cell is-unneeded') == 12, "yesterday, on the day of the installation"
    assert html.count('class="cell is-missing') == 12, "tomorrow"
    assert 'id="again-2026-11-21-leo"' in html, "somebody still lives in it"


async def test_a_day_that_nobody_lives_in_any_more_cannot_be_ordered(
    page_settings: Settings, queues: Queues
) -> None:
    evening = NOW + timedelta(hours=1)  # 12:37 UTC: yesterday has ended at UTC-12, too
    async with open_admin(page_settings, clock=lambda: evening) as (page, publisher):
        await publisher.wait_ready(DEADLINE_S)
        operator = Operator(page)
        await operator.sign_in()
        html = (await operator.get("/")).text
        assert 'id="again-2026-11-21-leo"' not in html
        assert 'id="again-2026-11-22-leo"' in html
        assert 'id="text-2026-11-21-leo" class="cell is-over"' in html
        refused = await operator.get("/texts/2026-11-21/leo")
        assert "Этот день везде закончился" in refused.text
        sent = await operator.confirm("/texts/2026-11-21/leo")
        assert "Этот день везде закончился" in sent.text
    assert queues.count("generation") == 0


# Writing again


def order(queues: Queues) -> dict[str, Any]:
    """The one order that is in the queue."""
    letter = queues.take("generation")
    assert letter
    assert queues.take("generation") is None
    return letter.message


async def test_a_text_is_ordered_in_the_place_of_the_one_that_was_seen(
    operator: Operator, sql: asyncpg.Connection, queues: Queues
) -> None:
    at = await put_text(sql, "leo", TODAY, f"Звёзды {HTML}")
    asked = await operator.get("/texts/2026-11-22/leo")
    assert f"Звёзды {ESCAPED}" in asked.text
    assert "Only the text of Leo for November 22 is replaced" in asked.text
    assert queues.count("generation") == 0

    sent = await operator.confirm("/texts/2026-11-22/leo")
    assert (sent.status_code, sent.headers["location"]) == (303, "/")
    message = order(queues)
    assert message["actor_name"] == "generation.GenerateHoroscope"
    assert GenerateHoroscope.parse(message["kwargs"]) == GenerateHoroscope(Sign.LEO, TODAY, replaces=at)
    assert (
        "Ordered: Leo, November 22. RabbitMQ has confirmed it; a worker begins"
        in (await operator.get("/")).text
    )
    assert "Ordered: Leo" not in (await operator.get("/")).text, "it is told once"


async def test_a_text_that_is_missing_is_ordered_without_replacing_any(
    operator: Operator, queues: Queues
) -> None:
    asked = await operator.get("/texts/2026-11-23/aries")
    assert "There is no text." in asked.text
    await operator.confirm("/texts/2026-11-23/aries")
    assert order(queues)["kwargs"] == {"sign": "aries", "day": "2026-11-23"}


async def test_a_text_that_has_changed_since_it_was_seen_is_not_ordered(
    operator: Operator, sql: asyncpg.Connection, queues: Queues
) -> None:
    at = await put_text(sql, "leo", TODAY, "Прежний текст")
    token = await operator.token("/texts/2026-11-22/leo")
    await sql.execute(
        "UPDATE horoscope_cache SET content = 'Новый текст', generated_at = now() + interval '1 s'"
    )
    for shown in (at.isoformat(), "", "x"):
        sent = await operator.http.post("/texts/2026-11-22/leo", data={"form_token": token, "shown": shown})
        assert sent.status_code == 409
        assert "Something has changed meanwhile. Nothing was done" in sent.text
        assert "Новый текст" in sent.text
    assert queues.count("generation") == 0


async def test_there_is_a_page_for_texts_that_matter_only(operator: Operator) -> None:
    token = await operator.token("/")
    for text in (
        "2026-11-22/ophiuchus",
        "20261122/leo",
        "2026-W47-7/leo",
        "2026-11-20/leo",
        "2026-12-24/leo",
        "today/leo",
        "2026-11-22/LEO",
    ):
        assert (await operator.get(f"/texts/{text}")).status_code == 404
        sent = await operator.http.post(f"/texts/{text}", data={"form_token": token, "shown": ""})
        assert sent.status_code == 404


# Queues and processes


async def test_the_queues_show_what_waits_how_it_moves_and_how_old_it_is(
    database_url: str, database: Database, rabbitmq_url: str, management: str
) -> None:
    settings = settings_of(database_url, rabbitmq_url, rabbitmq_management_url=management)
    async with open_admin(settings) as (page, publisher), open_queues(rabbitmq_url) as queues:
        await publisher.wait_ready(DEADLINE_S)
        for _ in range(3):
            await publisher.send("views", b"{}")
        await publisher.send("dead_letters", b"on its way")
        await Archive(database, Mask([])).keep([DeadLetter(b"archived", {})])
        queues._channel.queue_declare("requests.pause.47s", durable=True)
        await publisher.send("requests.pause.47s", b"{}")
        queues._channel.queue_declare(f"foreign {HTML}", durable=True)
        operator = Operator(page)
        operator.http.headers["accept-language"] = "en"
        await operator.sign_in()

        told = await _told(operator, f"foreign {HTML}")
        assert told["views"] | {"rate_in": ANY, "oldest_at": ANY} == {
            "name": "views", "kind": "work", "messages": 3, "consumers": 0, "unacknowledged": 0,
            "rate_in": ANY, "rate_out": 0.0, "oldest_at": ANY,
            "paused": False, "paused_by": None, "paused_since": None, "paused_why": None,
        }  # fmt: skip
        age = datetime.now(UTC) - datetime.fromisoformat(told["views"]["oldest_at"])
        assert timedelta() <= age < timedelta(minutes=1)
        assert told["requests.pause.47s"]["kind"] == told["generation.retry.300s"]["kind"] == "waiting"
        assert told["dead_letters"] == 2
        html = (await operator.get("/queues")).text
        assert f'id="queue-foreign {ESCAPED}"' in html
        assert HTML not in html
        assert "requests.pause.47s" in html
        assert "RABBITMQ_MANAGEMENT_URL" not in html


async def _told(operator: Operator, foreign: str) -> dict[str, Any]:
    """The queues by name, once the management API has come to know of all: a second or two later."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            told = await api(operator, "queues")
            by_name = {queue["name"]: queue for queue in told["queues"]}
            if by_name["views"]["oldest_at"] and foreign in by_name and "requests.pause.47s" in by_name:
                break
            await asyncio.sleep(0.1)
    return {**by_name, "dead_letters": told["dead_letters"]}


async def test_without_the_management_api_depths_are_shown_and_what_to_set_is_said_once(
    database_url: str, rabbitmq_url: str
) -> None:
    settings = settings_of(database_url, rabbitmq_url, rabbitmq_management_url="http://127.0.0.1:1")
    async with open_admin(settings) as (page, publisher):
        await publisher.wait_ready(DEADLINE_S)
        await publisher.send("views", b"{}")
        operator = Operator(page)
        await operator.sign_in()
        told = await api(operator, "queues")
        views = next(queue for queue in told["queues"] if queue["name"] == "views")
        assert (views["messages"], views["rate_in"], views["oldest_at"]) == (1, None, None)
        assert told["management_api"]["reachable"] is False
        html = (await operator.get("/queues")).text
        assert html.count("RABBITMQ_MANAGEMENT_URL") == 1
        assert "http://127.0.0.1:1 " in html


async def test_the_processes_are_shown_with_those_that_were_lost(
    operator: Operator, sql: asyncpg.Connection
) -> None:
    await put_process(sql, "bot", "host-1")
    await put_process(sql, "worker", f"host {HTML}", silent_s=60, release="0.0.9")
    await put_process(sql, "worker", "host-3", release="0.2.0")
    told = (await api(operator, "processes"))["processes"]
    assert [(each["kind"], each["lost"]) for each in told] == [
        ("bot", False),
        ("worker", True),
        ("worker", False),
    ]
    html = (await operator.get("/processes")).text
    assert ESCAPED in html
    assert HTML not in html
    assert "Several releases are running: 0.1.0, 0.2.0." in html
    assert "lost" in html


async def test_html_in_an_error_is_shown_as_it_is(operator: Operator, sql: asyncpg.Connection) -> None:
    await put_generation(sql, "leo", TODAY, "given_up", error=HTML, writer=HTML)
    await sql.execute("INSERT INTO ticks (name, did) VALUES ('reconcile', $1)", HTML)
    for path in ("/", "/texts/2026-11-22/leo"):
        html = (await operator.get(path)).text
        assert ESCAPED in html
        assert HTML not in html


# Servers that are away


async def test_without_postgresql_the_page_says_so_and_recovers_by_itself(
    database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Cable(database_url) as cable:
        cable.unplug()
        async with open_admin(settings_of(cable.url, rabbitmq_url)) as (page, publisher):
            await publisher.wait_ready(DEADLINE_S)
            operator = Operator(page)
            operator.http.headers["accept-language"] = "en"
            await operator.sign_in()
            for path in ("/", "/queues", "/processes"):
                shown = await operator.get(path)
                assert shown.status_code == 200
                assert "PostgreSQL is away; this page first asked" in shown.text
            assert "generation" in (await operator.get("/queues")).text
            assert (await api(operator, "queues"))["dead_letters"] is None, "nobody knows"
            answer = await operator.get("/api/today")
            assert answer.status_code == 503
            assert answer.json() == {"error": "postgresql_away", "message": ANY}
            assert "PostgreSQL cannot be reached" in answer.json()["message"]
            day = day_in(settings_of(cable.url, rabbitmq_url).home_timezone, datetime.now(UTC))
            assert (await operator.get(f"/texts/{day}/leo")).status_code == 503

            cable.plug()
            assert "PostgreSQL" not in (await operator.get("/")).text
            assert (await api(operator, "today"))["away"] == []

            cable.unplug()
            for path in ("/", "/processes"):
                told = text_of((await operator.get(path)).text)
                assert re.search(
                    r"PostgreSQL has been away since.* The figures below are from \d\d:\d\d\.", told
                )
                assert "Without PostgreSQL" not in told
            assert (await operator.get("/api/today")).status_code == 503
            monkeypatch.setattr(snapshots, "KEPT_S", 0.0)
            told = text_of((await operator.get("/")).text)
            assert "Without PostgreSQL there is nothing to show" in told
            assert "The figures below" not in told


async def test_a_database_that_does_not_answer_is_away_for_a_text_too(
    operator: Operator, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, queues: Queues
) -> None:
    token = await operator.token("/texts/2026-11-22/leo")
    monkeypatch.setattr(snapshots, "PATIENCE_S", 0.2)
    monkeypatch.setattr(page_module, "ACT_S", 0.2)
    async with sql.transaction():
        await sql.execute("LOCK TABLE horoscope_cache IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(20):  # less than a statement's own
            assert (await operator.get("/texts/2026-11-22/leo")).status_code == 503
            sent = {"form_token": token, "shown": ""}
            assert (await operator.http.post("/texts/2026-11-22/leo", data=sent)).status_code == 503
    assert queues.count("generation") == 0


async def test_without_rabbitmq_the_page_says_so_and_keeps_its_orders(
    database_url: str, database: Database, rabbitmq_url: str, sql: asyncpg.Connection
) -> None:
    async with (
        Cable(rabbitmq_url) as cable,
        open_admin(settings_of(database_url, cable.url), clock=lambda: NOW) as (page, publisher),
    ):
        await publisher.wait_ready(DEADLINE_S)
        operator = Operator(page)
        operator.http.headers["accept-language"] = "en"
        await operator.sign_in()
        assert "is away" not in (await operator.get("/")).text
        await Archive(database, Mask([])).keep([DeadLetter(b"no message", {})])
        cable.unplug()
        for path in ("/", "/queues", "/processes"):
            assert "RabbitMQ has been away since" in (await operator.get(path)).text
        assert 'id="queue-generation"' in (await operator.get("/queues")).text, "as it was"
        answer = await operator.get("/api/queues")
        assert (answer.status_code, answer.json()["error"]) == (503, "rabbitmq_away")
        told = await api(operator, "today")
        assert told["dead_letters"] == 1, "the archive is there"
        assert [away["server"] for away in told["away"]] == ["RabbitMQ"]
        assert not any("queue" in alarm or "missing" in alarm for alarm in told["alarms"])

        sent = await operator.confirm("/texts/2026-11-22/leo")
        assert sent.status_code == 303
        assert "the order is kept and goes out when it is back" in (await operator.get("/")).text
        parked = json.loads(await sql.fetchval("SELECT body FROM parked_messages"))
        assert parked["kwargs"] == {"sign": "leo", "day": "2026-11-22"}

        cable.plug()
        await publisher.wait_ready(DEADLINE_S)
        assert "is away" not in (await operator.get("/")).text


async def test_a_database_without_tables_is_told(empty_database_url: str, rabbitmq_url: str) -> None:
    async with open_admin(settings_of(empty_database_url, rabbitmq_url)) as (page, _):
        operator = Operator(page)
        await operator.sign_in()
        assert "the database has no tables yet; run: horoscope migrate" in (await operator.get("/")).text


async def test_no_password_is_shown_whatever_a_server_says_nor_sent_to_where_it_points(
    database_url: str, rabbitmq_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(b"HTTP/1.1 302 watchers-secret\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    def told(*_: object) -> None:
        raise NotPublished("RabbitMQ cannot be reached: watchers-secret")

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        watcher = f"http://watcher:watchers-secret@127.0.0.1:{port}"
        settings = settings_of(database_url, rabbitmq_url, rabbitmq_management_url=watcher)
        async with open_admin(settings) as (page, publisher):
            await publisher.wait_ready(DEADLINE_S)
            operator = Operator(page)
            await operator.sign_in()
            shown = (await operator.get("/queues")).text
            assert f"http://127.0.0.1:{port} (302 " in shown
            assert len(asked) == 1
            monkeypatch.setattr(snapshots, "read_queues", told)
            away = (await operator.get("/")).text + (await operator.get("/api/queues")).text
            assert away.count("RabbitMQ cannot be reached: ") == 2
            assert "watchers-secret" not in shown + away


# Many who look


async def test_many_who_look_at_once_cost_one_look(
    page: ASGIApp, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    read = status.read_records

    async def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return await read(*arguments)

    monkeypatch.setattr(snapshots, "read_records", counted)
    monkeypatch.setattr(snapshots, "FRESH_S", 60.0)
    answers = await asyncio.gather(*(operator.get(path) for path in ("/", "/queues", "/processes") * 5))
    assert {answer.status_code for answer in answers} == {200}
    await operator.get("/")
    assert looks == 1


async def test_scripts_sign_in_by_http_basic_with_any_name(page: ASGIApp) -> None:
    script = Operator(page)
    for name in ("", "operator", "кто-то"):
        answer = await script.http.get("/api/today", auth=(name, PASSWORD))
        assert answer.status_code == 200
        assert "horoscopes_today" in answer.json()
    assert (await script.http.get("/", auth=("operator", PASSWORD))).status_code == 303, (
        "pages want the cookie"
    )
