"""Which passwords are too easy to guess."""

import secrets

import pytest

from services.process.passwords import SHORTEST_PASSWORD, SHORTEST_SECRET, why_weak


@pytest.mark.parametrize(
    ("password", "rule"),
    [
        ("", "it has 0 characters; expected at least 12"),
        ("a", "it has 1 characters"),
        ("password", "it has 8 characters"),
        ("guest", "at least 12"),
        ("x9!kQz7", "at least 12"),
        ("aaaaaaaaaaaaaaaa", "at least 5 different"),
        ("abababababab", "at least 5 different"),
        ("passwordpassword", "well-known words"),
        ("Password1234", "well-known words"),
        ("horoscope-admin-2026", "well-known words"),
        ("P4ssw0rd!!!!", "well-known words"),
        ("qwertyuiop12", "well-known words"),
        ("changeme-changeme", "well-known words"),
        ("123456789012", "follow each other"),
        ("abcdefghijkl", "follow each other"),
        ("0987654321098", "follow each other"),
    ],
)
def test_a_weak_password_is_refused_with_the_rule(password: str, rule: str) -> None:
    assert rule in why_weak(password)
    assert len(password) < 3 or password not in why_weak(password)


@pytest.mark.parametrize(
    "password", ["correct horse battery", "Звёзды не спешат", "7192 0483 5561", "horoscope of my cat Timofei"]
)
def test_a_sentence_or_a_number_of_ones_own_is_accepted(password: str) -> None:
    assert why_weak(password) == ""


def test_random_values_are_accepted() -> None:
    for _ in range(200):
        assert why_weak(secrets.token_urlsafe(12), SHORTEST_PASSWORD) == ""
        assert why_weak(secrets.token_hex(32), SHORTEST_SECRET) == ""
