"""The archive of dead letters, on PostgreSQL alone."""

import asyncio
import json
import random
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors import REPLAYABLE
from schema.errors import (
    InvalidEnvelope,
    InvalidMessage,
    ModelUnavailable,
    Refused,
    TooOld,
    UnknownActor,
    WorkerKilled,
)
from schema.messages import DeadLetter, DeliverHoroscope, GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.days import ONE_DAY, system_clock
from services.dead_letters import preflight, records
from services.dead_letters.archive import Archive
from services.dead_letters.death import Death
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector
from services.messaging.envelope import decode, encode
from services.messaging.poison import PoisonMessages
from tests.dead_letters import MASK, SECRET, TODAY, inspector_on, letter_of


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database, MASK)


@pytest.fixture
def inspector(database: Database) -> Inspector:
    return inspector_on(database)


async def test_a_letter_is_kept_with_the_whole_truth(archive: Archive, inspector: Inspector) -> None:
    message = GenerateHoroscope(Sign.LEO, TODAY)
    await archive.keep([letter_of(message, attempts=4)])
    (listed,) = await inspector.records.listed(Filter())
    letter = await inspector.records.whole(listed.id)
    assert (letter.actor, letter.queue, letter.state) == (
        "generation.GenerateHoroscope",
        "generation",
        "dead",
    )
    assert letter.arguments == {"sign": "leo", "day": TODAY.isoformat()}
    assert (letter.cause, letter.error_type) == ("ladder exhausted", "ModelUnavailable")
    assert letter.error == "ModelUnavailable: the model is away"
    assert letter.trace == "the last one"
    assert len(letter.tries) == letter.attempts == 4
    assert decode(letter.body)["options"] == {}, "what is replayed is the message as it was asked for"
    assert letter.release
    assert letter.host


async def test_a_letter_that_comes_again_is_kept_once(archive: Archive, inspector: Inspector) -> None:
    letter = letter_of(GenerateHoroscope(Sign.LEO, TODAY))
    await archive.keep([letter, letter])
    await archive.keep([replace(letter, redelivered=True)])
    assert await inspector.records.count(Filter(state=None)) == 1


async def test_copies_of_a_message_that_died_alike_are_one_letter_until_it_is_dealt_with(
    archive: Archive, inspector: Inspector
) -> None:
    """A worker that is killed between burying a message and acknowledging it buries it twice."""
    letter = letter_of(GenerateHoroscope(Sign.LEO, TODAY), attempts=2)
    twin = replace(letter, headers=letter_of(GenerateHoroscope(Sign.LEO, TODAY)).headers)
    await archive.keep([letter, twin])
    await archive.keep([twin])
    (kept,) = await inspector.records.listed(Filter())
    await inspector.edits.drop([kept.id], by="me", why="a test")
    await archive.keep([replace(letter, headers=letter_of(GenerateHoroscope(Sign.LEO, TODAY)).headers)])
    assert [each.state for each in await inspector.records.listed(Filter(state=None))] == ["dead", "dropped"]


async def test_of_copies_that_come_at_once_one_is_kept(archive: Archive, inspector: Inspector) -> None:
    message = GenerateHoroscope(Sign.LEO, TODAY)
    first = letter_of(message)
    copies = [replace(first, headers=letter_of(message).headers) for _ in range(8)]
    await asyncio.gather(*(archive.keep([copy]) for copy in copies))
    assert await inspector.records.count(Filter()) == 1


async def test_each_of_many_that_look_alike_but_are_no_copies_is_kept(
    archive: Archive, inspector: Inspector
) -> None:
    await archive.keep([letter_of(b"garbage"), letter_of(b"garbage")])
    await archive.keep([letter_of(GenerateHoroscope(Sign.LEO, TODAY)) for _ in range(2)])
    assert await inspector.records.count(Filter()) == 4


async def test_bytes_that_rabbitmq_gave_up_itself_are_kept_once_each(
    archive: Archive, inspector: Inspector
) -> None:
    raw = DeadLetter(b"\xff", {"x-death": [{"reason": "maxlen", "queue": "views", "count": 1}]})
    await archive.keep([raw])
    await archive.keep([replace(raw, redelivered=True)])  # the archive was killed before it could say so
    await archive.keep([raw])
    kept = await inspector.records.listed(Filter())
    assert [(each.cause, each.queue) for each in kept] == [("queue full", "views")] * 2


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("expired", "too old"),
        ("delivery_limit", "killed its worker"),
        ("rejected", "rejected"),
        ("?", "rejected"),
    ],
)
async def test_why_rabbitmq_gave_a_message_up_is_the_cause(
    archive: Archive, inspector: Inspector, reason: str, cause: str
) -> None:
    body = encode(GenerateHoroscope(Sign.LEO, TODAY))
    await archive.keep([DeadLetter(body, {"x-death": [{"reason": reason, "queue": "generation"}]})])
    (kept,) = await inspector.records.listed(Filter())
    assert (kept.cause, kept.queue, kept.actor) == (cause, "generation", "generation.GenerateHoroscope")
    assert reason in kept.error


async def test_what_an_older_release_buried_is_understood(archive: Archive, inspector: Inspector) -> None:
    parts = decode(encode(GenerateHoroscope(Sign.LEO, TODAY)))
    parts["options"] = {
        "attempts": [{"at": "2026-11-01T00:00:00+00:00", "error": "E: no"}],
        "traceback": "Traceback …",
        "death": {
            "at": "2026-11-01T00:00:01+00:00",
            "cause": "ladder exhausted",
            "reason": "ModelUnavailable: away",
            "release": "0.0.9",
            "host": "elsewhere",
        },
    }
    await archive.keep([DeadLetter(orjson.dumps(parts), {"queue": "generation"})])
    (kept,) = await inspector.records.listed(Filter())
    assert (kept.cause, kept.error_type, kept.release, kept.host) == (
        "ladder exhausted", "ModelUnavailable", "0.0.9", "elsewhere"
    )  # fmt: skip
    assert kept.died_at == datetime(2026, 11, 1, 0, 0, 1, tzinfo=UTC)


async def test_secrets_are_masked_wherever_they_stand(
    archive: Archive, inspector: Inspector, sql: asyncpg.Connection
) -> None:
    parts = decode(encode(GenerateHoroscope(Sign.LEO, TODAY)))
    parts["kwargs"]["note"] = ["deep", {"down": f"with {SECRET}"}]
    parts["options"] = {"attempts": [{"error": SECRET}], "traceback": f"at {SECRET}", "other": SECRET}
    garbage = f"no JSON {SECRET}".encode()
    await archive.keep([DeadLetter(orjson.dumps(parts), {"reason": SECRET}), DeadLetter(garbage, {})])
    kept = [await inspector.records.whole(each.id) for each in await inspector.records.listed(Filter())]
    assert [each.masked for each in kept] == [True, True]
    assert kept[0].body == b"no JSON ***"
    for row in await sql.fetch("SELECT dead_letters::text AS row, body FROM dead_letters"):
        for part in (SECRET, "ключ", "secret"):
            assert part not in row["row"]
            assert part.encode() not in row["body"]
    verdicts = await inspector.replays.verdicts([kept[1].id])
    assert verdicts[0].judgement == "unfit"
    assert "masked" in verdicts[0].reason


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.just("2026-11-22")
    | st.just("leo"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_message = st.fixed_dictionaries(
    {
        "queue_name": st.text(),
        "actor_name": st.text(),
        "args": st.lists(_json, max_size=2),
        "kwargs": st.dictionaries(st.sampled_from(["sign", "day", "\0"]) | st.text(), _json, max_size=4),
        "options": st.dictionaries(
            st.sampled_from(["attempts", "traceback", "death", "replay"]),
            _json | st.lists(st.just({"at": "\0"})),
        ),
        "message_id": st.text(),
        "message_timestamp": st.integers(0, (1 << 43) - 1),
    }
).map(lambda message: json.dumps(message).encode())
_death = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str),
        "at": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
        "queue": st.text(),
        "cause": st.text(),
        "error_type": st.text(),
        "error": st.text(),
        "frames": st.lists(st.text(), max_size=2),
    }
).map(json.dumps)
_headers = st.fixed_dictionaries(
    {},
    optional={
        "death": _death | st.text() | st.binary() | st.integers(),
        "x-death": st.lists(st.dictionaries(st.sampled_from(["reason", "queue"]), _json)) | _json,
        "cause": _json,
        "queue": st.binary() | _json,
        "reason": _json,
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    letters=st.lists(
        st.tuples(st.binary(max_size=50) | _message, _headers, st.booleans()), min_size=1, max_size=5
    )
)
async def test_whatever_lies_among_the_dead_is_kept(
    database: Database, sql: asyncpg.Connection, letters: list[tuple[bytes, dict[str, Any], bool]]
) -> None:
    await sql.execute("TRUNCATE dead_letters CASCADE")
    await Archive(database, MASK).keep([DeadLetter(*each) for each in letters])
    inspector = inspector_on(database)
    kept = await inspector.records.listed(Filter())
    assert 1 <= len(kept) <= len(letters)
    await inspector.replays.verdicts([each.id for each in kept])
    await inspector.records.groups(Filter())


async def test_nesting_without_end_is_no_message(archive: Archive, inspector: Inspector) -> None:
    sound = encode(GenerateHoroscope(Sign.LEO, TODAY))
    body = sound.replace(b'"leo"', b"[" * 900 + b"]" * 900)
    with pytest.raises(InvalidEnvelope, match="levels deep"):
        decode(body)
    await archive.keep([DeadLetter(body, {})])
    (kept,) = await inspector.records.listed(Filter())
    assert (await inspector.records.whole(kept.id)).body == body


async def test_failures_of_one_kind_are_a_group(archive: Archive, inspector: Inspector) -> None:
    away = [letter_of(GenerateHoroscope(sign, TODAY)) for sign in list(Sign)[:5]]
    late = [
        letter_of(HoroscopeRequested(uuid4(), Sign.LEO, TODAY, True, datetime.now(UTC)), TooOld("too late"))
    ]
    await archive.keep([*away, *late])
    away_group, late_group = await inspector.records.groups(Filter())
    assert (away_group.letters, away_group.dead, away_group.error_type) == (5, 5, "ModelUnavailable")
    assert (late_group.letters, late_group.cause) == (1, "too old")
    await inspector.edits.note(late_group.fingerprint, "Telegram was away", by="Anna")
    (noted,) = await inspector.records.groups(Filter(group=late_group.fingerprint))
    assert (noted.note, noted.noted_by) == ("Telegram was away", "Anna")
    await inspector.edits.note(late_group.fingerprint, "", by="Anna")
    assert {group.note for group in await inspector.records.groups(Filter())} == {None}
    with pytest.raises(Refused, match="no group nothing"):
        await inspector.edits.note("nothing", "x", by="Anna")


async def test_each_part_of_a_filter_narrows_it(archive: Archive, inspector: Inspector) -> None:
    tomorrow = TODAY + ONE_DAY
    await archive.keep([letter_of(GenerateHoroscope(Sign.LEO, TODAY)), letter_of(b"no message")])
    await archive.keep([letter_of(GenerateHoroscope(Sign.ARIES, tomorrow), InvalidMessage("of no use"))])
    aries, garbage, leo = await inspector.records.listed(Filter())
    now = datetime.now(UTC)
    for wanted, found in (
        (Filter(ids=(leo.id, aries.id)), [aries, leo]),
        (Filter(actor="generation.GenerateHoroscope"), [aries, leo]),
        (Filter(queue="views"), [garbage]),
        (Filter(cause="undecodable"), [garbage]),
        (Filter(cause="wrong-arguments"), [aries]),
        (Filter(cause="wrong arguments"), [aries]),
        (Filter(error="InvalidMessage"), [aries]),
        (Filter(error="MODEL is"), [leo]),
        (Filter(group=leo.group), [leo]),
        (Filter(sign=Sign.ARIES), [aries]),
        (Filter(day=tomorrow), [aries]),
        (Filter(since=leo.died_at, until=now), [aries, garbage, leo]),
        (Filter(since=now), []),
        (Filter(until=leo.died_at), []),
        (Filter(text="of no USE"), [aries]),
        (Filter(text='"sign": "leo"'), [leo]),
        (Filter(text=leo.message_id), [leo]),
        (Filter(text="100%"), []),
        (Filter(state="dropped"), []),
        (Filter(run=1), []),
        (Filter(actor="generation.GenerateHoroscope", sign=Sign.LEO), [leo]),
    ):
        assert await inspector.records.listed(wanted) == found, wanted.words
        assert await inspector.records.count(wanted) == len(found)
    assert await inspector.records.listed(Filter(), limit=1) == [aries]
    assert await inspector.records.listed(Filter(), before=aries.id) == [garbage, leo]
    with pytest.raises(Refused, match="no dead letter 99"):
        await inspector.records.whole(99)


async def test_letters_are_selected_by_what_a_replay_of_them_would_do(
    archive: Archive, inspector: Inspector
) -> None:
    await archive.keep([letter_of(GenerateHoroscope(Sign.LEO, TODAY)), letter_of(b"no message")])
    await archive.keep([letter_of(DeliverHoroscope(Sign.ARIES, TODAY))])
    unwanted, garbage, leo = await inspector.records.listed(Filter())
    for verdict, found in (("ready", leo), ("unfit", garbage), ("done", unwanted)):
        wanted = Filter(verdict=verdict)  # type: ignore[arg-type]
        assert await inspector.records.listed(wanted) == [found]
        assert await inspector.records.ids(wanted) == [found.id]
        assert await inspector.records.count(wanted) == 1
        (group,) = await inspector.records.groups(wanted)
        assert group.latest == found.id
    assert await inspector.records.ids(Filter(verdict="done", sign=Sign.LEO)) == []
    assert await inspector.records.count(Filter(verdict="capped")) == 0
    await inspector.edits.drop(
        await inspector.records.ids(Filter(verdict="done")), by="me", why="nobody waits"
    )
    assert await inspector.records.ids(Filter()) == [leo.id, garbage.id]
    assert await inspector.records.ids(Filter(state=None, verdict="settled")) == [unwanted.id]


async def test_letters_that_have_nothing_left_to_do_are_noted_a_few_at_a_time(
    archive: Archive, database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "_JUDGED_AT_ONCE", 2)
    for message in (
        DeliverHoroscope(Sign.LEO, TODAY), GenerateHoroscope(Sign.LEO, TODAY), DeliverHoroscope(Sign.ARIES, TODAY),
    ):  # fmt: skip
        await archive.keep([letter_of(message)])
    judge = preflight.Preflight(database, REPLAYABLE, system_clock)

    async def noted() -> list[int]:
        return [row["id"] for row in await sql.fetch("SELECT id FROM dead_letters WHERE done ORDER BY id")]

    await judge.note_done()
    assert await noted() == [1]
    await judge.note_done()
    assert await noted() == [1, 3]
    await sql.execute(
        "INSERT INTO waiters (request_id, chat_id, zodiac_sign, horoscope_date, language)"
        " VALUES (gen_random_uuid(), 1, 'leo', $1, 'ru')",
        TODAY,
    )
    await judge.note_done()
    assert await noted() == [3], "a reader waits for it again"


async def test_no_more_letters_are_judged_than_the_limit(
    archive: Archive, inspector: Inspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "JUDGED_AT_MOST", 1)
    await archive.keep([letter_of(GenerateHoroscope(Sign.LEO, TODAY)), letter_of(b"no message")])
    with pytest.raises(Refused, match="more than 1 letters would have to be judged; add a condition"):
        await inspector.records.ids(Filter(verdict="done"))
    assert await inspector.records.count(Filter(verdict="ready", sign=Sign.LEO)) == 1


async def test_an_edit_is_held_against_the_actor_and_the_original_stays(
    archive: Archive, inspector: Inspector
) -> None:
    await archive.keep(
        [letter_of(b"garbage"), letter_of(GenerateHoroscope(Sign.LEO, TODAY), UnknownActor("?"))]
    )
    letter, garbage = await inspector.records.listed(Filter())
    with pytest.raises(InvalidMessage, match="sign"):
        await inspector.edits.edit(letter.id, by="me", arguments={"day": TODAY.isoformat()})
    with pytest.raises(InvalidMessage, match=r"no actor 'generation\.Nobody'"):
        await inspector.edits.edit(letter.id, by="me", actor="generation.Nobody")
    with pytest.raises(
        InvalidMessage, match=r"names no actor; name one, .* with --actor, .*GenerateDay takes day, "
    ):
        await inspector.edits.edit(garbage.id, by="me", arguments={"sun": "rises"})
    with pytest.raises(
        InvalidMessage, match=r"names no actor; .*: these arguments fit generation\.GenerateDay$"
    ):
        await inspector.edits.edit(garbage.id, by="me", arguments={"day": TODAY.isoformat()})
    await inspector.edits.edit(letter.id, by="me", arguments={"sign": "aries", "day": TODAY.isoformat()})
    edited = await inspector.edits.edit(
        letter.id, by="you", arguments={"sign": "virgo", "day": TODAY.isoformat()}
    )
    assert [(each.arguments["sign"], each.edited_by) for each in edited.edits] == [
        ("aries", "me"),
        ("virgo", "you"),
    ]
    assert edited.arguments == letter.arguments
    assert decode(edited.body)["kwargs"] == letter.arguments
    mended = await inspector.edits.edit(
        garbage.id, by="me", actor="generation.GenerateDay", arguments={"day": TODAY.isoformat()}
    )
    assert mended.body == b"garbage"
    assert {each.judgement for each in await inspector.replays.verdicts([letter.id, garbage.id])} == {"ready"}
    await inspector.edits.drop([garbage.id], by="me", why="no use")
    with pytest.raises(Refused, match="not dead any more"):
        await inspector.edits.edit(garbage.id, by="me", arguments={"day": TODAY.isoformat()})


async def test_what_is_dropped_can_be_taken_back_until_it_is_pruned(
    archive: Archive, inspector: Inspector, sql: asyncpg.Connection
) -> None:
    await archive.keep([letter_of(GenerateHoroscope(sign, TODAY)) for sign in Sign])
    letters = await inspector.records.listed(Filter())
    ids = [each.id for each in letters]
    assert await inspector.edits.drop(ids[:3], by="me", why="old") == 3
    assert await inspector.edits.drop(ids[:4], by="me", why="old") == 1
    dropped = await inspector.records.whole(ids[0])
    assert (dropped.dropped_by, dropped.dropped_why) == ("me", "old")
    assert await inspector.edits.restore(ids[:2], by="me") == 2
    await sql.execute("UPDATE dead_letters SET state_since = now() - interval '31 days'")
    await archive.prune()
    assert await inspector.records.count(Filter()) == 10, "what is dead is never pruned"
    assert await inspector.records.count(Filter(state="dropped")) == 0


async def test_what_was_dealt_with_long_ago_is_thrown_away_and_never_what_is_dead(
    archive: Archive, sql: asyncpg.Connection
) -> None:
    await archive.keep([letter_of(GenerateHoroscope(sign, TODAY)) for sign in Sign])
    ages = {
        "dead": 1000, "waiting": 1000, "dropped": 31, "did_it": 91, "nothing_to_do": 91, "died_again": 91,
    }  # fmt: skip
    for place, (state, days) in enumerate(ages.items()):
        for sign, age in zip(list(Sign)[2 * place :][:2], (days, days - 2), strict=True):
            await sql.execute(
                "UPDATE dead_letters SET state = $1, state_since = now() - make_interval(days => $2)"
                " WHERE zodiac_sign = $3",
                state,
                age,
                sign.value,
            )
    await archive.prune()
    kept = await sql.fetch("SELECT state, count(*) FROM dead_letters GROUP BY state")
    assert dict(kept) == {
        "dead": 2,
        "waiting": 2,
        "dropped": 1,
        "did_it": 1,
        "nothing_to_do": 1,
        "died_again": 1,
    }


async def test_whatever_somebody_publishes_is_kept(archive: Archive, inspector: Inspector) -> None:
    """What PostgreSQL refuses would be put back for ever, and all that lies behind it."""
    long = "".join(chr(random.Random(place).randrange(0x4E00, 0x9FFF)) for place in range(5000))
    parts = decode(encode(GenerateHoroscope(Sign.LEO, TODAY)))
    told = Death.of(ModelUnavailable("away"), "generation", MASK, replay=None)
    odd = [
        DeadLetter(orjson.dumps(parts | {"actor_name": long, "queue_name": long}), {}),
        DeadLetter(orjson.dumps(parts | {"kwargs": {long: long, "sign": long, "day": long}}), {}),
        DeadLetter(orjson.dumps(parts | {"kwargs": {"nul": "\0", "\0": 1e300}}), {}),
        DeadLetter(
            orjson.dumps(parts | {"options": {"death": {"release": long, "host": long, "cause": long}}}), {}
        ),
        DeadLetter(b"", {"cause": b"\xff", "queue": 7, "reason": long, "death": "{}", "x-death": [long]}),
        DeadLetter(b"\xff" * 10_000, {"x-death": [{"reason": long, "queue": long}]}),
        DeadLetter(
            b"{}", replace(told, release=long, host=long, cause=long, error_type=long, error=long).headers()
        ),
    ]
    await archive.keep(odd)
    assert await inspector.records.count(Filter()) == len(odd)


async def test_a_message_that_killed_its_workers_begins_anew_when_it_is_replayed(
    archive: Archive, database: Database
) -> None:
    """It keeps its id: what is on record of its workers must not count against the worker that it meets then."""
    letter = letter_of(GenerateHoroscope(Sign.LEO, TODAY), WorkerKilled("three workers"))
    identity = decode(letter.body)["message_id"]
    suspects = PoisonMessages(database)
    for _ in range(2):
        await suspects.begin("generation", [identity, "another"], alone=False)
    await archive.keep([letter])
    assert (await suspects.lost("generation", [identity, "another"])).keys() == {"another"}


async def test_what_is_larger_than_any_message_is_none(archive: Archive, inspector: Inspector) -> None:
    """JSON takes many times the memory of its text, in every worker that it is handed to."""
    body = encode(GenerateHoroscope(Sign.LEO, TODAY)).replace(b'"leo"', b"[" + b"[]," * 400_000 + b"[]]")
    with pytest.raises(InvalidEnvelope, match="bytes; expected"):
        decode(body)
    await archive.keep([DeadLetter(body, {})])
    (kept,) = await inspector.records.listed(Filter())
    assert (kept.actor, (await inspector.records.whole(kept.id)).body) == (None, body)


async def test_whoever_is_stopped_in_a_try_takes_back_only_its_own(database: Database) -> None:
    suspects = PoisonMessages(database)
    first = await suspects.begin("views", ["a"], alone=True)
    second = await suspects.begin("views", ["a"], alone=True)
    await suspects.withdraw("views", ["a"], first)
    assert await suspects.lost("views", ["a"]) == {"a": [second]}
    await suspects.withdraw("views", ["a"], second)
    assert await suspects.lost("views", ["a"]) == {}
