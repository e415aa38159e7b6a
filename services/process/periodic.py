"""Periodic jobs of one process, run by APScheduler."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from schema.errors import PassingError

log = structlog.get_logger(__name__)


@asynccontextmanager
async def periodic(
    jobs: dict[Callable[[], Awaitable[object]], float], *, at_once: bool = False
) -> AsyncIterator[None]:
    """Run each job at its interval in seconds while the block runs, and with ``at_once`` also at its beginning.

    A passing error is logged, and the job runs again next time.
    """
    scheduler = AsyncIOScheduler()
    for job, seconds in jobs.items():
        # By default APScheduler skips a run that is a second late.
        scheduler.add_job(
            _run,
            "interval",
            [job],
            seconds=seconds,
            misfire_grace_time=None,
            coalesce=True,
            max_instances=1,
            **({"next_run_time": datetime.now(UTC)} if at_once else {}),
        )
    scheduler.start()
    try:
        yield
    finally:
        scheduler.shutdown(wait=False)


async def _run(job: Callable[[], Awaitable[object]]) -> None:
    try:
        await job()
    except asyncio.CancelledError:
        pass  # the process stops; APScheduler would log it as a failure
    except PassingError as error:
        log.warning("job.failed", job=getattr(job, "__qualname__", str(job)), reason=str(error))
