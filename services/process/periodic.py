"""What each process does for itself, again and again: APScheduler's part."""

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
    """Run each job every so many seconds while the block runs; what passes is logged and tried again.

    Args:
        jobs: Seconds between two runs, by job.
        at_once: The first run is now, beside the block's beginning, instead of after so many seconds.
    """
    scheduler = AsyncIOScheduler()
    for job, seconds in jobs.items():
        # Late is better than never: by default a run that is a second late is left out.
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
        log.warning("chore.put_off", chore=getattr(job, "__qualname__", str(job)), reason=str(error))
