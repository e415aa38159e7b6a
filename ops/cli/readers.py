"""``horoscope readers``: what is kept about a reader, and how they are forgotten."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ops.cli import options
from ops.cli.console import Answer, Here, Screen, confirm, connected, yes_option
from schema.errors import NotFound

if TYPE_CHECKING:
    from services.readers.personal_data import PersonalData


def _reader(typed: str) -> int:
    """Telegram's number of a person."""
    if typed.startswith("@"):
        raise click.BadParameter(
            f"nobody can be found as {typed}: usernames are not kept. The reader's number is in the file that they get "
            "for /mydata"
        )
    if not (typed.isascii() and typed.isdecimal() and len(typed) <= 18 and int(typed)):
        raise click.BadParameter(f"{typed!r} is not a reader's number in Telegram, such as 123456789")
    return int(typed)


_reader_argument = click.argument("reader", type=_reader, metavar="ID")


@click.group()
def readers() -> None:
    """Find what is kept about a reader, or forget them.

    ID is the reader's number in Telegram. Usernames are not kept. Readers can do both by themselves: /mydata, /forget.
    """


@readers.command()
@_reader_argument
@connected()
async def find(here: Here, reader: int) -> Answer:
    """Show everything that is kept about a reader.

    With --json, it is what the reader gets as a file for /mydata.
    """
    data = await _personal_data(here).export(reader)
    if data is None:
        raise _nothing(reader)

    def show(screen: Screen) -> None:
        for name, table in data["tables"].items():
            for row in table["rows"]:
                screen.say(name, bold=True)
                screen.facts({column: _shown(value) for column, value in row.items()})
        for message in data["messages"]:
            screen.say(f"a message of {message['queue']} is in {message['kept_in']}")
        for name, count in data["mentions"].items():
            screen.say(f"rows of {name} that mention the number: {count}")

    return Answer(data, show)


def _personal_data(here: Here) -> PersonalData:
    from services.readers.personal_data import PersonalData

    return PersonalData(here.database, here.settings.reader_retention)


def _nothing(reader: int) -> NotFound:
    return NotFound(f"nothing is kept about a reader {reader}")


def _shown(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@readers.command()
@_reader_argument
@click.option("--why", required=True, type=options.reason, help="The reason, for the record.")
@yes_option
@connected(act="reader.forget")
async def forget(here: Here, reader: int, why: str, yes: bool, by: str) -> Answer:
    """Delete everything about a reader, for good. Asks before it does.

    Counted totals stay. A reader who comes back is a newcomer. The reason must not name the reader.
    """
    from services.readers.personal_data import Reason

    if str(reader) in why:
        raise click.BadParameter("it names the reader, and it is kept", param_hint="'--why'")
    data = _personal_data(here)
    if await data.export(reader) is None:
        raise _nothing(reader)
    confirm(f"Delete everything that is kept about reader {reader}, for good?", yes=yes)
    done = await data.forget(reader, Reason.OPERATOR, by=by, why=why)
    here.entry.after = {"rows": done.rows if done else 0, "why": why}  # and not who it was
    assert done  # there is no question that could be out of date
    mentions = f", and blotted the number out in {done.mentions} others" if done.mentions else ""
    return Answer(done, f"Deleted {done.rows} rows{mentions}. The bots' memory follows within two seconds.")
