"""How often somebody may try to sign in."""

import ipaddress
import time
from collections import deque
from collections.abc import Callable

#: Failed tries from one address, and from all together, within so many seconds, after which no more are looked at.
#: An address has more than a person needs; all together have far too few to guess anything.
TRIES = 5
TRIES_OF_ALL = 100
WITHIN_S = 300.0


class Tries:
    """The failed tries of the last minutes. There are never more than :data:`TRIES_OF_ALL` of them.

    Args:
        clock: Seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: deque[tuple[float, str]] = deque()

    def locked_for(self, address: str) -> float:
        """Seconds until this address may try again; 0 when it may now."""
        now = self._clock()
        while self._failed and self._failed[0][0] <= now - WITHIN_S:
            self._failed.popleft()
        own = [at for at, who in self._failed if who == neighbourhood(address)]
        first = [self._failed[0][0]] if len(self._failed) >= TRIES_OF_ALL else []
        if len(own) >= TRIES:
            first.append(own[0])
        return max(first) + WITHIN_S - now if first else 0.0

    def failed(self, address: str) -> None:
        """Count a try that was looked at and failed."""
        self._failed.append((self._clock(), neighbourhood(address)))

    def succeeded(self, address: str) -> None:
        """Forget what this address has failed at: it knows the password."""
        self._failed = deque(each for each in self._failed if each[1] != neighbourhood(address))


def neighbourhood(address: str) -> str:
    """What one person may be assumed to have: an address of IPv4, a network of 2⁶⁴ addresses of IPv6."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
