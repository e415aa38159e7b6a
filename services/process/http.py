"""Serves HTTP on an address from the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from services.process.settings import WrongSettings, split_listen


@asynccontextmanager
async def serve_http(app: web.Application, setting: str, listen: str, *, grace: float) -> AsyncIterator[None]:
    """Serve while the block runs, then give the running requests ``grace`` seconds to finish.

    Raises WrongSettings, which names the ``setting``, if the address cannot be listened on.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=grace, handle_signals=False)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, *split_listen(listen)).start()
        except OSError as error:
            raise WrongSettings(
                f"{setting} is wrong: {listen} cannot be listened on: {error.strerror or error}; "
                "expected an address of this machine and a port that is free"
            ) from error
        yield
    finally:
        await runner.cleanup()
