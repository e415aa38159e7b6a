"""Limits the attempts to sign in."""

import ipaddress
import time
from collections import deque
from collections.abc import Callable

#: Failures from one address, and from all addresses together, within ``WITHIN_S`` seconds, after which further attempts
#: are refused for a while. One address has more than a person needs; all together have far too few to guess anything.
TRIES = 5
TRIES_OF_ALL = 100
WITHIN_S = 300.0
#: Failures of known browsers that are remembered; the oldest are forgotten.
REMEMBERED = 1000


class Tries:
    """The latest failures: at most :data:`TRIES_OF_ALL` of strangers, :data:`REMEMBERED` of known browsers.

    A browser that has signed in before is known. It has as many attempts as an address has, whatever others do from the
    same address or from anywhere; otherwise an attacker who guesses could lock every operator out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._strangers: deque[tuple[float, str]] = deque()
        self._known: deque[tuple[float, str]] = deque(maxlen=REMEMBERED)

    def locked_for(self, address: str, browser: str | None = None) -> float:
        """Seconds until the next attempt from an address, or by a known browser, is accepted; 0: now."""
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
        """Count a failure."""
        failed, who = self._of(address, browser)
        failed.append((self._clock(), who))

    def succeeded(self, address: str, browser: str | None = None) -> None:
        """Forget the failures of this address or browser; they still count towards :data:`TRIES_OF_ALL`."""
        failed, who = self._of(address, browser)
        for place, (at, each) in enumerate(failed):
            if each == who:
                failed[place] = (at, "")

    def _of(self, address: str, browser: str | None) -> tuple[deque[tuple[float, str]], str]:
        if browser is None:
            return self._strangers, neighbourhood(address)
        return self._known, browser


def neighbourhood(address: str) -> str:
    """The addresses that one person may have: one of IPv4, or a network of 2⁶⁴ of IPv6."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped:
            return str(known.ipv4_mapped)
        return str(ipaddress.ip_network((known, 64), strict=False))
    return str(known)
