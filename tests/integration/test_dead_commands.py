"""``horoscope dead``, each command with good and bad input, on PostgreSQL alone."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result

import services.dead_letters.replays
from ops.cli import console, main, replays
from schema.errors import ReaderGone
from schema.messages import DEAD_LETTERS, DeadLetter, DeliverHoroscope, GenerateHoroscope
from schema.signs import Sign
from services.database.pool import Database
from services.dead_letters.archive import Archive
from services.dead_letters.filters import Filter
from services.dead_letters.inspector import Inspector
from services.messaging.envelope import encode
from tests.conftest import MODEL_KEY
from tests.dead_letters import MASK, TODAY, inspector_on, letter_of

Dead = Callable[..., Awaitable[Result]]
LEO, VIRGO, LIBRA = (GenerateHoroscope(sign, TODAY) for sign in (Sign.LEO, Sign.VIRGO, Sign.LIBRA))
GARBAGE = b"\xff\x00 no message \x1b[31m"


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database, MASK)


@pytest.fixture
def inspector(database: Database) -> Inspector:
    return inspector_on(database)


@pytest.fixture
def settings_of_commands(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.delenv("COLUMNS", raising=False)
    return {"DATABASE_URL": database_url, "OPENAI_API_KEY": MODEL_KEY}


@pytest.fixture
def dead(settings_of_commands: dict[str, str]) -> Dead:
    """``horoscope dead …``, in a thread since it has an event loop of its own."""

    async def run(*command: Any, code: int = 0, **about: Any) -> Result:
        arguments = ["dead", *map(str, command)]
        given: dict[str, Any] = {"env": settings_of_commands, "catch_exceptions": False} | about
        result = await asyncio.to_thread(CliRunner().invoke, main, arguments, **given)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
async def letters(archive: Archive, inspector: Inspector) -> list[int]:
    """Three letters: two of one kind, one that is no message."""
    for letter in (letter_of(LEO, attempts=4), letter_of(VIRGO), letter_of(GARBAGE)):
        await archive.keep([letter])
    return await inspector.records.ids(Filter())


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda: True)


async def told(dead: Dead, *command: Any, **about: Any) -> Any:
    """What a command tells scripts."""
    return json.loads((await dead(*command, "--json", **about)).stdout)


async def test_letters_are_listed_latest_first_a_page_at_a_time(dead: Dead, letters: list[int]) -> None:
    first = await dead("list", "--limit", 2)
    assert re.findall(r"^(\d+)  ", first.stdout, re.MULTILINE) == [str(letters[2]), str(letters[1])]
    assert "2 of 3 dead letters (state dead)" in first.stdout
    assert f"--before {letters[1]}" in first.stdout
    second = await dead("list", "--limit", 2, "--before", letters[1])
    assert re.findall(r"^(\d+)  ", second.stdout, re.MULTILINE) == [str(letters[0])]
    assert "GenerateHoroscope leo" in second.stdout
    assert "--before" not in second.stdout


async def test_scripts_get_whole_letters(dead: Dead, letters: list[int]) -> None:
    listed = await told(dead, "list")
    assert (listed["total"], [each["id"] for each in listed["letters"]]) == (3, letters[::-1])
    leo = listed["letters"][-1]
    assert leo["arguments"] == {"sign": "leo", "day": TODAY.isoformat()}
    assert leo["attempts"] == 4
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*[+]00:00", leo["died_at"])


FILTERS: list[tuple[list[str], list[str | None]]] = [
    (["--sign", "LEO"], ["leo"]),
    (["--day", TODAY.isoformat(), "--error", "ModelUnavailable"], ["leo", "virgo"]),
    (["--actor", "generation.GenerateHoroscope", "--text", "VIRGO"], ["virgo"]),
    (["--queue", "views"], [None]),
    (["--cause", "ladder-exhausted"], ["leo", "virgo"]),
    (["--cause", "undecodable"], [None]),
    (["--since", "1h"], ["leo", "virgo", None]),
    (["--until", "1h"], []),
    (["--until", "2020-01-01"], []),
    (["--since", "2020-01-01T06:30"], ["leo", "virgo", None]),
    (["--state", "dropped"], []),
    (["--state", "any"], ["leo", "virgo", None]),
    (["--run", "7"], []),
    (["--verdict", "unfit"], [None]),
    (["--verdict", "ready", "--sign", "leo"], ["leo"]),
    (["--verdict", "done"], []),
]


async def test_filters_narrow_a_list_down(dead: Dead, letters: list[int]) -> None:
    for asked, found in FILTERS:
        listed = await told(dead, "list", *asked)
        signs = [(each["arguments"] or {}).get("sign") for each in listed["letters"]]
        assert (signs[::-1], listed["total"]) == (found, len(found)), asked


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["list", "--since", "tomorrow"], "'tomorrow' is not a date or time such as 2026-11-22"),
        (["list", "--since", "999999w"], "'999999w' is not a date or time"),
        (["list", "--day", "2026-02-30"], "'2026-02-30' is not a day such as 2026-11-22"),
        (["list", "--sign", "ophiuchus"], "'ophiuchus' is not one of aries, taurus"),
        (["list", "--state", "gone"], "'gone' is not one of dead, waiting"),
        (["list", "--text", "\udcff"], "'\\udcff' is not text in UTF-8"),
        (["list", "--limit", "0"], "0 is not in the range"),
        (["show", "99999999999999999999"], "not in the range"),
        (["replay"], "which letters? Give numbers, a filter such as --group, or --all"),
        (["replay", "--state", "dead"], "which letters?"),
        (["replay", "1"], "Missing option '--why': give the reason"),
        (["replay", "1", "--why", " "], "it is empty; give the reason in a few words"),
        (["replay", "--all", "--sign", "leo"], "--all goes without numbers, filters and --plan"),
        (["replay", "1", "--save-plan", "x"], "--save-plan goes with --dry-run"),
        (["replay", "1", "--timeout", "5"], "--timeout goes with --wait"),
        (["replay", "1", "--rate", "0"], "not in the range"),
        (["replay", "--plan", "missing.json"], "No such file"),
        (["run", "1", "--timeout", "5"], "--timeout goes with --wait"),
        (["drop", "1"], "Missing option '--why'"),
        (["drop", "--why", "old"], "which letters?"),
        (["restore"], "Missing argument"),
        (["edit", "1"], "there is no terminal to edit on"),
        (["edit", "1", "--set", "sign"], "'sign' is not NAME=VALUE"),
        (["edit", "1", "--arguments", "{"], "it is not JSON"),
        (["edit", "1", "--actor", "x"], "'x' is not one of delivery.DeliverHoroscope"),
        (["edit", "1", "--arguments", "[1]"], "[1] is not a JSON object"),
        (["import", "missing.jsonl"], "No such file"),
    ],
)
def test_wrong_usage_is_told_in_plain_words(command: list[str], said: str) -> None:
    result = CliRunner().invoke(main, ["dead", *command], catch_exceptions=False)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


NOT_THERE = [
    (["show", "7"], "there is no dead letter 7"),
    (["edit", "7", "--set", "sign=leo"], "there is no dead letter 7"),
    (["replay", "7", "8", "--yes", "--why", "x"], "there is no dead letter 7, 8"),
    (
        ["replay", "--sign", "leo", "--yes", "--why", "x"],
        "no dead letter meets these conditions: state dead, sign leo",
    ),
    (["drop", "7", "--why", "old", "--yes"], "there is no dead letter 7"),
    (["restore", "7"], "there is no dead letter 7"),
    (["run", "7"], "there is no run 7"),
    (["run", "7", "--wait"], "there is no run 7"),
    (["cancel", "7"], "there is no run 7"),
    (["resume", "7"], "there is no run 7"),
    (["note", "0123456789abcdef", "hm"], "there is no group 0123456789abcdef"),
    (["export", "7"], "there is no dead letter 7"),
    (["debug", "7"], "there is no dead letter 7"),
]


async def test_what_is_not_there_is_refused(dead: Dead) -> None:
    for command, said in NOT_THERE:
        assert said in (await dead(*command, code=1)).stderr


async def test_a_database_that_is_away_and_a_setting_that_is_wrong_have_codes_of_their_own(
    dead: Dead, free_port: int
) -> None:
    away = {"DATABASE_URL": f"postgresql://u:secret-word@127.0.0.1:{free_port}/x"}
    result = await dead("list", code=69, env=away)
    assert "PostgreSQL cannot be reached" in result.stderr
    assert "secret-word" not in result.output
    assert "DATABASE_URL" in (await dead("list", code=78, env={})).stderr


async def test_groups_tell_kinds_of_failures_apart(dead: Dead, letters: list[int]) -> None:
    kinds = (await told(dead, "groups"))["groups"]
    assert [(each["dead"], each["letters"], each["cause"]) for each in kinds] == [
        (2, 2, "ladder exhausted"),
        (1, 1, "undecodable"),
    ]
    group = kinds[0]["fingerprint"]
    await dead("note", group, "the key ran out", "--by", "Anna")
    said = (await dead("groups")).stdout
    assert group in said
    assert "2 dead of 2" in said
    assert "the key ran out" in said
    assert "2 kinds of failures, 3 dead letters" in said
    assert "1 of 1 dead letter (" in (await dead("list", "--group", kinds[1]["fingerprint"])).stdout
    await dead("note", group, "")
    assert "the key ran out" not in (await dead("groups")).stdout


async def test_groups_without_dead_letters_are_listed_when_asked_for(dead: Dead, letters: list[int]) -> None:
    await dead("drop", letters[2], "--why", "noise", "--yes")
    assert [each["dead"] for each in (await told(dead, "groups"))["groups"]] == [2]
    everything = (await told(dead, "groups", "--state", "any"))["groups"]
    assert [(each["dead"], each["letters"]) for each in everything] == [(2, 2), (0, 1)]


async def test_show_tells_everything_and_what_to_do_next(dead: Dead, letters: list[int]) -> None:
    await dead("edit", letters[0], "--set", "sign=aries", "--by", "Anna")
    said = (await dead("show", letters[0])).stdout
    for part in (
        f"Dead letter {letters[0]}: dead since", "GenerateHoroscope leo", "ladder exhausted", "the last one",
        "ModelUnavailable: the model is away", "by Anna", '- sign: "leo"', '+ sign: "aries"', "ready",
        f"horoscope dead replay {letters[0]}",
    ):  # fmt: skip
        assert part in said
    assert said.count("the model is away") == 5, "four attempts, and the error"
    whole = await told(dead, "show", letters[0])
    assert whole["verdict"]["judgement"] == "ready"
    assert len(whole["tries"]) == 4
    assert json.loads(whole["body"])["kwargs"]["sign"] == "leo"
    assert whole["edits"][0]["arguments"]["sign"] == "aries"


async def test_bytes_that_are_no_message_are_shown_without_moving_the_cursor(
    dead: Dead, archive: Archive, letters: list[int]
) -> None:
    whole = await told(dead, "show", letters[2])
    assert "body" not in whole
    assert whole["body_base64"] == "/wAgbm8gbWVzc2FnZSAbWzMxbQ=="
    assert "no message" in (await dead("show", letters[2])).stdout
    await archive.keep([letter_of(LEO, ReaderGone("\x1b[2J gone [red]"))])
    said = (await dead("list")).stdout
    assert "\x1b" not in said
    assert "\\x1b[2J gone [red]" in said


async def test_secrets_of_the_settings_are_never_printed(dead: Dead, archive: Archive) -> None:
    await archive.keep([letter_of(LEO, ReaderGone(f"the key {MODEL_KEY} is wrong"))])
    for command in (["list"], ["list", "--json"], ["show", "1"], ["groups"], ["export"]):
        said = (await dead(*command)).output
        assert MODEL_KEY not in said
        assert "the key ***" in said


async def test_an_edit_is_checked_and_its_difference_printed(dead: Dead, letters: list[int]) -> None:
    refused = await dead("edit", letters[0], "--set", "sign=5", "--set", "odd=1", "--unset", "day", code=1)
    for fault in ("sign: Input should be", "odd: Unexpected", "day: Field required"):
        assert fault in refused.stderr
    edited = await dead("edit", letters[0], "--set", "sign=virgo", "--by", "Anna")
    assert edited.stdout.splitlines()[:2] == ['- sign: "leo"', '+ sign: "virgo"']
    moved = await dead(
        "edit", letters[0], "--actor", "delivery.DeliverHoroscope", "--set", f"given_up_at={TODAY}T00:00:00Z"
    )
    assert '+ (actor): "delivery.DeliverHoroscope"' in moved.stdout
    assert (
        "has no argument 'replaces' to leave out; it has day, sign, given_up_at"
        in (await dead("edit", letters[0], "--unset", "replaces", code=1)).stderr
    )
    first, second = (await told(dead, "show", letters[0]))["edits"]
    assert first["edited_by"] == "Anna"
    assert second["edited_by"] != "Anna", "whoever runs the command"


async def test_bytes_are_made_a_message_by_an_edit(dead: Dead, letters: list[int]) -> None:
    arguments = json.dumps({"sign": "leo", "day": TODAY.isoformat()})
    command = ["edit", letters[2], "--arguments", arguments]
    told_how = (await dead(*command, code=1)).stderr
    assert f"horoscope dead edit {letters[2]} --actor ACTOR --set NAME=VALUE" in told_how
    assert "the actors are delivery.DeliverHoroscope, generation.GenerateDay" in told_how
    await dead(*command, "--actor", "generation.GenerateHoroscope")
    assert (await told(dead, "show", letters[2]))["verdict"]["judgement"] == "ready"
    no_actor = await dead("edit", letters[2], "--actor", f"{DEAD_LETTERS}.{DeadLetter.__name__}", code=2)
    assert "'dead_letters.DeadLetter' is not one of" in no_actor.stderr


async def test_a_letter_that_names_the_archive_is_nobodys_to_answer(dead: Dead, archive: Archive) -> None:
    body = encode(LEO).replace(b"generation.GenerateHoroscope", b"dead_letters.DeadLetter")
    await archive.keep([DeadLetter(body, {"queue": "generation"})])
    verdict = (await told(dead, "show", 1))["verdict"]
    assert verdict["judgement"] == "unfit"
    assert verdict["reason"].startswith("there is no actor 'dead_letters.DeadLetter'")


async def test_arguments_are_edited_by_hand_until_they_fit(
    dead: Dead, letters: list[int], on_a_terminal: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    typed = iter(["{", '{"sign": "no"}', json.dumps({"sign": "libra", "day": TODAY.isoformat()})])

    def write(text: str, **_: Any) -> str:
        shown.append(text)
        return next(typed)

    monkeypatch.setattr(click, "edit", write)
    result = await dead("edit", letters[0], input="y\ny\n")
    assert json.loads(shown[0]) == {"sign": "leo", "day": TODAY.isoformat()}
    assert shown[1:] == ["{", '{"sign": "no"}']
    assert "it is not JSON" in result.stderr
    assert "day: Field required" in result.stderr
    assert '+ sign: "libra"' in result.stdout
    monkeypatch.setattr(click, "edit", lambda *_, **__: None)
    assert "Nothing was changed." in (await dead("edit", letters[0])).stdout


async def test_a_dry_run_tells_a_verdict_for_each_and_changes_nothing(
    dead: Dead, letters: list[int], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    said = (await dead("replay", "--all", "--dry-run", "--save-plan", plan)).stdout
    assert re.search(rf"{letters[0]} +ready +generation.GenerateHoroscope +0", said)
    assert re.search(rf"{letters[2]} +unfit .*it is no message", said)
    assert "2 ready, 1 unfit" in said
    assert f"--plan {plan}" in said
    assert json.loads(plan.read_text()) == {
        **(told_plan := await told(dead, "replay", "--all", "--dry-run")),
        "made_at": json.loads(plan.read_text())["made_at"],
    }
    assert [each["judgement"] for each in told_plan["letters"]] == ["ready", "ready", "unfit"]
    assert (await told(dead, "list"))["total"] == 3
    assert (await told(dead, "runs"))["runs"] == []


async def test_a_replay_names_what_it_touches_and_asks(
    dead: Dead, letters: list[int], on_a_terminal: None
) -> None:
    asked = await dead("replay", "--all", "--why", "mended", input="n\n", code=1)
    assert re.search(r"2 +ready +generation.GenerateHoroscope", asked.stdout)
    assert re.search(r"1 +unfit +nobody +left out +it is no message", asked.stdout)
    assert "Replay 2 dead letters, at most 100 a second?" in asked.stderr
    assert (await told(dead, "runs"))["runs"] == []
    done = await dead("replay", "--all", "--why", "mended", "--rate", "50", input="y\n")
    assert "Watch it: horoscope dead run 1 --wait" in done.stdout
    (run,) = (await told(dead, "runs"))["runs"]
    assert (run["letters"], run["why"], run["rate"], run["what"]) == (2, "mended", 50, "state dead")


async def test_without_a_terminal_nothing_is_replayed_or_dropped_unless_yes_is_said(
    dead: Dead, letters: list[int]
) -> None:
    for command in (["replay", "--all", "--why", "mended"], ["drop", "--all", "--why", "old"]):
        assert "There is no terminal to ask on; add --yes to go on" in (await dead(*command, code=1)).stderr
    assert (await told(dead, "list"))["total"] == 3
    assert (await told(dead, "replay", "--all", "--yes", "--why", "x"))["letters"] == 2
    refused = await dead("replay", letters[2], "--yes", "--why", "x", code=1)
    assert "none of these letters is ready" in refused.stderr
    assert "left out" in refused.stdout


async def test_a_plan_is_carried_out_exactly_and_refused_when_something_has_changed(
    dead: Dead, archive: Archive, letters: list[int], tmp_path: Path
) -> None:
    plan = tmp_path / "plan.json"
    await dead("replay", "--sign", "leo", "--dry-run", "--save-plan", plan)
    for also in (["1"], ["--all"], ["--sign", "leo"], ["--force"], ["--dry-run"]):
        await dead("replay", "--plan", plan, *also, "--yes", "--why", "x", code=2)
    await dead("edit", letters[0], "--set", "sign=aries")
    changed = await dead("replay", "--plan", plan, "--yes", "--why", "x", code=1)
    assert f"dead letters {letters[0]} have changed since the plan was made" in changed.stderr
    await dead("replay", "--sign", "leo", "--dry-run", "--save-plan", plan)
    await archive.keep([letter_of(GenerateHoroscope(Sign.LEO, TODAY + timedelta(days=1)))])
    assert (await told(dead, "replay", "--plan", plan, "--yes", "--why", "x"))["letters"] == 1, (
        "not what came since"
    )
    await dead("replay", "--plan", plan, "--yes", "--why", "x", code=1)
    far = json.loads(plan.read_text())
    far["letters"][0]["id"] = 10**30
    for wrong in ("", "[]", "{", '{"letters": 5}', json.dumps(far)):
        plan.write_text(wrong)
        assert (
            "that is no plan" in (await dead("replay", "--plan", plan, "--yes", "--why", "x", code=1)).stderr
        )


async def test_a_run_that_nobody_carries_out_is_said_and_waited_for_no_longer_than_asked(
    dead: Dead, letters: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services.dead_letters.replays, "ABANDONED_S", 0)
    monkeypatch.setattr(replays, "LOOK_S", 0.05)
    result = await dead("replay", "--all", "--yes", "--why", "x", "--wait", "--timeout", "0.5", code=1)
    assert result.stderr.count("is a worker running?") == 1
    assert "2: 2 not published yet" in result.stderr
    assert "It is not over yet. Watch on: horoscope dead run 1 --wait" in result.stdout
    assert (await told(dead, "run", 1, "--wait", "--timeout", "0", code=1))["planned"] == 2


async def test_ctrl_c_leaves_a_run_as_it_is(
    dead: Dead, letters: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(replays, "_settled", interrupted)
    result = await dead("replay", "--all", "--yes", "--why", "x", "--wait", code=130)
    assert "Run 1 goes on without you. Watch it: horoscope dead run 1 --wait" in result.stderr
    assert "horoscope dead cancel 1" in result.stderr
    assert (await told(dead, "run", 1))["state"] == "running"


async def test_a_run_is_cancelled_and_resumed_on_record(dead: Dead, letters: list[int], sql: Any) -> None:
    await dead("replay", "--all", "--yes", "--why", "x", "--by", "Anna")
    said = (await dead("cancel", 1, "--by", "Boris")).stdout
    assert "by Boris" in said
    assert "2: 2 cancelled" in said
    assert "cannot be cancelled" in (await dead("cancel", 1, code=1)).stderr
    assert "cannot be resumed: it was not cancelled" in (await dead("resume", 1, code=1)).stderr
    await sql.execute("UPDATE replay_runs SET state = 'cancelled', ended_at = now()")
    await dead("run", 1, "--wait", code=1)
    assert (await told(dead, "resume", 1))["planned"] == 2
    listed = (await dead("runs")).stdout
    assert re.search(r"^1 .* running +2: 2 not published yet +Anna ", listed, re.MULTILINE)
    assert len((await told(dead, "list", "--run", 1, "--state", "any"))["letters"]) == 2


async def test_letters_are_exported_and_dropped_by_verdict(dead: Dead, letters: list[int]) -> None:
    exported = await dead("export", "--verdict", "unfit")
    assert [json.loads(line)["id"] for line in exported.stdout.splitlines()] == [letters[2]]
    assert await told(dead, "drop", "--verdict", "unfit", "--why", "noise", "--yes") == {
        "dropped": 1,
        "left": 0,
    }
    assert (await told(dead, "list"))["total"] == 2


async def test_letters_are_dropped_and_restored(dead: Dead, letters: list[int]) -> None:
    assert await told(dead, "drop", *letters[:2], "--why", "known", "--by", "Anna", "--yes") == {
        "dropped": 2,
        "left": 0,
    }
    assert "by Anna: known" in (said := (await dead("show", letters[0])).stdout)
    assert f"horoscope dead restore {letters[0]}" in said
    assert (
        "Dropped 1 dead letter; 2 are not dead"
        in (await dead("drop", *letters, "--why", "x", "--yes")).stdout
    )
    assert "nothing was dropped" in (await dead("drop", *letters, "--why", "x", "--yes", code=1)).stderr
    assert await told(dead, "restore", letters[0]) == {"restored": 1, "left": 0}
    assert "nothing was restored" in (await dead("restore", letters[0], code=1)).stderr
    assert (await told(dead, "list"))["total"] == 1


async def test_a_letter_that_is_settled_names_what_came_of_it(
    dead: Dead, archive: Archive, letters: list[int], sql: Any
) -> None:
    await dead("replay", letters[0], "--yes", "--by", "Anna", "--why", "mended")
    await sql.execute("UPDATE replays SET state = 'published', published_at = now()")
    await sql.execute("UPDATE dead_letters SET state = 'waiting' WHERE id = $1", letters[0])
    assert "horoscope dead run 1 --wait" in (await dead("show", letters[0])).stdout
    replay = await sql.fetchval("SELECT id FROM replays")
    await archive.keep([letter_of(LEO, replay=replay)])
    child = await sql.fetchval("SELECT max(id) FROM dead_letters")
    said = (await dead("show", letters[0])).stdout
    assert f"died again as {child}" in said
    assert f"horoscope dead show {child}" in said
    assert "mended" in said
    assert f"the replay of dead letter {letters[0]}" in (await dead("show", child)).stdout


async def test_numbers_beyond_64_bits_are_shown_and_written(dead: Dead, archive: Archive) -> None:
    body = encode(DeliverHoroscope(Sign.LEO, TODAY)).replace(b'"leo"', b"1" + b"0" * 300)
    await archive.keep([DeadLetter(body, {})])
    for command in (["list", "--json"], ["show", "1", "--json"], ["show", "1"], ["export"]):
        assert '"sign": 1e+300' in (await dead(*command)).stdout, "as a replay publishes it"


def test_a_shell_completes_what_is_known() -> None:
    def completed(*words: str) -> list[str]:
        *before, incomplete = words
        shell = BashComplete(main, {}, "horoscope", "_HOROSCOPE_COMPLETE")
        return [each.value for each in shell.get_completions(["dead", *before], incomplete)]

    assert completed("list", "--state", "d") == ["dead", "did_it", "died_again", "dropped"]
    assert completed("groups", "--cause", "ladder") == ["ladder-exhausted"]
    assert completed("replay", "--actor", "gen") == ["generation.GenerateDay", "generation.GenerateHoroscope"]
    assert completed("export", "--queue", "dead") == ["dead_letters"]
    assert completed("list", "--sign", "le") == ["leo"]
    assert completed("edit", "1", "--actor", "del") == ["delivery.DeliverHoroscope"]


@pytest.mark.parametrize(
    "at", [datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(1, 1, 1, tzinfo=UTC)]
)
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
async def test_letters_of_the_ends_of_all_time_are_shown(
    dead: Dead, archive: Archive, monkeypatch: pytest.MonkeyPatch, at: datetime, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    await archive.keep([DeadLetter(b"\xff", {}, published_at=at)])
    for command in ("list", "groups", "show 1"):
        assert str(at.year) in (await dead(*command.split())).stdout
    monkeypatch.undo()
    time.tzset()
