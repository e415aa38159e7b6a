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
#: Failed tries of browsers that have signed in before; those have tries of their own, and the oldest are forgotten.
REMEMBERED = 1000


class Tries:
    """The failed tries of the last minutes: at most :data:`TRIES_OF_ALL` of strangers, :data:`REMEMBERED` of others.

    A browser that has signed in before is not a stranger. It has as many tries as an address has, whatever others do
    from the same address or from anywhere, or a guesser could keep everybody out.

    Args:
        clock: Seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._strangers: deque[tuple[float, str]] = deque()
        self._known: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)

    def locked_for(self, address: str, browser: str | None = None) -> float:
        """Seconds until somebody may try again; 0 when they may now.

        Args:
            address: Where they are.
            browser: The name of a browser that has signed in before; None: it is a stranger's.
        """
        now = self._clock()
        failed, who = self._of(address, browser)
        while failed and failed[0][0] <= now - WITHIN_S:
            failed.popleft()
        own = [at for at, each in failed if each == who]
        first = [failed[0][0]] if browser is None and len(failed) >= TRIES_OF_ALL else []
        if len(own) >= TRIES:
            first.append(own[-TRIES])
        return max(first) + WITHIN_S - now if first else 0.0

    def failed(self, address: str, browser: str | None = None) -> None:
        """Count a try that was looked at and failed."""
        failed, who = self._of(address, browser)
        failed.append((self._clock(), who))

    def succeeded(self, address: str, browser: str | None = None) -> None:
        """Hold nothing against these any more: they know the password. In the number of all it still counts."""
        failed, who = self._of(address, browser)
        for place, (at, each) in enumerate(failed):
            if each == who:
                failed[place] = (at, "")

    def _of(self, address: str, browser: str | None) -> tuple[deque[tuple[float, str]], str]:
        if browser is None:
            return self._strangers, neighbourhood(address)
        return self._known, browser


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
