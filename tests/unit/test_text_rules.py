"""What a text must be like."""

import re
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.sandbox.model.prompts import Prompt
from ops.sandbox.model.texts import alike, compose
from schema.errors import TextRejected
from schema.signs import Language, Sign
from services.horoscopes import rules as module
from services.horoscopes.rules import Neighbour, check

DAY = date(2026, 11, 22)
GOOD = (
    "Утро начинается со стука в дверь: соседка вернула книгу, о которой вы давно забыли. Не ставьте её на полку, "
    "в ней лежит записка с чужим почерком и хорошей мыслью. На работе доведите до конца одно маленькое дело, "
    "остальные подождут до понедельника. Вечером позвоните тому, кто умеет слушать, и расскажите, чему вы "
    "удивились сегодня. А перед сном откройте окно на пять минут: тишина тоже умеет отвечать."
)
GOOD_ENGLISH = (
    "A knock at the door begins the morning: a neighbour returns the book that you had long forgotten. Do not put "
    "it on the shelf, there is a note in it with a good thought in a strange hand. At work bring one small thing to "
    "its end, the others can wait until Monday. In the evening call somebody who knows how to listen. And before "
    "you sleep, open the window for five minutes: silence answers, too."
)
OTHER = (
    "Утро начинается со стука в дверь: почтальон ошибся этажом, зато вы познакомитесь с новым соседом. Предложите "
    "ему чаю, разговор выйдет длиннее, чем вы думали. Учёба пойдёт легче, если записать три вопроса и не искать "
    "ответа до обеда. Близкие ждут от вас шутки, а не совета. Прогуляйтесь дальней дорогой и сосчитайте красные "
    "двери: их окажется больше, чем вы помните, и одна из них откроется."
)


def rejection(text: str, language: Language = Language.RU, *neighbours: Neighbour) -> TextRejected | None:
    try:
        check(text, language, neighbours)
    except TextRejected as error:
        return error
    return None


def rule_broken(text: str, language: Language = Language.RU, *neighbours: Neighbour) -> str | None:
    error = rejection(text, language, *neighbours)
    return error.rule if error else None


def leo(text: str) -> Neighbour:
    return Neighbour(Sign.LEO, DAY, text)


def test_a_good_text_passes_in_its_language() -> None:
    assert rule_broken(GOOD) is None
    assert rule_broken(GOOD_ENGLISH, Language.EN) is None
    assert rule_broken(GOOD.replace("книгу", "книгу (Venus, Mars)")) is None, "a foreign word is no crime"
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


def test_a_refusal_carries_the_text_and_the_reason() -> None:
    error = rejection("Коротко.")
    assert error
    assert error.text == "Коротко."
    assert error.reason == "it has 8 characters, not 300 to 2000"
    assert error.answer is None, "whoever calls the rules has counted the answer already"


# Likeness


@pytest.mark.parametrize(
    "copy",
    [
        GOOD,
        GOOD.upper(),
        GOOD.replace("ё", "е").replace(", ", " — ").replace(". ", "!\n\n"),
        GOOD.replace("соседка", "подруга").replace("записка", "закладка").replace("понедельника", "вторника"),
        "Добрый день! " + GOOD,
        GOOD[: GOOD.index("А перед сном")] + "Остальное подскажет вечер, не торопите его.",
    ],
    ids=["itself", "case", "punctuation", "words exchanged", "a greeting before it", "another end"],
)
def test_the_text_of_a_neighbour_is_refused_however_it_is_dressed_up(copy: str) -> None:
    assert rule_broken(copy, Language.RU, leo(GOOD)) == "likeness"
    assert rule_broken(GOOD, Language.RU, leo(copy)) == "likeness", "in whichever order they are written"


@pytest.mark.parametrize(
    "text",
    [
        OTHER,
        GOOD[: GOOD.index("Не ставьте")] + OTHER[OTHER.index("Предложите") :],
        " ".join(reversed(GOOD.split(". "))) + " Пусть так и будет.",
    ],
    ids=["another", "the same opening", "the same words in another order"],
)
def test_texts_of_one_pen_stand_side_by_side(text: str) -> None:
    assert rule_broken(text, Language.RU, leo(GOOD)) is None


def test_the_reason_says_which_text_it_is_like_and_how_much() -> None:
    yesterday = Neighbour(Sign.VIRGO, DAY - timedelta(days=1), GOOD.replace("соседка", "подруга"))
    error = rejection(GOOD, Language.RU, leo(OTHER), yesterday)
    assert error
    assert error.reason == "98% of it is the text of virgo for 2026-11-21"


@pytest.mark.parametrize("language", list(Language))
def test_a_month_of_texts_is_never_refused_and_any_copy_with_some_words_exchanged_is(
    language: Language,
) -> None:
    days = [DAY + timedelta(days=number) for number in range(30)]
    texts = {(sign, day): written(sign, day, language) for sign in Sign for day in days}
    for (sign, day), text in texts.items():
        around = [day - timedelta(days=1), day + timedelta(days=1)]
        keys = [(other, day) for other in Sign if other is not sign] + [(sign, other) for other in around]
        neighbours = [Neighbour(*key, texts[key]) for key in keys if key in texts]
        assert rejection(text, language, *neighbours) is None
        copied = alike(neighbours[0].text, Prompt(sign, str(day), language))
        assert rule_broken(copied, language, *neighbours) == "likeness"


def written(sign: Sign, day: date, language: Language) -> str:
    return compose(Prompt(sign, str(day), language))


@given(sign=st.sampled_from(Sign), day=st.dates(), language=st.sampled_from(Language), data=st.data())
def test_every_twentieth_word_exchanged_makes_no_new_text(
    sign: Sign, day: date, language: Language, data: st.DataObject
) -> None:
    text = written(sign, day, language)
    parts = re.split(r"(\w+)", text)  # the words at odd places
    words = range(1, len(parts), 2)
    places = data.draw(st.sets(st.sampled_from(words), min_size=len(words) // 20, max_size=len(words) // 20))
    for place in places:
        parts[place] = {Language.RU: "слово", Language.EN: "word"}[language]
    assert rule_broken("".join(parts), language, leo(text)) == "likeness"


def test_a_russian_text_is_refused_where_texts_are_english() -> None:
    assert rule_broken(GOOD, Language.EN) == "script"


@pytest.mark.parametrize(
    "words", ["As an air sign, you need movement.", "Take this as an aid.", "As a quiet aim it is enough."]
)
def test_good_english_is_no_refusal(words: str) -> None:
    assert module._refusal(words, Language.EN, ()) is None


def test_good_russian_is_no_refusal() -> None:
    assert module._refusal("Сегодня вы, как Иисус Навин, остановите время.", Language.RU, ()) is None
    assert module._refusal("Я как ИИ не верю в звёзды.", Language.RU, ())
