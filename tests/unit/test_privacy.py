"""The privacy text, and the marks by which personal data is found in the tables."""

from pathlib import Path

import pytest
from sqlalchemy import ARRAY, BigInteger, LargeBinary, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from schema.signs import Language
from schema.tables import FREE_TEXT, OF_READER, OF_REQUEST, metadata
from services.process.settings import WrongSettings
from services.readers.privacy import LONGEST, read_texts, split, utf16_length
from services.readers.strings import STRINGS

#: Numbers, ids and texts in which no reader can be: what the service makes by itself, or an operator is asked for.
OURS = {
    "accounts.id", "accounts.name", "accounts.password_hash", "answer_times.answers", "api_tokens.created_by",
    "api_tokens.digest", "api_tokens.id", "api_tokens.name", "audit.act", "audit.after", "audit.before",
    "audit.detail", "audit.id", "audit.origin", "audit.subject", "audit.who", "dead_letter_edits.actor",
    "dead_letter_edits.edited_by", "dead_letter_edits.id", "dead_letter_edits.letter", "dead_letter_notes.noted_by",
    "dead_letters.actor", "dead_letters.death", "dead_letters.digest", "dead_letters.error_type",
    "dead_letters.host", "dead_letters.id", "dead_letters.parent", "dead_letters.queue", "dead_letters.release",
    "dead_letters.said_by", "generations.holder", "generations.model", "generations.prompt_version",
    "generations.token", "generations.writer", "horoscope_cache.content", "horoscope_cache.id",
    "horoscope_views.id", "model_outages.kind", "model_usage.completion_tokens", "model_usage.model",
    "model_usage.prompt_tokens", "parked_messages.id", "parked_messages.queue", "paused_queues.paused_by",
    "paused_queues.queue", "processes.host", "processes.id", "processes.release", "readers.time_zone",
    "replay_runs.cancelled_by", "replay_runs.holder", "replay_runs.id", "replay_runs.queues",
    "replay_runs.started_by", "replay_runs.token", "replays.died_as", "replays.edit", "replays.id",
    "replays.letter", "replays.run", "sessions.account", "sessions.digest", "sessions.origin", "sessions.stamp",
    "sign_in_attempts.account", "sign_in_attempts.address", "sign_in_attempts.device", "sign_in_attempts.id",
    "suspects.begun", "suspects.message_id", "suspects.queue", "ticks.did", "unfinished_updates.body",
    "unfinished_updates.holder", "unfinished_updates.update_id", "waiters.message_id", "waiters.replaces",
}  # fmt: skip


def test_every_column_that_could_name_a_reader_is_marked() -> None:
    """A new column belongs among these, or it is marked in ``schema/tables.py``; then /mydata and /forget know it."""
    roomy = (BigInteger, Uuid, Text, JSONB, LargeBinary, ARRAY)
    unmarked = {
        str(column)
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, roomy) and column.info not in (OF_READER, OF_REQUEST, FREE_TEXT)
    }
    assert unmarked == OURS


@pytest.mark.parametrize("language", Language)
def test_the_text_tells_the_days_and_names_the_commands(language: Language) -> None:
    text = "\n".join(read_texts("", 365)[language])
    assert "365" in text
    assert "30" in text
    assert "{" not in text
    strings = STRINGS[language]
    for command in ("/mydata", "/forget", "/sign", "/timezone"):
        assert command in text
    for command in strings.commands:
        assert f"/{command} — " in strings.help


@pytest.mark.parametrize(
    "text",
    [
        "short",
        "\n\n".join(f"{number} {'word ' * 300}" for number in range(10)),
        "\n".join("я" * 1000 for _ in range(9)),
        "word " * 5000,
        "🦁" * 9000,
        "я" * 4096,
        "я" * 4097,
    ],
)
def test_a_long_text_is_cut_where_it_may_be_and_nothing_is_lost(text: str) -> None:
    parts = list(split(text))
    assert all(0 < utf16_length(part) <= LONGEST for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())
    if " " in text:
        assert [word for part in parts for word in part.split()] == text.split()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("ru.txt", b" \n", "is empty"),
        ("en.txt", b"\xff", "cannot be read as UTF-8"),
        ("ru.txt", "я".encode() * 4096 * 10 + b" more", "takes 11 messages"),
        ("de.txt", b"Hallo", "expected a folder with ru.txt or en.txt"),
    ],
)
def test_a_text_that_cannot_be_shown_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WrongSettings, match=f"PRIVACY_TEXTS is wrong: .*{said}"):
        read_texts(str(tmp_path), 365)


def test_an_operators_text_takes_the_place_of_one_language(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("Kept for {reader_retention} days. {curly}")
    texts = read_texts(str(tmp_path), 7)
    assert texts[Language.EN] == ("Kept for 7 days. {curly}",)
    assert texts[Language.RU] == read_texts("", 7)[Language.RU]
