"""Servers of a test's own, which it may kill: a class of tests that inherits from these has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.stack.postgres import Postgres
from ops.stack.rabbitmq import RabbitMQ
from services.database.migrations import migrate
from services.database.pool import Database


class OwnRabbitMQ:
    @pytest.fixture
    def rabbitmq(self, tmp_path: Path) -> Iterator[RabbitMQ]:
        """A server that the test may stop."""
        with RabbitMQ(tmp_path / "rabbitmq") as server:
            yield server

    @pytest.fixture
    def rabbitmq_url(self, rabbitmq: RabbitMQ) -> str:
        """Its address, in the place of the shared one's."""
        return rabbitmq.url


class OwnPostgreSQL:
    @pytest.fixture
    def postgres(self, tmp_path: Path) -> Iterator[Postgres]:
        """A server that the test may stop."""
        with Postgres(tmp_path / "postgres") as server:
            yield server

    @pytest.fixture
    async def database_url(self, postgres: Postgres) -> str:
        """Its address, in the place of the shared one's."""
        async with Database(postgres.url) as database:
            await migrate(database)
        return postgres.url
