"""Taking dead letters out as a file and bringing them in elsewhere."""

import asyncio
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from click.testing import CliRunner, Result

from ops.cli import main
from schema.errors import ReaderGone, Refused
from schema.messages import DeadLetter, GenerateHoroscope, HoroscopeRequested
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters import transfer as transfers
from services.dead_letters.archive import Archive
from services.dead_letters.death import Death
from services.dead_letters.filters import Filter
from services.dead_letters.records import Letter
from services.dead_letters.transfer import Transfer
from services.messaging.envelope import decode, encode
from services.process.logs import Mask
from tests.dead_letters import MASK, SECRET, TODAY, inspector_on, letter_of

LEO = GenerateHoroscope(Sign.LEO, TODAY)
GARBAGE = bytes(range(256))
NOTHING = Mask([])
#: What a letter is called here, and when it came here.
#: The digest of a letter that held a secret is that of what is left of it.
OF_THIS_PLACE = ("id", "archived_at", "imported_at", "state_since", "history", "parent", "digest")


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database, MASK)


@pytest.fixture
def transfer(database: Database) -> Transfer:
    return Transfer(database, NOTHING)


@pytest.fixture
async def elsewhere(other_database_url: str) -> AsyncIterator[Database]:
    """Another deployment's database."""
    async with Database(other_database_url) as database:
        yield database


async def export(transfer: Transfer, wanted: Filter = Filter(state=None)) -> list[bytes]:  # noqa: B008
    return [line async for line in transfer.export(wanted)]


async def letters_on(database: Database) -> list[Letter]:
    inspector = inspector_on(database)
    return [
        await inspector.records.whole(number) for number in await inspector.records.ids(Filter(state=None))
    ]


def same_everywhere(line: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(line)
    return {name: value for name, value in told.items() if name not in OF_THIS_PLACE}


async def test_letters_go_out_and_come_in_with_everything(
    archive: Archive, transfer: Transfer, database: Database, elsewhere: Database
) -> None:
    text = "«ok» \0 but no message".encode()
    for letter in (
        letter_of(LEO, attempts=4),
        letter_of(GARBAGE),
        letter_of(text),
        letter_of(SECRET.encode()),
    ):
        await archive.keep([letter])
    inspector = inspector_on(database)
    leo, garbage, *_ = await inspector.records.ids(Filter())
    await inspector.edits.edit(leo, by="Anna", arguments={"sign": "virgo", "day": TODAY.isoformat()})
    await inspector.edits.edit(leo, by="Boris", arguments={"sign": "libra", "day": TODAY.isoformat()})
    await inspector.edits.drop([garbage], by="Anna", why="noise")
    lines = await export(transfer)
    there = Transfer(elsewhere, NOTHING)
    brought = await there.import_(lines, adopted_by="Vera")
    assert (brought.new, brought.known) == (4, 0)
    again = await export(there)
    adopted = [
        line.replace(b'"Anna"', b'"Vera, from a file that says Anna"').replace(
            b'"Boris"', b'"Vera, from a file that says Boris"'
        )
        for line in lines
    ]
    assert [same_everywhere(line) for line in again] == [same_everywhere(line) for line in adopted]
    before, after = await letters_on(database), await letters_on(elsewhere)
    assert [letter.body for letter in after] == [letter.body for letter in before]
    assert after[1].body == GARBAGE, "byte for byte"
    assert [letter.state for letter in after] == ["dead", "dropped", "dead", "dead"]
    says = "Vera, from a file that says"
    assert (after[1].dropped_by, after[1].dropped_why) == (f"{says} Anna", "noise")
    assert [edit.edited_by for edit in after[0].edits] == [f"{says} Anna", f"{says} Boris"]
    assert [letter.masked for letter in after] == [False, False, False, True]
    assert [letter.group for letter in after] == [letter.group for letter in before]
    assert all(letter.imported_at for letter in after)
    (verdict,) = await inspector_on(elsewhere).replays.verdicts([after[0].id])
    assert (verdict.judgement, verdict.edit is not None) == ("ready", True)


async def test_what_comes_again_is_known_and_stays_as_it_is(
    archive: Archive, transfer: Transfer, database: Database
) -> None:
    await archive.keep([letter_of(LEO)])
    lines = await export(transfer)
    await inspector_on(database).edits.drop([1], by="Anna", why="noise")
    brought = await transfer.import_([*lines, b"\n", *lines])
    assert (brought.new, brought.known) == (0, 2)
    (letter,) = await letters_on(database)
    assert (letter.state, letter.imported_at) == ("dropped", None)


async def test_known_letters_take_no_numbers(
    archive: Archive, transfer: Transfer, database: Database
) -> None:
    await archive.keep([letter_of(LEO), letter_of(GARBAGE)])
    for _ in range(3):
        await transfer.import_(await export(transfer))
    again = letter_of(GARBAGE)
    await archive.keep([again])
    await archive.keep([again])
    await archive.keep([letter_of(GenerateHoroscope(Sign.ARIES, TODAY))])
    assert [letter.id for letter in await letters_on(database)] == [1, 2, 3, 4]


async def test_a_file_of_an_older_release_is_imported(
    archive: Archive, transfer: Transfer, elsewhere: Database
) -> None:
    await archive.keep([letter_of(LEO)])
    (line,) = await export(transfer)
    older = line.replace(b'"state": "dead"', b'"state": "succeeded"')
    assert older != line
    assert (await Transfer(elsewhere, NOTHING).import_([older])).new == 1
    assert [letter.state for letter in await letters_on(elsewhere)] == ["dead"]


async def test_a_letter_twice_in_a_file_is_brought_in_once(
    archive: Archive, transfer: Transfer, database: Database, elsewhere: Database
) -> None:
    await archive.keep([letter_of(LEO)])
    await inspector_on(database).edits.edit(
        1, by="Anna", arguments={"sign": "virgo", "day": TODAY.isoformat()}
    )
    lines = await export(transfer)
    brought = await Transfer(elsewhere, NOTHING).import_(lines * 3, adopted_by="Vera")
    assert (brought.new, brought.known) == (1, 2)
    (letter,) = await letters_on(elsewhere)
    assert len(letter.edits) == 1


async def test_the_history_goes_out_and_what_was_settled_there_is_dead_here(
    archive: Archive, transfer: Transfer, database: Database, elsewhere: Database, sql: asyncpg.Connection
) -> None:
    await archive.keep([letter_of(LEO)])
    inspector = inspector_on(database)
    await inspector.replays.start(await inspector.replays.verdicts([1]), what="x", by="Anna", why="mended")
    replay = await sql.fetchval("UPDATE replays SET state = 'published', published_at = now() RETURNING id")
    await sql.execute("UPDATE dead_letters SET state = 'waiting'")
    await archive.keep([letter_of(LEO, replay=replay)])
    first, second = map(json.loads, lines := await export(transfer))
    (history,) = first["history"]
    assert (history["state"], history["asked_by"], history["why"]) == ("died_again", "Anna", "mended")
    assert (history["died_as"], second["parent"], second["replays"]) == (second["id"], first["id"], 1)
    await Transfer(elsewhere, NOTHING).import_(lines)
    after = await letters_on(elsewhere)
    assert [(letter.state, letter.replays, letter.parent) for letter in after] == [
        ("dead", 0, None),
        ("dead", 1, None),
    ]


async def test_secrets_of_either_place_stay_there(
    archive: Archive, database: Database, elsewhere: Database
) -> None:
    for letter in (
        letter_of(LEO, ReaderGone("word-of-here, word-of-there")),
        letter_of(b"word-of-here, word-of-there"),
    ):
        await archive.keep([letter])
    lines = await export(Transfer(database, Mask(["word-of-here"])))
    assert b"word-of-here" not in b"".join(lines)
    await Transfer(elsewhere, Mask(["word-of-there"])).import_(lines)
    leo, garbage = await letters_on(elsewhere)
    assert leo.error == "ReaderGone: ***, ***"
    assert (garbage.body, garbage.masked, leo.masked) == (b"***, ***", True, False)


def broken(line: bytes, **changes: Any) -> bytes:
    told = json.loads(line)
    return json.dumps({name: value for name, value in (told | changes).items() if value is not ...}).encode()


SPOILT: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda line: b"{", "Invalid JSON"),
    (lambda line: b"[]", "Input should be an object"),
    (lambda line: b"\xff\xfe", "Invalid JSON"),
    (lambda line: broken(line, death="x"), "death: "),
    (lambda line: broken(line, death=...), "death: Field required"),
    (lambda line: broken(line, state="gone"), "state: Input should be 'dead'"),
    (lambda line: broken(line, digest="00"), "digest: "),
    (lambda line: broken(line, fingerprint="x" * 16), "fingerprint: "),
    (lambda line: broken(line, died_at="yesterday"), "died_at: "),
    (
        lambda line: broken(line, died_at="9999-12-31T23:59:59-14:00"),
        "died_at: Value error, UTC has no such time",
    ),
    (lambda line: broken(line, published_at="0001-01-01T00:00:00+14:00"), "published_at: Value error"),
    (lambda line: broken(line, replays=-1), "replays: "),
    (lambda line: broken(line, cause="x" * 31), "cause: "),
    (lambda line: broken(line, body=...), "expected either body or body_base64"),
    (lambda line: broken(line, body_base64="AA=="), "expected either body or body_base64"),
    (lambda line: broken(line, body=..., body_base64="~"), "body_base64: "),
    (lambda line: broken(line, edits=[{"actor": "x"}]), "edits.0.arguments: "),
    (lambda line: broken(line, surprise=1), "surprise: "),
    (lambda line: line.replace(b"leo", b"\\ud800"), "Invalid JSON"),
]


async def test_a_line_that_is_no_letter_is_named_and_nothing_is_brought_in(
    archive: Archive, transfer: Transfer, elsewhere: Database
) -> None:
    await archive.keep([letter_of(LEO)])
    (line,) = await export(transfer)
    for spoil, fault in SPOILT:
        with pytest.raises(Refused, match="nothing was imported") as refused:
            await Transfer(elsewhere, NOTHING).import_([line, b"\n", spoil(line)])
        assert f"line 3: {fault}" in str(refused.value)
        assert await letters_on(elsewhere) == []


async def test_of_many_faults_the_first_are_named(transfer: Transfer) -> None:
    with pytest.raises(Refused) as refused:
        await transfer.import_([b"{\n"] * 500)
    _, *named, last = str(refused.value).splitlines()
    assert [each.partition(":")[0] for each in named] == [f"line {number}" for number in range(1, 11)]
    assert last == "and 490 more"


async def test_text_that_postgresql_cannot_hold_is_brought_in_all_the_same(
    archive: Archive, transfer: Transfer, elsewhere: Database
) -> None:
    await archive.keep([letter_of(LEO)])
    (line,) = await export(transfer)
    asked = {"a\0": [1e300, 10**18, "\0"]}
    body = orjson.dumps(orjson.loads(json.loads(line)["body"]) | {"kwargs": asked}).decode()
    told = {"arguments": asked, "body": body, "zodiac_sign": None, "day": None}
    odd = broken(line, error="a\0b", attempts=[{"error": "\0"}], **told)
    await Transfer(elsewhere, NOTHING).import_([odd])
    (letter,) = await letters_on(elsewhere)
    assert letter.error == "a\ufffdb"
    assert letter.arguments == asked, "they are those of the body"
    (kept,) = await inspector_on(elsewhere).records.listed(Filter(text="\ufffd"))
    assert kept.id == letter.id


async def test_thousands_need_no_more_memory_than_a_few(
    archive: Archive, transfer: Transfer, elsewhere: Database, tmp_path: Path
) -> None:
    fat = "x" * 3_000
    for _ in range(4):
        await archive.keep([letter_of(f"{uuid4()}{fat}".encode()) for _ in range(500)])
    path = tmp_path / "letters.jsonl"
    tracemalloc.start()
    try:
        with path.open("wb") as file:
            async for line in transfer.export(Filter()):
                file.write(line)
        with path.open("rb") as file:
            brought = await Transfer(elsewhere, NOTHING).import_(file)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert brought.new == 2000
    size = path.stat().st_size
    assert size > 6_000_000
    assert most < size / 2
    lines = path.read_bytes().splitlines()
    again = await export(Transfer(elsewhere, NOTHING))
    assert [same_everywhere(line) for line in again] == [same_everywhere(line) for line in lines]


async def test_the_commands_carry_letters_from_one_deployment_to_another(
    archive: Archive, database_url: str, elsewhere: Database, other_database_url: str, tmp_path: Path
) -> None:
    async def horoscope(url: str, *command: Any, code: int = 0, **about: Any) -> Result:
        result = await asyncio.to_thread(
            CliRunner().invoke, main, ["dead", *map(str, command)], env={"DATABASE_URL": url}, **about
        )
        assert result.exit_code == code, result.output
        return result

    for letter in (letter_of(LEO), letter_of(GARBAGE)):
        await archive.keep([letter])
    file = tmp_path / "letters.jsonl"
    assert "Exported 2 dead letters." in (await horoscope(database_url, "export", "--output", file)).stderr
    piped = await horoscope(database_url, "export", 2)
    assert piped.stdout_bytes == file.read_bytes().splitlines(keepends=True)[1]
    imported = await horoscope(other_database_url, "import", "-", input=piped.stdout_bytes)
    assert "Imported 1 dead letter; 0 were here already.\n" in imported.stdout
    told = await horoscope(other_database_url, "import", file, "--json")
    assert json.loads(told.stdout) == {"new": 1, "known": 1}
    file.write_bytes(b"nonsense\n")
    refused = await horoscope(other_database_url, "import", file, code=1)
    assert "line 1: Invalid JSON" in refused.stderr
    assert (await horoscope(database_url, "export", "--sign", "virgo")).stdout_bytes == b""


# What you see is what is replayed


VIEW = HoroscopeRequested(uuid4(), Sign.LEO, TODAY, answered=True, at=datetime.now(UTC))
#: Each shows something else than what the body asks for.
LIES: list[tuple[dict[str, Any], str]] = [
    ({"actor": "views.HoroscopeRequested"}, 'actor: the line says "views.HoroscopeRequested", its body says'),
    ({"queue": "views"}, 'queue: the line says "views", its body says "generation"'),
    ({"message_id": "another"}, 'message_id: the line says "another"'),
    ({"arguments": {"sign": "virgo", "day": TODAY.isoformat()}}, "arguments: the line says"),
    ({"arguments": {}}, "arguments: the line says {}"),
    ({"arguments": None}, "arguments: the line says null"),
    ({"zodiac_sign": "virgo"}, 'zodiac_sign: the line says "virgo", its body says "leo"'),
    ({"day": "2020-01-01"}, 'day: the line says "2020-01-01"'),
    ({"published_at": "2020-01-01T00:00:00+00:00"}, "published_at: the line says"),
    ({"body": "{}"}, "message_id: the line says"),
    ({"body": encode(VIEW).decode()}, "message_id: the line says"),
    ({"body": '{"queue_name":"views","actor_name":"views.HoroscopeRequested","args":[],"kwargs":{},"options":{}}'},
     "body: its message has no id or no time"),
    ({"edits": [{"actor": "generation.GenerateDay", "arguments": {"day": TODAY.isoformat()}, "edited_by": "page, Anna",
                 "edited_at": "2026-01-01T00:00:00+00:00"}]},
     "edits.0.edited_by: nobody can check that 'page, Anna' edited it; with --adopt"),
    ({"state": "dropped", "dropped_by": "Anna", "dropped_why": "x"}, "dropped_by: nobody can check that 'Anna' dropped it"),
]  # fmt: skip
#: Each is longer than anything that this service writes.
OVERSIZE: list[tuple[dict[str, Any], str]] = [
    ({"error": "x" * 2_001}, "error: String should have at most 2000 characters"),
    ({"error": "ж" * 1_000_000}, "it is longer than 1048576 bytes"),
    ({"traceback": "x" * 8_001}, "traceback: "),
    ({"error_type": "x" * 201}, "error_type: "),
    ({"host": "x" * 256}, "host: "),
    ({"release": "x" * 201}, "release: "),
    ({"queue": "x" * 256}, "queue: "),
    ({"attempts": [{"error": "x"}] * 51}, "attempts: List should have at most 50 items"),
    ({"attempts": [{"error": "x" * 2_001}]}, "attempts.0.error"),
    ({"attempts": [{"error": [[[]]]}]}, "attempts.0.error"),
    ({"attempts": [{str(n): n for n in range(10_001)}]}, "it has more than 10000 parts"),
    ({"edits": [{"actor": "x", "arguments": {"x": "y" * 20_000}, "edited_by": "x", "edited_at": "2026-01-01T00:00:00Z"}]},
     "edits.0.arguments: Value error, expected at most 16384 characters of JSON"),
    ({"body": "x" * 65_537}, "body: it has 65537 bytes; expected 65536 at the most"),
]  # fmt: skip


@pytest.mark.parametrize("changes", [*LIES, *OVERSIZE], ids=lambda each: each[1][:30])
async def test_a_letter_that_lies_or_is_too_long_is_refused_by_its_line(
    archive: Archive, transfer: Transfer, elsewhere: Database, changes: tuple[dict[str, Any], str]
) -> None:
    await archive.keep([letter_of(LEO)])
    (line,) = await export(transfer)
    changed, fault = changes
    there = Transfer(elsewhere, NOTHING)
    with pytest.raises(Refused) as refused:
        await there.import_([line, broken(line, death=str(uuid4()), **changed)])
    assert str(refused.value).startswith(f"nothing was imported:\nline 2: {fault}")
    assert len(str(refused.value)) < 500
    assert await letters_on(elsewhere) == [], "nothing is half imported"


async def test_what_a_file_decides_is_taken_over_under_the_name_of_whoever_imports_it(
    archive: Archive, transfer: Transfer, database: Database, elsewhere: Database
) -> None:
    await archive.keep([letter_of(LEO)])
    await archive.keep([letter_of(GARBAGE)])
    virgo = {"sign": "virgo", "day": TODAY.isoformat()}
    await inspector_on(database).edits.edit(1, by="Anna", arguments=virgo)
    await inspector_on(database).edits.drop([2], by="Boris", why="noise")
    lines = await export(transfer)
    await Transfer(elsewhere, NOTHING).import_(lines, adopted_by="Vera")
    edited, dropped = await letters_on(elsewhere)
    assert edited.edit
    assert edited.edit.edited_by == "Vera, from a file that says Anna"
    assert (dropped.state, dropped.dropped_by) == ("dropped", "Vera, from a file that says Boris")


async def test_a_letter_of_an_older_release_shows_what_its_replay_publishes(
    archive: Archive, transfer: Transfer, database: Database, sql: asyncpg.Connection
) -> None:
    """It may have been imported before anything was compared."""
    await archive.keep([letter_of(LEO)])
    await sql.execute(
        "UPDATE dead_letters SET actor = 'views.HoroscopeRequested', queue = 'views', message_id = 'another', "
        "arguments = '{\"sign\": \"virgo\"}', zodiac_sign = 'virgo', error = repeat('x', 30000000), "
        "attempts = to_jsonb(ARRAY[repeat('y', 30000000)]), traceback = repeat('z', 30000000)"
    )
    records = inspector_on(database).records
    letter = await records.whole(1)
    (listed,) = await records.listed(Filter())
    (group,) = await records.groups(Filter())
    told = json.loads((await export(transfer))[0])
    for each in (letter, listed, group):
        assert (each.actor, each.queue) == ("generation.GenerateHoroscope", "generation")
        assert len(each.error) == 2_000
    for message in (letter, listed):
        assert message.arguments == {"sign": "leo", "day": TODAY.isoformat()}
        assert message.message_id == decode(letter.body)["message_id"]
    assert (len(letter.trace or ""), letter.tries) == (8_000, [])
    assert (told["actor"], told["arguments"], told["zodiac_sign"]) == (letter.actor, letter.arguments, "leo")


async def test_a_file_with_too_many_letters_is_refused(
    archive: Archive, transfer: Transfer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "LETTERS", 3)
    await archive.keep([letter_of(LEO)])
    (line,) = await export(transfer)
    with pytest.raises(Refused, match="line 4: the file has more than 3 letters"):
        await transfer.import_([line] * 5)


async def test_what_any_message_leaves_behind_can_be_exported_and_imported(
    archive: Archive, transfer: Transfer, elsewhere: Database
) -> None:
    """Anybody can publish a message with anything in its options."""
    parts = decode(encode(LEO)) | {
        "options": {
            "attempts": [{"at": "never", "error": "ж" * 3_000, "host": ["x"], "more": 1}] * 60,
            "traceback": "x" * 50_000, "pipe_target": {"actor_name": "x"},
        }
    }  # fmt: skip
    await archive.keep(
        [
            DeadLetter(
                orjson.dumps(parts), Death.of(ReaderGone("x" * 9_000), "q" * 500, str, replay=None).headers()
            )
        ]
    )
    lines = await export(transfer)
    assert (await Transfer(elsewhere, NOTHING).import_(lines)).new == 1
    (letter,) = await letters_on(elsewhere)
    assert len(letter.tries) == 50
    assert letter.tries[0] | {"error": ""} == {"at": "never", "error": "", "host": '["x"]'}


HOSTILE = [
    b'{"death": "' + b"x" * 40_000_000 + b'"}',
    b'{"error": "' + b"\\u0416" * 5_000_000 + b'"}',
    b'{"history": [' + b"[]," * 349_000 + b"[]]}",
    b'{"history": [' + b'{"a":0},' * 130_000 + b"{}]}",
    b'{"arguments": ' + b"[" * 900_000,
    b'{"arguments": {"a": [' + b"1.5," * 250_000 + b"1]}}",
    b'{"attempts": [' + b'{"a":[]},' * 110_000 + b"{}]}",
    b"\x00" * 3_000_000,
]


async def test_the_import_of_a_hostile_file_takes_no_more_memory_than_any_process_may(
    archive: Archive, transfer: Transfer, database_url: str, tmp_path: Path
) -> None:
    await archive.keep([letter_of(LEO)])
    (line,) = await export(transfer)
    deep = broken(line, death=str(uuid4()), body='{"kwargs":' + "[" * 60_000, arguments=None)
    path = tmp_path / "letters.jsonl"
    path.write_bytes(b"\n".join([line.rstrip(), *HOSTILE, deep]) + b"\n")
    code, said, peak = await asyncio.to_thread(_imported, database_url, path)
    assert code == 1
    assert [each.partition(":")[0] for each in said.splitlines()[1:]] == [f"line {n}" for n in range(2, 11)]
    assert peak < 150 << 20, f"{peak >> 20} MiB"


async def test_large_letters_are_listed_judged_and_exported_in_little_memory(
    archive: Archive, sql: asyncpg.Connection, database_url: str, tmp_path: Path
) -> None:
    """Parsed JSON takes thirty times the memory of its text; that of all these letters takes more than there is."""
    nested = json.loads("[" + "[]," * 60_000 + "[]]")
    parts = decode(encode(LEO)) | {"kwargs": {"sign": "leo", "x": nested, "y": "z" * 10_000}}
    headers = Death.of(ReaderGone("gone"), "generation", str, replay=None).headers()
    await archive.keep([DeadLetter(orjson.dumps(parts), headers)])
    columns = ", ".join(await sql.fetchval(
        "SELECT array_agg(column_name::text) FROM information_schema.columns "
        "WHERE table_name = 'dead_letters' AND column_name NOT IN ('id', 'death')"
    ))  # fmt: skip
    await sql.execute(
        f"INSERT INTO dead_letters (death, {columns}) "
        f"SELECT gen_random_uuid(), {columns} FROM dead_letters, generate_series(2, 26)"
    )
    out = tmp_path / "out"
    for command in ("list --json", "list --verdict unfit", f"export --output {out}"):
        code, said, peak = await asyncio.to_thread(_ran, database_url, ["dead", *command.split()])
        assert code == 0, said
        assert peak < 150 << 20, f"{command}: {peak >> 20} MiB"
    assert len(out.read_bytes().splitlines()) == 26


def _imported(url: str, path: Path) -> tuple[int, str, int]:
    return _ran(url, ["dead", "import", str(path)])


#: The most memory of a process counts what its parent had before it began, so a small parent asks for it.
_MEASURE = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
print(json.dumps([done.returncode, done.stdout, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]))
"""


def _ran(url: str, command: list[str]) -> tuple[int, str, int]:
    """A command in a process of its own: its exit code, what it said, and the most memory that it took, in bytes."""
    measured = subprocess.run(
        [sys.executable, "-c", _MEASURE, Path(sys.executable).with_name("horoscope"), *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "DATABASE_URL": url},
        capture_output=True,
        check=True,
    )
    code, said, peak = json.loads(measured.stdout)
    return code, said, peak
