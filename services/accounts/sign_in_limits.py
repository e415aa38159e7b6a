"""How often somebody may try to sign in, counted in PostgreSQL for every process.

A browser that has signed in to an account before carries a device cookie and has attempts of its own; see OWASP's
"Device cookies". So whoever guesses cannot lock an owner out.
"""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.database.pool import Database

#: Failures from one address, or by one known device, within ``WITHIN_S`` seconds, after which further attempts are
#: refused for a while.
TRIES = 5
#: Failures to sign in to one account, from all unknown addresses together.
TRIES_OF_ALL = 100
WITHIN_S = 300.0
#: Days for which an address counts as known to an account that has signed in from it.
KNOWN_DAYS = 90

#: Seconds after which an attempt counts as a failure whose process died while it looked at the password.
_UNDER_WAY_S = 5.0
#: Seconds between two looks at whether the attempts under way have ended, and the number of looks.
_LOOK_S, _LOOKS = 0.05, 100

# One attempt at a time in the whole cluster, so that many at once are counted one by one.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('sign_in_attempts'))")
_PRUNE = text("DELETE FROM sign_in_attempts WHERE at < clock_timestamp() - make_interval(secs => :within)")
_IS_KNOWN = text("""
    SELECT EXISTS (
        SELECT FROM audit WHERE who = :account AND what = 'session.sign-in' AND outcome = 'done' AND origin = :origin
            AND at > now() - make_interval(days => :days))
""")
_OWN = "(CASE WHEN CAST(:device AS text) IS NULL THEN device IS NULL AND address = :address ELSE device = :device END)"
# The seconds until enough attempts are forgotten for the next one; NULL: there were fewer. And whether some are under
# way, which may still turn out to be right.
_LOCKED = text(f"""
    SELECT extract(epoch FROM greatest(
        (SELECT at FROM sign_in_attempts WHERE {_OWN} ORDER BY at DESC OFFSET :tries - 1 LIMIT 1),
        (SELECT at FROM sign_in_attempts WHERE NOT known AND NOT :known AND account = :account
         ORDER BY at DESC OFFSET :tries_of_all - 1 LIMIT 1)
    ) + make_interval(secs => :within) - clock_timestamp())::float AS left_s,
    EXISTS (SELECT FROM sign_in_attempts
            WHERE NOT failed AND ({_OWN} OR account = :account)
              AND at > clock_timestamp() - make_interval(secs => :under_way)) AS under_way
""")
_ADD = text("""
    INSERT INTO sign_in_attempts (account, address, device, known, failed)
    VALUES (:account, :address, :device, :known, false) RETURNING id
""")
_FAILED = text("UPDATE sign_in_attempts SET failed = true WHERE id = :id")
_FORGET = text("DELETE FROM sign_in_attempts WHERE id = :id")
_FORGET_OWN = text(f"DELETE FROM sign_in_attempts WHERE {_OWN} AND account = :account AND failed")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. It counts as a failure from its beginning, until it has succeeded."""

    locked_s: int  #: Seconds until the next attempt is accepted; 0: this one is
    key: dict[str, Any]  #: Where it comes from
    id: int | None = None  #: None: it was not accepted


@dataclass(frozen=True, slots=True, eq=False)
class SignInLimits:
    """Counts attempts. Every method raises DatabaseUnavailable while PostgreSQL is away."""

    database: Database
    #: However many attempts come, they leave connections to the others.
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))

    async def begin(self, account: str, origin: str, network: str, device: str | None) -> Attempt:
        """Count an attempt, before its password is looked at.

        Attempts that come at once wait for each other: those whose passwords are right are not in each other's way.

        Args:
            account: The account; empty for every name without one.
            origin: The address.
            network: The addresses that one person may have.
            device: The name in a device cookie of this account.
        """
        key: dict[str, Any] = {"account": account, "address": network, "device": device}
        for look in range(_LOOKS):
            attempt, may_change = await self._begin(key, origin)
            if not (attempt.locked_s and may_change and look < _LOOKS - 1):
                break
            await asyncio.sleep(_LOOK_S)
        return attempt

    async def _begin(self, key: dict[str, Any], origin: str) -> tuple[Attempt, bool]:
        async with self._turns, self.database.transaction() as connection:
            await connection.execute(_ONE_AT_A_TIME)
            await connection.execute(_PRUNE, {"within": WITHIN_S})
            asked = {"account": key["account"], "origin": origin, "days": KNOWN_DAYS}
            known = key["device"] is not None or bool((await connection.execute(_IS_KNOWN, asked)).scalar())
            values = key | {"known": known}
            locked_s, under_way = await _locked(connection, values)
            if locked_s:
                return Attempt(locked_s, key), under_way
            return Attempt(0, key, (await connection.execute(_ADD, values)).scalar_one()), False

    async def failed(self, attempt: Attempt) -> int:
        """Note that a password was wrong; the seconds until the next attempt is accepted, 0: now."""
        async with self.database.transaction() as connection:
            await connection.execute(_FAILED, {"id": attempt.id})
            return (await _locked(connection, attempt.key | {"known": True}))[0]

    async def succeeded(self, attempt: Attempt, *, anew: bool) -> None:
        """Forget an attempt whose password was right; ``anew``: and the failures before it, for this account."""
        async with self.database.transaction() as connection:
            await connection.execute(_FORGET, {"id": attempt.id})
            if anew:
                await connection.execute(_FORGET_OWN, attempt.key)


async def _locked(connection: AsyncConnection, values: dict[str, Any]) -> tuple[int, bool]:
    limits = {"tries": TRIES, "tries_of_all": TRIES_OF_ALL, "within": WITHIN_S, "under_way": _UNDER_WAY_S}
    row = (await connection.execute(_LOCKED, values | limits)).one()
    return (math.ceil(row.left_s) if row.left_s and row.left_s > 0 else 0), row.under_way
