"""Accounts, tokens, the audit and the limits of signing in, on PostgreSQL alone."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import asyncpg
import click
import pytest
import structlog
from click.testing import CliRunner, Result

from ops.cli import console, main
from schema.errors import DatabaseUnavailable, Refused
from schema.messages import GenerateHoroscope
from schema.signs import Sign
from services.accounts import passwords, sign_in_limits
from services.accounts.accounts import Accounts
from services.accounts.audit import ACTS, Audit, AuditFilter, Entry, Principal
from services.accounts.passwords import Passwords
from services.accounts.retention import Retention
from services.accounts.roles import Role
from services.accounts.sign_in_limits import SignInLimits
from services.accounts.tokens import Tokens
from services.admin.i18n import catalogue
from services.admin.rendering import _templates
from services.database.pool import Database
from services.process.logs import Mask
from tests.dead_letters import TODAY
from tests.operators import add_dead_letter
from tests.proxy import Cable
from tests.unit.test_command_line import COMMANDS

SECRET = "a password of nobody"
OTHER = "another one of nobody"
ANN = Principal("ann", "operator", "192.0.2.1")

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def audit(database: Database) -> Audit:
    return Audit(database, Mask([SECRET]))


@pytest.fixture
def _logs_of_commands() -> Iterator[None]:
    """Logs are set up as in a command, whatever a test before has set up for a process."""
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


@pytest.fixture
def run(database_url: str, rabbitmq_url: str, _logs_of_commands: None) -> Run:
    """``horoscope …``, in a thread since it has an event loop of its own."""

    async def run(*command: Any, **about: Any) -> Result:
        settings = {"DATABASE_URL": database_url, "RABBITMQ_URL": rabbitmq_url, **about.pop("settings", {})}
        arguments = [str(each) for each in command]
        given: dict[str, Any] = {"env": settings, "catch_exceptions": False} | about
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, **given)

    return run


async def rows(sql: asyncpg.Connection) -> list[asyncpg.Record]:
    """The entries, without those with which an act began that has ended."""
    found: list[asyncpg.Record] = await sql.fetch("SELECT * FROM audit WHERE outcome <> 'begun' ORDER BY id")
    return found


# The audit


async def test_nobody_changes_or_deletes_an_entry_and_only_old_ones_are_pruned(
    audit: Audit, database: Database, sql: asyncpg.Connection
) -> None:
    await audit.add(ANN, Entry("queue.pause", "views"))
    for statement in (
        "UPDATE audit SET who = 'bob'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "INSERT INTO audit SELECT * FROM audit",
    ):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.GeneratedAlwaysError)):
            await sql.execute(statement)
    assert [row["who"] for row in await rows(sql)] == ["ann"]
    await sql.execute(
        "INSERT INTO audit (at, act, who, role, origin, what, subject, outcome, detail) "
        "SELECT now() - make_interval(days => age), gen_random_uuid(), age::text, '', '', '', '', 'done', '' "
        "FROM unnest(ARRAY[399, 401]) AS age"
    )
    await Retention(database).prune()
    assert {row["who"] for row in await rows(sql)} == {"ann", "399"}


async def test_a_role_that_may_only_insert_and_select_writes_reads_and_prunes(
    sql: asyncpg.Connection, audit: Audit
) -> None:
    await audit.add(ANN, Entry("queue.pause"))
    name = f"runs_{id(audit)}"
    await sql.execute(f"CREATE ROLE {name}")
    try:
        await sql.execute(f"GRANT USAGE ON SCHEMA public TO {name}; GRANT INSERT, SELECT ON audit TO {name}")
        await sql.execute(f"SET ROLE {name}")
        await sql.execute(
            "INSERT INTO audit (act, who, role, origin, what, subject, outcome, detail) "
            "VALUES (gen_random_uuid(), 'bob', '', '', '', '', 'done', '')"
        )
        assert await sql.fetchval("SELECT prune_audit()") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await sql.execute("DELETE FROM audit")
    finally:
        await sql.execute(f"RESET ROLE; DROP OWNED BY {name}; DROP ROLE {name}")
    assert len(await rows(sql)) == 2


async def test_an_act_is_on_record_before_it_begins_and_when_it_has_ended(
    audit: Audit, sql: asyncpg.Connection
) -> None:
    outcomes = "SELECT array_agg(outcome ORDER BY id) FROM audit"
    async with audit.recording(ANN, "queue.pause", "views") as entry:
        assert await sql.fetchval(outcomes) == ["begun"]
        (shown,) = await audit.listed(AuditFilter())
        assert shown.outcome == "begun"
        entry.before, entry.after = {"a": 1}, {"b": [None, 10**30, "\0\udcff"]}
    (shown,) = await audit.listed(AuditFilter())
    assert (shown.outcome, shown.subject, shown.before) == ("done", "views", {"a": 1})
    assert shown.after == {"b": [None, str(10**30), "?"]}
    for error, outcome, detail in (
        (Refused("not now"), "refused", "not now"),
        (RuntimeError("broken"), "failed", "RuntimeError: broken"),
        (TimeoutError(), "failed", "TimeoutError"),
        (asyncio.CancelledError(), "failed", "it was interrupted"),
    ):
        with pytest.raises(type(error)):
            async with audit.recording(ANN, "queue.purge"):
                raise error
        (shown, *_) = await audit.listed(AuditFilter())
        assert (shown.outcome, shown.detail) == (outcome, detail)
    with pytest.raises(ValueError, match=r"there is no act 'queue\.dance'"):
        async with audit.recording(ANN, "queue.dance"):
            pass


async def test_no_secret_and_nothing_endless_comes_into_the_audit(
    audit: Audit, sql: asyncpg.Connection
) -> None:
    entry = Entry("dead.edit", f"{SECRET}\n{'x' * 5000}", {SECRET: [SECRET]}, {"big": "y" * 100_000})
    entry.refuse(f"because of {SECRET} {'z' * 5000}")
    await audit.add(Principal(f"{SECRET}\x1b[2J", "operator", "a" * 500), entry)
    told = str(await rows(sql))
    assert SECRET not in told
    assert len(told) < 12_000
    assert "***" in told


async def test_a_number_that_may_be_a_readers_is_not_kept(audit: Audit, sql: asyncpg.Connection) -> None:
    entry = Entry(
        "dead.note", "12", None, {"note": "asked by 123456789, see 12 and 2026-11-22", "n": 123456789}
    )
    entry.refuse("nothing is kept about 123456789")
    await audit.add(ANN, entry)
    (row,) = await rows(sql)
    assert json.loads(row["after"]) == {"note": "asked by 0, see 12 and 2026-11-22", "n": 123456789}
    assert row["detail"] == "nothing is kept about 0"


async def test_an_act_that_cannot_be_put_on_record_does_not_happen(database_url: str) -> None:
    happened = False
    async with Cable(database_url) as cable, Database(cable.url) as database:
        cable.unplug()
        with pytest.raises(DatabaseUnavailable):
            async with Audit(database, Mask([])).recording(ANN, "queue.purge"):
                happened = True
    assert not happened


async def test_the_audit_is_filtered_by_who_what_and_when(audit: Audit, sql: asyncpg.Connection) -> None:
    for who, what in (("ann", "queue.pause"), ("bob", "queue.resume"), ("ann", "dead.drop")):
        await audit.add(Principal(who, "operator", "x"), Entry(what))
    at = [row["at"] for row in await rows(sql)]

    async def found(**wanted: Any) -> list[str]:
        return [each.what for each in await audit.listed(AuditFilter(**wanted))]

    assert await found(who="ann") == ["dead.drop", "queue.pause"]
    assert await found(what="queue") == ["queue.resume", "queue.pause"]
    assert await found(what="queue.resume") == ["queue.resume"]
    assert await found(since=at[1]) == ["dead.drop", "queue.resume"]
    assert await found(until=at[1]) == ["queue.pause"]
    _, second = await audit.listed(AuditFilter(), limit=2)
    assert [each.what for each in await audit.listed(AuditFilter(), before=second.id)] == ["queue.pause"]


# Accounts


async def test_accounts_have_names_roles_and_strong_passwords(
    database: Database, sql: asyncpg.Connection
) -> None:
    accounts = Accounts(database)
    await accounts.add("ann", Role.VIEWER, SECRET)
    stored = await sql.fetchval("SELECT password_hash FROM accounts")
    assert stored.startswith("$argon2id$")
    assert SECRET not in stored
    for name, password, said in (
        ("ann", SECRET, "there is an account 'ann' already"),
        ("Ann", SECRET, "is no name for an account"),
        ("a b", SECRET, "is no name for an account"),
        ("", SECRET, "is no name for an account"),
        ("admin", SECRET, "ADMIN_PASSWORD opens"),
        ("bob", "short", "it has 5 characters; expected at least 12"),
        ("bob", "x" * 1001, "at most 1000 are allowed"),
        ("bob", "aaaabbbbcccc", "easy to guess"),
        ("bobby", "my name is Bobby", "easy to guess"),
        ("bob", "no text \udcff\udcff\udcff\udcff", "not text in UTF-8"),
    ):
        with pytest.raises(Refused, match=said):
            await accounts.add(name, Role.VIEWER, password)
    found = await accounts.find(" ANN ")
    assert (found.name, found.role) == ("ann", Role.VIEWER)
    assert await accounts.is_password(found, SECRET)
    assert not await accounts.is_password(found, SECRET + " ")
    assert not await accounts.is_password(await accounts.find("nobody"), " ")
    with pytest.raises(Refused, match="there is no account 'eve'"):
        await accounts.set_role("eve", Role.ADMIN)


async def test_a_name_without_an_account_costs_as_much_as_one_with_a_wrong_password(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in hashes: what takes the time is one of them, with the same parameters."""
    accounts = Accounts(database)
    await accounts.add("ann", Role.ADMIN, SECRET)
    looked: list[str] = []
    verify = Passwords.verify

    async def noted(self: Passwords, stored: str | None, password: str) -> bool:
        looked.append(stored or "")
        return await verify(self, stored, password)

    monkeypatch.setattr(Passwords, "verify", noted)
    for name in ("ann", "nobody"):
        assert not await accounts.is_password(await accounts.find(name), "wrong")
    assert len(looked) == 2
    assert (
        passwords._NOBODY.rpartition("$")[0].rpartition("$")[0]
        == looked[0].rpartition("$")[0].rpartition("$")[0]
    )


async def test_a_token_is_stored_as_a_digest_and_ends(database: Database, sql: asyncpg.Connection) -> None:
    tokens = Tokens(database)
    token, expires_at = await tokens.add("grafana", Role.VIEWER, days=90, by="ann")
    assert token not in str(await sql.fetch("SELECT * FROM api_tokens"))
    assert await tokens.find(token) == ("grafana", Role.VIEWER)
    (listed,) = await tokens.listed()
    assert (listed.valid, listed.created_by, listed.expires_at) == (True, "ann", expires_at)
    assert listed.used_at is not None
    with pytest.raises(Refused, match="first: horoscope accounts token revoke grafana"):
        await tokens.add("grafana", Role.ADMIN, days=1, by="ann")
    await sql.execute("UPDATE api_tokens SET expires_at = now()")
    assert await tokens.find(token) is None
    await sql.execute("UPDATE api_tokens SET expires_at = now() + interval '1 day'")
    assert await tokens.revoke("grafana") is Role.VIEWER
    assert await tokens.find(token) is None
    with pytest.raises(Refused, match="there is no token 'grafana' to revoke"):
        await tokens.revoke("grafana")
    await tokens.add("grafana", Role.ADMIN, days=1, by="ann")


# Limits


async def guess(limits: SignInLimits, account: str, address: str, device: str | None = None) -> int:
    """Try a wrong password; the seconds that one has to wait beforehand."""
    attempt = await limits.begin(account, address, address, device)
    if not attempt.locked_s:
        await limits.failed(attempt)
    return attempt.locked_s


async def know(limits: SignInLimits, account: str, address: str, device: str | None = None) -> int:
    """Try the right password; the seconds that one has to wait beforehand."""
    attempt = await limits.begin(account, address, address, device)
    if not attempt.locked_s:
        await limits.succeeded(attempt, anew=True)
    return attempt.locked_s


async def test_attempts_are_counted_for_each_address_and_many_at_once_one_by_one(database: Database) -> None:
    limits = SignInLimits(database)
    waits = await asyncio.gather(*(guess(limits, "ann", "192.0.2.1") for _ in range(20)))
    assert sum(not wait for wait in waits) == sign_in_limits.TRIES
    assert await guess(limits, "bob", "192.0.2.1")
    assert not await guess(limits, "ann", "192.0.2.2")


async def test_many_who_know_the_password_at_once_are_not_in_each_others_way(database: Database) -> None:
    limits = SignInLimits(database)
    assert set(await asyncio.gather(*(know(limits, "ann", "192.0.2.1") for _ in range(20)))) == {0}


async def test_a_process_that_dies_while_it_looks_at_a_password_leaves_a_failure(
    database: Database, sql: asyncpg.Connection
) -> None:
    limits = SignInLimits(database)
    for _ in range(sign_in_limits.TRIES):
        await limits.begin("ann", "192.0.2.1", "192.0.2.1", None)
    await sql.execute("UPDATE sign_in_attempts SET at = at - interval '6 seconds'")
    assert await guess(limits, "ann", "192.0.2.1")


async def test_whoever_knows_the_password_begins_anew_for_that_account_only(database: Database) -> None:
    limits = SignInLimits(database)
    for _ in range(4):
        assert not await guess(limits, "ann", "192.0.2.1")
    assert not await know(limits, "ann", "192.0.2.1")
    for account in ("ann", "ann", "bob", "bob"):
        assert not await guess(limits, account, "192.0.2.1")
        assert not await know(limits, "eve", "192.0.2.1")
    assert not await guess(limits, "ann", "192.0.2.1")
    assert await know(limits, "eve", "192.0.2.1"), "her own successes do not forget the guesses at others"


async def test_an_attack_from_everywhere_locks_out_neither_a_known_device_nor_a_known_address(
    database: Database, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_limits, "TRIES_OF_ALL", 8)
    await audit.add(Principal("ann", "admin", "192.0.2.50"), Entry("session.sign-in"))
    limits = SignInLimits(database)
    for number in range(8):
        assert not await guess(limits, "ann", f"198.51.100.{number}")
    assert await know(limits, "ann", "203.0.113.1") > 0
    assert not await know(limits, "ann", "203.0.113.1", "her-laptop")
    assert not await know(limits, "ann", "192.0.2.50")
    assert not await know(limits, "bob", "203.0.113.1")
    for _ in range(5):
        assert not await guess(limits, "ann", "203.0.113.1", "her-laptop")
    assert await know(limits, "ann", "203.0.113.1", "her-laptop"), "it has five"


async def test_failures_are_forgotten_after_a_while(database: Database, sql: asyncpg.Connection) -> None:
    limits = SignInLimits(database)
    for _ in range(5):
        await guess(limits, "ann", "192.0.2.1")
    assert 0 < await guess(limits, "ann", "192.0.2.1") <= sign_in_limits.WITHIN_S
    await sql.execute(
        "UPDATE sign_in_attempts SET at = at - make_interval(secs => $1)", sign_in_limits.WITHIN_S
    )
    assert not await know(limits, "ann", "192.0.2.1")
    assert await sql.fetchval("SELECT count(*) FROM sign_in_attempts") == 0


# The command line


def act_of(path: tuple[str, ...]) -> str:
    """What the audit calls a command; empty: it is no act."""
    return getattr(command_at(path).callback, "act", "")


#: Each command that acts, with arguments with which it is done, and ones with which it is refused or fails.
LINES: dict[str, tuple[list[str], list[str]]] = {
    "generate": (["--sign", "leo"], []),
    "queues pause": (["views", "--why", "x"], ["nonsense"]),
    "queues resume": (["views"], ["views"]),
    "queues purge": (["views", "--yes"], ["nonsense", "--yes"]),
    "queues peek": (["views"], ["nonsense"]),
    "dead note": (["GROUP", "a note"], ["0123456789abcdef", "a note"]),
    "dead edit": (["1", "--set", "sign=virgo"], ["99", "--set", "sign=virgo"]),
    "dead drop": (["2", "--why", "noise", "--yes"], ["99", "--why", "noise", "--yes"]),
    "dead restore": (["2"], ["1"]),
    "dead export": (["1", "--output", "letters.jsonl"], ["99"]),
    "dead import": (["letters.jsonl", "--adopt"], ["no-letters.jsonl"]),
    "dead replay": (["1", "--why", "mended", "--yes"], ["99", "--why", "mended", "--yes"]),
    "dead cancel": (["1"], ["99"]),
    "dead resume": (["1"], ["99"]),
    "readers forget": (["7000001", "--why", "asked by letter", "--yes"], ["7000002", "--why", "x", "--yes"]),
    "accounts add": (["ann", "--role", "viewer"], ["admin", "--role", "viewer"]),
    "accounts role": (["ann", "admin"], ["eve", "admin"]),
    "accounts password": (["ann"], ["eve"]),
    "accounts sign-out": (["ann"], ["eve"]),
    "accounts disable": (["ann"], ["ann"]),
    "accounts enable": (["ann"], ["ann"]),
    "accounts token add": (["grafana", "--role", "viewer"], ["grafana", "--role", "viewer"]),
    "accounts token revoke": (["grafana"], ["grafana"]),
    "accounts remove": (["ann", "--yes"], ["ann", "--yes"]),
}


def test_every_act_of_the_command_line_is_among_these() -> None:
    assert {" ".join(path) for path in COMMANDS if act_of(path)} == set(LINES)
    by = {" ".join(path) for path in COMMANDS if any("--by" in each.opts for each in command_at(path).params)}
    assert by == set(LINES), "who orders something is asked where it goes on record"


def command_at(path: tuple[str, ...]) -> click.Command:
    command: Any = main
    for name in path:
        command = command.commands[name]
    return command  # type: ignore[no-any-return]


async def test_every_act_of_the_command_line_leaves_its_entry_also_when_it_fails(
    run: Run, database: Database, sql: asyncpg.Connection, app: Any, tmp_path: Any
) -> None:
    for _ in range(2):
        await add_dead_letter(database, GenerateHoroscope(Sign.LEO, TODAY))
    (tmp_path / "no-letters.jsonl").write_text("{}\n")
    await sql.execute("INSERT INTO readers (telegram_id, language) VALUES (7000001, 'ru')")
    group = await sql.fetchval("SELECT fingerprint FROM dead_letters LIMIT 1")
    for line, (well, badly) in LINES.items():
        for arguments, is_well in ((well, True), (badly, False)):
            before = await sql.fetchval("SELECT COALESCE(max(id), 0) FROM audit")
            if line == "dead resume" and is_well:
                await sql.execute("UPDATE replay_runs SET state = 'cancelled', ended_at = now()")
            settings = {} if is_well or badly else {"RABBITMQ_URL": "amqp://u:p@127.0.0.1:1/"}
            given = [group if each == "GROUP" else each for each in arguments]
            password = SECRET if is_well else OTHER
            result = await run(
                *line.split(), *given, "--by", "Anna", input=f"{password}\n", settings=settings
            )
            case = (line, arguments, result.output)
            found = await sql.fetch("SELECT * FROM audit WHERE id > $1 ORDER BY id", before)
            assert [row["what"] for row in found] == [act_of(tuple(line.split()))] * 2, case
            begun, ended = found
            assert begun["outcome"] == "begun", case
            assert (ended["who"], ended["role"]) == ("Anna", "shell"), case
            assert ended["origin"] == console._user_at_host(), case
            refused_softly = line == "queues resume" and not is_well
            assert (result.exit_code == 0) == (is_well or refused_softly), case
            if is_well:
                assert (ended["outcome"], ended["detail"]) == ("done", ""), case
            else:
                assert ended["outcome"] in {"refused", "failed"}, case
                assert ended["detail"], case
            assert SECRET not in str(found) + result.output, case
            assert OTHER not in str(found) + result.output, case
            assert "700000" not in str(found), "a reader who is forgotten is not in the audit"
    assert {row["what"] for row in await rows(sql)} == {act_of(tuple(line.split())) for line in LINES}
    listed = json.loads((await run("audit", "--json", "--limit", 1000)).stdout)["entries"]
    assert len(listed) == 2 * len(LINES)
    assert all(each["outcome"] != "begun" for each in listed)
    only = json.loads((await run("audit", "--what", "queue", "--since", "1h", "--json")).stdout)["entries"]
    assert {each["what"] for each in only} == {"queue.pause", "queue.resume", "queue.purge", "queue.peek"}
    assert json.loads((await run("audit", "--who", "nobody", "--json")).stdout) == {"entries": []}


async def test_in_a_container_a_name_is_asked_for(run: Run, sql: asyncpg.Connection) -> None:
    for contained in ({"container": "oci"}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}):
        told = await run("queues", "pause", "views", settings=contained)
        assert told.exit_code == 2
        assert "add --by NAME, or set HOROSCOPE_BY" in told.output
        told = await run("dead", "replay", "--all", "--dry-run", settings=contained)
        assert told.exit_code == 1, "a look needs no name"
        assert await rows(sql) == []
    named = {"container": "oci", "HOROSCOPE_BY": "Boris"}
    await run("dead", "note", "0123456789abcdef", "x", settings=named)
    await run("dead", "note", "0123456789abcdef", "x", "--by", "Anna", settings=named)
    assert [row["who"] for row in await rows(sql)] == ["Boris", "Anna"]
    assert (await run("dead", "note", "x", "y", "--by", " ")).exit_code == 2


async def test_a_person_who_says_no_is_on_record_as_having_refused(
    run: Run, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    await Accounts(database).add("ann", Role.VIEWER, SECRET)
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    told = await run("accounts", "remove", "ann", input="n\n")
    assert told.exit_code == 1
    (row,) = await rows(sql)
    assert (row["what"], row["subject"], row["outcome"]) == ("account.remove", "ann", "refused")
    assert "no" in row["detail"]
    assert len(await Accounts(database).listed()) == 1


async def test_a_password_is_typed_twice_or_read_and_never_an_argument(
    run: Run, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Accounts(database)
    told = await run("accounts", "add", "ann", "--role", "viewer", SECRET)
    assert told.exit_code == 2
    told = await run("accounts", "add", "ann", "--role", "viewer", input="")
    assert (told.exit_code, "no password: type it at a terminal" in told.output) == (2, True)
    monkeypatch.setattr(console, "is_terminal", lambda: True)
    told = await run(
        "accounts", "add", "ann", "--role", "viewer", input=f"{SECRET}\n{OTHER}\n{SECRET}\n{SECRET}\n"
    )
    assert told.exit_code == 0
    assert "do not match" in told.output
    assert await accounts.is_password(await accounts.find("ann"), SECRET)


def test_every_act_has_a_name_in_russian() -> None:
    words: Any = _templates("ru").get_template("words.html").module
    assert set(words.acts) == set(ACTS)
    assert set(words.act_kinds) == {act.partition(".")[0] for act in ACTS}
    assert catalogue("ru").pgettext("act", "sign in") == "войти"


async def test_sessions_tokens_and_attempts_are_pruned(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "INSERT INTO sessions (digest, origin, began_at, seen_at) VALUES ('a', '', now(), now()), "
        "('b', '', now(), now() - interval '13 hours'), ('c', '', now() - interval '8 days', now())"
    )
    tokens = Tokens(database)
    for name in ("old", "new"):
        await tokens.add(name, Role.VIEWER, days=1, by="ann")
    await sql.execute(
        "UPDATE api_tokens SET expires_at = now() - $1::interval WHERE name = 'old'", timedelta(days=401)
    )
    await SignInLimits(database).begin("ann", "x", "x", None)
    await sql.execute("UPDATE sign_in_attempts SET at = now() - interval '25 hours'")
    await Retention(database).prune()
    assert await sql.fetchval("SELECT array_agg(digest) FROM sessions") == [b"a"]
    assert [each.name for each in await tokens.listed()] == ["new"]
    assert await sql.fetchval("SELECT count(*) FROM sign_in_attempts") == 0
