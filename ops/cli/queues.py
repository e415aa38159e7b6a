"""``horoscope queues``: what waits and who consumes it; pause, resume, purge and peek."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from actors import topology
from ops.cli.console import by_option, clock_time, confirm, exit_on_error, quiet, with_database
from schema.errors import UnknownQueue
from schema.messages import DEAD_LETTERS
from services.database.pool import Database
from services.messaging import pauses
from services.messaging.management import ManagementApi
from services.messaging.pauses import Pause
from services.messaging.queues import MOST_SHOWN, QueuedMessage, Queues, QueueStatus
from services.process.logs import Mask
from services.process.settings import Settings

#: Seconds that `pause` waits for the workers to let go of a queue.
LET_GO_S = 5.0
#: Looks meanwhile whether they have.
LOOKS = 25

#: Characters of a message's arguments that a row shows; --json shows all.
_SHOWN = 300

_Found = TypeVar("_Found")

_json_option = click.option("--json", "as_json", is_flag=True, help="For scripts.")
_queue_argument = click.argument("name", metavar="QUEUE")


@click.group(invoke_without_command=True)
@_json_option
@click.pass_context
def queues(context: click.Context, as_json: bool) -> None:
    """Every queue: what waits, how it moves, who consumes it; pause, resume, purge or peek at one."""
    if context.invoked_subcommand is None:
        _list(as_json=as_json)
    elif as_json:
        raise click.UsageError(
            f"--json stands behind the command: horoscope queues {context.invoked_subcommand}"
        )


@queues.command("list")
@_json_option
def list_(as_json: bool) -> None:
    """The same as `horoscope queues` alone."""
    _list(as_json=as_json)


@queues.command()
@_queue_argument
@click.option("--why", default="", metavar="TEXT", help="What the next person should know.")
@by_option
def pause(name: str, why: str, by: str) -> None:
    """Have all workers stop consuming QUEUE, until `resume`. What they have begun they finish."""
    settings = _settings("database_url", "rabbitmq_url")

    async def work(database: Database) -> tuple[bool, Pause, int]:
        await database.check()
        async with _opened(settings) as queues:
            queues.check_pausable(name)
            new = await pauses.pause(database, name, by=by, why=why)
            paused = (await pauses.read_pauses(database))[name]
            return new, paused, await _let_go(queues, name)

    with _told_and_named():
        new, paused, consumers = asyncio.run(with_database(settings, work))
    click.echo(f"{name} is {paused}." if new else f"{name} was paused before: {paused}.")
    if consumers:
        click.echo(f"Still there: {consumers}; they let go when they have finished what they are at.")
    else:
        click.echo("No worker consumes it now.")
    click.echo(f"To go on: horoscope queues resume {name}")


@queues.command()
@_queue_argument
@by_option
def resume(name: str, by: str) -> None:
    """Have all workers consume QUEUE again."""
    settings = _settings("database_url", "rabbitmq_url")

    async def work(database: Database) -> bool:
        await database.check()
        async with _opened(settings) as queues:
            queues.check_pausable(name)
        return await pauses.resume(database, name, by=by)

    with _told_and_named():
        resumed = asyncio.run(with_database(settings, work))
    click.echo(f"{name} is consumed again, within a second or two." if resumed else f"{name} was not paused.")


@queues.command()
@_queue_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@by_option
def purge(name: str, yes: bool, by: str) -> None:
    """Delete all messages that wait in QUEUE, for good. Asks before it does."""
    settings = _settings("rabbitmq_url")

    async def count(queues: Queues) -> int:
        return (await queues.find(name)).messages

    with _told_and_named():
        waiting = asyncio.run(_with_queues(settings, count))
        if name == DEAD_LETTERS and not yes:
            click.echo(
                "These letters are not archived yet: once deleted, nobody can replay them any more.", err=True
            )
        confirm(f"Delete all {waiting} messages of {name}, for good?", yes=yes)

        async def work(queues: Queues) -> int:
            return await queues.purge(name, at_most=None if yes else waiting, by=by)

        deleted = asyncio.run(_with_queues(settings, work))
    click.echo(f"Deleted {deleted} messages of {name}.")


@queues.command()
@_queue_argument
@click.option(
    "--limit", type=click.IntRange(1, MOST_SHOWN), default=10, show_default=True, help="How many at most."
)
@_json_option
def peek(name: str, limit: int, as_json: bool) -> None:
    """Show the oldest messages of QUEUE, which stay where they are. Nobody may consume it meanwhile."""
    settings = _settings("rabbitmq_url")

    async def work(queues: Queues) -> tuple[list[QueuedMessage], int]:
        seen = await queues.peek(name, limit)
        return seen, (await queues.find(name)).messages

    with _told_and_named():
        seen, waiting = asyncio.run(_with_queues(settings, work))
    if as_json:
        _print_json([asdict(each) for each in seen])
    else:
        _print_seen(seen, waiting)


def _settings(*required: str) -> Settings:
    with exit_on_error():
        return Settings.read(*required)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Queues]:
    assert settings.rabbitmq_url
    urls = settings.rabbitmq_url.get_secret_value()
    async with ManagementApi(urls, settings.rabbitmq_management_url) as api:
        yield Queues(urls, topology.queues(settings), api, Mask(settings.secrets))


async def _with_queues(settings: Settings, work: Callable[[Queues], Awaitable[_Found]]) -> _Found:
    async with _opened(settings) as queues:
        return await work(queues)


async def _let_go(queues: Queues, name: str) -> int:
    """Wait until nobody consumes the queue, or not any longer; how many do."""
    consumers = 0
    for _ in range(LOOKS):
        if not (consumers := (await queues.find(name)).consumers):
            break
        await asyncio.sleep(LET_GO_S / LOOKS)
    return consumers


def _list(*, as_json: bool) -> None:
    settings = _settings("database_url", "rabbitmq_url")

    async def work(database: Database) -> tuple[list[QueueStatus], str | None, dict[str, Pause]]:
        await database.check()
        paused = await pauses.read_pauses(database)
        async with _opened(settings) as queues:
            return *(await queues.figures()), paused

    with exit_on_error():
        found, unmanaged, paused = asyncio.run(with_database(settings, work))
    if as_json:
        management = {"reachable": unmanaged is None, "reason": unmanaged}
        _print_json({"queues": [queue.to_json(paused) for queue in found], "management_api": management})
    else:
        _print_queues(found, unmanaged, paused)


@contextmanager
def _told_and_named() -> Iterator[None]:
    """As `told`; a queue that there is not is wrong usage, and those that there are get named."""
    with exit_on_error(), quiet():
        try:
            yield
        except UnknownQueue as error:
            raise click.BadParameter(str(error), param_hint="QUEUE") from None


def _print_queues(found: list[QueueStatus], unmanaged: str | None, paused: dict[str, Pause]) -> None:
    console = Console(highlight=False)
    table = Table("queue", box=None)
    for heading in ("ready", "at work", "in/s", "out/s", "consumers", "oldest"):
        table.add_column(heading, justify="right")
    for queue in found:
        flow = queue.flow
        table.add_row(
            _plain(queue.name),
            str(queue.messages),
            *(
                (str(flow.unacknowledged), f"{flow.rate_in:.1f}", f"{flow.rate_out:.1f}")
                if flow
                else ("?", "?", "?")
            ),
            "" if queue.kind == "waiting" else str(queue.consumers),
            _age(flow.oldest_at) if flow and flow.oldest_at and queue.messages else "",
        )
    console.print(table)
    for pause in paused.values():
        console.print(f"{pause.queue} is {pause}", style="bold", markup=False, soft_wrap=True)
    if not found:
        console.print("RabbitMQ has no queues: no process has been started.")
    if unmanaged:
        console.print(
            f"Rates and ages are not known: RabbitMQ's management API does not answer ({unmanaged}); see "
            "RABBITMQ_MANAGEMENT_URL.",
            markup=False,
            soft_wrap=True,
        )


def _print_seen(seen: list[QueuedMessage], waiting: int) -> None:
    for place, each in enumerate(seen, 1):
        again = ", redelivered" if each.redelivered else ""
        if each.garbage is not None:
            click.echo(f"{place}  no message{again}\n   {each.garbage}")
            continue
        click.echo(
            _plain(f"{place}  {each.actor}  {each.message_id}")
            + f"\n   published {clock_time(each.published_at)}, failed attempts {each.attempts}{again}\n   "
            + _plain(each.shown(_SHOWN))
        )
    click.echo(f"{len(seen)} of {waiting} messages, which are all where they were.")


def _print_json(found: object) -> None:
    click.echo(json.dumps(found, default=_iso, ensure_ascii=True, indent=2))


def _iso(value: Any) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _age(since: datetime) -> str:
    """How long ago that was, in its largest unit."""
    seconds = max(0, int((datetime.now(UTC) - since).total_seconds()))
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _plain(text: str) -> str:
    """Whatever somebody has put there, a terminal is only told what it can print."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
