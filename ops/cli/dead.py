"""``horoscope dead``: dead letters as people find, mend and replay them."""

import json
import sys
from typing import Any, BinaryIO

import click

from actors import REPLAYABLE
from ops.cli import console, replays, tables
from ops.cli.console import EXIT_NEEDS_A_PERSON, asking, by_option, confirm, exit_on_error
from ops.cli.dead_work import Here, carry_out, chosen, counted, json_option, yes_option
from ops.cli.options import NUMBER, Said, Words, filtered, named_or_filtered
from ops.cli.tables import Screen, plain
from schema.errors import InvalidMessage, Refused
from services.dead_letters.filters import Filter
from services.dead_letters.records import PAGE, Letter
from services.dead_letters.transfer import Transfer
from services.process.logs import Mask, configure
from services.process.settings import Settings

EPILOG = """
Filters narrow a list down; all that are given must be true. Numbers name
letters one by one. Times are this machine's; --since and --until take a
date, a time or an age (15m, 2h, 3d).
"""


@click.group(epilog=EPILOG)
def dead() -> None:
    """Dead letters: find, understand, mend and replay what finally failed.

    `dead groups` says what kinds of failures there are, `dead list --group …` and `dead show` what is behind
    one, `dead replay --dry-run` what a replay would come to. Workers and the operators' page carry
    replays out.
    """


@dead.command("list")
@filtered(state="dead")
@click.option(
    "--limit", type=click.IntRange(1, PAGE), default=50, show_default=True, help="So many at the most."
)
@click.option("--before", type=NUMBER, metavar="ID", help="Only those with a smaller number: the next page.")
@json_option
def list_(wanted: Filter, limit: int, before: int | None, as_json: bool) -> None:
    """List letters, latest first; those that are dead unless --state says otherwise."""

    async def work(here: Here) -> None:
        letters = await here.inspector.records.listed(wanted, limit=limit, before=before)
        total = await here.inspector.records.count(wanted)
        if as_json:
            here.screen.json({"total": total, "letters": letters})
            return
        if letters:
            tables.show_list(here.screen, letters, several_states=wanted.state is None)
        here.screen.say(f"{len(letters)} of {total} dead letters ({wanted.words})")
        if len(letters) == limit < total:
            here.screen.say(f"The next page: the same with --before {letters[-1].id}")
        elif letters:
            here.screen.say("One in full: horoscope dead show ID")

    carry_out(work)


@dead.command()
@filtered(state=None)
@json_option
def groups(wanted: Filter, as_json: bool) -> None:
    """List kinds of failures; those with dead letters unless --state says otherwise."""
    asked = click.get_current_context().params["state"]

    async def work(here: Here) -> None:
        found = await here.inspector.records.groups(wanted)
        kinds = [each for each in found if each.dead or asked]
        if as_json:
            here.screen.json({"groups": kinds})
            return
        if kinds:
            tables.show_groups(here.screen, kinds)
        dead_letters = sum(each.dead for each in kinds)
        here.screen.say(
            f"{len(kinds)} kind{'s' * (len(kinds) != 1)} of failures, {counted(dead_letters)} ({wanted.words})"
        )
        if kinds:
            here.screen.say("The letters of one: horoscope dead list --group GROUP")

    carry_out(work)


@dead.command()
@click.argument("group", type=Words())
@click.argument("text", type=Words())
@by_option
@json_option
def note(group: str, text: str, by: str, as_json: bool) -> None:
    """Note something of a GROUP of letters; an empty TEXT ("") deletes the note."""

    async def work(here: Here) -> None:
        await here.inspector.edits.note(group, text, by=by)
        if as_json:
            here.screen.json({"group": group, "note": text or None})
        else:
            here.screen.say(f"Noted of {group}: {text}" if text else f"Nothing is noted of {group}.")

    carry_out(work)


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@json_option
def show(number: int, as_json: bool) -> None:
    """Show everything about a letter, and what to do next."""

    async def work(here: Here) -> None:
        letter = await here.inspector.records.whole(number)
        verdict = next(iter(await here.inspector.replays.verdicts([number])), None)
        if as_json:
            here.screen.json(plain(letter) | {"verdict": verdict})
        else:
            tables.show_letter(here.screen, letter, verdict)

    carry_out(work)


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@click.option(
    "--set", "changed", multiple=True, metavar="NAME=VALUE", help="JSON, or else text; may be repeated."
)
@click.option("--unset", multiple=True, metavar="NAME", help="Leave an argument out; may be repeated.")
@click.option("--arguments", "whole_arguments", metavar="JSON", help="All arguments, as a JSON object.")
@click.option("--actor", type=Words(sorted(REPLAYABLE)), help="Who is to answer it.")
@by_option
@json_option
def edit(
    number: int,
    changed: tuple[str, ...],
    unset: tuple[str, ...],
    whole_arguments: str | None,
    actor: str | None,
    by: str,
    as_json: bool,
) -> None:
    """Say what is replayed in the place of a message; the message as it died is kept.

    Without options the arguments open in $EDITOR.
    """
    changes = [_assigned(each) for each in changed]
    given = None if whole_arguments is None else _arguments(whole_arguments, "--arguments")
    by_hand = not (changes or unset or actor or given is not None)
    if by_hand and not console.is_terminal():
        raise click.UsageError(
            "what? Give --set, --unset, --arguments or --actor: there is no terminal to edit on"
        )

    async def work(here: Here) -> None:
        before = await here.inspector.records.whole(number)
        now = before.edit or before
        arguments = dict((now.arguments or {}) if given is None else given)
        if missing := [name for name in unset if name not in arguments]:
            raise Refused(f"dead letter {number} has no argument {missing[0]!r}")
        arguments = {name: value for name, value in arguments.items() if name not in unset} | dict(changes)
        if by_hand:
            after = await _edited_by_hand(here, before, arguments, by)
        else:
            after = await here.inspector.edits.edit(number, by=by, arguments=arguments, actor=actor)
        if as_json:
            here.screen.json(after)
        elif after is before or after.edit is None:
            here.screen.say("Nothing was changed.")
        else:
            for line in tables.difference(now.actor, now.arguments, after.edit):
                here.screen.say(line)
            here.screen.say(f"Dead letter {number} is edited. Next: horoscope dead replay {number} --dry-run")

    carry_out(work)


async def _edited_by_hand(here: Here, letter: Letter, arguments: dict[str, Any], by: str) -> Letter:
    """The letter after its arguments were changed in an editor, until they fit or the editor gives up."""
    text: str | None = json.dumps(here.mask.in_json(arguments), ensure_ascii=False, indent=2) + "\n"
    while True:
        with asking():
            text = click.edit(text, extension=".json")
        if text is None:
            return letter
        try:
            return await here.inspector.edits.edit(letter.id, by=by, arguments=_arguments(text, "the file"))
        except (InvalidMessage, click.BadParameter) as error:
            click.echo(
                here.mask(error.message if isinstance(error, click.BadParameter) else str(error)), err=True
            )
            with asking():
                click.confirm("Edit it again?", default=True, abort=True, err=True)


def _assigned(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{text!r} is no NAME=VALUE", param_hint="--set")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, Words().convert(value, None, None)


def _arguments(text: str, hint: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"that is no JSON: {error}", param_hint=hint) from None
    if not isinstance(arguments, dict):
        raise click.BadParameter("expected a JSON object, name by name", param_hint=hint)
    return arguments


@dead.command()
@named_or_filtered(demanded=True)
@click.option("--why", required=True, type=Said(), help="Why, for the record.")
@yes_option
@by_option
@json_option
def drop(wanted: Filter, why: str, yes: bool, by: str, as_json: bool) -> None:
    """Give letters up. They can be restored for 30 days."""

    async def work(here: Here) -> None:
        ids = await chosen(here.inspector, wanted)
        confirm(f"Drop {counted(len(ids))} ({wanted.words})?", yes=yes)
        dropped = await here.inspector.edits.drop(ids, by=by, why=why)
        _tell_count(
            here.screen, "dropped", dropped, len(ids), "are not dead, or are being replayed", as_json=as_json
        )

    carry_out(work)


@dead.command()
@click.argument("ids", nargs=-1, required=True, type=NUMBER, metavar="ID...")
@by_option
@json_option
def restore(ids: tuple[int, ...], by: str, as_json: bool) -> None:
    """Take dropped letters back."""

    async def work(here: Here) -> None:
        asked = await chosen(here.inspector, Filter(ids=ids, state=None))
        restored = await here.inspector.edits.restore(asked, by=by)
        _tell_count(here.screen, "restored", restored, len(asked), "were not dropped", as_json=as_json)

    carry_out(work)


def _tell_count(screen: Screen, done: str, count: int, asked: int, why_not: str, *, as_json: bool) -> None:
    if not count:
        raise Refused(f"nothing was {done}: these letters {why_not}")
    if as_json:
        screen.json({done: count, "left": asked - count})
    else:
        left = f"; {asked - count} {why_not}" if count < asked else ""
        screen.say(f"{done.capitalize()} {counted(count)}{left}.")


@dead.command()
@named_or_filtered(demanded=False)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    default="-",
    metavar="FILE",
    help="Where to; the standard output by default.",
)
def export(wanted: Filter, output: str) -> None:
    """Write letters as JSON, one a line, each with everything about it; all that are dead unless told otherwise."""

    async def work(here: Here) -> None:
        if wanted.ids:
            await chosen(here.inspector, wanted)
        count = 0
        with click.open_file(output, "wb") as file:
            async for line in Transfer(here.database, here.mask).export(wanted):
                file.write(line)
                count += 1
        click.echo(f"Exported {counted(count)}.", err=True)

    carry_out(work)


@dead.command("import")
@click.argument("file", type=click.File("rb"))
@json_option
def import_(file: BinaryIO, as_json: bool) -> None:
    """Bring in the letters of a FILE that `dead export` wrote, also on another deployment; - is the standard input.

    A letter that is here already is left as it is. If a line is at fault, nothing is imported.
    """

    async def work(here: Here) -> None:
        brought = await Transfer(here.database, here.mask).import_(file)
        if as_json:
            here.screen.json(brought)
        else:
            here.screen.say(f"Imported {counted(brought.new)}; {brought.known} were here already.")
            here.screen.say("They have numbers of this place: horoscope dead list")

    carry_out(work)


@dead.command()
@click.argument("number", type=NUMBER, metavar="ID")
@click.option("--post-mortem", is_flag=True, help="Stop only where it raises.")
@click.option("--no-model", is_flag=True, help="Do not call the model: it is as if it were away.")
def debug(number: int, post_mortem: bool, no_model: bool) -> None:
    """Run a letter's message, as edited, in this process under Python's debugger.

    Stops where its handler begins. Nothing comes of it: what would be published or sent to Telegram is told
    instead, and what is written to the database is taken back at the end. Until then it may hold locks that
    others wait for. The model is called, if the message wants it. Exits with 1 if the handler raises.
    """
    from ops.cli import debugger  # noqa: PLC0415  only this command pays for the model and Telegram

    with exit_on_error():
        settings = Settings.read("database_url")
        configure("console", Mask(settings.secrets), process="debugger")
        raised = debugger.run(settings, number, post_mortem=post_mortem, no_model=no_model)
    sys.exit(EXIT_NEEDS_A_PERSON if raised else 0)


for command in replays.COMMANDS:
    dead.add_command(command)
