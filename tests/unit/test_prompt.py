"""What the model is asked: every sign and day from an angle of its own."""

import re
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.sandbox.model.prompts import read_prompt
from schema.signs import Language, Sign
from services.horoscopes import prompt
from services.horoscopes.prompt import Rejected, angle

DAY = date(2026, 11, 22)
ONE_DAY = timedelta(days=1)
CYCLE = 31 * 13
days = st.dates(date.min, date.max - CYCLE * ONE_DAY)
signs = st.sampled_from(Sign)


def conversation(sign: Sign, day: date, language: Language, rejected: Rejected | None = None) -> list[Any]:
    return list(prompt.messages(sign, day, language, rejected))


@given(day=days)
def test_the_twelve_signs_of_a_day_have_twelve_themes_and_twelve_openings(day: date) -> None:
    angles = [angle(sign, day) for sign in Sign]
    assert len({each.theme for each in angles}) == 12
    assert len({each.opening for each in angles}) == 12


@given(day=days, sign=signs)
def test_a_sign_has_another_theme_and_another_opening_the_next_day(day: date, sign: Sign) -> None:
    today, tomorrow = angle(sign, day), angle(sign, day + ONE_DAY)
    assert today.theme != tomorrow.theme
    assert today.opening != tomorrow.opening


@given(day=days)
def test_two_days_running_share_no_theme(day: date) -> None:
    today, tomorrow = ({angle(sign, each).theme for sign in Sign} for each in (day, day + ONE_DAY))
    assert not today & tomorrow


def test_a_sign_meets_an_angle_again_only_after_more_than_a_year() -> None:
    for sign in Sign:
        assert len({angle(sign, DAY + number * ONE_DAY) for number in range(CYCLE)}) == CYCLE > 366
        assert angle(sign, DAY + CYCLE * ONE_DAY) == angle(sign, DAY)


@given(day=days, sign=signs, language=st.sampled_from(Language))
def test_the_model_is_told_sign_day_weekday_language_and_angle(
    day: date, sign: Sign, language: Language
) -> None:
    system, user = conversation(sign, day, language)
    lines = user["content"].splitlines()
    assert lines[:3] == [
        f"Sign: {sign.name_in(language)} ({sign})",
        f"Date: {day.isoformat()} ({day:%A})",
        f"Language: {'Russian' if language is Language.RU else 'English'} ({language})",
    ]
    chosen = angle(sign, day)
    assert f"Theme: {chosen.theme}" in lines
    assert f"Opening: {chosen.opening}" in lines
    assert (system["role"], user["role"]) == ("system", "user")
    assert "{" not in system["content"] + user["content"]


def test_every_sign_has_a_temperament_of_its_own() -> None:
    told = {
        re.findall(r"^Temperament: (.+)$", conversation(sign, DAY, Language.RU)[1]["content"], re.MULTILINE)[
            0
        ]
        for sign in Sign
    }
    assert len(told) == 12


@pytest.mark.parametrize("text", ["Текст, который отвергли.", None])
def test_a_repair_goes_on_from_the_refused_text_with_the_reason(text: str | None) -> None:
    asked = conversation(Sign.LEO, DAY, Language.RU)
    repaired = conversation(Sign.LEO, DAY, Language.RU, Rejected("it contains markup: '<b>'", text))
    assert repaired[:2] == asked
    assert [each["role"] for each in repaired[2:]] == (["assistant", "user"] if text else ["user"])
    assert "cannot be printed: it contains markup: '<b>'." in repaired[-1]["content"]
    if text:
        assert repaired[2]["content"] == text


@given(sign=signs, other=signs, language=st.sampled_from(Language))
def test_a_repair_is_understood_though_its_reason_names_another_sign_and_day(
    sign: Sign, other: Sign, language: Language
) -> None:
    reason = f"93% of it is the text of {other} for 2020-02-02"
    read = read_prompt(conversation(sign, DAY, language, Rejected(reason, f"{other} 2021-01-01")))
    assert (read.sign, read.day, read.language) == (sign, DAY.isoformat(), language)
    assert read.repair


@given(text=st.text(st.characters(), min_size=1), reason=st.text(st.characters()))
@example(text="half a pair \ud800, and nothing \0", reason="it contains \udfff")
def test_whatever_was_refused_can_be_sent_back(text: str, reason: str) -> None:
    for message in conversation(Sign.LEO, DAY, Language.RU, Rejected(reason, text)):
        message["content"].encode()
        assert "\0" not in message["content"]


def test_a_text_without_end_is_not_sent_back_whole() -> None:
    *_, refused, _ = conversation(Sign.LEO, DAY, Language.RU, Rejected("it is too long", "а" * 100_000))
    assert len(refused["content"]) == 4000
