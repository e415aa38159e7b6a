"""What the operators' page shows of dead letters and does to them, on real servers."""

import asyncio
import re
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import asyncpg
import orjson
import pytest
from starlette.types import ASGIApp

from actors import REPLAYABLE
from schema.errors import InvalidMessage, ReaderGone, TooOld, WorkerKilled
from schema.messages import DeadLetter, DeliverHoroscope, GenerateDay, GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.admin import snapshots
from services.admin.pages import dead_letters, runs
from services.database.pool import Database
from services.days import system_clock
from services.dead_letters.archive import Archive
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector, make_inspector
from services.messaging.envelope import decode, encode
from services.process.logs import Mask
from tests.operators import PASSWORD, Operator, add_dead_letter, open_admin, settings_of
from tests.proxy import Cable
from tests.waiting import DEADLINE_S

pytestmark = pytest.mark.usefixtures("quick")

TODAY = datetime.now(UTC).date()
HTML = "<img src=x onerror=alert(1)>&\"'"
ESCAPED = "&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;"
GENERATE = "generation.GenerateHoroscope"
BY = "admin (page, 192.0.2.1)"


@pytest.fixture
def inspector(database: Database) -> Inspector:
    return make_inspector(database, REPLAYABLE, system_clock)


def view(sign: Sign = Sign.LEO) -> HoroscopeRequested:
    """A view that is not counted: its replay is ready."""
    return HoroscopeRequested(uuid4(), sign, TODAY, answered=True, at=system_clock())


def text_of(html: str) -> str:
    """What a person reads, without the elements."""
    return unescape(" ".join(re.sub(r"<[^>]*>", " ", html).replace("\u00a0", " ").split()))


def numbers(html: str) -> list[int]:
    """The letters of a list."""
    return [int(number) for number in re.findall(r'<tr id="letter-(\d+)">', html)]


async def seen(operator: Operator, path: str, status: int = 200) -> str:
    """What a page says."""
    answer = await operator.get(path)
    assert answer.status_code == status, answer.text
    return text_of(answer.text)


async def order(operator: Operator, path: str, **fields: str) -> Any:
    """Ask for a replay, and order it."""
    return await operator.confirm(path, **({"why": "the model is back", "rate": "50"} | fields))


# All of them


async def test_the_navigation_counts_what_waits_for_a_person_on_every_page(
    operator: Operator, database: Database, inspector: Inspector, sql: asyncpg.Connection
) -> None:
    for path in ("/", "/dead"):
        assert 'id="dead-waiting"' not in (await operator.get(path)).text
    assert "There are no dead letters." in await seen(operator, "/dead")
    first = await add_dead_letter(database, view())
    await add_dead_letter(database, view())
    await add_dead_letter(database, view())
    await inspector.edits.drop([first], by="x", why="y")
    for path in ("/", "/queues", "/queues/views", "/queues/views/purge", f"/texts/{TODAY}/leo", "/processes", "/dead",
                 f"/dead/{first}", f"/dead/drop?id={first}", "/dead/runs"):  # fmt: skip
        assert "Dead letters 2 need a decision" in await seen(operator, path), path
    for path, status in (("/nothing", 404), ("/dead/drop", 422)):
        assert "Dead letters 2 need a decision" in await seen(operator, path, status), path
    await sql.execute("UPDATE dead_letters SET done = true WHERE id = $1", first + 1)
    told = await seen(operator, "/dead")
    assert "Dead letters 1 need a decision" in told
    assert "1 letter has nothing left to do" in told


async def test_letters_are_shown_by_group_and_one_by_one_latest_first(
    operator: Operator, database: Database, inspector: Inspector
) -> None:
    killed = [
        await add_dead_letter(database, view(), WorkerKilled("3 workers were killed")) for _ in range(3)
    ]
    wrong = await add_dead_letter(
        database, GenerateHoroscope(Sign.LEO, TODAY), InvalidMessage("day: no date")
    )
    await inspector.edits.drop(killed[:1], by="x", why="y")
    answer = await operator.get("/dead?state=any")
    assert numbers(answer.text) == [wrong, *reversed(killed)]
    told = text_of(answer.text)
    assert "Dead letters 4 match the filter" in told
    assert "WorkerKilled 3 workers were killed killed its worker views.HoroscopeRequested 2 / 3" in told
    assert f"InvalidMessage day: no date wrong arguments {GENERATE} 1 / 1" in told
    assert f"{GENERATE} day={TODAY} sign=leo" in told
    assert numbers((await operator.get("/dead")).text) == [wrong, *reversed(killed[1:])]


async def test_a_filter_finds_what_it_asks_for_and_tells_what_makes_no_sense(
    operator: Operator, database: Database, sql: asyncpg.Connection
) -> None:
    leo = await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY), TooOld("too late, мёртвое"))
    virgo = await add_dead_letter(database, view(Sign.VIRGO), WorkerKilled("killed"))
    await sql.execute("UPDATE dead_letters SET died_at = now() - interval '3 hours' WHERE id = $1", leo)
    for query, found in {
        f"actor={GENERATE}": [leo],
        "queue=views": [virgo, leo],
        "cause=too+old": [leo],
        "error=WorkerKilled": [virgo],
        "text=МЁРТВОЕ": [leo],
        "sign=VIRGO": [virgo],
        f"day={TODAY}": [virgo, leo],
        "since=2h": [virgo],
        "until=2h": [leo],
        "since=2020-01-01+10:00&until=2200-01-01": [virgo, leo],
        "state=waiting": [],
        "group=0123456789abcdef": [],
        "run=7": [],
        f"id={leo},{virgo}": [virgo, leo],
        f"id={leo}&state=waiting": [leo],
    }.items():
        answer = await operator.get(f"/dead?{query}")
        assert (answer.status_code, numbers(answer.text)) == (200, found), query
    for wrong in ("day=tomorrow", "since=soon", "until=9999999999d", "since=0001-01-01", "sign=cat", "state=alive",
                  "run=x", "run=0", "run=9223372036854775808"):  # fmt: skip
        answer = await operator.get(f"/dead?{wrong}")
        assert answer.status_code == 422, wrong
        assert 'role="alert"' in answer.text, wrong
        assert (await operator.get(f"/dead/replay?state=any&{wrong}")).status_code == 422, wrong
    assert (await operator.get("/dead?id=x")).status_code == 422
    for odd in ("text=%00%ff", "text=%ED%A0%80", "actor=%27%3B--", "group=%00"):
        assert (await operator.get(f"/dead?{odd}")).status_code == 200, odd


async def test_letters_that_nobody_can_mend_are_selected_and_dropped_together(
    operator: Operator, database: Database, inspector: Inspector
) -> None:
    ready = await add_dead_letter(database, view())
    done = [await add_dead_letter(database, DeliverHoroscope(Sign.LEO, TODAY)) for _ in range(2)]
    assert 'href="/dead?state=dead&amp;verdict=done"' in (await operator.get("/dead")).text
    selected = (await operator.get("/dead?state=dead&verdict=done")).text
    assert numbers(selected) == done[::-1]
    assert '<option value="done" selected>' in selected
    link = re.search(r'href="(/dead/drop[^"]*)"', selected)
    assert link
    dropped = await operator.confirm(unescape(link[1]), why="nobody waits")
    assert dropped.status_code == 303
    assert "Letters dropped: 2." in await seen(operator, dropped.headers["location"])
    assert await inspector.records.ids(Filter()) == [ready]
    assert (await operator.get("/dead?verdict=x")).status_code == 422


async def test_a_long_list_comes_in_pages(
    operator: Operator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "LETTERS", 2)
    letters = [await add_dead_letter(database, view()) for _ in range(5)]
    found, path = [], "/dead"
    while path:
        html = (await operator.get(path)).text
        found += numbers(html)
        link = re.search(r'rel="next" href="([^"]*)"', html)
        path = unescape(link[1]) if link else ""
    assert found == letters[::-1]
    assert (await operator.get("/dead?before=x")).status_code == 400


async def test_a_group_has_its_letters_and_a_note_that_everybody_can_edit(
    operator: Operator, database: Database, sql: asyncpg.Connection, inspector: Inspector
) -> None:
    await add_dead_letter(database, view(), ReaderGone("blocked"))
    letter = await add_dead_letter(database, view(), WorkerKilled("killed"))
    group = (await inspector.records.whole(letter)).group
    path = f"/dead/group/{group}"
    assert numbers((await operator.get(path)).text) == [letter]
    saved = await operator.send(f"{path}/note", {"note": f"ticket 7 {HTML}"}, of=path)
    assert (saved.status_code, saved.headers["location"]) == (303, path)
    shown = (await operator.get(path)).text
    assert f"ticket 7 {ESCAPED}" in shown
    assert "The note is saved." in shown
    assert "The note is saved." not in (await operator.get(path)).text, "once"
    assert await sql.fetchval("SELECT noted_by FROM dead_letter_notes") == BY
    assert f"ticket 7 {ESCAPED}" in (await operator.get(f"/dead/{letter}")).text
    assert f"ticket 7 {ESCAPED}" in (await operator.get("/dead")).text
    await operator.send(f"{path}/note", {"note": " "}, of=path)
    assert await sql.fetchval("SELECT count(*) FROM dead_letter_notes") == 0
    for missing in ("0123456789abcdef", "x", "%00"):
        assert (await operator.get(f"/dead/group/{missing}")).status_code == 404
        assert (await operator.send(f"/dead/group/{missing}/note", {"note": "x"})).status_code == 404


# One


async def test_a_letter_is_told_in_full_and_nothing_hostile_in_it_does_anything(
    operator: Operator, database: Database
) -> None:
    message = orjson.loads(
        orjson.dumps({"queue_name": "views", "actor_name": HTML, "args": [], "kwargs": {HTML: HTML, "big": 1e40},
                      "options": {}, "message_id": HTML, "message_timestamp": 1})
    )  # fmt: skip
    message["options"] = {
        "traceback": f"Traceback\n  File {HTML}\x1b[2J\u202e",
        "attempts": [
            {"at": "2026-11-22T10:00:00+00:00", "seconds": 1.5, "host": HTML, "pid": 7, "error": HTML},
            {"at": "never", "seconds": "long", "host": ["x"]},
            {"at": "2026-11-22T10:00:01", "seconds": 1e300},
        ],
    }
    letter = await add_dead_letter(database, orjson.dumps(message), InvalidMessage(f"no actor {HTML}"))
    answer = await operator.get(f"/dead/{letter}")
    assert answer.status_code == 200
    assert HTML not in answer.text
    assert "<img src=x" not in answer.text
    assert answer.text.count(ESCAPED) >= 6
    assert "\\u001b[2J\\u202e" in answer.text
    assert "\u202e" not in answer.text
    told = text_of(answer.text)
    assert "Attempts 3" in told
    assert "1.5 s" in told
    assert "unfit" in told
    assert "there is no actor" in told
    for path in ("/dead", "/dead?state=any", f"/dead/replay?id={letter}", f"/dead/drop?id={letter}"):
        page = await operator.get(path)
        assert page.status_code == 200, path
        assert "<img src=x" not in page.text, path
    assert (await operator.get("/api/dead/letters")).json()["letters"][0]["arguments"]["big"] == 1e40


async def test_bytes_that_are_no_message_are_told_and_can_be_made_one(
    operator: Operator, database: Database, inspector: Inspector
) -> None:
    letter = await add_dead_letter(database, b"\x00\xff" + HTML.encode())
    answer = await operator.get(f"/dead/{letter}")
    assert f"\\u0000\\xff{ESCAPED}" in answer.text
    assert "These bytes are no message." in answer.text
    sent = {"actor": "generation.GenerateDay", "arguments": f'{{"day": "{TODAY}"}}', "seen": ""}
    saved = await operator.send(f"/dead/{letter}/edit", sent, of=f"/dead/{letter}")
    assert saved.status_code == 303
    (verdict,) = await inspector.replays.verdicts([letter])
    assert (verdict.judgement, verdict.actor) == ("ready", "generation.GenerateDay")


async def test_what_there_is_not_is_not_found(operator: Operator, database: Database) -> None:
    letter = await add_dead_letter(database, view())
    for number in (letter + 1, 0, 2**63, 10**30):
        assert (await operator.get(f"/dead/{number}")).status_code == 404
        assert (await operator.get(f"/dead/runs/{number}")).status_code == 404
        assert (await operator.send(f"/dead/{number}/edit", {"why": "x"})).status_code == 404
        for act in ("cancel", "resume"):
            assert (await operator.get(f"/dead/runs/{number}/{act}")).status_code == 404
            assert (await operator.send(f"/dead/runs/{number}/{act}")).status_code == 404
    for path in ("/dead/x", "/dead/-1", "/dead/1/edit", "/dead/1.5"):
        assert (await operator.get(path)).status_code in {404, 405}


async def test_a_secret_is_shown_nowhere(
    operator: Operator, database: Database, sql: asyncpg.Connection, inspector: Inspector
) -> None:
    letter = await add_dead_letter(database, view(), attempts=[{"error": PASSWORD}])
    await sql.execute("UPDATE dead_letters SET error = $1, traceback = $1, arguments = $2", PASSWORD,
                      orjson.dumps({PASSWORD: PASSWORD}).decode())  # fmt: skip
    group = (await inspector.records.whole(letter)).group
    await inspector.edits.note(group, PASSWORD, by=PASSWORD)
    await order(operator, f"/dead/replay?id={letter}", why=PASSWORD)
    for path in ("/dead", f"/dead/{letter}", f"/dead/group/{group}", f"/dead/drop?id={letter}", "/dead/runs",
                 "/dead/runs/1", "/api/dead", "/api/dead/letters", "/api/dead/runs"):  # fmt: skip
        answer = await operator.get(path)
        assert answer.status_code == 200, path
        assert PASSWORD not in answer.text, path
        assert "***" in answer.text, path


# Edits


async def test_an_edit_is_held_against_the_actor_and_kept_with_who_made_it(
    operator: Operator, database: Database, sql: asyncpg.Connection
) -> None:
    letter = await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY))
    path = f"/dead/{letter}"

    async def edit(arguments: str, actor: str = GENERATE, seen: str = "") -> Any:
        sent = {"actor": actor, "arguments": arguments, "seen": seen}
        return await operator.send(f"{path}/edit", sent, of=path)

    for arguments, actor, fault in (
        ('{"sign": "cat", "day": "x"}', GENERATE, "sign: Input should be"),
        ('{"sign": "virgo"}', GENERATE, "day: Field required"),
        ('{"sign": "virgo",', GENERATE, "this is not JSON"),
        ('["virgo"]', GENERATE, "expected a JSON object, such as {}"),
        (f'{{"day": "{TODAY}"}}', HTML, "there is no actor"),
        ("[" * 3000, GENERATE, "this is not JSON"),
    ):
        refused = await edit(arguments, actor)
        assert refused.status_code == 422, arguments
        assert fault in unescape(refused.text)
        assert arguments in unescape(refused.text), "what was typed is still there"
        assert "<img src=x" not in refused.text
    assert await sql.fetchval("SELECT count(*) FROM dead_letter_edits") == 0

    saved = await edit(f'{{"sign": "virgo", "day": "{TODAY}"}}')
    assert (saved.status_code, saved.headers["location"]) == (303, path)
    first = await sql.fetchval("SELECT id FROM dead_letter_edits")
    late = await edit(f'{{"sign": "aries", "day": "{TODAY}"}}')
    assert late.status_code == 409
    assert "Somebody else has edited this letter meanwhile" in late.text
    assert (await edit(f'{{"day": "{TODAY}"}}', "generation.GenerateDay", str(first))).status_code == 303
    told = await seen(operator, path)
    assert f"The edit of letter {letter} is saved." in told
    assert f"{BY} sign leo virgo" in told
    assert f"{BY} actor {GENERATE} generation.GenerateDay sign virgo" in told
    assert await sql.fetchval("SELECT arguments ->> 'sign' FROM dead_letters") == "leo", "as it died"


async def test_the_language_can_be_changed_where_something_was_refused(
    operator: Operator, database: Database
) -> None:
    letter = await add_dead_letter(database, view())
    refused = await operator.send(f"/dead/{letter}/edit", {"arguments": "x", "seen": ""})
    unsaid = await operator.confirm(f"/dead/drop?id={letter}")
    asked = await order(operator, f"/dead/replay?id={letter}", why="")
    for answer in (refused, unsaid, asked):
        assert answer.status_code == 422
        (back,) = re.findall(r'name="next" value="([^"]*)"', answer.text)
        sent = await operator.send("/language", {"language": "ru", "next": unescape(back)})
        assert (await operator.get(sent.headers["location"])).status_code == 200
    assert "Письмо" in (await operator.get(f"/dead/{letter}")).text
    filtered = "/dead?actor=&text=" + 20 * "%D0%B0+" + "&state=any"
    assert f'name="next" value="{filtered}"'.replace("&", "&amp;") in (await operator.get(filtered)).text


async def test_only_a_dead_letter_can_be_edited(
    operator: Operator, database: Database, inspector: Inspector
) -> None:
    letter = await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY))
    await inspector.edits.drop([letter], by="x", why="y")
    sent = {"actor": GENERATE, "arguments": f'{{"sign": "leo", "day": "{TODAY}"}}', "seen": ""}
    refused = await operator.send(f"/dead/{letter}/edit", sent)
    assert refused.status_code == 409
    assert "is not dead any more" in refused.text
    assert 'action="/dead/' not in refused.text.partition('id="restore"')[0], "there is no form to edit it"


async def test_a_letter_is_dropped_with_a_reason_and_taken_back(
    operator: Operator, database: Database, inspector: Inspector
) -> None:
    letter = await add_dead_letter(database, view())
    path, drop, restore = f"/dead/{letter}", f"/dead/drop?id={letter}", f"/dead/restore?id={letter}"
    assert f'href="{drop}"' in (await operator.get(path)).text
    refused = await operator.confirm(drop, why=" ")
    assert refused.status_code == 422
    assert (await inspector.records.whole(letter)).state == "dead"
    form = await operator.shown(drop)
    dropped = await operator.confirm(drop, why=f"answered by hand {HTML}")
    assert (dropped.status_code, dropped.headers["location"]) == (303, path)
    assert f"Dropped by {BY}: answered by hand {HTML}" in await seen(operator, path)
    twice = await operator.send("/dead/drop", form | {"why": "again"}, of=path)
    assert twice.status_code == 409
    assert "there are none here" in twice.text
    form = await operator.shown(restore)
    assert (await operator.confirm(restore)).status_code == 303
    assert (await inspector.records.whole(letter)).state == "dead"
    assert (await operator.send("/dead/restore", form, of=path)).status_code == 409


async def test_many_are_dropped_and_taken_back_as_they_were_shown(
    operator: Operator, database: Database, inspector: Inspector
) -> None:
    first, second = [await add_dead_letter(database, view()) for _ in range(2)]
    asked = "/dead/drop?state=dead&cause=too+old"
    assert "Drop 2 letters?" in await seen(operator, asked)
    form = await operator.shown(asked)
    await inspector.edits.drop([first], by="x", why="y")
    refused = await operator.send("/dead/drop", form | {"why": "z"}, of=f"/dead/{first}")
    assert refused.status_code == 409
    assert "Drop 1 letter?" in refused.text
    assert (await inspector.records.whole(second)).state == "dead"
    unsaid = await operator.send("/dead/drop", await operator.shown(asked), of=f"/dead/{first}")
    assert unsaid.status_code == 422
    assert "Say why." in unsaid.text
    form = await operator.shown(asked)
    assert (await operator.send("/dead/drop", form | {"why": "z"}, of=f"/dead/{first}")).status_code == 303
    assert "Letters dropped: 1." in await seen(operator, "/dead")
    assert "there are none here" in await seen(operator, "/dead/restore?state=dead")
    asked = f"/dead/restore?id={first}&id={second}"
    form = await operator.shown(asked)
    assert (await operator.send("/dead/restore", form, of=asked)).status_code == 303
    assert await inspector.records.count(Filter()) == 2
    for act in ("drop", "restore", "replay"):
        assert (await operator.get(f"/dead/{act}")).status_code == 422, "nothing is chosen"
        assert (await operator.send(f"/dead/{act}", {"why": "x", "rate": "1"})).status_code == 400


# Replaying


async def test_what_a_replay_would_come_to_is_told_before_anything_is_ordered(
    operator: Operator, database: Database, inspector: Inspector, sql: asyncpg.Connection
) -> None:
    for _ in range(2):
        await add_dead_letter(database, view())
    await add_dead_letter(database, DeliverHoroscope(Sign.LEO, TODAY))
    await add_dead_letter(database, b"garbage")
    gone = await add_dead_letter(database, view())
    await inspector.edits.drop([gone], by="x", why="y")
    answer = await operator.get("/dead/replay?state=any")
    told = text_of(answer.text)
    assert "Letters: 5" in told
    assert "ready 2 will be replayed" in told
    assert f"done 1 left out; only if you insist no reader waits for Leo on {TODAY:%B} {TODAY.day}" in told
    assert "unfit 1 left out it is no message" in told
    assert "settled 1 left out it is not dead any more: it was dropped" in told
    assert "views.HoroscopeRequested 2 " in told
    assert "delivery.DeliverHoroscope 0 (+ 1)" in told
    assert "2 letters will be replayed" in told
    assert "Insist: replay the others, too (1)" in told
    assert await sql.fetchval("SELECT count(*) FROM replay_runs") == 0


async def test_a_replay_is_put_on_record_with_who_wanted_it_why_and_how_fast(
    operator: Operator, database: Database, sql: asyncpg.Connection
) -> None:
    letters = [await add_dead_letter(database, view()) for _ in range(3)]
    done = await add_dead_letter(database, DeliverHoroscope(Sign.LEO, TODAY))
    chosen = f"/dead/replay?id={letters[0]}&id={letters[1]}&id={done}"
    for faults in (
        {"why": ""},
        {"rate": "0"},
        {"rate": "fast"},
        {"rate": "9" * 30},
        {"why": "", "rate": "-1"},
    ):
        refused = await order(operator, chosen, **faults)
        assert refused.status_code == 422, faults
        assert 'role="alert"' in refused.text
    assert await sql.fetchval("SELECT count(*) FROM replay_runs") == 0
    ordered = await order(operator, chosen, why=f"mended {HTML}", rate="7", force="yes")
    assert (ordered.status_code, ordered.headers["location"]) == (303, "/dead/runs/1")
    run = await sql.fetchrow("SELECT * FROM replay_runs")
    assert (run["rate"], run["why"], run["started_by"]) == (7, f"mended {HTML}", BY)
    planned = [row["letter"] for row in await sql.fetch("SELECT letter FROM replays ORDER BY letter")]
    assert planned == [*letters[:2], done], "also what is done: somebody insisted"
    for path in ("/dead/runs/1", "/dead/runs", f"/dead/{done}"):
        shown = (await operator.get(path)).text
        assert f"mended {ESCAPED}" in shown
        assert BY in shown


async def test_nothing_is_replayed_that_was_not_shown(
    operator: Operator, database: Database, inspector: Inspector, sql: asyncpg.Connection
) -> None:
    letters = [await add_dead_letter(database, view()) for _ in range(2)]
    form = await operator.shown("/dead/replay?state=dead&since=1d")
    assert re.fullmatch(r"since=[^&]*&until=[^&]*&state=dead", form["of"])
    assert f"{TODAY.year}" in unquote(form["of"]), "an age has become a time"
    told = await seen(operator, "/dead/replay?state=dead&since=1d")
    assert re.search(r"since \S+ \S+\+03:00, until \S+ \S+\+03:00", told), "times at home"
    late = await add_dead_letter(database, view())
    await sql.execute("UPDATE dead_letters SET died_at = now() + interval '5 seconds' WHERE id = $1", late)
    await inspector.edits.drop(letters[:1], by="x", why="y")
    order_ = form | {"why": "x", "rate": "3"}
    refused = await operator.send("/dead/replay", order_, of=f"/dead/{late}")
    assert refused.status_code == 409
    assert "Something has changed meanwhile" in refused.text
    assert "1 letter will be replayed" in refused.text
    assert 'name="rate"' in refused.text
    assert 'value="3"' in refused.text, "what was typed stays"
    assert await sql.fetchval("SELECT count(*) FROM replay_runs") == 0
    await inspector.edits.restore(letters[:1], by="x")
    assert (await operator.send("/dead/replay", order_, of=f"/dead/{late}")).status_code == 303
    planned = [row["letter"] for row in await sql.fetch("SELECT letter FROM replays ORDER BY letter")]
    assert planned == letters, "what died later is left where it is"


async def test_a_form_that_is_sent_twice_orders_one_replay(
    operator: Operator, database: Database, sql: asyncpg.Connection
) -> None:
    letter = await add_dead_letter(database, view())
    path = f"/dead/replay?id={letter}"
    form = await operator.shown(path) | {
        "why": "x",
        "rate": "3",
        "form_token": await operator.token(path),
    }
    sent = await asyncio.gather(*(operator.http.post("/dead/replay", data=form) for _ in range(2)))
    assert sorted(answer.status_code for answer in sent) == [303, 409]
    assert "is under way in views" in next(answer.text for answer in sent if answer.status_code == 409)
    await sql.execute("UPDATE replay_runs SET state = 'finished'")
    await sql.execute("UPDATE replays SET state = 'did_it'")
    await sql.execute("UPDATE dead_letters SET state = 'did_it'")
    late = await operator.http.post("/dead/replay", data=form)
    assert late.status_code == 409
    assert "None can be replayed" in late.text
    assert await sql.fetchval("SELECT count(*) FROM replays") == 1


async def test_a_run_is_told_live_cancelled_and_resumed(
    operator: Operator, database: Database, sql: asyncpg.Connection
) -> None:
    letters = [await add_dead_letter(database, view()) for _ in range(4)]
    assert "Nobody has replayed anything yet." in await seen(operator, "/dead/runs")
    await order(operator, "/dead/replay?state=dead")
    told = await seen(operator, "/dead/runs/1")
    assert "is a worker running" not in told, "some process looks for it within a second"
    await sql.execute("UPDATE replay_runs SET expires_at = now() - interval '1 minute'")
    told = await seen(operator, "/dead/runs/1")
    assert "0 of 4 finished planned 4 waiting 0 did it 0 nothing to do any more 0 died again 0" in told
    assert "No process is carrying out this run. Is a worker running?" in told
    states = ("planned", "published", "did_it", "died_again")
    for letter, state in zip(letters, states, strict=True):
        await sql.execute("UPDATE replays SET state = $2, died_as = 77 WHERE letter = $1", letter, state)
    await sql.execute("UPDATE replay_runs SET expires_at = now() + interval '1 hour', holder = 'host-a 41'")
    part = await operator.get("/dead/runs/1", x_live="1")
    assert "<html" not in part.text
    told = text_of(part.text)
    assert "2 of 4 finished planned 1 waiting 1 did it 1 nothing to do any more 0 died again 1" in told
    assert "host-a 41" in told
    assert "is a worker running" not in told
    assert re.findall(r"\d+ → Letter \d+", told) == [f"{letters[3]} → Letter 77"]
    assert "<rect" in part.text

    asked = await seen(operator, "/dead/runs/1/cancel")
    assert "Cancel run 1?" in asked
    assert "Not published yet: 1. They stay dead." in asked
    unasked = await operator.send("/dead/runs/1/cancel")
    assert unasked.status_code == 409
    assert "Something has changed meanwhile" in unasked.text
    resumed = await operator.confirm("/dead/runs/1/resume")
    assert resumed.status_code == 409
    assert "cannot be resumed: it was not cancelled" in resumed.text
    form = await operator.shown("/dead/runs/1/cancel")
    cancelled = await operator.confirm("/dead/runs/1/cancel")
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, "/dead/runs/1")
    assert await sql.fetchval("SELECT cancelled_by FROM replay_runs") == BY
    assert (await operator.send("/dead/runs/1/cancel", form)).status_code == 409, "once"
    await sql.execute("UPDATE replay_runs SET state = 'cancelled', ended_at = now()")  # as its process does
    told = await seen(operator, "/dead/runs/1")
    assert "cancelled 1" in told
    assert "Resume the run…" in told
    assert (await operator.confirm("/dead/runs/1/resume")).status_code == 303
    assert "planned 1" in await seen(operator, "/dead/runs/1")
    assert "1 running" in await seen(operator, "/dead/runs")


async def test_the_history_of_runs_comes_in_pages(
    operator: Operator, database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "RUNS", 2)
    for _ in range(3):
        await add_dead_letter(database, view())
        await order(operator, "/dead/replay?state=dead")
        await sql.execute("UPDATE replay_runs SET state = 'finished'")
        await sql.execute("UPDATE replays SET state = 'did_it'")
        await sql.execute("UPDATE dead_letters SET state = 'did_it'")
    html = (await operator.get("/dead/runs")).text
    assert re.findall(r'<tr id="run-(\d)"', html) == ["3", "2"]
    link = re.search(r'rel="next" href="([^"]*)"', html)
    assert link
    assert re.findall(r'<tr id="run-(\d)"', (await operator.get(link[1])).text) == ["1"]
    told = (await operator.get("/api/dead/runs?limit=2")).json()
    assert ([run["id"] for run in told["runs"]], told["next"]) == ([3, 2], 2)
    assert [run["id"] for run in (await operator.get("/api/dead/runs?before=2")).json()["runs"]] == [1]


async def test_a_letter_tells_its_replays_and_is_linked_to_what_became_of_them(
    operator: Operator, database: Database, sql: asyncpg.Connection
) -> None:
    parent = await add_dead_letter(database, view())
    child = await add_dead_letter(database, view())
    await order(operator, f"/dead/replay?id={parent}")
    await sql.execute("UPDATE replays SET state = 'died_again', died_as = $1", child)
    await sql.execute("UPDATE dead_letters SET state = 'died_again' WHERE id = $1", parent)
    await sql.execute("UPDATE dead_letters SET parent = $1, replays = 1 WHERE id = $2", parent, child)
    html = (await operator.get(f"/dead/{parent}")).text
    assert f'<a href="/dead/{child}">Died again as letter {child}</a>' in html
    assert '<a href="/dead/runs/1">Run 1</a>' in html
    html = (await operator.get(f"/dead/{child}")).text
    assert "It died in the replay of:" in html
    assert f'<a href="/dead/{parent}">Letter {parent}</a>' in html


# While PostgreSQL is away


async def test_without_postgresql_every_page_says_so(
    database_url: str, rabbitmq_url: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await add_dead_letter(database, view())
    async with (
        Cable(database_url) as cable,
        open_admin(settings_of(cable.url, rabbitmq_url)) as (page, publisher),
    ):
        await publisher.wait_ready(DEADLINE_S)
        operator = Operator(page)
        operator.http.headers["accept-language"] = "en"
        async with operator.http:
            await operator.sign_in()
            form = await operator.shown(f"/dead/replay?id={letter}")
            form |= {"why": "x", "rate": "3", "form_token": await operator.token("/")}
            cable.unplug()
            for path in ("/dead", f"/dead/{letter}", f"/dead/replay?id={letter}", "/dead/runs", "/dead/runs/1",
                         "/dead/runs/1/cancel"):  # fmt: skip
                told = await seen(operator, path, 503)
                assert "PostgreSQL has been away" in told
                assert "PostgreSQL cannot be reached: there is nothing to show" in told
            assert (await operator.http.post("/dead/replay", data=form)).status_code == 503
            for path in ("/api/dead", "/api/dead/letters", "/api/dead/runs"):
                answer = await operator.get(path)
                assert (answer.status_code, answer.json()["error"]) == (503, "postgresql_away")


async def test_a_database_that_does_not_answer_is_not_waited_for(
    operator: Operator, database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = await add_dead_letter(database, view())
    monkeypatch.setattr(snapshots, "PATIENCE_S", 0.2)
    async with sql.transaction():
        await sql.execute("LOCK TABLE dead_letters IN ACCESS EXCLUSIVE MODE")
        async with asyncio.timeout(20):  # less than a statement's own
            for path in ("/dead", f"/dead/{letter}", "/api/dead"):
                assert (await operator.get(path)).status_code == 503


async def test_judging_many_letters_may_take_longer_than_a_page(
    operator: Operator, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_dead_letter(database, view())
    monkeypatch.setattr(snapshots, "PATIENCE_S", 0.0)
    assert (await operator.get("/dead")).status_code == 503
    assert (await operator.get("/api/dead")).status_code == 503
    for path in (
        "/dead?verdict=done",
        "/dead/drop?state=dead",
        "/dead/replay?state=dead",
        "/api/dead?verdict=done",
        "/api/dead/letters?verdict=done",
    ):
        assert (await operator.get(path)).status_code == 200, path
    assert 'data-every="60.0"' in (await operator.get("/dead?verdict=done")).text, (
        "and is not done every five seconds"
    )


# As JSON


async def test_a_script_is_told_the_same(operator: Operator, database: Database) -> None:
    leo = await add_dead_letter(database, GenerateDay(TODAY))
    virgo = await add_dead_letter(database, view(Sign.VIRGO), WorkerKilled("killed"))
    told = (await operator.get("/api/dead")).json()
    assert (told["dead"], told["waiting"], told["away"]) == (2, 0, [])
    assert sorted((group["error_type"], group["dead"]) for group in told["groups"]) == [
        ("TooOld", 1), ("WorkerKilled", 1),
    ]  # fmt: skip
    assert [group["latest"] for group in (await operator.get("/api/dead?sign=virgo")).json()["groups"]] == [
        virgo
    ]
    told = (await operator.get("/api/dead/letters?limit=1")).json()
    assert ([letter["id"] for letter in told["letters"]], told["next"]) == ([virgo], virgo)
    told = (await operator.get(f"/api/dead/letters?before={virgo}&state=any")).json()
    (letter,) = told["letters"]
    assert (letter["id"], letter["actor"], letter["state"]) == (leo, "generation.GenerateDay", "dead")
    assert letter["arguments"] == {"day": TODAY.isoformat()}
    assert letter["died_at"].endswith("Z")
    assert told["next"] is None
    for wrong in (
        "letters?day=x",
        "letters?limit=0",
        "letters?limit=1001",
        "letters?before=x",
        "runs?limit=x",
    ):
        answer = await operator.get(f"/api/dead/{wrong}")
        assert (answer.status_code, answer.json()["error"]) == (400, "bad_request"), wrong
    assert "day" in (await operator.get("/api/dead?day=x")).json()["message"]


async def test_a_script_must_sign_in(page: ASGIApp) -> None:
    stranger = Operator(page)
    for path in ("/api/dead", "/api/dead/letters", "/api/dead/runs"):
        assert (await stranger.get(path)).status_code == 401
        told = await stranger.http.get(path, auth=("me", PASSWORD))
        assert told.status_code == 200


@pytest.mark.parametrize(
    "at", [datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)]
)
async def test_letters_of_the_ends_of_all_time_are_shown(
    operator: Operator, database: Database, at: datetime
) -> None:
    parts = decode(encode(GenerateHoroscope(Sign.LEO, TODAY))) | {
        "options": {"attempts": [{"at": at.isoformat(), "error": "once"}]}
    }
    await Archive(database, Mask([])).keep([DeadLetter(orjson.dumps(parts), {}, published_at=at)])
    for path in ("/dead", "/dead/1", "/api/dead/letters"):
        assert "1" in await seen(operator, path)


async def test_causes_verdicts_and_refusals_are_said_in_the_operators_language(
    operator: Operator, database: Database, inspector: Inspector
) -> None:
    letter = await add_dead_letter(database, GenerateDay(TODAY), TooOld("nobody waits"))
    unfit = await add_dead_letter(database, b"no message")
    await inspector.edits.drop([letter], by="x", why="y")
    operator.http.headers["accept-language"] = "ru"
    told = await seen(operator, f"/dead/{letter}")
    assert "Причина слишком старое" in told
    assert "оно уже не мёртвое: его сняли" in told
    assert "это не сообщение" in await seen(operator, f"/dead/{unfit}")
    sent = {"actor": GENERATE, "arguments": "[]", "seen": ""}
    refused = await operator.send(f"/dead/{unfit}/edit", sent, of=f"/dead/{unfit}")
    assert "нужен объект JSON" in text_of(refused.text)
