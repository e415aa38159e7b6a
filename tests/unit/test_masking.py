"""Secrets in every spelling, and what is shown of text that others wrote."""

import html
import json
import sys
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydantic import SecretStr

from services.process.escaping import visible, visible_json
from services.process.logs import Mask
from services.process.settings import Settings
from services.process.spellings import secrets_in

SECRETS = [
    "sk-a-model-key",
    "quotes \"and\" 'others'",
    "пароль-Ключ-🗝",
    "a/b\\c&d<e>f%41g",
    "line\nbreak\ttab",
    "with a space",
    "p@ss:w;rd?x=1#y",
]


def fully_escaped(text: str) -> str:
    """JSON as some encoders write it: every character as an escape."""
    units = text.encode("utf-16-be").hex()
    return "".join(f"\\u{units[place : place + 4]}" for place in range(0, len(units), 4))


def percent(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


SPELLINGS: list[Callable[[str], str]] = [
    str,
    repr,
    ascii,
    lambda text: repr(text.encode()),
    json.dumps,
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: json.dumps(json.dumps(text)),
    lambda text: json.dumps(text).replace("/", "\\/"),
    fully_escaped,
    quote,
    lambda text: quote(text, safe=""),
    quote_plus,
    lambda text: quote(quote(text, safe=""), safe=""),
    percent,
    html.escape,
    lambda text: html.escape(html.escape(text)),
    lambda text: "".join(f"&#{ord(each)};" for each in text),
    lambda text: "".join(f"&#x{ord(each):X};" for each in text),
    lambda text: html.escape(json.dumps(text)),
    lambda text: json.dumps(quote(text, safe="")),
    lambda text: quote(json.dumps(text)),
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_is_masked_in_every_spelling(secret: str) -> None:
    mask = Mask(["something-else-1", secret])
    for spell in SPELLINGS:
        text = f"before {spell(secret)} after, and {spell(secret)}."
        masked = mask(text)
        assert masked.count("***") == 2, (text, masked)
        assert masked.startswith("before ")
        assert " after, and " in masked
        assert spell(secret).strip("\"'b") not in masked
        assert mask.in_bytes(text.encode()).decode() == masked


@given(
    some.text(some.characters(exclude_categories=["Cs"]), min_size=6, max_size=40),
    some.lists(some.sampled_from(SPELLINGS), min_size=1, max_size=2),
)
@settings(derandomize=True, max_examples=300, deadline=None)
def test_no_spelling_of_any_secret_is_left(secret: str, spells: list[Callable[[str], str]]) -> None:
    spelled = secret
    for spell in spells:
        spelled = spell(spelled)
    assert "***" in Mask([secret])(f"<<{spelled}>>")


def test_json_stays_json_under_the_mask() -> None:
    for secret in SECRETS:
        told = {"a": f"x{secret}y", secret: [secret, 1, None]}
        for ascii_only in (True, False):
            masked = json.loads(Mask([secret]).in_bytes(json.dumps(told, ensure_ascii=ascii_only).encode()))
            assert masked == {"a": "x***y", "***": ["***", 1, None]}


def test_of_a_long_secret_neither_half_is_left_when_others_have_cut_it() -> None:
    token = "123456:ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    mask = Mask([token])
    for length in range(12, len(token)):
        for piece in (token[:length], token[-length:]):
            assert mask(f"it said {piece}… and more") == "it said ***… and more"
    assert mask("12345 and 6789 are no pieces of it") == "12345 and 6789 are no pieces of it"


def test_what_is_no_secret_stays_as_it_is() -> None:
    mask = Mask(["sk-a-model-key", "abc"])
    for text in ("C:\\new\\table", "100 % of &amp; it", '{"a": "\\u0041\\n"}', "abc", "", "&nosuch; %zz \\"):
        assert mask(text) == text
        assert mask.in_bytes(text.encode()) == text.encode()
    assert mask.in_bytes(bytes(range(256))) == bytes(range(256))


@pytest.mark.parametrize(
    ("address", "secrets"),
    [
        ("postgresql://me:s3cret@host/db", {"s3cret"}),
        ("postgresql://me:s%2Fcr%40t@host/db", {"s%2Fcr%40t", "s/cr@t"}),
        ("postgresql://me:s@cr@t@host:5432/db", {"s@cr@t"}),
        ("postgresql://me:s/cret@host/db", {"s/cret"}),
        ("postgresql://me:pa;ss@host/db", {"pa;ss"}),
        ("postgresql:///db?user=me&password=s%20cret&sslmode=verify-full", {"s%20cret", "s cret"}),
        ("amqp://a:first-1@one;amqps://a:second-2@two:5671/v", {"first-1", "second-2"}),
        ("https://user:api-pass@proxy.example/v1", {"api-pass"}),
        ("https://k3y0123456789ab@proxy.example/v1", {"k3y0123456789ab"}),
        ("https://host.example/hook?token=t0ken&x=abcdef012345678", {"t0ken", "abcdef012345678"}),
    ],
)  # fmt: skip
def test_the_secrets_of_an_address_are_known(address: str, secrets: set[str]) -> None:
    assert secrets <= set(secrets_in(address))


def test_what_is_public_in_an_address_is_no_secret() -> None:
    for address in (
        "postgresql://postgres@127.0.0.1:5432/horoscope",
        "postgresql://postgres@/db?host=/run/postgresql&sslmode=verify-full&application_name=horoscope-prod-12",
        "https://api.telegram.org",
        "https://admin@host.example/v1?version=2",
    ):
        assert secrets_in(address) == []


def test_every_setting_that_holds_a_secret_is_masked() -> None:
    """A new secret setting, or a new address, cannot be forgotten."""
    given = {
        name: f"https://me:secret-of-{name}@host.example/?token=query-of-{name}"
        if name.endswith("_url")
        else f"secret-of-{name}"
        for name, field in Settings.model_fields.items()
        if name.endswith("_url") or "SecretStr" in str(field.annotation)
    }
    assert len(given) >= 10
    values: dict[str, Any] = {
        name: SecretStr(value) if "SecretStr" in str(Settings.model_fields[name].annotation) else value
        for name, value in given.items()
    }
    mask = Mask(Settings.model_construct(**values).secrets)
    for name, value in given.items():
        masked = mask(f"about {value}")
        assert f"secret-of-{name}" not in masked
        assert f"query-of-{name}" not in masked
    assert mask("42:the-second-part-of-a-token") == "42:the-second-part-of-a-token"
    token = Settings.model_construct(bot_token=SecretStr("42:the-second-part-of-a-token"))
    assert "second-part" not in Mask(token.secrets)("https://host/bot42%3Athe-second-part-of-a-token/getMe")


def test_every_character_without_a_shape_is_escaped_and_no_other() -> None:
    harmless = {"\ufe0e", "\ufe0f"}  # they tell an emoji from a letter
    for code in (*range(0x20000), *range(0xE0000, 0xE1000), 0xF0000, sys.maxunicode):
        character = chr(code)
        hides = unicodedata.category(character) in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
        shown = visible(character, keep="")
        if hides and character not in harmless:
            assert shown.isascii(), hex(code)
            assert shown.isprintable(), hex(code)
            assert json.loads(f'"{visible_json(character, keep="")}"') == character
        elif unicodedata.category(character)[0] in "LNPSZ" and shown != character:
            assert code in {0x115F, 0x1160, 0x3164, 0xFFA0}, hex(code)  # fillers: letters that are blank


def test_lines_and_tabs_stay_where_they_are_wanted() -> None:
    assert visible("a\n\tb\r\x1b[31m\u202e") == "a\n\tb\\r\\x1b[31m\\u202e"
    assert visible("a\n\tb", keep="") == "a\\n\\tb"
    assert visible_json("a\x7f\U000e0041") == "a\\u007f\\udb40\\udc41"
    assert visible("Овен ♈︎ и 👍🏽 — «ёж»") == "Овен ♈︎ и 👍🏽 — «ёж»"
