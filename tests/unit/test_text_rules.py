"""What a text must be like."""

import pytest

from schema.errors import TextRejected
from schema.signs import Language
from services.text_rules import check

GOOD = "Сегодня звёзды советуют вам не спешить и заметить то, что обычно проходит мимо. " * 5
GOOD_ENGLISH = "Today the stars ask you to slow down and notice what usually passes you by. " * 5


def rule_broken(text: str, language: Language = Language.RU, others: tuple[str, ...] = ()) -> str | None:
    try:
        check(text, language, others)
    except TextRejected as error:
        return error.rule
    return None


def test_a_good_text_passes_in_its_language() -> None:
    assert rule_broken(GOOD) is None
    assert rule_broken(GOOD_ENGLISH, Language.EN) is None
    assert rule_broken(GOOD.replace("звёзды", "звёзды (Venus, Mars)", 1)) is None, (
        "a foreign word is no crime"
    )
    assert rule_broken(GOOD + "\n\n" + "Цена вопроса: 5 < 7 & 3 > 2.") is None, "a sign is no markup"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "length"),
        ("Коротко.", "length"),
        (GOOD * 6, "length"),
        (GOOD + "\x00", "characters"),
        (GOOD + "\u202eобратно", "characters"),
        (GOOD + "<b>жирно</b>", "markup"),
        (GOOD + "<script>alert(1)</script>", "markup"),
        (GOOD + "**жирно**", "markup"),
        ("# Лев\n" + GOOD, "markup"),
        (GOOD + "[сюда](http://a.example)", "markup"),
        (GOOD + "&nbsp;", "markup"),
        ("К сожалению, я не могу составить гороскоп. " + GOOD, "refusal"),
        ("Как языковая модель, я не верю звёздам. " + GOOD, "refusal"),
        ("I'm sorry, but I can't help with that. " + GOOD, "refusal"),
        (GOOD_ENGLISH, "script"),
        ("1234567890 " * 40, "script"),
    ],
)
def test_a_bad_text_is_refused_by_the_rule_it_breaks(text: str, rule: str) -> None:
    assert rule_broken(text) == rule


def test_the_text_of_another_sign_is_refused() -> None:
    assert rule_broken(GOOD, others=(GOOD,)) == "distinct"
    assert rule_broken(GOOD, others=(GOOD + "!",)) is None


def test_a_russian_text_is_refused_where_texts_are_english() -> None:
    assert rule_broken(GOOD, Language.EN) == "script"
