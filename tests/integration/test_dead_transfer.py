"""Taking dead letters out as a file and bringing them in elsewhere."""

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from click.testing import CliRunner, Result

from ops.cli import main
from schema.errors import ReaderGone, Refused
from schema.messages import GenerateHoroscope
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.dead_letters.filters import Filter
from services.dead_letters.records import Letter
from services.dead_letters.transfer import Transfer
from services.process.logs import Mask
from tests.dead_letters import MASK, SECRET, TODAY, inspector_on, letter_of

LEO = GenerateHoroscope(Sign.LEO, TODAY)
GARBAGE = bytes(range(256))
NOTHING = Mask([])
#: What a letter is called here, and when it came here.
OF_THIS_PLACE = ("id", "archived_at", "imported_at", "state_since", "history", "parent")


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
    brought = await there.import_(lines)
    assert (brought.new, brought.known) == (4, 0)
    again = await export(there)
    assert [same_everywhere(line) for line in again] == [same_everywhere(line) for line in lines]
    before, after = await letters_on(database), await letters_on(elsewhere)
    assert [letter.body for letter in after] == [letter.body for letter in before]
    assert after[1].body == GARBAGE, "byte for byte"
    assert [letter.state for letter in after] == ["dead", "dropped", "dead", "dead"]
    assert (after[1].dropped_by, after[1].dropped_why) == ("Anna", "noise")
    assert [edit.edited_by for edit in after[0].edits] == ["Anna", "Boris"]
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
    brought = await Transfer(elsewhere, NOTHING).import_(lines * 3)
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
    odd = broken(line, error="a\0b", arguments={"a\0": [1e300, 10**30, "\0"]}, attempts=[{"error": "\0"}])
    await Transfer(elsewhere, NOTHING).import_([odd])
    (letter,) = await letters_on(elsewhere)
    assert letter.error == "a\ufffdb"
    assert letter.arguments == {"a\ufffd": [10**300, 10**30, "\ufffd"]}


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
