"""What every command stands on: connections, a screen, exit codes, questions.

Heavy modules are imported when a command runs, so that ``--help`` and the shell's completion answer at once.
"""

from __future__ import annotations

import errno
import functools
import getpass
import json
import os
import shutil
import signal
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from services.process.escaping import visible, visible_json

if TYPE_CHECKING:
    from services.accounts.audit import Entry, Principal
    from services.database.pool import Database
    from services.dead_letters.inspector import Inspector
    from services.messaging.queues import Queues
    from services.process.logs import Mask
    from services.process.settings import Settings

# As in sysexits.h, so that a supervisor can tell what to do.
EXIT_NEEDS_A_PERSON = 1
EXIT_UNAVAILABLE = 69
EXIT_WRONG_SETTINGS = 78

#: Characters of a traceback that are printed.
TRACEBACK = 8_000
#: A narrower terminal is taken to have so many columns.
_NARROWEST = 40
#: A space at which no line is broken; it is printed as a plain one.
_NO_BREAK = "\xa0"


class Screen:
    """Prints for people.

    On a terminal, text is wrapped at words. In a pipe, each paragraph and each row of a table is one line.
    Nothing that came in a message can move the terminal's cursor.

    ``width`` counts the terminal's columns; None means a pipe. ``mask`` takes secrets out of everything.
    """

    def __init__(self, mask: Mask, width: int | None, write: Callable[[str], Any] = click.echo) -> None:
        self._mask = mask
        self._width = None if width is None else max(width, _NARROWEST)
        self._write = write

    def say(self, words: str = "", *, first: str = "", **style: Any) -> None:
        """Print a text.

        Args:
            words: The text.
            first: Stands before its first line; the others are indented by as much.
            style: As for :func:`click.style`.
        """
        for line in self._visible(words).split("\n"):
            for part in self._wrapped(line, first):
                self._write(_styled(part.replace(_NO_BREAK, " "), style))
            first = " " * len(first)

    def quote(self, text: str) -> None:
        """Print a text as it is, indented, so that it can be copied."""
        for line in self._visible(text).splitlines():
            self._write(f"  {line}")

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Print names and values, a line each; names without a value are left out."""
        told = {name: value for name, value in facts.items() if value}
        longest = max(map(len, told), default=0)
        for name, value in told.items():
            self.say(_shown(value), first=f"  {name:<{longest}}  ")

    def items(self, items: Iterable[str], **style: Any) -> None:
        """Print short facts side by side, none of them broken."""
        self.say("   ".join(item.replace(" ", _NO_BREAK) for item in items), **style)

    def table(
        self, names: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[str] = ()
    ) -> None:
        """Print a table.

        Where a terminal is too narrow for all columns, the last ones move below their row, a line each.

        Args:
            names: The columns, the most important first.
            rows: A value for each column.
            numbers: The columns that are aligned to the right.
        """
        texts = [[self._visible(" ".join(_shown(value).splitlines())) for value in row] for row in rows]
        widths = [max(map(_cells, column)) for column in zip(names, *texts, strict=True)]
        fit = len(names)
        while self._width is not None and fit > 1 and sum(widths[:fit]) + 2 * (fit - 1) > self._width:
            fit -= 1
        below = names[fit:]
        longest = max(map(len, below), default=0)

        def line(cells: Sequence[str]) -> str:
            columns = zip(names[:fit], cells, widths, strict=False)
            return "  ".join(_padded(cell, width, right=name in numbers) for name, cell, width in columns)

        self._write(_styled(line(names).rstrip(), {"bold": True}))
        for row in texts:
            self._write(line(row).rstrip())
            for name, cell in zip(below, row[fit:], strict=True):
                if cell:
                    self.say(cell, first=f"{' ' * widths[0]}  {name:<{longest}}  ")

    def json(self, value: Any) -> None:
        """Print a value for scripts."""
        text = json.dumps(self._mask.in_json(plain(value)), ensure_ascii=False, indent=2)
        self._write(visible_json(text, keep="\n"))

    def _visible(self, words: str) -> str:
        return visible(self._mask(words))

    def _wrapped(self, line: str, first: str) -> list[str]:
        if self._width is None:
            return [f"{first}{line}".rstrip()]
        wrapper = textwrap.TextWrapper(
            width=self._width,
            initial_indent=first,
            subsequent_indent=" " * len(first),
            break_long_words=False,
            break_on_hyphens=False,
        )
        return wrapper.wrap(line) or [first.rstrip()]


def _styled(line: str, style: Mapping[str, Any]) -> str:
    return click.style(line, **style) if style and "NO_COLOR" not in os.environ else line


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _cells(cell))
    return space + cell if right else cell + space


def _cells(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)


def _shown(value: Any) -> str:
    return clock_time(value) if isinstance(value, datetime) else "" if value is None else str(value)


def plain(value: Any) -> Any:
    """A value as JSON has them: times in ISO form, a body as text or in Base64."""
    from services.dead_letters.transfer import body_as_json

    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        told: dict[str, Any] = {}
        for name, inner in value.items():
            told |= body_as_json(inner) if isinstance(inner, bytes) else {name: plain(inner)}
        return told
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, date):  # datetime is one, too
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float) else str(value)


def clock_time(at: datetime | None) -> str:
    """A time as operators read it, by the clock of their own machine."""
    from services.days import shown_in

    return f"{shown_in(None, at):%Y-%m-%d %H:%M:%S}" if at else "never"


def terminal_width() -> int | None:
    """The columns of the terminal on the standard output; None: it is a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found."""

    value: Any  #: printed as JSON with ``--json``
    show: str | Callable[[Screen], None]  #: for people: a sentence, or a function of the screen
    code: int = 0  #: the exit code


class Here:
    """What a command works with.

    ``database`` and ``inspector`` are there if the command needs ``database_url``, ``queues`` if it needs
    ``rabbitmq_url``; ``principal`` and ``entry``, what the audit says of the act, if it is an act. With ``as_json`` the
    screen is silent: only the answer is printed.
    """

    settings: Settings
    mask: Mask
    as_json: bool
    screen: Screen
    principal: Principal
    entry: Entry
    database: Database
    inspector: Inspector
    queues: Queues


#: What remains to be done once the act is on record, such as waiting for its outcome.
Later = Callable[[], Coroutine[Any, Any, Answer]]
_Work = Callable[..., Coroutine[Any, Any, Answer | Later | None]]


def connected(
    *needs: str,
    check: Callable[..., None] | None = None,
    json_option: bool = True,
    act: str = "",
    unless: str = "",
) -> Callable[[_Work], Callable[..., None]]:
    """Make an asynchronous function a command's callback: connect what it needs, print its answer, exit.

    Args:
        needs: The names of the settings that the command cannot do without; none: ``database_url``.
        check: Is handed the options before anything is connected; raises :class:`click.UsageError`.
        json_option: Add the option ``--json``.
        act: What the audit calls it; the command gets the option ``--by`` and is handed it. Needs ``database_url``.
        unless: The name of a flag with which it is no act.
    """

    def decorate(work: _Work) -> Callable[..., None]:
        @functools.wraps(work)
        def run(*, as_json: bool = False, **options: Any) -> None:
            import asyncio

            if check:
                check(**options)
            acts = act if act and not options.get(unless) else ""
            if act:
                options["by"] = options["by"] or (whoever() if acts else _user_at_host())
            with exit_on_error(), quiet():
                code = asyncio.run(
                    _carry_out(work, needs or ("database_url",), options, as_json=as_json, act=acts)
                )
            sys.exit(code)

        if json_option:
            click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(run)
        if act:
            click.option("--by", type=_name, envvar="HOROSCOPE_BY", metavar="NAME", help=_BY)(run)
        run.act = act  # type: ignore[attr-defined]  # for the tests
        return run

    return decorate


async def _carry_out(
    work: _Work, needs: Sequence[str], options: Mapping[str, Any], *, as_json: bool, act: str
) -> int:
    from actors import REPLAYABLE, topology
    from services.accounts.audit import Audit, Principal
    from services.accounts.roles import SHELL
    from services.days import system_clock
    from services.dead_letters.inspector import make_inspector
    from services.messaging.management import ManagementApi
    from services.messaging.queues import Queues
    from services.process.logs import Mask
    from services.process.settings import Settings

    here = Here()
    here.settings = settings = Settings.read(*needs)
    here.mask, here.as_json = Mask(settings.secrets), as_json
    screen = Screen(here.mask, terminal_width())
    here.screen = Screen(here.mask, None, lambda _: None) if as_json else screen
    async with AsyncExitStack() as stack:
        if "database_url" in needs:
            here.database = await stack.enter_async_context(database_of(settings))
            await here.database.check()
            here.inspector = make_inspector(here.database, REPLAYABLE, system_clock)
        if "rabbitmq_url" in needs:
            assert settings.rabbitmq_url
            urls = settings.rabbitmq_url.get_secret_value()
            management_url = settings.rabbitmq_management_url.get_secret_value()
            api = await stack.enter_async_context(ManagementApi(urls, management_url, settings.ca_file))
            here.queues = Queues(urls, topology.queues(settings), api, here.mask)
        if act:
            here.principal = Principal(options["by"], SHELL, _user_at_host())
            async with Audit(here.database, here.mask).recording(here.principal, act) as here.entry:
                answer = await _acting(here, work, options)
        else:
            answer = await work(here, **options)
        if answer is not None and not isinstance(answer, Answer):
            answer = await answer()
    if answer and as_json:
        screen.json(answer.value)
    elif answer:
        screen.say(answer.show) if isinstance(answer.show, str) else answer.show(screen)
    return answer.code if answer else 0


async def _acting(here: Here, work: _Work, options: Mapping[str, Any]) -> Answer | Later | None:
    """Carry out an act; the audit calls wrong usage and a person's "no" refused."""
    try:
        return await work(here, **options)
    except click.ClickException as error:
        here.entry.refuse(error.format_message())
        raise
    except (click.Abort, KeyboardInterrupt):
        here.entry.refuse("the question was answered with no")
        raise


def database_of(settings: Settings) -> Database:
    """The database of these settings, not yet opened."""
    from services.database.pool import Database

    assert settings.database_url
    return Database(settings.database_url.get_secret_value(), process="horoscope command")


@contextmanager
def exit_on_error() -> Iterator[None]:
    """Print an error that a person can mend, without a traceback and without secrets, and exit with its code."""
    from schema.errors import DatabaseUnavailable, HoroscopeError, NotPublished
    from services.process.settings import WrongSettings

    try:
        yield
    except (WrongSettings, HoroscopeError) as error:
        code = EXIT_NEEDS_A_PERSON
        if isinstance(error, WrongSettings):
            code = EXIT_WRONG_SETTINGS
        elif isinstance(error, DatabaseUnavailable | NotPublished):
            code = EXIT_UNAVAILABLE
        _to_standard_error().say(str(error))
        sys.exit(code)
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe has read enough; click ends quietly
            raise
        _to_standard_error().say(f"{error.filename or 'the output'}: {error.strerror or error}")
        sys.exit(EXIT_NEEDS_A_PERSON)
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except Exception as error:  # noqa: BLE001  a bug of ours: Python would print it with every secret in it
        from services.process.descriptions import traced

        _to_standard_error().quote(traced(error, mask_of_settings(), TRACEBACK))
        sys.exit(EXIT_NEEDS_A_PERSON)


def mask_of_settings() -> Mask:
    """The mask of this process's secrets; of none while a setting is wrong."""
    from services.process.logs import Mask
    from services.process.settings import Settings, WrongSettings

    try:
        return Mask(Settings.read().secrets)
    except WrongSettings:
        return Mask(())


def _to_standard_error() -> Screen:
    return Screen(mask_of_settings(), terminal_width(), functools.partial(click.echo, err=True))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the services' log lines away from the answer; warnings go to the standard error."""
    from services.process.logs import warnings_only

    with warnings_only(mask_of_settings(), sys.stderr):
        yield


@contextmanager
def asking() -> Iterator[None]:
    """While a person is asked, Ctrl-C ends the question at once, though an event loop runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread handles signals
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def is_terminal() -> bool:
    """Whether a person can be asked."""
    return sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if a person says yes, beforehand by an option or now to a question on the standard error.

    Raises:
        Refused: There is no terminal to ask on.
        click.Abort: The person says no.
    """
    from schema.errors import Refused

    if yes:
        return
    if not is_terminal():
        raise Refused(f"{question} There is no terminal to ask on; add --yes to go on")
    with asking():
        click.confirm(visible(question, keep=""), abort=True, err=True)


def whoever() -> str:
    """The user and host of this process, by which an act is recorded where no name is given.

    Raises:
        click.UsageError: In a container, where these say nothing about a person.
    """
    if any(os.environ.get(name) for name in _CONTAINED):
        raise click.UsageError(
            "who orders this? In a container the user's name says nothing: add --by NAME, or set HOROSCOPE_BY "
            "(docker compose exec -e HOROSCOPE_BY=NAME …)"
        )
    return _user_at_host()


def _user_at_host() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _name(typed: str) -> str:
    """A name that says something."""
    if not (name := " ".join(typed.split())) or not name.isprintable():
        raise click.BadParameter(f"{typed!r} is no name")
    return name


#: Variables of which one is set in a container: ours and podman's, and Kubernetes'.
_CONTAINED = ("container", "KUBERNETES_SERVICE_HOST")
_BY = "Who orders it; by default HOROSCOPE_BY, or USER@HOST outside of containers."
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
