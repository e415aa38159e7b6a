"""Passwords: the rule for new ones, and their hashes, by Argon2id with the parameters that OWASP recommends."""

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from schema.errors import Refused
from services.process.passwords import SHORTEST_PASSWORD, why_weak

#: Characters of a new password, at least; and of any that is looked at, at most.
SHORTEST = SHORTEST_PASSWORD
LONGEST = 1000
#: Letters of an account's name, at least, for a password that contains it to be refused.
_NAMED = 4

#: Hashes that a process makes at once; each takes 19 MiB.
_AT_ONCE = 2

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
#: The hash of no password: a name without an account costs as much time as any other.
_NOBODY = _HASHER.hash(" ")


def demand_strong(password: str, name: str) -> None:
    """Hold a new password against the rule.

    Raises:
        Refused: It is weak, too long, or contains the account's name.
    """
    try:
        password.encode()
    except UnicodeEncodeError:
        raise Refused("this password is not text in UTF-8") from None
    if len(password) > LONGEST:
        raise Refused(f"this password has {len(password)} characters; at most {LONGEST} are allowed")
    if reason := why_weak(password):
        raise Refused(f"this password is easy to guess: {reason}")
    if len(name) >= _NAMED and name.lower() in password.lower():
        raise Refused("this password is easy to guess: it contains the account's name")


class Passwords:
    """Makes and checks hashes, a few at a time, without holding up the event loop."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def hash(self, password: str) -> str:
        """The hash to store."""
        async with self._free:
            return await asyncio.to_thread(_HASHER.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether a password has this hash; without one (None) never, in the same time."""
        async with self._free:
            right = await asyncio.to_thread(_verify, stored or _NOBODY, password)
        return right and stored is not None

    @staticmethod
    def is_outdated(stored: str) -> bool:
        """The hash was made with other parameters than today's."""
        return _HASHER.check_needs_rehash(stored)


def _verify(stored: str, password: str) -> bool:
    if len(password) > LONGEST:
        password = ""  # it is wrong, whatever it is
    try:
        return _HASHER.verify(stored, password.encode(errors="replace"))
    except VerificationError:
        return False
