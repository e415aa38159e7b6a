"""``horoscope queues``: what waits and who consumes it; pause, resume, purge and peek."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from ops.cli import tables
from ops.cli.console import Answer, Here, confirm, connected, yes_option
from ops.cli.options import completed, counted, did_you_mean, limit_option, queue_names
from schema.errors import UnknownQueue

if TYPE_CHECKING:
    from services.messaging.queues import Queues

#: Seconds that `pause` waits for the workers to stop consuming a queue.
LET_GO_S = 5.0
#: How often it looks in that time.
LOOKS = 25
#: Messages that `peek` shows at most.
MOST_SHOWN = 100

_BOTH = ("database_url", "rabbitmq_url")

_Work = Callable[..., Coroutine[Any, Any, Answer]]


def _of_a_queue(work: _Work) -> _Work:
    """Hand a command its argument QUEUE as ``name``; a queue that does not exist is wrong usage."""

    @functools.wraps(work)
    async def named(here: Here, name: str, **options: Any) -> Answer:
        from actors import topology

        here.entry.subject = name
        try:
            return await work(here, name=name, **options)
        except UnknownQueue as error:
            names = [queue.name for queue in topology.queues(here.settings)]
            raise click.BadParameter(f"{error}.{did_you_mean(name, names)}", param_hint="'QUEUE'") from None

    return named


_queue_argument = click.argument("name", metavar="QUEUE", shell_complete=completed(queue_names))


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.pass_context
def queues(context: click.Context, as_json: bool) -> None:
    """List the queues; pause, resume, purge or peek at one.

    Alone it lists what waits in each queue, how it moves and who consumes it.
    """
    if context.invoked_subcommand is None:
        context.invoke(list_, as_json=as_json)
    elif as_json:
        command = f"horoscope queues {context.invoked_subcommand}"
        raise click.UsageError(f"--json comes after the command: {command} --json")


@queues.command("list")
@connected(*_BOTH)
async def list_(here: Here) -> Answer:
    """List the queues, as `horoscope queues` alone does."""
    from services.messaging.pauses import read_pauses

    paused = await read_pauses(here.database)
    found, unmanaged = await here.queues.figures()
    value = {
        "queues": [queue.to_json(paused) for queue in found],
        "management_api": {"reachable": unmanaged is None, "reason": unmanaged},
    }
    return Answer(value, lambda screen: tables.show_queues(screen, found, unmanaged, paused.values()))


@queues.command()
@_queue_argument
@click.option("--why", default="", metavar="TEXT", help="The reason, for the next person.")
@connected(*_BOTH, act="queue.pause")
@_of_a_queue
async def pause(here: Here, name: str, why: str, by: str) -> Answer:
    """Stop all workers from consuming QUEUE, until resumed.

    They finish what they have begun.
    """
    from services.messaging import pauses

    here.queues.check_pausable(name)
    here.entry.after = {"why": why}
    new = await pauses.pause(here.database, name, by=by, why=why)
    if not new:
        here.entry.refuse("it was paused already")
    paused = (await pauses.read_pauses(here.database))[name]
    consumers = await _let_go(here.queues, name)
    left = (
        f"Consumers that have not finished yet: {consumers}. They stop as soon as they have."
        if consumers
        else "No worker consumes it now."
    )
    return Answer(
        {"pause": paused, "new": new, "consumers": consumers},
        f"{name} {'is' if new else 'was already'} {paused}.\n{left}\n"
        f"To go on: horoscope queues resume {name}",
    )


async def _let_go(queues: Queues, name: str) -> int:
    """Wait until nobody consumes the queue, but not for long; the number of consumers that are left."""
    import asyncio

    consumers = 0
    for _ in range(LOOKS):
        if not (consumers := (await queues.find(name)).consumers):
            break
        await asyncio.sleep(LET_GO_S / LOOKS)
    return consumers


@queues.command()
@_queue_argument
@connected(*_BOTH, act="queue.resume")
@_of_a_queue
async def resume(here: Here, name: str, by: str) -> Answer:
    """Let all workers consume QUEUE again."""
    from services.messaging import pauses

    here.queues.check_pausable(name)
    paused = (await pauses.read_pauses(here.database)).get(name)
    here.entry.before = paused and {"by": paused.by, "why": paused.why, "since": paused.since}
    resumed = await pauses.resume(here.database, name, by=by)
    if not resumed:
        here.entry.refuse("it was not paused")
    return Answer(
        {"queue": name, "resumed": resumed},
        f"{name} is consumed again, within two seconds." if resumed else f"{name} was not paused.",
    )


@queues.command()
@_queue_argument
@yes_option
@connected(*_BOTH, act="queue.purge")
@_of_a_queue
async def purge(here: Here, name: str, yes: bool, by: str) -> Answer:
    """Delete all messages that wait in QUEUE, for good. Asks before it does."""
    from schema.messages import DEAD_LETTERS

    waiting = (await here.queues.find(name)).messages
    here.entry.before = {"messages": waiting}
    if name == DEAD_LETTERS and not yes:
        click.echo("These letters are not archived yet: once deleted, they cannot be replayed.", err=True)
    messages = f"{'' if waiting == 1 else 'all '}{counted(waiting, 'message')}"
    confirm(f"Delete {messages} in {name}, for good?", yes=yes)
    deleted = await here.queues.purge(name, at_most=None if yes else waiting, by=by)
    here.entry.after = {"deleted": deleted}
    return Answer({"queue": name, "deleted": deleted}, f"Deleted {counted(deleted, 'message')} in {name}.")


@queues.command()
@_queue_argument
@limit_option(10, MOST_SHOWN)
@connected(*_BOTH, act="queue.peek")
@_of_a_queue
async def peek(here: Here, name: str, limit: int, **_: Any) -> Answer:
    """Show the oldest messages in QUEUE; they stay in their place. The queue must have no consumers."""
    seen = await here.queues.peek(name, limit)
    waiting = (await here.queues.find(name)).messages
    return Answer(seen, lambda screen: tables.show_messages(screen, seen, waiting))
