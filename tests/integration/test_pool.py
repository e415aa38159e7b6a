"""Connections to PostgreSQL."""

from services.app import App


async def test_an_open_app_has_a_connection_before_a_reader_needs_one(app: App) -> None:
    assert app.database._engine.pool.checkedin() == 1  # type: ignore[attr-defined]
