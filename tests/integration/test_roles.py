"""What the processes may do in PostgreSQL and RabbitMQ, and what they may not, whatever they are asked."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import asyncpg
import pika
import pytest
import yarl
from pika.exceptions import ChannelClosedByBroker, ProbableAccessDeniedError

from schema.errors import DatabaseUnavailable
from schema.tables import GRANTED, metadata
from services.database.migrations import migrate
from services.database.pool import Database
from services.database.roles import RunningRole
from tests.processes import Processes

#: What only the owner of the tables, or an administrator of PostgreSQL, may do.
FORBIDDEN = (
    "CREATE TABLE spare (id int)",
    "CREATE TEMPORARY TABLE spare (id int)",
    "CREATE SCHEMA spare",
    "CREATE FUNCTION spare() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER TABLE readers ADD COLUMN spare int",
    "ALTER TABLE readers DISABLE TRIGGER ALL",
    "CREATE INDEX spare ON readers (language)",
    "TRUNCATE readers",
    "DROP TABLE readers",
    "UPDATE alembic_version SET version_num = '0001'",
    "DELETE FROM alembic_version",
    "CREATE ROLE spare",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY readers TO PROGRAM 'cat'",
)


async def refused(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def roles(
    *wanted: str, attributes: str = "LOGIN PASSWORD 'k3-Vq8sLw2pZx7R'"
) -> AsyncIterator[list[str]]:
    """Roles of the test's own, by ``wanted`` beginnings of their names; a name that begins with ``no`` is not created."""
    administrator = await asyncpg.connect(os.environ["TEST_POSTGRES"])
    names = [f"{each}_{uuid4().hex[:12]}" for each in wanted]
    try:
        for name in names:
            if not name.startswith("no"):
                await administrator.execute(f"CREATE ROLE {name} {attributes}")
        yield names
    finally:
        for name in names:
            await administrator.execute(f"DROP ROLE IF EXISTS {name}")
        await administrator.close()


def signed_in(url: str, user: str, password: str = "k3-Vq8sLw2pZx7R") -> str:
    return str(yarl.URL(url).with_user(user).with_password(password))


async def give_up(url: str, *names: str) -> None:
    """Take the roles' rights in a database back, so that they can be dropped."""
    connection = await asyncpg.connect(url)
    for name in names:
        if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name):
            await connection.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}")
    await connection.close()


async def test_the_processes_role_can_change_rows_and_nothing_else(
    database_url: str, sql: asyncpg.Connection
) -> None:
    for statement in FORBIDDEN:
        await refused(database_url, statement)
    attributes = await sql.fetchrow(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = $1",
        yarl.URL(database_url).user,
    )
    assert not any(attributes)


async def test_migrate_makes_the_role_and_sets_its_password(
    processes: Processes, empty_database_url: str
) -> None:
    async with roles("no_such") as (name,):
        awkward = "w%3A'x\"-$1 :y9Zq"
        url = str(yarl.URL(empty_database_url).with_user(name).with_password(None)).replace(
            f"{name}@", f"{name}:{quote(awkward, safe='')}@"
        )
        settings = {"MIGRATION_DATABASE_URL": empty_database_url, "DATABASE_URL": url}
        try:
            for _ in range(2):
                code, said = await processes.run("migrate", environment=settings)
                assert code == 0, said
            async with Database(url) as database:
                await database.check()
            other = signed_in(empty_database_url, name, "Rz5-another_9Qw2")
            code, said = await processes.run("migrate", environment=settings | {"DATABASE_URL": other})
            assert code == 0, said
            async with Database(other) as database:
                await database.check()
            with pytest.raises(DatabaseUnavailable, match="password authentication failed"):
                async with Database(url) as database:
                    await database.check()
            for statement in FORBIDDEN:
                await refused(other, statement)
            # Without the owner's address, the role itself would have to change the tables, and may not.
            connection = await asyncpg.connect(empty_database_url)
            await connection.execute("DROP TABLE alembic_version")
            await connection.close()
            code, said = await processes.run(
                "migrate", environment={"DATABASE_URL": other, "MIGRATION_DATABASE_URL": ""}
            )
            assert code == 1
            assert "set MIGRATION_DATABASE_URL to the address with the role that owns them" in " ".join(
                said.split()
            )
        finally:
            await give_up(empty_database_url, name)


async def test_an_owner_who_may_not_create_roles_says_what_to_type_and_grants_to_one_that_is_there(
    processes: Processes, empty_database_url: str
) -> None:
    async with roles("owner", "running", "no_such") as (owner, running, missing):
        administrator = await asyncpg.connect(empty_database_url)
        await administrator.execute(f"ALTER DATABASE {yarl.URL(empty_database_url).name} OWNER TO {owner}")
        await administrator.close()
        owners = {"MIGRATION_DATABASE_URL": signed_in(empty_database_url, owner)}
        try:
            code, said = await processes.run(
                "migrate", environment=owners | {"DATABASE_URL": signed_in(empty_database_url, missing)}
            )
            assert code == 1
            assert f'run: CREATE ROLE "{missing}" LOGIN' in " ".join(said.split())
            url = signed_in(empty_database_url, running)
            async with Database(url) as database:
                with pytest.raises(DatabaseUnavailable, match="horoscope migrate"):
                    await database.check()
            code, said = await processes.run("migrate", environment=owners | {"DATABASE_URL": url})
            assert code == 0, said
            async with Database(url) as database:
                await database.check()
            for statement in FORBIDDEN:
                await refused(url, statement)
        finally:
            await give_up(empty_database_url, owner, running)


async def test_a_role_that_may_too_much_is_no_running_role(
    processes: Processes, empty_database_url: str
) -> None:
    async with roles("creator", attributes="LOGIN CREATEROLE PASSWORD 'k3-Vq8sLw2pZx7R'") as (creator,):
        for url, why in (
            (empty_database_url, "name the same role"),
            (signed_in(empty_database_url, creator), "has rights over the whole server"),
        ):
            settings = {"MIGRATION_DATABASE_URL": empty_database_url, "DATABASE_URL": url}
            code, said = await processes.run("migrate", environment=settings)
            assert code == 1
            assert why in " ".join(said.split())
            async with Database(empty_database_url) as database:
                with pytest.raises(DatabaseUnavailable, match="no tables yet"):
                    await database.check()


async def test_a_table_may_grant_less_than_others(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with roles("running") as (name,), Database(empty_database_url) as database:
        await migrate(database, running=RunningRole(name))
        monkeypatch.setitem(metadata.tables["view_receipts"].info, GRANTED, "SELECT, INSERT")
        await migrate(database, running=RunningRole(name))
        url = signed_in(empty_database_url, name)
        for statement in ("DELETE FROM view_receipts", "UPDATE view_receipts SET view_date = now()"):
            await refused(url, statement)
        connection = await asyncpg.connect(url)
        await connection.execute("INSERT INTO view_receipts VALUES (gen_random_uuid(), now())")
        assert await connection.fetchval("SELECT count(*) FROM view_receipts") == 1
        await connection.close()
        await give_up(empty_database_url, name)


# RabbitMQ


async def managed(url: str, method: str, path: str, body: Any = None) -> int:
    """The status of a call to the management API, whose address has the user."""
    address = yarl.URL(url)
    headers = {"Authorization": aiohttp.encode_basic_auth(address.user or "", address.password or "")}
    where = yarl.URL(f"{address.origin()}/api{path}", encoded=True)
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.request(method, where, json=body) as answer,
    ):
        return answer.status


def use(url: str) -> None:
    """What a process does: it declares queues, publishes and consumes."""
    with closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        dead = {"x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "views"}
        channel.queue_declare("views", durable=True)
        channel.queue_declare("views.retry.5s", durable=True, arguments=dead)
        channel.basic_publish("", "views", b"{}", mandatory=True)
        method, _, _ = channel.basic_get("views")
        channel.basic_ack(method.delivery_tag)
        channel.queue_purge("views")


async def rights_are_small(app: str, page: str, vhost: str) -> None:
    """The user of the processes works and administers nothing; that of the operators' page only looks."""
    use(app)
    app_at_page = str(yarl.URL(page).with_user(yarl.URL(app).user).with_password(yarl.URL(app).password))
    for path in ("/overview", f"/queues/{vhost}", "/users"):
        assert await managed(app_at_page, "GET", path) == 401
    assert await managed(page, "GET", f"/queues/{vhost}?columns=name") == 200
    permission = {"configure": ".*", "write": ".*", "read": ".*"}
    user = yarl.URL(page).user
    for method, path, body in (
        ("GET", "/users", None),
        ("PUT", "/vhosts/another", {}),
        ("PUT", f"/users/{user}", {"password": "x", "tags": "administrator"}),
        ("PUT", f"/permissions/{vhost}/{user}", permission),
        ("PUT", f"/queues/{vhost}/spare", {"durable": True}),
        ("DELETE", f"/queues/{vhost}/views", None),
        ("DELETE", f"/queues/{vhost}/views/contents", None),
        ("GET", "/definitions", None),
    ):
        assert await managed(page, method, path, body) in {400, 401, 403}, (method, path)
    looking = yarl.URL(app).with_user(user).with_password(yarl.URL(page).password)
    with pytest.raises((ChannelClosedByBroker, ProbableAccessDeniedError)):
        use(str(looking))


async def test_the_users_of_make_up_may_do_little(rabbitmq_url: str, management: str) -> None:
    await rights_are_small(rabbitmq_url, management, yarl.URL(rabbitmq_url).name)


def secrets_of_compose(folder: Path) -> dict[str, str]:
    """What ops/secrets.sh writes."""
    script = Path(__file__).parents[2] / "ops" / "secrets.sh"
    environment = {"PATH": os.environ["PATH"], "SECRETS_ROOT": str(folder)}
    given = {"BOT_TOKEN": "1:token", "OPENAI_API_KEY": "key"}
    subprocess.run([script], env=environment | given, check=True)
    return {file.name: file.read_text() for file in (folder / "secrets").iterdir()}


async def test_the_users_of_docker_compose_may_do_little(tmp_path: Path) -> None:
    """The file of ops/secrets.sh, which RabbitMQ reads as it starts there; here it is imported into one that runs."""
    secrets = secrets_of_compose(tmp_path)
    own = f"compose_{uuid4().hex[:12]}"
    definitions = json.loads(secrets["rabbitmq_definitions"].replace("horoscope_", f"{own}_"))
    assert [vhost["name"] for vhost in definitions["vhosts"]] == ["/"]
    definitions["vhosts"] = [{"name": own}]
    for permission in definitions["permissions"]:
        permission["vhost"] = own
    server = yarl.URL(os.environ["TEST_RABBITMQ_URL"])
    api = yarl.URL(os.environ["TEST_RABBITMQ_API"])
    administrator = str(api.with_user(server.user).with_password(server.password))
    assert await managed(administrator, "POST", "/definitions", definitions) in {200, 201, 204}
    try:
        app, page = (
            yarl.URL(secrets[name].replace("horoscope_", f"{own}_"))
            for name in ("rabbitmq_url", "rabbitmq_management_url")
        )
        await rights_are_small(
            str(app.with_host("127.0.0.1").with_port(server.port).with_path(f"/{own}")),
            str(page.with_host("127.0.0.1").with_port(api.port)),
            own,
        )
    finally:
        for path in (f"/vhosts/{own}", f"/users/{own}_app", f"/users/{own}_page"):
            await managed(administrator, "DELETE", path)
