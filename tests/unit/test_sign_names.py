"""Finding the sign that a reader types."""

import pytest

from schema.signs import Language, Sign
from services.bot.signs import find, suggest


@pytest.mark.parametrize("sign", Sign)
def test_a_sign_is_found_by_its_names_and_its_symbol(sign: Sign) -> None:
    for language in Language:
        name = sign.name_in(language)
        for typed in (name, name.lower(), name.upper(), f" {name}! ", f"{sign.symbol} {name}"):
            assert find(typed) is sign
    assert find(sign.symbol) is find(sign.symbol[0]) is sign


@pytest.mark.parametrize("typed", ["", "привет", "я лев", "лев рак", "♌ Дева", "♌♍", "/leo", "лев" * 1000])
def test_anything_more_than_one_sign_is_not_taken_for_it(typed: str) -> None:
    assert find(typed) is (Sign.LEO if typed == "/leo" else None)


@pytest.mark.parametrize(
    ("typed", "signs"),
    [
        ("Козирог", [Sign.CAPRICORN]),
        ("Водалей", [Sign.AQUARIUS]),
        ("sagitarius", [Sign.SAGITTARIUS]),
        ("Scorpion", [Sign.SCORPIO]),
        ("leon", [Sign.LEO]),
        ("я лев", [Sign.LEO]),
        ("лев или рак", [Sign.CANCER, Sign.LEO]),
        ("Привет", []),
        ("да", []),
        ("спасибо большое", []),
        ("", []),
    ],
)
def test_a_mistyped_sign_gets_suggestions(typed: str, signs: list[Sign]) -> None:
    assert suggest(typed) == signs
