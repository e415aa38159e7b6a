"""``horoscope accounts``: who may use the operators' page, and which scripts."""

from __future__ import annotations

import sys
from typing import Any

import click

from ops.cli import console
from ops.cli.console import Answer, Here, Screen, clock_time, connected, yes_option
from ops.cli.options import completed, one_of
from services.accounts.roles import Role

#: Days that a token is valid without ``--days``, and at most.
DAYS = 90
LONGEST_DAYS = 400


def _roles() -> list[str]:
    return [role.value for role in Role]


_name_argument = click.argument("name", metavar="NAME")
_role_option = click.option(
    "--role",
    type=one_of(_roles),
    required=True,
    metavar="ROLE",
    shell_complete=completed(_roles),
    help=f"One of {', '.join(Role)}.",
)


@click.group()
def accounts() -> None:
    """Say who may use the operators' page, and which scripts.

    A viewer looks. An operator also acts on texts, queues and dead letters. An admin also purges queues, reads the
    audit and changes accounts. While no account is an admin's, ADMIN_PASSWORD opens the page, with any name.
    """


@accounts.command("list")
@connected()
async def list_(here: Here) -> Answer:
    """List the accounts."""
    from services.accounts.accounts import Accounts

    found = await Accounts(here.database).listed()
    has_builtin = not any(each.role is Role.ADMIN for each in found)

    def show(screen: Screen) -> None:
        if found:
            names = ["name", "role", "state", "last seen", "browsers", "password of"]
            rows = [
                (
                    each.name,
                    each.role.value,
                    f"disabled since {clock_time(each.disabled_at)}" if each.disabled_at else "active",
                    each.seen_at and clock_time(each.seen_at),
                    each.sessions,
                    each.password_at,
                )
                for each in found
            ]
            screen.table(names, rows, numbers=["browsers"])
        if has_builtin:
            screen.say("No account is an admin's: ADMIN_PASSWORD opens the page.")

    return Answer({"accounts": found, "admin_password": has_builtin}, show)


@accounts.command()
@_name_argument
@_role_option
@connected(act="account.add")
async def add(here: Here, name: str, role: str, **_: Any) -> Answer:
    """Make an account. Its password is asked for, or read from the standard input."""
    from services.accounts.accounts import Accounts

    here.entry.subject, here.entry.after = name, {"role": role}
    await Accounts(here.database).add(name, Role(role), new_password(name))
    return Answer({"name": name, "role": role}, f"Made the account {name}, with the role {role}.")


@accounts.command()
@_name_argument
@click.argument("role", type=one_of(_roles), metavar="ROLE", shell_complete=completed(_roles))
@connected(act="account.role")
async def role(here: Here, name: str, role: str, **_: Any) -> Answer:
    """Give an account another ROLE. It is signed out everywhere."""
    from services.accounts.accounts import Accounts

    here.entry.subject = name
    before = await Accounts(here.database).set_role(name, Role(role))
    here.entry.before, here.entry.after = {"role": before.value}, {"role": role}
    return Answer({"name": name, "role": role}, f"The role of {name} is now {role}; it was {before.value}.")


@accounts.command()
@_name_argument
@connected(act="account.password")
async def password(here: Here, name: str, **_: Any) -> Answer:
    """Set an account's password. It is signed out everywhere.

    The password is asked for, or read from the standard input.
    """
    from services.accounts.accounts import Accounts

    here.entry.subject = name
    await Accounts(here.database).set_password(name, new_password(name))
    return Answer({"name": name}, f"The password of {name} is changed. It is signed out everywhere.")


@accounts.command()
@_name_argument
@connected(act="account.disable")
async def disable(here: Here, name: str, **_: Any) -> Answer:
    """Let nobody sign in to an account. It is signed out everywhere."""
    from services.accounts.accounts import Accounts

    here.entry.subject = name
    await Accounts(here.database).disable(name)
    return Answer({"name": name}, f"{name} is disabled and signed out everywhere.")


@accounts.command()
@_name_argument
@connected(act="account.enable")
async def enable(here: Here, name: str, **_: Any) -> Answer:
    """Let people sign in to a disabled account again."""
    from services.accounts.accounts import Accounts

    here.entry.subject = name
    await Accounts(here.database).enable(name)
    return Answer({"name": name}, f"{name} may sign in again.")


@accounts.command("sign-out")
@_name_argument
@connected(act="account.sign-out")
async def sign_out(here: Here, name: str, **_: Any) -> Answer:
    """Sign an account out everywhere."""
    from services.accounts.accounts import Accounts

    here.entry.subject = name
    count = await Accounts(here.database).sign_out(name)
    here.entry.after = {"sessions": count}
    return Answer({"name": name, "browsers": count}, f"Signed {name} out in {count} browsers.")


@accounts.command()
@_name_argument
@yes_option
@connected(act="account.remove")
async def remove(here: Here, name: str, yes: bool, **_: Any) -> Answer:
    """Delete an account. The audit keeps what it did."""
    from services.accounts.accounts import Accounts

    here.entry.subject = name
    console.confirm(f"Remove the account {name}?", yes=yes)
    role = await Accounts(here.database).remove(name)
    here.entry.before = {"role": role.value}
    return Answer({"name": name}, f"Removed the account {name}.")


@accounts.group()
def token() -> None:
    """Make and revoke the tokens with which scripts read the JSON API."""


@token.command("list")
@connected()
async def list_tokens(here: Here) -> Answer:
    """List the tokens. What a token itself says is stored nowhere."""
    from services.accounts.tokens import Tokens

    found = await Tokens(here.database).listed()

    def show(screen: Screen) -> None:
        if not found:
            screen.say("There are no tokens.")
            return
        rows = [
            (
                each.name,
                each.role.value,
                "revoked" if each.revoked_at else "valid" if each.valid else "ended",
                each.revoked_at or each.expires_at,
                clock_time(each.used_at),
                each.created_by,
            )
            for each in found
        ]
        screen.table(["name", "role", "state", "until", "last used", "made by"], rows)

    return Answer({"tokens": found}, show)


@token.command("add")
@_name_argument
@_role_option
@click.option(
    "--days",
    type=click.IntRange(1, LONGEST_DAYS),
    default=DAYS,
    show_default=True,
    help="How long it is valid.",
)
@connected(act="token.add")
async def add_token(here: Here, name: str, role: str, days: int, by: str) -> Answer:
    """Make a token and print it, once.

    A script sends it as the header Authorization: Bearer TOKEN.
    """
    from services.accounts.tokens import Tokens

    here.entry.subject, here.entry.after = name, {"role": role, "days": days}
    secret, expires_at = await Tokens(here.database).add(name, Role(role), days=days, by=by)

    def show(screen: Screen) -> None:
        screen.say(secret)
        click.echo(
            f"It is valid until {clock_time(expires_at)} and is shown only now. Send it as the header "
            "Authorization: Bearer TOKEN",
            err=True,
        )

    return Answer({"name": name, "role": role, "token": secret, "expires_at": expires_at}, show)


@token.command("revoke")
@_name_argument
@connected(act="token.revoke")
async def revoke(here: Here, name: str, **_: Any) -> Answer:
    """End a token now."""
    from services.accounts.tokens import Tokens

    here.entry.subject = name
    role = await Tokens(here.database).revoke(name)
    here.entry.before = {"role": role.value}
    return Answer({"name": name}, f"Revoked the token {name}.")


def new_password(name: str) -> str:
    """A password, asked for twice at a terminal, or the first line of the standard input."""
    if console.is_terminal():
        with console.asking():
            typed: str = click.prompt(
                f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True
            )
        return typed
    typed = sys.stdin.readline().rstrip("\r\n")
    if not typed:
        raise click.UsageError(
            "no password: type it at a terminal, or send it as a line on the standard input"
        )
    return typed
