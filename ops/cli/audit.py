"""``horoscope audit``: who did what."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ops.cli.console import Answer, Here, Screen, clock_time, connected
from ops.cli.options import NUMBER, completed, limit_option, one_of, words
from services import days

if TYPE_CHECKING:
    from services.accounts.audit import Recorded


def _acts() -> list[str]:
    from services.accounts.audit import ACTS

    return [*ACTS, *sorted({act.partition(".")[0] for act in ACTS})]


def _moment(typed: str) -> datetime:
    try:
        return days.parse_instant(typed, datetime.now(UTC), None)
    except ValueError:
        raise click.BadParameter(
            f"{typed!r} is not a date or time such as 2026-11-22T06:30, or an age such as 2h or 3d"
        ) from None


@click.command()
@click.option("--who", type=words, metavar="NAME", help="Only what this account or person did.")
@click.option(
    "--what",
    type=one_of(_acts),
    metavar="ACT",
    shell_complete=completed(_acts),
    help="Only this act, such as queue.pause, or all of a kind: queue.",
)
@click.option("--since", type=_moment, metavar="WHEN", help="Then or later: 2026-11-22T06:30, or 2h.")
@click.option("--until", type=_moment, metavar="WHEN", help="Before.")
@limit_option(50)
@click.option("--before", type=NUMBER, metavar="ID", help="Only smaller numbers: the next page.")
@connected()
async def audit(here: Here, limit: int, before: int | None, **wanted: Any) -> Answer:
    """List who did what, on the page and here.

    The latest come first. Entries are kept for 400 days; nobody can change one.
    """
    from services.accounts.audit import Audit, AuditFilter

    found = await Audit(here.database, here.mask).listed(AuditFilter(**wanted), limit=limit, before=before)

    def show(screen: Screen) -> None:
        if not found:
            screen.say("Nothing is on record.")
            return
        names = ["id", "at", "who", "what", "on", "outcome", "from", "values"]
        screen.table(names, [_row(each) for each in found])
        if len(found) == limit:
            screen.say(f"The next page: the same with --before {found[-1].id}")

    return Answer({"entries": found}, show)


def _row(entry: Recorded) -> tuple[Any, ...]:
    outcome = "begun, end unknown" if entry.outcome == "begun" else entry.outcome
    return (
        entry.id,
        clock_time(entry.at),
        f"{entry.who} ({entry.role})" if entry.role else entry.who,
        entry.what,
        entry.subject,
        f"{outcome}: {entry.detail}" if entry.detail else outcome,
        entry.origin,
        _values(entry),
    )


def _values(entry: Recorded) -> str:
    sides = (("-", entry.before), ("+", entry.after))
    return "  ".join(f"{sign} {_told(side)}" for sign, side in sides if side is not None)


def _told(value: Any) -> str:
    if not isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    said = {
        name: each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)
        for name, each in value.items()
    }
    return ", ".join(f"{name}={each}" for name, each in said.items())
