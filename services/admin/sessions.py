"""Who is signed in: a cookie that this process, and every other with the same password, can tell from a forged one.

Nothing is kept on the server. The key that signs the cookies is made from the password, so a session outlives a
restart and is known to every process; it ends when the password is changed.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

from itsdangerous import BadSignature, TimestampSigner

from services.days import Clock

#: Seconds after which a cookie that was not made anew is worth nothing.
SESSION_S = 12 * 3600
#: Seconds after which a session ends, however often its cookie was made anew.
LONGEST_S = 7 * 86_400
#: Seconds after which a page that somebody opens makes the cookie anew.
RENEW_S = 600
#: Seconds after which a browser that has signed in is a stranger again.
KNOWN_S = 366 * 86_400
#: Seconds for which a note waits to be read.
NOTE_S = 60

# A cookie that was stolen is a chance to guess the password; this makes each guess cost 32 MiB and a tenth of a second.
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 1 << 26, "dklen": 32}

#: An operator has signed in; a visitor was shown the form to do so.
Kind = Literal["operator", "visitor"]


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's visit.

    Args:
        kind: Signed in or not.
        name: When it began, in seconds, and something made at random; another one after signing in.
        age_s: Seconds since its cookie was made.
    """

    kind: Kind
    name: str
    age_s: float = 0.0


class Sessions:
    """Makes and reads what stands in the cookies.

    Args:
        password: Of the page.
        clock: The time.
    """

    def __init__(self, password: str, clock: Clock) -> None:
        # The salt is the same everywhere, or the processes could not read each other's cookies.
        self._key = hashlib.scrypt(password.encode(), salt=b"horoscope admin 1", **_SCRYPT)
        self._password = self._digest("password", password)
        self._clock = clock

    def knows(self, password: str) -> bool:
        """Whether that is the password; takes as long for one that is nearly right as for any other."""
        return hmac.compare_digest(self._digest("password", password), self._password)

    def begin(self, kind: Kind) -> Session:
        """A session that nobody has had before."""
        return Session(kind, f"{self._clock().timestamp():.0f}-{secrets.token_urlsafe(18)}")

    def cookie(self, session: Session) -> str:
        """The value of the cookie that says who somebody is, from now on."""
        return self._signer(session.kind).sign(session.name).decode()

    def read(self, kind: Kind, cookie: str | None) -> Session | None:
        """The session that a cookie belongs to; None when it is forged, too old or for something else."""
        found = self._unsigned(kind, cookie, SESSION_S)
        if not found:
            return None
        began = int(found[0].partition("-")[0])
        return Session(kind, *found) if self._clock().timestamp() - began < LONGEST_S else None

    def form_token(self, session: Session) -> str:
        """What a form must send along to show that it comes from a page of this session."""
        return self._digest("form", f"{session.kind} {session.name}").hex()

    def is_form_token(self, session: Session, token: str) -> bool:
        """Whether a form came from a page of this session."""
        return hmac.compare_digest(self.form_token(session).encode(), token.encode(errors="replace"))

    def note(self, text: str) -> str:
        """The value of a cookie that tells the next page something."""
        return self._signer("note").sign(text.encode()).decode()

    def read_note(self, cookie: str | None) -> str | None:
        """What a page was told by the one before."""
        found = self._unsigned("note", cookie, NOTE_S)
        return found[0] if found else None

    def known(self, browser: str | None) -> str:
        """The value of the cookie that says, after signing out too, that a browser has signed in before.

        Args:
            browser: Its name; None: it gets one.
        """
        return self._signer("known").sign(browser or secrets.token_urlsafe(18)).decode()

    def read_known(self, cookie: str | None) -> str | None:
        """The name of a browser that has signed in before."""
        found = self._unsigned("known", cookie, KNOWN_S)
        return found[0] if found else None

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}:{text}".encode(errors="surrogatepass"), "sha256")

    def _signer(self, purpose: str) -> TimestampSigner:
        return _Signer(self._clock, self._key, purpose)

    def _unsigned(self, purpose: str, cookie: str | None, most_s: int) -> tuple[str, float] | None:
        if not cookie:
            return None
        try:
            text, made = self._signer(purpose).unsign(cookie, max_age=most_s, return_timestamp=True)
            return text.decode(), (self._clock() - made).total_seconds()
        except (BadSignature, ValueError):  # which includes what is too old, and what is no text
            return None


class _Signer(TimestampSigner):
    """itsdangerous's, by a clock that is handed in."""

    def __init__(self, clock: Clock, key: bytes, purpose: str) -> None:
        super().__init__(
            key, salt=f"horoscope admin {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock().timestamp())
