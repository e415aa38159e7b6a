"""Sentences about the service: English strings that the page can say in another language."""

import json
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import orjson
import pytest

from schema.sentences import Sentence
from schema.signs import Sign
from services.admin.i18n import Wording
from services.admin.rendering import plain
from services.process.logs import Mask

NOW = datetime(2026, 11, 22, 11, 40, tzinfo=UTC)
RU, EN = (Wording(language, NOW, ZoneInfo("Europe/Moscow")) for language in ("ru", "en"))


def texts_missing(count: int) -> Sentence:
    return Sentence.counted(
        "%(day)s: %(count)s text is missing, and no worker is writing it",
        "%(day)s: %(count)s texts are missing, and no worker is writing them",
        day=date(2026, 11, 22),
        count=count,
    )


def test_a_sentence_is_an_ordinary_string_in_json_and_logs() -> None:
    sentence = texts_missing(1)
    assert sentence == "2026-11-22: 1 text is missing, and no worker is writing it"
    assert json.loads(json.dumps(sentence)) == orjson.loads(orjson.dumps(sentence)) == sentence
    refused = Sentence("the model refuses every request since %(since)s", since=NOW)
    assert refused == "the model refuses every request since 2026-11-22 11:40 UTC"


@pytest.mark.parametrize(
    ("count", "russian"), [(1, "1 текста"), (2, "2 текстов"), (5, "5 текстов"), (21, "21 текста")]
)
def test_the_page_says_it_in_the_operators_language(count: int, russian: str) -> None:
    assert (
        RU.sentence(texts_missing(count))
        == f"22 ноября: не хватает {russian}, и {_them(count)} никто не пишет"
    )
    assert EN.sentence(texts_missing(2)).startswith("November 22: 2 texts are missing")


def _them(count: int) -> str:
    return "его" if count % 10 == 1 else "их"


def test_values_are_written_as_the_operators_language_has_them() -> None:
    reason = Sentence("the text of %(sign)s for %(day)s exists", sign=Sign.LEO, day=date(2026, 11, 22))
    assert (RU.sentence(reason), EN.sentence(reason)) == (
        "текст «Лев» на 22 ноября уже есть", "the text of Leo for November 22 exists",
    )  # fmt: skip
    since = Sentence("the model refuses every request since %(since)s", since=NOW)
    assert EN.sentence(since) == "the model refuses every request since 14:40", "at home"


def test_a_masked_sentence_can_still_be_translated() -> None:
    shown = plain(
        Sentence("the text of %(sign)s for %(day)s exists", sign=Sign.LEO, day=date(2026, 11, 22)), Mask([])
    )
    assert RU.sentence(shown) == "текст «Лев» на 22 ноября уже есть"
    hidden = plain(Sentence("this is not JSON: %(error)s", error="at s3cret"), Mask(["s3cret"]))
    assert "s3cret" not in RU.sentence(hidden) + hidden
