"""Options of commands: known names, checked values, and how dead letters are selected."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from typing import Any

import click

from ops.cli.console import Here
from schema.errors import Refused
from schema.signs import Sign
from services import days
from services.dead_letters.filters import ANY, JUDGEMENTS, STATES, Filter, InvalidFilter, State, parse_filter

#: A number as PostgreSQL has them.
NUMBER = click.IntRange(1, (1 << 63) - 1)
#: Entries in the longest list.
PAGE = 1000
#: The furthest day that `generate` orders texts for: nobody can ask for a later one.
FURTHEST_DAYS = 31

_Names = Callable[[], Iterable[str]]
_Command = Callable[..., Any]


def actor_names() -> list[str]:
    """The actors whose messages people may replay."""
    from actors import REPLAYABLE

    return sorted(REPLAYABLE)


def queue_names() -> list[str]:
    """The queues that workers consume."""
    from actors import TABLE

    return sorted({actor.queue for actor in TABLE})


def _causes() -> list[str]:
    from services.dead_letters.death import CAUSES

    return [cause.replace(" ", "-") for cause in CAUSES]


def completed(known: _Names) -> Callable[..., list[str]]:
    """What the shell offers for an option or an argument with these names."""
    return lambda _, __, typed: [name for name in known() if name.lower().startswith(typed.lower())]


def did_you_mean(typed: str, known: Iterable[str]) -> str:
    """A question with the name that is nearest to a typed one, after a space; empty if none is near."""
    names = {name.lower(): name for name in known}
    near = get_close_matches(typed.lower(), names, n=1)
    return f" Did you mean {names[near[0]]}?" if near else ""


def words(typed: str) -> str:
    """Text that PostgreSQL can store."""
    try:
        typed.encode()
    except UnicodeEncodeError:
        raise click.BadParameter(f"{typed!r} is not text in UTF-8") from None
    return typed


def reason(typed: str) -> str:
    """Text that says something."""
    if not words(typed).strip():
        raise click.BadParameter("it is empty; give the reason in a few words")
    return typed


def one_of(known: _Names) -> Callable[[str], str]:
    """One of the known names, in capitals or not."""

    def name(typed: str) -> str:
        names = {name.lower(): name for name in known()}
        if typed.lower() not in names:
            hint = did_you_mean(typed, names.values())
            raise click.BadParameter(f"{typed!r} is not one of {', '.join(names.values())}.{hint}")
        return names[typed.lower()]

    return name


def several_of(known: _Names) -> Callable[[str], set[str]]:
    """Known names with commas between them; empty: none."""
    return lambda typed: {one_of(known)(name.strip()) for name in typed.split(",") if name.strip()}


def limit_option(default: int, most: int = PAGE) -> Callable[[_Command], _Command]:
    """The option ``--limit``."""
    limits = click.IntRange(1, most)
    return click.option("--limit", type=limits, default=default, show_default=True, help="At most this many.")


def day_to_write(typed: str) -> date:
    """A day whose texts readers can ask for, now or soon."""
    first = days.first_day_alive(days.system_clock())
    last = first + timedelta(days=FURTHEST_DAYS)
    try:
        day = date.fromisoformat(typed)
    except ValueError:
        raise click.BadParameter(f"{typed!r} is not a day such as {first} (YYYY-MM-DD)") from None
    if not first <= day <= last:
        raise click.BadParameter(f"no reader can ask for {day} now or soon; expected {first} to {last}")
    return day


def assignment(typed: str) -> tuple[str, Any]:
    """``NAME=VALUE``, with JSON or else a text as the value."""
    name, equals, value = typed.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"{typed!r} is not NAME=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, words(value)


def json_object(typed: str) -> dict[str, Any]:
    """A JSON object."""
    try:
        found = json.loads(typed)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"it is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.BadParameter(f'{typed} is not a JSON object such as {{"sign": "leo"}}')
    return found


#: The conditions of a filter, each with its help and its known names.
_CONDITIONS: dict[str, tuple[str, _Names]] = {
    "state": (f"Their state: {', '.join((*STATES, ANY))}.", lambda: (*STATES, ANY)),
    "verdict": (f"What a replay would do now: {', '.join(JUDGEMENTS)}.", lambda: JUDGEMENTS),
    "actor": ("The actor that the message names.", actor_names),
    "queue": ("The queue in which they died.", queue_names),
    "cause": ("The cause of their death, such as ladder-exhausted.", _causes),
    "error": ("The exception's class, or words of the error.", tuple),
    "group": ("The fingerprint of their failure; see `dead groups`.", tuple),
    "sign": ("The sign among their arguments.", lambda: Sign),
    "day": ("The day among their arguments, as YYYY-MM-DD.", tuple),
    "since": ("They died then or later: 2026-11-22T06:30, or 2h for two hours ago.", tuple),
    "until": ("They died before; as for --since.", tuple),
    "text": ("Words of the error or the arguments, or the message's id.", tuple),
    "run": ("They are part of this run of replays.", tuple),
}
#: Conditions whose names may be those of another release: an unknown one is looked for all the same.
_OPEN = ("actor", "queue", "cause")


def selecting(
    *, state: State | None, named: bool = False, demanded: bool = False
) -> Callable[[_Command], _Command]:
    """Give a command the options of a filter; it is called with the filter as ``wanted``.

    Args:
        state: The state without ``--state``; None: any.
        named: Letters may also be named by their numbers, whatever their state.
        demanded: Without conditions and numbers, ``--all`` is demanded.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def select(*, ids: tuple[int, ...] = (), everything: bool = False, **options: Any) -> Any:
            typed = {name: value for name in _CONDITIONS if (value := options.pop(name)) is not None}
            wanted = _filter(typed, ids, None if ids else state)
            narrow = wanted.asked.keys() - {"state"} or options.get("plan_file")
            if everything and narrow:
                raise click.UsageError("--all goes without numbers, filters and --plan")
            if demanded and not (narrow or everything):
                raise click.UsageError("which letters? Give numbers, a filter such as --group, or --all")
            return command(wanted=wanted, **options)

        for name, (told, known) in reversed(_CONDITIONS.items()):
            option = click.option(
                f"--{name}", metavar=name.upper(), help=told, shell_complete=completed(known)
            )
            option(select)
        if demanded:
            click.option("--all", "everything", is_flag=True, help="All that are dead, or in --state.")(
                select
            )
        if named:
            click.argument("ids", nargs=-1, type=NUMBER, metavar="[ID]...")(select)
        return select

    return decorate


def _filter(typed: dict[str, str], ids: tuple[int, ...], state: State | None) -> Filter:
    try:
        wanted = parse_filter(typed, datetime.now(UTC), None, ids=ids, state=state)
    except InvalidFilter as error:
        name, expected = next(iter(error.faults.items()))
        hint = did_you_mean(typed[name], _CONDITIONS[name][1]())
        raise click.BadParameter(
            f"{typed[name]!r} is not {expected}.{hint}", param_hint=f"'--{name}'"
        ) from None
    for name in _OPEN:
        value, known = typed.get(name, ""), _CONDITIONS[name][1]
        if value and value.replace(" ", "-") not in known() and (hint := did_you_mean(value, known())):
            click.echo(f"No {name} of this release is called {value!r}.{hint}", err=True)
    return replace(wanted, since=_local(wanted.since), until=_local(wanted.until))


def _local(at: datetime | None) -> datetime | None:
    return at and days.shown_in(None, at)


async def chosen(here: Here, wanted: Filter) -> list[int]:
    """The numbers of the letters that a filter selects.

    Raises:
        Refused: It selects none; or a letter that was named by number does not exist.
    """
    found = await here.inspector.records.ids(wanted)
    if missing := set(wanted.ids) - set(found):
        there = await here.inspector.records.ids(Filter(ids=tuple(missing), state=None))
        if gone := sorted(missing - set(there)):
            raise Refused(f"there is no dead letter {', '.join(map(str, gone))}; see: horoscope dead list")
    if not found:
        raise Refused(f"no dead letter meets these conditions: {wanted.words}")
    return found


def counted(count: int, noun: str = "dead letter") -> str:
    """A number of things, in words."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
