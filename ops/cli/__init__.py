"""The command line: ``horoscope``."""

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from datetime import date, datetime, timedelta
from importlib.metadata import version
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.table import Table

from actors import REPLAYABLE, TABLE, topology
from ops.cli.console import EXIT_NEEDS_A_PERSON, clock_time, confirm, exit_on_error, with_database
from ops.cli.dead import dead
from ops.cli.queues import queues
from schema.messages import GenerateDay, GenerateHoroscope, Message
from schema.signs import Sign
from services import status as statuses
from services.database.pool import Database
from services.days import day_in, first_day_alive, system_clock
from services.horoscopes.night import generated
from services.horoscopes.usage import Usage
from services.messaging.envelope import encode
from services.messaging.publisher import Publisher
from services.messaging.queues import read_queues
from services.process.logs import Mask, configure
from services.process.settings import Settings

#: The collector looks less often than by default: nearly all that a request leaves behind goes without it.
GC_THRESHOLDS = (20_000, 20, 50)

#: `generate` orders texts this many days ahead at the most: nobody can ask for more.
FURTHEST_DAYS = 31

EPILOG = """
Settings come from the environment and the file .env. The repository's
ops/docs/settings.md names each; ops/RUNBOOK.md answers every alarm.

\b
Exit codes: 0 all is well; 1 something needs a person; 2 wrong usage;
69 PostgreSQL or RabbitMQ cannot be reached; 78 a setting is missing or wrong.
"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("horoscope"), prog_name="horoscope")
def main() -> None:
    """A Telegram horoscope service: its processes, and a look at how it is doing.

    A deployment runs `migrate` once, then any number of `bot` (one with polling) and `worker`, one or
    two `scheduler`, and an `admin` for those who look after it.
    """


main.add_command(dead)
main.add_command(queues)


@main.command()
def migrate() -> None:
    """Bring the database to the newest schema. Safe to run twice, and by several at once."""
    from services.database import migrations  # noqa: PLC0415  each command pays for its own imports only

    with exit_on_error():
        settings = Settings.read("database_url")
        before, after = asyncio.run(with_database(settings, migrations.migrate))
    click.echo(f"The database is at {after}" + (" already." if before == after else f", was at {before}."))


@main.command()
def bot() -> None:
    """Answer readers on Telegram, by polling, or by webhook when WEBHOOK_URL is set."""
    from services.bot import process  # noqa: PLC0415

    settings = start("bot", "database_url", "rabbitmq_url", "bot_token")
    run_until_stopped(lambda stop: process.run(settings, topology.queues(settings), stop))


@main.command()
@click.option(
    "--queues",
    help="Consume these only, with commas between; all by default.",
    metavar="NAMES",
    default="",
)
def worker(queues: str) -> None:
    """Answer messages: write texts, deliver them, count views."""
    from actors import worker as workers  # noqa: PLC0415

    known = {actor.queue for actor in TABLE}
    only = {name.strip() for name in queues.split(",") if name.strip()}
    if unknown := only - known:
        raise click.BadParameter(
            f"no queue {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}",
            param_hint="--queues",
        )
    settings = start("worker", "database_url", "rabbitmq_url", "bot_token", "openai_api_key")
    run_until_stopped(lambda stop: workers.run(settings, stop, only=only))


@main.command()
def scheduler() -> None:
    """Publish the ticks: midnight at home, and every five minutes. Two may run."""
    from actors import scheduler as schedulers  # noqa: PLC0415

    with exit_on_error():
        schedulers.run(start("scheduler", "database_url", "rabbitmq_url"))


@main.command()
def admin() -> None:
    """Serve the operators' page at ADMIN_LISTEN. Any number may run."""
    from services.admin import server as process  # noqa: PLC0415

    settings = start("admin", "database_url", "rabbitmq_url", "admin_password")
    run_until_stopped(lambda stop: process.run(settings, topology.queues(settings), REPLAYABLE, stop))


@main.command()
@click.option("--day", help="Which day, as YYYY-MM-DD; today at home by default.", metavar="DAY")
@click.option("--sign", help="Only this sign, such as leo; all by default.", metavar="SIGN")
@click.option("--again", is_flag=True, help="Replace the texts that exist, too; asks before it does.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def generate(day: str | None, sign: str | None, again: bool, yes: bool) -> None:
    """Order what is missing of a day to be written now.

    A text that exists stays as it is, unless --again says otherwise; then readers are shown it until the new
    one is there.
    """
    if yes and not again:
        raise click.UsageError("--yes goes with --again: nothing else asks")
    with exit_on_error():
        settings = Settings.read("rabbitmq_url", *(["database_url"] if again else []))
        now = system_clock()
        which = day_in(settings.home_timezone, now) if day is None else _day(day, now)
        asked = list(Sign) if sign is None else [_sign(sign)]
        orders: list[Message] = [
            GenerateHoroscope(asked[0], which) if sign else GenerateDay(which, anew=True)
        ]
        if again:
            written = asyncio.run(with_database(settings, lambda database: generated(database, which)))
            replaced = {each: written[each] for each in asked if each in written}
            if replaced and not yes:
                for each, at in replaced.items():
                    click.echo(f"  {each.value:<12} written {at:%Y-%m-%d %H:%M} UTC", err=True)
                confirm(f"Replace what readers of {which} may have read?", yes=False)
            orders += [GenerateHoroscope(each, which, replaces=at) for each, at in replaced.items()]
        asyncio.run(_publish(settings, orders))
    what = asked[0] if sign else "all signs"
    exist = "" if again else ", unless they exist"
    click.echo(f"Ordered: {what}, {which}{exist}. Follow it with: horoscope status")


async def _publish(settings: Settings, messages: Sequence[Message]) -> None:
    assert settings.rabbitmq_url
    url = settings.rabbitmq_url.get_secret_value()
    async with Publisher(url, topology.queues(settings)) as publisher:
        await publisher.wait_ready(10)
        for message in messages:
            await publisher.send(message.queue, encode(message))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def status(as_json: bool) -> None:
    """Is today ready, is anything stuck. Exits with 1 when something needs a person."""
    with exit_on_error():
        settings = Settings.read("database_url", "rabbitmq_url")
        assert settings.rabbitmq_url

        async def read(database: Database) -> Any:
            await database.check()
            home = settings.home_timezone
            usage = Usage(database, home, system_clock, settings.token_prices, settings.daily_token_limit)
            return await statuses.read_records(database, usage, system_clock, home)

        records = asyncio.run(with_database(settings, read))
        queues = read_queues(settings.rabbitmq_url.get_secret_value(), topology.queues(settings))
        seen = statuses.judge(records, queues)
    if as_json:
        click.echo(json.dumps(asdict(seen), default=str, ensure_ascii=False, indent=2))
    else:
        _print_status(seen)
    sys.exit(EXIT_NEEDS_A_PERSON if seen.alarms else 0)


_MARKS = {"written": "●", "writing": "✎", "pending": "○", "retrying": "↻", "given_up": "✗", "missing": "·"}


def _print_status(seen: statuses.Status) -> None:
    console = Console(highlight=False)
    table = Table("day", *(sign.symbol.removesuffix("\ufe0f") for sign in Sign), "ready", box=None)
    for day in seen.days:
        marks = (_MARKS[day.states[sign.value]] for sign in Sign)
        table.add_row(str(day.day), *marks, f"{day.written} of {len(Sign)}")
    console.print(table)
    console.print(
        "  ".join(f"{mark} {state.replace('_', ' ')}" for state, mark in _MARKS.items()), style="dim"
    )
    for day in seen.days:
        for became, signs in _unwritten(day).items():
            console.print(f"  {day.day} {', '.join(signs)}: {became}", markup=False, soft_wrap=True)
    table = Table("tick", "last", "did", "next", box=None)
    for tick in seen.ticks:
        table.add_row(tick.name, clock_time(tick.at), tick.did, clock_time(tick.due))
    console.print(table)
    table = Table("queue", "messages", "consumers", box=None)
    for queue in seen.queues:
        if queue.kind != "waiting" or queue.messages:
            consumers = "" if queue.kind == "waiting" else str(queue.consumers)
            table.add_row(queue.name, str(queue.messages), consumers)
    console.print(table)
    for pause in seen.pauses:
        console.print(f"  {pause.queue} is {pause}", markup=False, soft_wrap=True)
    console.print(
        f"horoscopes today {seen.horoscopes_today}   readers {seen.readers}   "
        f"waiting {seen.waiters}   parked {seen.parked}   dead letters {seen.dead_letters}   "
        f"tokens today {seen.tokens_today}"
        + ("" if seen.cost_today_usd is None else f" (${seen.cost_today_usd:.4f})")
    )
    console.print("   ".join(f"{kind}s {count}" for kind, count in seen.running.items()))
    ends = [(f"! {alarm}", "bold red") for alarm in seen.alarms] or [("All is well.", "green")]
    for line, style in (*ends, *((note, "dim") for note in seen.notes)):
        console.print(line, style=style, markup=False, soft_wrap=True)


def _unwritten(day: statuses.DayStatus) -> dict[str, list[str]]:
    """What became of the texts that are not there, in a line each; signs of which the same is to be told share it."""
    told: dict[str, list[str]] = {}
    for sign in day.unwritten:
        if sign.since is None:
            continue
        said = f"{sign.state.replace('_', ' ')} since {clock_time(sign.since)}"
        if sign.retry_at:
            said += f", tries again {clock_time(sign.retry_at)}"
        if sign.attempts:
            said += f"; attempts {sign.attempts}, the last by {sign.writer}"
        told.setdefault(said + (f"; last error: {sign.error}" if sign.error else ""), []).append(sign.sign)
    return told


def start(process: str, *required: str) -> Settings:
    """Read the settings and set the logs up, or leave with a clear message."""
    with exit_on_error():
        settings = Settings.read(*required)
    configure(settings.log_format, Mask(settings.secrets), process=process)
    return settings


def run_until_stopped(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run a process's coroutine; SIGTERM and SIGINT ask it to finish."""

    async def main_task() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        # What was imported lives as long as the process: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await run(stop)

    with exit_on_error():
        uvloop.run(main_task())


def _day(text: str, now: datetime) -> date:
    first, last = first_day_alive(now), first_day_alive(now) + timedelta(days=FURTHEST_DAYS)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no day; expected YYYY-MM-DD, such as {first}", param_hint="--day"
        ) from None
    if not first <= day <= last:
        raise click.BadParameter(
            f"nobody lives in {day} now or soon; expected {first} to {last}", param_hint="--day"
        )
    return day


def _sign(text: str) -> Sign:
    try:
        return Sign(text.lower())
    except ValueError:
        raise click.BadParameter(
            f"no sign {text!r}; there are {', '.join(Sign)}", param_hint="--sign"
        ) from None
