"""What PostgreSQL's errors say, without the values of rows and parameters: those may be a reader's."""

import re

import asyncpg
from sqlalchemy.exc import StatementError

#: The SQLSTATE class of errors that quote a wrong value.
_WRONG_VALUE = "22"
#: Characters of a statement that are shown.
_STATEMENT = 200
# As asyncpg and SQLAlchemy write them into longer texts.
_VALUES = re.compile(r"DETAIL:.*|\[parameters: .*|(?<=invalid input for query argument).*", re.DOTALL)


def reason_of(error: BaseException) -> str | None:
    """What an error of PostgreSQL, asyncpg or SQLAlchemy says in one line; None: it is none of theirs."""
    if isinstance(error, StatementError):
        said = (error.orig and reason_of(error.orig)) or type(error.orig or error).__name__
        statement = " ".join((error.statement or "").split())
        cut = f"{statement[:_STATEMENT]}…" if len(statement) > _STATEMENT else statement
        return f"{said} [SQL: {cut}]"
    if isinstance(error.__cause__, asyncpg.PostgresError | asyncpg.InterfaceError) and hasattr(
        error, "sqlstate"
    ):
        cause = error.__cause__  # SQLAlchemy's own copy of asyncpg's error
        return f"{type(cause).__name__}: {reason_of(cause)}"
    if not isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError):
        return None
    state = getattr(error, "sqlstate", None) or ""
    if quotes_a_value(error):
        return f"a value was refused{f', SQLSTATE {state}' if state else ''}; PostgreSQL's own log says more"
    return without_values(" ".join(str(error.args[0] if error.args else "").split()))


def quotes_a_value(error: BaseException) -> bool:
    """Whether an error's message, and that of the error that caused it, may hold a value of a row or a parameter."""
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_WRONG_VALUE)
    return isinstance(error, asyncpg.InterfaceError) and "query argument" in str(error.args[:1])


def without_values(text: str) -> str:
    """A text that holds such an error's message, without the values in it."""
    return _VALUES.sub("", text).rstrip()
