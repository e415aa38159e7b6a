"""The privacy text: what is kept about readers, why, for how long, and who reads it."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from schema.signs import Language
from services.process.settings import WrongSettings
from services.readers.personal_data import BLOCKED_KEPT_DAYS

#: UTF-16 code units of the longest message, as Telegram counts them.
LONGEST = 4096
#: The most messages that one text may take.
_MESSAGES = 10


def read_texts(folder: str, retention_days: int) -> dict[Language, tuple[str, ...]]:
    """The privacy text in each language, as messages that Telegram takes.

    Args:
        folder: Has an operator's own ``ru.txt`` and ``en.txt``, or one of them; empty: none.
        retention_days: Stands in place of ``{reader_retention}``.

    Raises:
        WrongSettings: The folder has neither file, or a file cannot be shown.
    """
    own = {language: Path(folder) / f"{language}.txt" for language in Language} if folder else {}
    if own and not any(path.is_file() for path in own.values()):
        raise WrongSettings(
            f"PRIVACY_TEXTS is wrong: expected a folder with ru.txt or en.txt, not {folder!r}"
        )
    texts = {}
    for language in Language:
        path = own.get(language)
        packaged = files("services.readers").joinpath(f"privacy.{language}.txt")
        text = _read(path) if path and path.is_file() else packaged.read_text(encoding="utf-8")
        for name, days in (("reader_retention", retention_days), ("blocked_retention", BLOCKED_KEPT_DAYS)):
            text = text.replace(f"{{{name}}}", str(days))
        texts[language] = tuple(split(text.strip()))
        if len(texts[language]) > _MESSAGES:
            raise WrongSettings(
                f"PRIVACY_TEXTS is wrong: {path} takes {len(texts[language])} messages of {LONGEST} characters; "
                f"expected {_MESSAGES} at the most"
            )
    return texts


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WrongSettings(f"PRIVACY_TEXTS is wrong: {path} cannot be read as UTF-8: {error}") from None
    if not text.strip():
        raise WrongSettings(f"PRIVACY_TEXTS is wrong: {path} is empty")
    return text


def split(text: str) -> Iterator[str]:
    """Parts of a text that fit into a message each, cut between paragraphs, lines, words or, at worst, characters."""
    while utf16_length(text) > LONGEST:
        fits = _cut(text)
        end = next((at for gap in ("\n\n", "\n", " ") if (at := text.rfind(gap, 0, fits + 1)) > 0), fits)
        if part := text[:end].strip():
            yield part
        text = text[end:].strip()
    if text:
        yield text


def _cut(text: str) -> int:
    """How many characters of a long text fit into a message."""
    room = LONGEST
    for place, character in enumerate(text):
        room -= utf16_length(character)
        if room < 0:
            return place
    return len(text)


def utf16_length(text: str) -> int:
    """The length of a text as Telegram counts it, in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2
