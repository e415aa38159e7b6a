"""The cookies of the operators' page: their names, and their signed values.

The key that signs them is derived from ADMIN_PASSWORD, so they hold in every process with the same password.
"""

import hashlib
import hmac
from typing import Literal

from itsdangerous import BadSignature, TimestampSigner
from starlette.requests import Request
from starlette.responses import Response

from services.days import Clock

# With a stolen cookie the password can be guessed offline; this makes each guess cost 32 MiB and a tenth of a second.
_SCRYPT = {"n": 1 << 15, "r": 8, "p": 1, "maxmem": 1 << 26, "dklen": 32}

#: An operator has signed in; a visitor was shown the sign-in form.
Kind = Literal["operator", "visitor"]

COOKIES: dict[Kind, str] = {"operator": "horoscope_admin", "visitor": "horoscope_admin_visitor"}
NOTE_COOKIE = "horoscope_admin_note"
KNOWN_COOKIE = "horoscope_admin_known"


class Cookies:
    """Makes and reads the values of signed cookies."""

    def __init__(self, password: str, clock: Clock) -> None:
        # The salt is the same everywhere, or the processes could not read each other's cookies.
        self._key = hashlib.scrypt(password.encode(), salt=b"horoscope admin 1", **_SCRYPT)
        self._password = self._digest("password", password)
        self._clock = clock

    @property
    def stamp(self) -> bytes:
        """The same as long as the password is; it tells nothing about it."""
        return self._digest("stamp", "")

    def is_password(self, password: str) -> bool:
        """Whether this is the password; compares in constant time."""
        return hmac.compare_digest(self._digest("password", password), self._password)

    def form_token(self, key: str) -> str:
        """The token that the forms of a session's pages send along; ``key`` is the session's."""
        return self._digest("form", key).hex()

    def is_form_token(self, key: str, token: str) -> bool:
        """Whether a form comes from a page of this session; compares in constant time."""
        return hmac.compare_digest(self.form_token(key).encode(), token.encode(errors="replace"))

    def signed(self, purpose: str, text: str) -> str:
        """A cookie's value: the text, the time and a signature that holds for this purpose only."""
        return self._signer(purpose).sign(text.encode()).decode()

    def unsigned(self, purpose: str, cookie: str | None, most_s: int) -> str | None:
        """The text of such a value; None: it is forged, older than ``most_s`` seconds or for another purpose."""
        if not cookie:
            return None
        try:
            text: bytes = self._signer(purpose).unsign(cookie, max_age=most_s)
            return text.decode()
        except (BadSignature, ValueError):  # too old, or no text
            return None

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._key, f"{purpose}:{text}".encode(errors="surrogatepass"), "sha256")

    def _signer(self, purpose: str) -> TimestampSigner:
        return _Signer(self._clock, self._key, purpose)


class _Signer(TimestampSigner):
    """itsdangerous's signer with a clock that is passed in."""

    def __init__(self, clock: Clock, key: bytes, purpose: str) -> None:
        super().__init__(
            key, salt=f"horoscope admin {purpose}", key_derivation="hmac", digest_method=hashlib.sha256
        )
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock().timestamp())


def set_cookie(request: Request, response: Response, name: str, value: str, lasts_s: int) -> None:
    """Set a cookie that scripts cannot read and other sites' pages do not send."""
    secure = request.scope["scheme"] == "https"
    response.set_cookie(name, value, max_age=lasts_s, httponly=True, samesite="strict", secure=secure)
