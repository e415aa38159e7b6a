"""The command line: ``horoscope``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from ops.cli import status as statuses
from ops.cli.accounts import accounts
from ops.cli.audit import audit
from ops.cli.console import Answer, Here, confirm, connected, exit_on_error, yes_option
from ops.cli.dead import dead
from ops.cli.options import completed, day_to_write, one_of, queue_names, several_of
from ops.cli.queues import queues
from ops.cli.readers import readers
from schema.signs import Sign

if TYPE_CHECKING:
    import asyncio

    from schema.messages import Message
    from services.database.roles import RunningRole
    from services.process.settings import Settings

#: The garbage collector runs less often than by default: most objects of a request are freed without it.
GC_THRESHOLDS = (20_000, 20, 50)

EPILOG = """
Settings come from the environment and the file .env. The repository's
ops/docs/settings.md names each; ops/RUNBOOK.md answers every alarm.

\b
Exit codes: 0 all is well; 1 something needs a person; 2 wrong usage;
69 PostgreSQL or RabbitMQ cannot be reached; 78 a setting is missing or wrong.
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="horoscope", prog_name="horoscope")
def main() -> None:
    """Run a Telegram horoscope service, and see how it is doing.

    A deployment runs `migrate` once, then one or more `bot` (one with polling) and `worker`, one or two
    `scheduler`, and an `admin` for its operators.
    """


main.add_command(accounts)
main.add_command(audit)
main.add_command(dead)
main.add_command(queues)
main.add_command(readers)
main.add_command(statuses.status)


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema. It is safe to run twice, and by several at once.

    With MIGRATION_DATABASE_URL, its role owns the tables, and the role in DATABASE_URL is granted what the processes need.
    """
    import asyncio

    from services.database import migrations
    from services.database.pool import Database
    from services.process.settings import Settings

    async def work(settings: Settings) -> tuple[str | None, str | None]:
        owner = settings.migration_database_url or settings.database_url
        assert owner
        async with Database(owner.get_secret_value(), process="horoscope migrate") as database:
            return await migrations.migrate(database, running=_running_role(settings))

    with exit_on_error():
        before, after = asyncio.run(work(Settings.read("database_url")))
    click.echo(f"The database is at {after}" + (" already." if before == after else f", was at {before}."))


def _running_role(settings: Settings) -> RunningRole | None:
    """The role in DATABASE_URL, if another one owns the tables."""
    from services.database.roles import RunningRole
    from services.process.addresses import database_servers
    from services.process.settings import WrongSettings

    if not (settings.database_url and settings.migration_database_url):
        return None
    server, *_ = database_servers(settings.database_url.get_secret_value())
    if not server.user:
        raise WrongSettings(
            "DATABASE_URL is wrong: it names no user; MIGRATION_DATABASE_URL needs one to grant rights to"
        )
    return RunningRole(server.user, server.password)


@main.command()
def bot() -> None:
    """Answer readers on Telegram.

    By polling, or by webhook when WEBHOOK_URL is set.
    """
    from actors import topology
    from services.bot import process

    settings = start("bot", "database_url", "rabbitmq_url", "bot_token")
    run_until_stopped(lambda stop: process.run(settings, topology.queues(settings), stop))


@main.command()
@click.option(
    "--queues",
    type=several_of(queue_names),
    shell_complete=completed(queue_names),
    help="Consume only these, with commas between them; all by default.",
    metavar="NAMES",
    default="",
)
def worker(queues: set[str]) -> None:
    """Answer messages: write texts, deliver them, count views."""
    from actors import worker as workers

    settings = start("worker", "database_url", "rabbitmq_url", "bot_token", "openai_api_key")
    run_until_stopped(lambda stop: workers.run(settings, stop, only=queues))


@main.command()
def scheduler() -> None:
    """Publish the ticks: midnight at home, and every five minutes. Two may run."""
    from actors import scheduler as schedulers

    with exit_on_error():
        schedulers.run(start("scheduler", "database_url", "rabbitmq_url"))


@main.command()
def admin() -> None:
    """Serve the operators' page at ADMIN_LISTEN. Any number may run."""
    from importlib.resources import files

    from actors import REPLAYABLE, topology
    from services.admin import server as process

    settings = start("admin", "database_url", "rabbitmq_url", "admin_password")
    runbook = files("ops").joinpath("RUNBOOK.md").read_text(encoding="utf-8")
    queues = topology.queues(settings)
    run_until_stopped(lambda stop: process.run(settings, queues, REPLAYABLE, stop, runbook=runbook))


def _signs() -> list[str]:
    return [*Sign]


def _check_generate(*, again: bool, yes: bool, **_: Any) -> None:
    if yes and not again:
        raise click.UsageError("--yes goes with --again: nothing else asks")


@main.command()
@click.option("--day", type=day_to_write, metavar="DAY", help="As YYYY-MM-DD; today at home by default.")
@click.option(
    "--sign", type=one_of(_signs), metavar="SIGN", shell_complete=completed(_signs), help="Only this one."
)
@click.option("--again", is_flag=True, help="Replace existing texts, too; asks before it does.")
@yes_option
@connected("database_url", "rabbitmq_url", check=_check_generate, act="text.order")
async def generate(
    here: Here, day: date | None, sign: str | None, again: bool, yes: bool, **_: Any
) -> Answer:
    """Order the missing texts of a day now.

    Existing texts stay, unless --again is given; then readers see the old text until the new one is written.
    """
    from actors import topology
    from schema.messages import GenerateDay, GenerateHoroscope
    from services import days
    from services.horoscopes.night import generated
    from services.messaging.envelope import encode
    from services.messaging.publisher import Publisher

    which = day or days.day_in(here.settings.home_timezone, days.system_clock())
    asked = [Sign(sign)] if sign else list(Sign)
    here.entry.subject = f"{which} {sign or 'all signs'}"
    orders: list[Message] = [GenerateHoroscope(asked[0], which) if sign else GenerateDay(which, anew=True)]
    if again:
        written = await generated(here.database, which)
        replaced = {each: written[each] for each in asked if each in written}
        here.entry.before = {each.value: at for each, at in replaced.items()}
        if replaced and not yes:
            for each, at in replaced.items():
                click.echo(f"  {each.value:<12} written {at:%Y-%m-%d %H:%M} UTC", err=True)
            confirm(f"Replace texts of {which} that readers may have read?", yes=False)
        orders += [GenerateHoroscope(each, which, replaces=at) for each, at in replaced.items()]
    assert here.settings.rabbitmq_url
    urls = here.settings.rabbitmq_url.get_secret_value()
    async with Publisher(urls, topology.queues(here.settings)) as publisher:
        await publisher.wait_ready(10)
        for order in orders:
            await publisher.send(order.queue, encode(order))
    here.entry.after = {"ordered": len(orders), "again": again}
    what = f"the text of {sign} for {which}" if sign else f"the texts of all signs for {which}"
    existing = "" if again else ", unless written already"
    return Answer(
        {"day": which, "signs": asked, "again": again},
        f"Ordered: {what}{existing}. Follow it with: horoscope status --watch",
    )


def start(process: str, *required: str) -> Settings:
    """Read the settings and set up the logs of a process, or exit with a clear message."""
    from services.process.logs import Mask, configure
    from services.process.settings import Settings

    with exit_on_error():
        settings = Settings.read(*required)
    configure(settings.log_format, Mask(settings.secrets), process=process)
    return settings


def run_until_stopped(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a process's coroutine; SIGTERM and SIGINT ask it to finish."""
    import asyncio
    import gc

    import uvloop

    async def main_task() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        # Imported modules live as long as the process: the collector need not look at them again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await run(stop)

    with exit_on_error():
        uvloop.run(main_task())
