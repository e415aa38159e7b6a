"""What the commands share: exit codes, a connection, errors told in words, who asks."""

import errno
import getpass
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import click
import structlog

from schema.errors import DatabaseUnavailable, HoroscopeError, NotPublished, Refused
from services.database.pool import Database
from services.days import shown_in
from services.process.heartbeats import HOST
from services.process.logs import Mask
from services.process.settings import Settings, WrongSettings

# As sysexits.h has them, so that a supervisor can tell what to do.
EXIT_NEEDS_A_PERSON = 1
EXIT_UNAVAILABLE = 69
EXIT_WRONG_SETTINGS = 78


async def with_database(settings: Settings, work: Callable[[Database], Coroutine[Any, Any, Any]]) -> Any:
    """Run what needs the database alone, on connections that are closed afterwards."""
    assert settings.database_url
    async with Database(settings.database_url.get_secret_value(), process="horoscope command") as database:
        return await work(database)


@contextmanager
def exit_on_error() -> Iterator[None]:
    """An error that a person can mend is told in its own words, without a traceback."""
    try:
        yield
    except WrongSettings as error:
        click.echo(_masked(error), err=True)
        sys.exit(EXIT_WRONG_SETTINGS)
    except (DatabaseUnavailable, NotPublished) as error:
        click.echo(_masked(error), err=True)
        sys.exit(EXIT_UNAVAILABLE)
    except HoroscopeError as error:
        click.echo(_masked(error), err=True)
        sys.exit(EXIT_NEEDS_A_PERSON)
    except OSError as error:
        if error.errno == errno.EPIPE:  # whoever read it has read enough; click ends quietly
            raise
        click.echo(f"{error.filename or 'what was to be written'}: {error.strerror or error}", err=True)
        sys.exit(EXIT_NEEDS_A_PERSON)


@contextmanager
def quiet() -> Iterator[None]:
    """What services log for a process's log is no answer to a person; only what warns is, beside the answer."""
    before = structlog.get_config()
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def asking() -> Iterator[None]:
    """While somebody is asked, Ctrl-C ends the question at once, though an event loop runs."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not ours to handle here
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def is_terminal() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if a person says so, who is asked on the standard error, or has said so beforehand.

    Raises:
        Refused: Nobody is there to be asked.
        click.Abort: They say no.
    """
    if yes:
        return
    if not is_terminal():
        raise Refused(f"{question} Nobody is there to be asked; add --yes")
    with asking():
        click.confirm(question, abort=True, err=True)


def _masked(error: Exception) -> str:
    """What the error says, without the secrets among the settings."""
    try:
        return Mask(Settings.read().secrets)(str(error))
    except WrongSettings:
        return str(error)


def clock_time(at: datetime | None) -> str:
    """A time as operators read it, by their own machine's clock."""
    return f"{shown_in(None, at):%Y-%m-%d %H:%M:%S}" if at else "never"


def whoever() -> str:
    """Who types this, as far as the machine knows: user and host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        user = str(os.getuid())
    return f"{user}@{HOST}"


#: Who orders something, where that is put down.
by_option = click.option(
    "--by", default=whoever, metavar="NAME", help="Who asks; this user and host by default."
)
