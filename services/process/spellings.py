"""The ways in which a secret can be spelled, and the secrets inside of an address."""

import base64
import html
import re
import sys
from array import array
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote, unquote_plus

# An escape of JSON, of Python's repr, of an address or of HTML, also one that was escaped again. How many backslashes were
# meant cannot be told then, so those that belong to no escape are left out.
_ESCAPE = re.compile(
    r"""\\+(?:u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|x[0-9a-fA-F]{2}|["'/bfnrt])|\\+"""
    r"""|%(?:25)*[0-9a-fA-F]{2}|&(?:amp;)*(?:\#[0-9]{1,7}|\#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,9});"""
)
_MARKS = ("\\", "%", "&")
_SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_UNKNOWN = "\ufffd"
#: Escapes of different kinds inside of each other that are undone.
_PASSES = 6

#: Names of an address's parameters whose values are secrets.
_SECRET_NAME = re.compile(r"pass|pwd|secret|token|key|auth|sig|cred|session|code", re.IGNORECASE)
#: Parameters of libpq and of AMQP addresses that are none, however odd their value is.
_OPEN_NAMES = frozenset(
    {
        "application_name", "cacertfile", "certfile", "channel_binding", "client_encoding", "connect_timeout", "dbname",
        "gssencmode", "heartbeat", "host", "hostaddr", "keepalives", "keepalives_idle", "keyfile", "options", "passfile",
        "port", "service", "sslcert", "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslrootcert",
        "target_session_attrs", "user",
    }
)  # fmt: skip
_NEXT_ADDRESS = re.compile(r";(?=[a-z][a-z0-9+.\-]*://)", re.IGNORECASE)
#: What looks like a key, whatever its name.
_LIKE_A_KEY = re.compile(r"(?=.*[0-9])(?=.*[A-Za-z])[A-Za-z0-9_\-+/=.~]{12,}")


def has_escapes(text: str) -> bool:
    """Whether there may be an escape in a text."""
    return any(mark in text for mark in _MARKS)


class Decoded:
    r"""A text without escapes, and where each of its characters stands in the text that was decoded.

    ``\x`` is taken for a byte of UTF-8, as Python writes bytes, or else for a character, as it writes text.
    """

    def __init__(self, text: str, *, bytewise: bool = True) -> None:
        self.text = text
        self._bytewise = bytewise
        self._starts: array[int] | None = None  # None: every character stands where it stood
        self._ends: array[int] | None = None
        for _ in range(_PASSES):
            if not has_escapes(self.text) or not self._undo():
                break

    def span(self, first: int, after: int) -> tuple[int, int]:
        """Where the characters from ``first`` up to ``after`` stood: the first place, and the one behind the last."""
        if self._starts is None or self._ends is None:
            return first, after
        return self._starts[first], self._ends[after - 1]

    def _undo(self) -> bool:
        """Undo one layer of escapes; False: there is none."""
        text, at = self.text, 0
        parts: list[str] = []
        starts, ends = array("I"), array("I")
        for character, first, after in _characters(text, bytewise=self._bytewise):
            parts.append(text[at:first])
            starts.extend(range(at, first))
            ends.extend(range(at + 1, first + 1))
            if character:
                parts.append(character)
                starts.append(first)
                ends.append(after)
            at = after
        if not parts:
            return False
        parts.append(text[at:])
        starts.extend(range(at, len(text)))
        ends.extend(range(at + 1, len(text) + 1))
        if self._starts is not None and self._ends is not None:
            starts = array("I", (self._starts[place] for place in starts))
            ends = array("I", (self._ends[place - 1] for place in ends))
        self.text, self._starts, self._ends = "".join(parts), starts, ends
        return True


def _characters(text: str, *, bytewise: bool) -> Iterator[tuple[str, int, int]]:
    """Each escaped character of a text, and where its escape stands."""
    run: list[tuple[int, int, int]] = []  # bytes that follow upon each other, each with its place
    half: tuple[str, int, int] | None = None  # the first half of a character that JSON writes as two
    for found in _ESCAPE.finditer(text):
        first, after = found.span()
        escape = found[0].lstrip("\\")
        byte = _byte(found[0], escape) if bytewise or found[0][0] == "%" else None
        if run and (byte is None or run[-1][2] != first):
            yield from _from_bytes(run)
            run = []
        character = "" if byte is not None else _character(found[0], escape)
        if half:
            if half[2] == first and "\udc00" <= character <= "\udfff":
                both = (half[0] + character).encode("utf-16", "surrogatepass").decode("utf-16")
                yield both, half[1], after
                half = None
                continue
            yield half
            half = None
        if byte is not None:
            run.append((byte, first, after))
        elif "\ud800" <= character <= "\udbff":
            half = (character, first, after)
        else:
            yield character, first, after
    if half:
        yield half
    yield from _from_bytes(run)


def _byte(found: str, escape: str) -> int | None:
    """The byte that an escape stands for; None: it stands for a character."""
    if found[0] == "%":
        return int(found[-2:], 16)
    byte = int(escape[1:], 16) if escape[:1] == "x" else 0
    return byte if byte >= 0x80 else None


def _character(found: str, escape: str) -> str:
    if found[0] == "&":
        name = found[1:].rpartition("amp;")[2] or "amp;"
        if name[0] != "#":
            named = html.unescape(f"&{name}")
            return named if len(named) == 1 else _UNKNOWN
        code = int(name[2:-1], 16) if name[1] in "xX" else int(name[1:-1])
    elif not escape:
        return ""
    elif escape[0] in "uUx":
        code = int(escape[1:], 16)
    else:
        return _SHORT.get(escape, escape)
    return chr(code) if code <= sys.maxunicode else _UNKNOWN


def _from_bytes(run: list[tuple[int, int, int]]) -> Iterator[tuple[str, int, int]]:
    """The characters of bytes in UTF-8; a byte that is none is taken for the character of its number."""
    content = bytes(byte for byte, _, _ in run)
    place = 0
    while place < len(content):
        lead = content[place]
        length = 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        try:
            character = content[place : place + length].decode()
        except UnicodeDecodeError:
            character, length = chr(lead), 1
        yield character, run[place][1], run[min(place + length, len(run)) - 1][2]
        place += length


def secrets_in(addresses: str) -> list[str]:
    """The secrets inside of an address, or of several with ``;`` between: in its user's part and in its query.

    A password is returned as it is written and as it is meant; so is a user together with a password as HTTP's basic
    authentication sends them, and a key that stands alone before the ``@`` of a web address.
    """
    found: list[str] = []
    for address in _NEXT_ADDRESS.split(addresses):
        scheme, mark, rest = address.partition("://")
        if not mark:
            continue
        # Some clients let a password hold a slash or a question mark: then the part up to the last @ is meant.
        for authority in (re.split(r"[/?#]", rest, maxsplit=1)[0], rest):
            found += _of_user(scheme, authority.rpartition("@")[0])
        for pair in re.split(r"[&;]", rest.partition("?")[2].partition("#")[0]):
            found += _of_parameter(pair)
    return [secret for secret in dict.fromkeys(found) if secret]


def _of_user(scheme: str, about: str) -> list[str]:
    user, colon, password = about.partition(":")
    if not colon:
        is_key = scheme.startswith("http") and _LIKE_A_KEY.fullmatch(about)
        return [about, unquote(about)] if is_key else []
    basic = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode(errors="surrogateescape")).decode()
    return [password, unquote(password), *([basic] if password else [])]


def _of_parameter(pair: str) -> list[str]:
    name, _, value = pair.partition("=")
    meant = next((inner for _, inner in parse_qsl(pair, keep_blank_values=True)), value)
    if name.lower() in _OPEN_NAMES:
        return []
    if _SECRET_NAME.search(name) or (not meant.startswith("/") and _LIKE_A_KEY.fullmatch(meant)):
        return [value, unquote(value), unquote_plus(value)]
    return []
