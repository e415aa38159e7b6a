"""The database's history agrees with the tables, in both directions."""

import asyncpg
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from schema.tables import REVISION, metadata
from services.database.migrations import _config, current, migrate
from services.database.pool import Database
from tests.processes import Processes


def _differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), metadata))


async def test_the_tables_are_what_the_migrations_make(empty_database_url: str) -> None:
    async with Database(empty_database_url) as database:
        await migrate(database)
        async with database.transaction() as connection:
            assert await connection.run_sync(_differences) == []


async def test_every_migration_goes_up_down_and_up_again(empty_database_url: str) -> None:
    revisions = [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]
    async with Database(empty_database_url) as database:
        for revision in reversed(revisions):
            await migrate(database, revision)
            async with database.transaction() as connection:
                await connection.run_sync(lambda sync: command.downgrade(_config(sync), "-1"))
            await migrate(database, revision)
            assert await current(database) == revision
        async with database.transaction() as connection:
            await connection.run_sync(lambda sync: command.downgrade(_config(sync), "base"))
        assert await current(database) is None
    sql = await asyncpg.connect(empty_database_url)
    left = await sql.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    await sql.close()
    assert [row[0] for row in left] == ["alembic_version"]


async def test_replays_that_were_called_successes_did_it_and_the_way_back_forgets_the_difference(
    empty_database_url: str,
) -> None:
    states = "SELECT array_agg(state ORDER BY id) FROM dead_letters"
    async with Database(empty_database_url) as database:
        await migrate(database, "0004")
        sql = await asyncpg.connect(empty_database_url)
        for state in ("succeeded", "dead"):
            await sql.execute(
                "INSERT INTO dead_letters (id, death, digest, state, queue, body, masked, cause, error_type, error,"
                " fingerprint, attempts, release, host, died_at)"
                " VALUES ($2, gen_random_uuid(), '', $1, 'views', '', false, '', '', '', '', '[]', '', '', now())",
                state,
                int(state == "dead"),
            )
        await migrate(database, "0005")
        assert await sql.fetchval(states) == ["did_it", "dead"]
        await sql.execute("UPDATE dead_letters SET state = 'nothing_to_do' WHERE state = 'dead'")
        async with database.transaction() as connection:
            await connection.run_sync(lambda sync: command.downgrade(_config(sync), "0004"))
        assert await sql.fetchval(states) == ["succeeded", "succeeded"]
        await sql.close()


def test_the_revision_that_a_release_needs_is_the_newest() -> None:
    assert ScriptDirectory.from_config(_config()).get_current_head() == REVISION


async def test_the_names_that_are_fixed_are_there(sql: asyncpg.Connection) -> None:
    constraints = await sql.fetch("SELECT conname FROM pg_constraint WHERE contype = 'u'")
    assert {row[0] for row in constraints} >= {
        "uq_horoscope_cache_sign_date",
        "uq_horoscope_views_sign_date",
    }
    await sql.execute(
        "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ('leo', '2026-11-22', 'x')"
    )
    await sql.execute("INSERT INTO horoscope_views (zodiac_sign, view_date) VALUES ('leo', '2026-11-22')")
    assert await sql.fetchval("SELECT generated_at IS NOT NULL FROM horoscope_cache")
    assert await sql.fetchval("SELECT view_count FROM horoscope_views") == 0


async def test_migrating_twice_and_at_once_is_harmless(empty_database_url: str, processes: Processes) -> None:
    here = {"DATABASE_URL": empty_database_url}
    several = [await processes.start("migrate", environment=here) for _ in range(3)]
    assert [await process.ended() for process in several] == [0, 0, 0]
    code, said = await processes.run("migrate", environment=here)
    assert (code, "already" in said) == (0, True)
