"""``horoscope dead``: dead letters as people find, mend and replay them."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ops.cli import console, options, replays, tables
from ops.cli.console import Answer, Here, Screen, asking, connected, yes_option
from ops.cli.options import NUMBER, chosen, counted, limit_option, selecting
from schema.errors import InvalidMessage, Refused
from services.dead_letters.filters import Filter, numbers
from services.process.escaping import visible

if TYPE_CHECKING:
    from services.dead_letters.records import Letter

EPILOG = """
All conditions that are given must be true of a letter. Numbers name letters
one by one. Times are in this machine's zone; --since and --until take a
date, a time or an age (15m, 2h, 3d).
"""


_OUTPUT = click.Path(dir_okay=False, allow_dash=True)
_SET = "Set an argument; the value is JSON, or else text. May be repeated."


@click.group(epilog=EPILOG)
def dead() -> None:
    """Find, mend and replay messages that finally failed.

    Begin with `dead groups`: it lists the kinds of failures. `dead list --group` and `dead show` show the letters
    of one, `dead replay --dry-run` says what a replay would do. Workers and the operators' page carry replays out.
    """


@dead.command("list")
@selecting(state="dead")
@limit_option(50)
@click.option("--before", type=NUMBER, metavar="ID", help="Only smaller numbers: the next page.")
@connected()
async def list_(here: Here, wanted: Filter, limit: int, before: int | None) -> Answer:
    """List letters, latest first; dead ones by default."""
    letters = await here.inspector.records.listed(wanted, limit=limit, before=before)
    total = await here.inspector.records.count(wanted)

    def show(screen: Screen) -> None:
        if letters:
            tables.show_list(screen, letters, several_states=wanted.state is None)
        screen.say(f"{len(letters)} of {counted(total)} ({wanted.words})")
        if len(letters) == limit < total:
            screen.say(f"The next page: the same with --before {letters[-1].id}")
        elif letters:
            screen.say("One in full: horoscope dead show ID")

    return Answer({"total": total, "letters": letters}, show)


@dead.command()
@selecting(state=None)
@connected()
async def groups(here: Here, wanted: Filter) -> Answer:
    """List the kinds of failures that have dead letters.

    With --state, the kinds that have letters in that state.
    """
    asked = click.get_current_context().params["state"]
    found = await here.inspector.records.groups(wanted)
    kinds = [each for each in found if each.dead or asked]

    def show(screen: Screen) -> None:
        tables.show_groups(screen, kinds)
        dead_letters = counted(sum(each.dead for each in kinds))
        screen.say(f"{counted(len(kinds), 'kind')} of failures, {dead_letters} ({wanted.words})")
        if kinds:
            screen.say("The letters of one: horoscope dead list --group GROUP")

    return Answer({"groups": kinds}, show)


@dead.command()
@click.argument("group", type=options.words)
@click.argument("text", type=options.words)
@connected(act="dead.note")
async def note(here: Here, group: str, text: str, by: str) -> Answer:
    """Write a note on a GROUP of letters.

    An empty TEXT ("") deletes it.
    """
    here.entry.subject, here.entry.after = group, {"note": text or None}
    here.entry.before = {"note": await here.inspector.edits.note(group, text, by=by)}
    said = f"The note on {group} is now: {text}" if text else f"There is no note on {group} now."
    return Answer({"group": group, "note": text or None}, said)


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@connected()
async def show(here: Here, number: int) -> Answer:
    """Show everything about a letter, and what to do next."""
    letter = await here.inspector.records.whole(number)
    verdict = next(iter(await here.inspector.replays.verdicts([number])), None)
    return Answer(
        console.plain(letter) | {"verdict": verdict},
        lambda screen: tables.show_letter(screen, letter, verdict),
    )


def _check_edit(*, number: int, **changes: Any) -> None:
    asked = [changes[name] for name in ("changed", "unset", "given", "actor")]
    if not any(each or each == {} for each in asked) and not console.is_terminal():
        raise click.UsageError(
            f"nothing to change in letter {number}: give --set, --unset, --arguments or --actor; "
            "there is no terminal to edit on"
        )


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@click.option("--set", "changed", type=options.assignment, multiple=True, metavar="NAME=VALUE", help=_SET)
@click.option("--unset", multiple=True, metavar="NAME", help="Leave an argument out. May be repeated.")
@click.option(
    "--arguments", "given", type=options.json_object, metavar="JSON", help="All arguments, as an object."
)
@click.option(
    "--actor",
    type=options.one_of(options.actor_names),
    metavar="ACTOR",
    shell_complete=options.completed(options.actor_names),
    help="The actor that is to answer it.",
)
@connected(check=_check_edit, act="dead.edit")
async def edit(
    here: Here,
    number: int,
    changed: tuple[tuple[str, Any], ...],
    unset: tuple[str, ...],
    given: dict[str, Any] | None,
    actor: str | None,
    by: str,
) -> Answer:
    """Change the message that a replay publishes.

    The message as it died is kept. Without options the arguments open in $EDITOR.
    """
    here.entry.subject = str(number)
    before = await here.inspector.records.whole(number)
    now = before.edit or before
    here.entry.before = {"actor": now.actor, "arguments": now.arguments}
    if (actor or now.actor) is None:
        raise Refused(
            f"dead letter {number} is no message and names no actor; give it one, and all its arguments: "
            f"horoscope dead edit {number} --actor ACTOR --set NAME=VALUE …; "
            f"the actors are {', '.join(options.actor_names())}"
        )
    arguments = dict((now.arguments or {}) if given is None else given)
    if missing := [name for name in unset if name not in arguments]:
        raise Refused(
            f"dead letter {number} has no argument {missing[0]!r} to leave out; "
            f"it has {', '.join(arguments) or 'none'}"
        )
    arguments = {name: value for name, value in arguments.items() if name not in unset} | dict(changed)
    if changed or unset or actor or given is not None:
        after = await here.inspector.edits.edit(number, by=by, arguments=arguments, actor=actor)
    else:
        after = await _edited_by_hand(here, before, arguments, by)
    if after is before or after.edit is None:
        here.entry.refuse("nothing was changed")
    else:
        here.entry.after = {"actor": after.edit.actor, "arguments": after.edit.arguments}

    def show(screen: Screen) -> None:
        if after is before or after.edit is None:
            screen.say("Nothing was changed.")
            return
        for line in tables.difference(now.actor, now.arguments, after.edit):
            screen.say(line)
        screen.say(f"Dead letter {number} is edited. Next: horoscope dead replay {number} --dry-run")

    return Answer(after, show)


async def _edited_by_hand(here: Here, letter: Letter, arguments: dict[str, Any], by: str) -> Letter:
    """Open the arguments in an editor until they fit or the person gives up; the letter as it is then."""
    text: str | None = json.dumps(here.mask.in_json(arguments), ensure_ascii=False, indent=2) + "\n"
    while True:
        with asking():
            text = click.edit(text, extension=".json")
        if text is None:
            return letter
        try:
            given = options.json_object(text)
            return await here.inspector.edits.edit(letter.id, by=by, arguments=given)
        except (InvalidMessage, click.BadParameter) as error:
            click.echo(visible(here.mask(str(error))), err=True)
            with asking():
                click.confirm("Edit it again?", default=True, abort=True, err=True)


@dead.command()
@selecting(state="dead", named=True, demanded=True)
@click.option("--why", required=True, type=options.reason, help="The reason, for the record.")
@yes_option
@connected(act="dead.drop")
async def drop(here: Here, wanted: Filter, why: str, yes: bool, by: str) -> Answer:
    """Give letters up. They can be restored for 30 days."""
    here.entry.after = {"what": wanted.words, "why": why}
    ids = await chosen(here, wanted)
    here.entry.subject = numbers(ids)
    console.confirm(f"Drop {counted(len(ids))} ({wanted.words})?", yes=yes)
    dropped = await here.inspector.edits.drop(ids, by=by, why=why)
    here.entry.after = {"dropped": dropped, "why": why, "what": wanted.words}
    return _count("dropped", dropped, len(ids), "are not dead, or are being replayed")


@dead.command()
@click.argument("ids", nargs=-1, required=True, type=NUMBER, metavar="ID...")
@connected(act="dead.restore")
async def restore(here: Here, ids: tuple[int, ...], by: str) -> Answer:
    """Take dropped letters back."""
    here.entry.subject = numbers(ids)
    asked = await chosen(here, Filter(ids=ids, state=None))
    restored = await here.inspector.edits.restore(asked, by=by)
    here.entry.after = {"restored": restored}
    return _count("restored", restored, len(asked), "were not dropped")


def _count(done: str, count: int, asked: int, why_not: str) -> Answer:
    if not count:
        raise Refused(f"nothing was {done}: these letters {why_not}")
    left = f"; {asked - count} {why_not}" if count < asked else ""
    return Answer({done: count, "left": asked - count}, f"{done.capitalize()} {counted(count)}{left}.")


@dead.command()
@selecting(state="dead", named=True)
@click.option("--output", type=_OUTPUT, default="-", metavar="FILE", help="The standard output by default.")
@connected(json_option=False, act="dead.export")
async def export(here: Here, wanted: Filter, output: str, **_: Any) -> None:
    """Write letters as JSON, one a line.

    Each with everything about it; all dead letters by default.
    """
    from services.dead_letters.transfer import Transfer

    here.entry.after = {"what": wanted.words}
    if wanted.ids:
        await chosen(here, wanted)
    wanted = await here.inspector.records.judged(wanted)
    count = 0
    with click.open_file(output, "wb") as file:
        async for line in Transfer(here.database, here.mask).export(wanted):
            file.write(line)
            count += 1
    here.entry.after = {"exported": count, "what": wanted.words}
    click.echo(f"Exported {counted(count)}.", err=True)


@dead.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--adopt", is_flag=True, help="Take over its edits and drops, under your name.")
@connected(act="dead.import")
async def import_(here: Here, file: BinaryIO, adopt: bool, by: str) -> Answer:
    """Import the letters of a FILE that `dead export` wrote.

    - is the standard input. Letters that are here already stay as they are. If a line is wrong, or is not what its body
    says, nothing is imported.
    """
    from services.dead_letters.transfer import Transfer, lines_of

    here.entry.subject = getattr(file, "name", "-")
    transfer = Transfer(here.database, here.mask)
    brought = await transfer.import_(lines_of(file), adopted_by=by if adopt else None)
    here.entry.after = {"new": brought.new, "known": brought.known, "adopted": adopt}
    return Answer(
        brought,
        f"Imported {counted(brought.new)}; {brought.known} were here already.\n"
        "They have new numbers here: horoscope dead list",
    )


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@click.option("--post-mortem", is_flag=True, help="Stop only where it raises.")
@click.option("--no-model", is_flag=True, help="Do not call the model; act as if it were away.")
@click.option("--pdbrc", is_flag=True, help="Begin with the commands in ~/.pdbrc.")
def debug(number: int, post_mortem: bool, no_model: bool, pdbrc: bool) -> None:
    """Run a letter's message under Python's debugger.

    It runs in this process, as edited, and stops where the handler begins. It has no effect: messages and calls to
    Telegram are printed instead of sent, and the database is rolled back at the end. Until then it may hold locks
    that others wait for. The model is called if the message needs it. Exits with 1 if the handler raises.
    """
    import services.telegram  # noqa: F401  must come before aiogram is imported
    from ops.cli import debugger
    from services.process.logs import Mask, configure
    from services.process.settings import Settings

    with console.exit_on_error():
        settings = Settings.read("database_url")
        configure("console", Mask(settings.secrets), process="debugger")
        raised = debugger.run(settings, number, post_mortem=post_mortem, no_model=no_model, pdbrc=pdbrc)
    sys.exit(console.EXIT_NEEDS_A_PERSON if raised else 0)


for command in replays.COMMANDS:
    dead.add_command(command)
