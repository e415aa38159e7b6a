"""How dead letters are asked for on the command line: by their numbers, or by what is true of them."""

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import click
from click.shell_completion import CompletionItem

from actors import REPLAYABLE, TABLE
from schema.signs import Sign
from services.days import parse_instant, shown_in
from services.dead_letters.death import CAUSES
from services.dead_letters.filters import STATES, Filter

#: A number as PostgreSQL has them.
NUMBER = click.IntRange(1, (1 << 63) - 1)


class Words(click.ParamType[str]):
    """Text that PostgreSQL can look for.

    Args:
        known: What the shell completes.
    """

    name = "text"

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is."""
        words = str(value)
        try:
            words.encode()
        except UnicodeEncodeError:
            self.fail("expected text in UTF-8", param, ctx)
        return words

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  click's own form
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """The words that are known."""
        return [CompletionItem(word) for word in self._known if word.startswith(incomplete)]


class Said(Words):
    """Words that say something."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is."""
        words = super().convert(value, param, ctx)
        if not words.strip():
            self.fail("expected some words", param, ctx)
        return words


class _Cause(Words):
    """A cause; in a shell it is easier to write with hyphens."""

    def __init__(self) -> None:
        super().__init__([cause.replace(" ", "-") for cause in CAUSES])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        words = super().convert(value, param, ctx)
        spaced = words.replace("-", " ")
        return spaced if spaced in CAUSES else words


class _Day(click.ParamType[date]):
    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no day; expected YYYY-MM-DD", param, ctx)


class _Moment(click.ParamType[datetime]):
    name = "moment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return shown_in(None, parse_instant(value, datetime.now(UTC), None))
        except ValueError:
            self.fail(
                f"{value!r} is no moment; expected a date or time such as 2026-11-22 or 2026-11-22T06:30, "
                "or an age such as 15m, 2h, 3d",
                param,
                ctx,
            )


_QUEUES = sorted({actor.queue for actor in TABLE})
_FILTERS = (
    click.option("--state", type=click.Choice([*STATES, "any"]), help="What they are in."),
    click.option("--actor", type=Words(sorted(REPLAYABLE)), help="Which they name."),
    click.option("--queue", type=Words(_QUEUES), help="Where they died."),
    click.option("--cause", type=_Cause(), help="Of their death, such as ladder-exhausted."),
    click.option("--error", type=Words(), help="The exception's class, or words of the error."),
    click.option("--group", type=Words(), help="The fingerprint of their failure; see `dead groups`."),
    click.option("--sign", type=click.Choice(list(Sign), case_sensitive=False), help="Of their arguments."),
    click.option("--day", type=_Day(), help="Of their arguments, as YYYY-MM-DD."),
    click.option("--since", type=_Moment(), help="They died then or later: 2026-11-22T06:30, or 2h ago."),
    click.option("--until", type=_Moment(), help="They died before."),
    click.option("--text", type=Words(), help="Words of the error or the arguments, or the message's id."),
    click.option("--run", type=NUMBER, help="They are part of this run of replays."),
)
_NAMES = ("actor", "queue", "cause", "error", "group", "sign", "day", "since", "until", "text", "run")

_Command = Callable[..., Any]


def filtered(*, state: str | None) -> Callable[[_Command], _Command]:
    """Give a command the options of a filter; it is called with the filter as ``wanted``.

    Args:
        state: What is asked for without ``--state``; None: any.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def with_filter(*, state: str | None, **values: Any) -> Any:
            narrow = {name: values.pop(name) for name in _NAMES}
            # Whoever is called by number is meant, whatever it is in.
            usual = None if values.get("ids") else default
            chosen = usual if state is None else state
            wanted = Filter(
                ids=tuple(values.pop("ids", ())),
                state=None if chosen == "any" else chosen,  # type: ignore[arg-type]
                **narrow,
            )
            return command(wanted=wanted, **values)

        return functools.reduce(lambda decorated, option: option(decorated), reversed(_FILTERS), with_filter)

    default = state
    return decorate


def named_or_filtered(*, demanded: bool) -> Callable[[_Command], _Command]:
    """The same for a command that is about letters called by number, or else about those that a filter finds.

    Args:
        demanded: Without either, ``--all`` has to be said.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def checked(*, wanted: Filter, everything: bool = False, **values: Any) -> Any:
            narrow = wanted.asked.keys() - {"state"}
            if everything and (narrow or values.get("plan_file")):
                raise click.UsageError("--all goes without numbers, filters and --plan")
            if demanded and not (narrow or everything or values.get("plan_file")):
                raise click.UsageError("which? Give numbers, a filter such as --group, or --all")
            return command(wanted=wanted, **values)

        command_ = filtered(state="dead")(checked)
        if demanded:
            command_ = click.option(
                "--all", "everything", is_flag=True, help="All that are dead, or are in --state."
            )(command_)
        return click.argument("ids", nargs=-1, type=NUMBER, metavar="[ID]...")(command_)

    return decorate
