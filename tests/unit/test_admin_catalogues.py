"""The catalogues of the operators' page: complete, without leftovers, and right about plurals."""

import re
import tomllib
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.pofile import read_po

from schema.signs import Language, Sign
from services.admin.i18n import CATALOGUES, catalogue

ROOT = Path(__file__).parents[2]
TRANSLATED = [file.stem for file in sorted(CATALOGUES.glob("*.po"))]
#: A sentence about the service has one form, or two that `count` chooses from.
KEYWORDS = DEFAULT_KEYWORDS | {"Sentence": None, "counted": (1, 2)}
PLACEHOLDER = re.compile(r"%\(\w+\)s")


def used() -> Catalog:
    """The messages in the page's code and templates, and the signs' names, which the schema knows."""
    found = Catalog()
    babel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["babel"]["mappings"]
    methods = [(each["pattern"], each["method"]) for each in babel]
    options = {
        each["pattern"]: {key: value for key, value in each.items() if key not in {"method", "pattern"}}
        for each in babel
    }
    for file, line, message, _, context in extract_from_dir(ROOT, methods, options, KEYWORDS):
        found.add(message, context=context, locations=[(file, line)])
    for sign in Sign:
        found.add(sign.name_in(Language.EN))
    return found


def written(language: str) -> Catalog:
    with (CATALOGUES / f"{language}.po").open("rb") as file:
        return read_po(file, locale=language, abort_invalid=True)


def keys(messages: Catalog) -> set[tuple[str | None, object]]:
    return {(message.context, message.id) for message in messages if message.id}


def forms(text: object) -> list[str]:
    return list(text) if isinstance(text, tuple | list) else [str(text)]


def placeholders(text: str) -> set[str]:
    return set(PLACEHOLDER.findall(text))


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_message_is_translated_and_no_translation_is_left_over(language: str) -> None:
    assert keys(used()) == keys(written(language))
    assert [message.id for message in written(language) if not all(forms(message.string))] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_a_translation_fills_in_the_values_of_its_message(language: str) -> None:
    def fits(message: Message) -> bool:
        named = placeholders(forms(message.id)[-1])
        return all(placeholders(form) == named for form in forms(message.string))

    assert [message.id for message in written(language) if not fits(message)] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_messages_are_plain_text_that_any_attribute_may_hold(language: str) -> None:
    texts = [text for message in written(language) for text in (*forms(message.id), *forms(message.string))]
    assert [text for text in texts[2:] if re.search(r'[<>&"]', text)] == []


@pytest.mark.parametrize(
    ("count", "russian", "english"),
    [(0, "0 попыток", "0 attempts"), (1, "1 попытка", "1 attempt"), (2, "2 попытки", "2 attempts"),
     (5, "5 попыток", "5 attempts"), (11, "11 попыток", "11 attempts"), (12, "12 попыток", "12 attempts"),
     (21, "21 попытка", "21 attempts"), (22, "22 попытки", "22 attempts"), (111, "111 попыток", "111 attempts")],
)  # fmt: skip
def test_nouns_follow_their_numbers(count: int, russian: str, english: str) -> None:
    def said(language: str) -> str:
        form = catalogue(language).ngettext("%(count)s attempt", "%(count)s attempts", count)
        return form % {"count": count}

    assert (said("ru"), said("en")) == (russian, english)
