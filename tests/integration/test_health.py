"""Whether a process says the truth of itself."""

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import dramatiq
import pytest
from prometheus_client import CollectorRegistry
from ruamel.yaml import YAML

from actors import TABLE, topology
from actors.broker import Broker, blocking_publish, declare
from actors.dead_letters import DeadLetters
from actors.meter import Meter, Threads
from ops.stack.ports import free_port as find_free_port
from schema.messages import TICKS
from schema.tables import REVISION
from services import health as healths
from services.app import App, open_servers
from services.database.pool import Database
from services.health import Health
from services.process import heartbeats as presences
from services.process.heartbeats import present, read_processes
from services.process.http import serve_http
from services.process.logs import Mask
from services.process.settings import Settings
from tests.processes import Processes
from tests.proxy import Cable
from tests.queues import Queues
from tests.telling import ask, health, measure, until_health
from tests.waiting import DEADLINE_S, until_sql


@asynccontextmanager
async def telling(health: Health) -> AsyncIterator[int]:
    """The port on which it is told."""
    port = find_free_port()
    async with serve_http(health.application(), "METRICS_LISTEN", f"127.0.0.1:{port}", grace=1):
        yield port


async def asked_by_compose(port: int, exit_code: int) -> str:
    """What the health check of docker-compose.yml prints, which ends as it should."""
    compose = YAML(typ="safe").load(Path(__file__).parents[2] / "docker-compose.yml")
    _, _, *arguments = compose["services"]["bot"]["healthcheck"]["test"]
    arguments[-1] = arguments[-1].replace("9100", str(port))
    asked = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    said, _ = await asked.communicate()
    assert asked.returncode == exit_code
    return said.decode()


async def test_readiness_follows_the_servers_and_liveness_does_not(
    settings: Settings, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.database_url
    assert settings.rabbitmq_url
    monkeypatch.setattr(healths, "GLANCE_S", 0.2)
    stop = asyncio.Event()
    async with (
        Cable(settings.database_url.get_secret_value()) as database_cable,
        Cable(settings.rabbitmq_url.get_secret_value()) as broker_cable,
    ):
        settings = Settings(database_url=database_cable.url, rabbitmq_url=broker_cable.url)  # type: ignore[arg-type]
        async with open_servers(settings, topology.queues(settings), process="test") as (database, publisher):
            health_ = Health(database, publisher, stop, Mask(settings.secrets), CollectorRegistry())
            async with telling(health_) as port:
                assert (await until_health(port, "ready", 503))["process"] == "it is starting"
                assert "it is starting" in await asked_by_compose(port, exit_code=1)
                health_.ready = {}
                assert set((await until_health(port, "ready", 200)).values()) == {"ok"}
                await asked_by_compose(port, exit_code=0)

                database_cable.unplug()
                parts = await until_health(port, "ready", 503)
                assert "PostgreSQL cannot be reached" in parts["postgresql"]
                assert parts["rabbitmq"] == "ok"
                assert (await health(port, "live"))[0] == 200
                database_cable.plug()
                await until_health(port, "ready", 200)

                broker_cable.unplug()
                parts = await until_health(port, "ready", 503)
                assert "RabbitMQ cannot be reached" in parts["rabbitmq"]
                assert parts["postgresql"] == "ok"
                assert (await health(port, "live"))[0] == 200
                broker_cable.plug()
                await until_health(port, "ready", 200)

                await sql.execute("UPDATE alembic_version SET version_num = '0001'")
                assert REVISION in (await until_health(port, "ready", 503))["postgresql"]
                await sql.execute("DROP TABLE alembic_version")
                await until_health(port, "ready", 503)
                assert "horoscope migrate" in (await health(port, "ready"))[1]["postgresql"]

                health_.live["clock"] = lambda: "it stands still"
                assert (await until_health(port, "live", 503))["clock"] == "it stands still"
                stop.set()
                await until_health(port, "live", 200)
                assert (await until_health(port, "ready", 503))["process"] == "it is stopping"
                assert (await ask(port, "/health/ready", "POST"))[0] == 405
                assert (await ask(port, "/metrics", "DELETE"))[0] == 405
                assert (await ask(port, "/health/live", "HEAD")) == (200, "")


async def test_a_consumer_that_stands_still_and_one_that_is_closed_are_told(
    app: App, settings: Settings, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.rabbitmq_url
    monkeypatch.setattr("actors.meter.CONSUMER_TURN_S", 1.0)
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.1)
    publishing, go_on = threading.Event(), threading.Event()

    class SlowDeadLetters(DeadLetters):
        def publish_bytes(self, *_: object) -> None:
            publishing.set()
            go_on.wait()

    async with Cable(settings.rabbitmq_url.get_secret_value()) as cable:
        loop = asyncio.get_running_loop()
        publish = blocking_publish(app.publisher, loop)
        broker = Broker(
            cable.url,
            topology.queues(settings),
            publish,
            SlowDeadLetters(publish, app.mask),
        )
        (tick, *_) = [actor for actor in TABLE if actor.queue == TICKS]
        declare(broker, tick, lambda: None)
        worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=50)
        worker.start()
        meter = Meter(TABLE)
        threads = Threads(broker, worker, meter)
        try:
            await until(lambda: threads.consumers_trouble() == "")
            assert threads.trouble() == ""
            queues.put(TICKS, b"undecodable")
            await until(lambda: "the consumer of ticks has stood still" in threads.trouble())
            assert publishing.is_set()
            go_on.set()
            await until(lambda: threads.trouble() == "")
            cable.unplug()
            await until(lambda: threads.consumers_trouble() == "no open consumer of ticks")
            cable.plug()
            await until(lambda: threads.consumers_trouble() == "")
            meter.before_process_message(broker, SimpleNamespace(actor_name=tick.name))
            assert threads.trouble() == ""
            monkeypatch.setattr("actors.meter.HANDLER_S", 0.0)
            assert f"{tick.name} has been handling one message for" in threads.trouble()
            monkeypatch.setattr("actors.meter.HANDLER_S", 1800.0)
        finally:
            go_on.set()
            await asyncio.to_thread(worker.stop)
    assert threads.trouble() == "the consumer of ticks has ended; 1 of 1 worker threads have ended"


async def until(condition: object, within: float = DEADLINE_S) -> None:
    """Wait for a condition."""
    assert callable(condition)
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.02)


async def test_every_process_tells_how_it_is_and_is_seen_while_it_runs(
    processes: Processes, sql: asyncpg.Connection, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presences, "LOST_S", 2)
    ports = {kind: find_free_port() for kind in ("bot", "worker", "scheduler")}
    running = {
        kind: await processes.start(
            kind,
            environment={"METRICS_LISTEN": f"127.0.0.1:{port}"},
            constants={"services.process.heartbeats:BEAT_S": 0.5},
        )
        for kind, port in ports.items()
    }
    parts = {kind: await until_health(port, "ready", 200) for kind, port in ports.items()}
    assert {
        kind: set(told) - {"event loop", "postgresql", "rabbitmq", "process"} for kind, told in parts.items()
    } == {
        "bot": {"telegram"},
        "worker": {"threads", "consumers"},
        "scheduler": {"clock"},
    }
    for kind, port in ports.items():
        measured = await measure(port)
        info = f'horoscope_process_info{{kind="{kind}",release="{presences.RELEASE}"}}'
        assert measured[info] == 1
        assert measured['horoscope_connected{server="postgresql"}'] == 1
        assert measured['horoscope_connected{server="rabbitmq"}'] == 1
        assert measured["process_resident_memory_bytes"] > 1e6
    assert (await measure(ports["bot"]))['horoscope_telegram_calls_total{outcome="done"}'] >= 1
    seen = await read_processes(database)
    assert {(each.kind, each.pid, each.lost) for each in seen} == {
        (kind, process.pid, False) for kind, process in running.items()
    }

    assert await running["bot"].stop() == 0
    running["worker"].kill()
    await until_sql(sql, "SELECT count(*) FROM processes WHERE seen_at < now() - interval '2 s'", 1)
    assert {(each.kind, each.lost) for each in await read_processes(database)} == {
        ("worker", True),
        ("scheduler", False),
    }


async def test_a_scheduler_ticks_without_postgresql_and_ends_without_it(
    processes: Processes, free_port: int, queues: Queues
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        url = f"postgresql://user:password@127.0.0.1:{silent.getsockname()[1]}/x"
        scheduler = await processes.start(
            "scheduler", environment={"DATABASE_URL": url, "METRICS_LISTEN": f"127.0.0.1:{free_port}"}
        )
        await scheduler.said("tick.published")
        await queues.filled(TICKS)
        parts = await until_health(free_port, "ready", 503)
        assert "PostgreSQL cannot be reached" in parts["postgresql"]
        assert parts["clock"] == "ok"
        assert (await health(free_port, "live"))[0] == 200
        assert (await measure(free_port))['horoscope_connected{server="postgresql"}'] == 0
        assert await scheduler.stop() == 0
        await scheduler.said("process.not_signed_off")


async def test_an_address_that_cannot_be_listened_on_is_named(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = await processes.run("scheduler", environment={"METRICS_LISTEN": listen})
    assert code == 78
    assert f"METRICS_LISTEN is wrong: {listen} cannot be listened on" in said


async def test_who_runs_says_so_at_once_and_is_forgotten_when_it_ends(database: Database) -> None:
    async with present(database, "bot"):
        async with asyncio.timeout(DEADLINE_S):
            while not await read_processes(database):
                await asyncio.sleep(0.02)
        (seen,) = await read_processes(database)
        assert (seen.kind, seen.lost) == ("bot", False)
    assert await read_processes(database) == []
