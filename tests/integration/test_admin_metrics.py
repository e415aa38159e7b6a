"""What is told of the whole service, and what when a server is away."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
from prometheus_client import Metric

from actors import topology
from schema.messages import DEAD_LETTERS, VIEWS, DeadLetter, ReconcileTick
from schema.signs import Sign
from services.admin import metrics, snapshots
from services.admin.metrics import ClusterMetrics
from services.admin.server import open_snapshots
from services.app import open_servers
from services.days import EASTERNMOST
from services.dead_letters.archive import Archive
from services.process.logs import Mask
from services.process.settings import Settings
from tests.proxy import Cable
from tests.queues import Queues
from tests.telling import series
from tests.waiting import DEADLINE_S

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)  # noon at home
TODAY, TOMORROW = date(2026, 11, 22), date(2026, 11, 23)


def told(metrics: Iterable[Metric]) -> dict[str, float]:
    return {series(sample.name, sample.labels): sample.value for each in metrics for sample in each.samples}


async def test_what_is_told_of_the_whole_is_what_is_there_and_nothing_when_a_server_is_away(
    settings: Settings, sql: asyncpg.Connection, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url
    assert settings.rabbitmq_url
    monkeypatch.setattr(snapshots, "FRESH_S", 0.0)
    for sign in list(Sign)[:5]:
        await sql.execute(
            "INSERT INTO horoscope_cache (zodiac_sign, horoscope_date, content) VALUES ($1, $2, 'text')",
            sign.value,
            TODAY,
        )
    await sql.execute("INSERT INTO horoscope_views VALUES (DEFAULT, 'leo', $1, 7)", TODAY)
    await sql.execute("INSERT INTO ticks VALUES ('reconcile', $1, 'nothing')", NOW - timedelta(minutes=20))
    await sql.execute(
        "INSERT INTO parked_messages (queue, body, reason, parked_at)"
        " VALUES ('views', '', 'away', now() - interval '90 s')"
    )
    await sql.execute("INSERT INTO paused_queues VALUES ('views', 'ann', '')")
    for request, minutes in (("1", 1), ("2", 3)):
        await sql.execute(
            "INSERT INTO waiters (request_id, chat_id, zodiac_sign, horoscope_date, language, created_at)"
            " VALUES ($1, $2, 'leo', $3, 'ru', now() - make_interval(mins => $4))",
            f"00000000-0000-0000-0000-00000000000{request}",
            int(request),
            TODAY,
            minutes,
        )
    for pid, seen in ((1, "1 s"), (2, "2 s"), (3, "10 minutes")):
        await sql.execute(
            "INSERT INTO processes (id, kind, host, pid, release, started_at, seen_at) VALUES"
            f" (gen_random_uuid(), 'worker', 'host', $1, '1', now(), now() - interval '{seen}')",
            pid,
        )
    async with (
        Cable(settings.database_url.get_secret_value()) as database_cable,
        Cable(settings.rabbitmq_url.get_secret_value()) as broker_cable,
    ):
        settings = Settings(database_url=database_cable.url, rabbitmq_url=broker_cable.url)  # type: ignore[arg-type]
        declared = topology.queues(settings)
        async with (
            open_servers(settings, declared, process="test") as (database, publisher),
            open_snapshots(settings, declared, database, clock=lambda: NOW) as shown,
        ):
            await publisher.wait_ready(DEADLINE_S)
            await publisher.send(ReconcileTick().queue, b"a tick that nobody takes")
            whole = ClusterMetrics(shown, lambda: NOW)

            before = told(whole.collect())
            assert before['horoscope_cluster_read_success{server="postgresql"}'] == 0
            assert before['horoscope_cluster_read_age_seconds{server="rabbitmq"}'] == float("inf")
            assert len(before) == 4, "nothing is known yet"

            await whole.refresh()
            now = told(whole.collect())
            tomorrow_begins = (datetime(2026, 11, 23, tzinfo=UTC) - EASTERNMOST - NOW).total_seconds()
            expected = {
                'horoscope_cluster_read_success{server="postgresql"}': 1,
                'horoscope_cluster_read_success{server="rabbitmq"}': 1,
                f'horoscope_texts_written{{day="{TODAY}"}}': 5,
                f'horoscope_texts_written{{day="{TOMORROW}"}}': 0,
                f'horoscope_day_begins_in_seconds{{day="{TOMORROW}"}}': tomorrow_begins,
                f'horoscope_day_begins_in_seconds{{day="{TODAY}"}}': tomorrow_begins - 86_400,
                "horoscope_views_today": 7,
                'horoscope_tick_age_seconds{tick="reconcile"}': 1200,
                'horoscope_tick_age_seconds{tick="midnight"}': float("inf"),
                "horoscope_parked_messages": 1,
                "horoscope_waiting_readers": 2,
                "horoscope_overdue_readers": 1,
                'horoscope_processes{kind="worker"}': 2,
                'horoscope_processes{kind="scheduler"}': 0,
                'horoscope_queue_messages{queue="ticks"}': 1,
                'horoscope_queue_paused{queue="views"}': 1,
                'horoscope_queue_paused{queue="ticks"}': 0,
                f'horoscope_queue_consumers{{queue="{VIEWS}"}}': 0,
                "horoscope_dead_letters": 0,
            }
            assert {name: now.get(name) for name in expected} == expected
            assert tomorrow_begins == 3600
            assert 90 <= now["horoscope_oldest_parked_seconds"] < 120

            broker_cable.unplug()
            await whole.refresh()
            now = told(whole.collect())
            assert now['horoscope_cluster_read_success{server="rabbitmq"}'] == 0
            assert now['horoscope_cluster_read_success{server="postgresql"}'] == 1
            assert now['horoscope_queue_messages{queue="ticks"}'] == 1, "what was read last is still told"
            monkeypatch.setattr(metrics, "STALE_S", 0.0)
            now = told(whole.collect())
            assert not any(name.startswith("horoscope_queue") for name in now), (
                "and after a while not any more"
            )

            monkeypatch.setattr(metrics, "STALE_S", 60.0)
            database_cable.unplug()
            broker_cable.plug()
            await whole.refresh()
            now = told(whole.collect())
            assert now['horoscope_cluster_read_success{server="rabbitmq"}'] == 1
            assert now['horoscope_cluster_read_success{server="postgresql"}'] == 0

            async def broken() -> None:
                raise KeyError("a bug")

            monkeypatch.setattr(shown, "now", broken)
            await whole.refresh()
            now = told(whole.collect())
            assert now['horoscope_cluster_read_success{server="rabbitmq"}'] == 0, "nor does it raise"


async def test_dead_letters_are_told_from_the_archive_and_what_is_on_its_way_there(
    settings: Settings, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url
    assert settings.rabbitmq_url
    monkeypatch.setattr(snapshots, "FRESH_S", 0.0)
    async with (
        Cable(settings.database_url.get_secret_value()) as database_cable,
        Cable(settings.rabbitmq_url.get_secret_value()) as broker_cable,
    ):
        settings = Settings(database_url=database_cable.url, rabbitmq_url=broker_cable.url)  # type: ignore[arg-type]
        declared = topology.queues(settings)
        async with (
            open_servers(settings, declared, process="test") as (database, publisher),
            open_snapshots(settings, declared, database, clock=lambda: NOW) as shown,
        ):
            await publisher.wait_ready(DEADLINE_S)
            await publisher.send(DEAD_LETTERS, b"on its way to the archive")
            await Archive(database, Mask([])).keep([DeadLetter(bytes([number]), {}) for number in range(3)])
            await sql.execute("UPDATE dead_letters SET state = 'dropped' WHERE body = '\\x00'")
            whole = ClusterMetrics(shown, lambda: NOW)
            await whole.refresh()
            assert told(whole.collect())["horoscope_dead_letters"] == 3

            broker_cable.unplug()
            await whole.refresh()
            assert told(whole.collect())["horoscope_dead_letters"] == 2, "those in the archive"

            database_cable.unplug()
            broker_cable.plug()
            await whole.refresh()
            assert told(whole.collect())["horoscope_dead_letters"] == 2, "what was read last is still told"
            monkeypatch.setattr(metrics, "STALE_S", 0.0)
            assert "horoscope_dead_letters" not in told(whole.collect()), "and after a while not any more"
