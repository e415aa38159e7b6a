"""Settings: each wrong one is named, with what is expected."""

from decimal import Decimal
from pathlib import Path

import pytest

from services.process.settings import Settings, WrongSettings

RIGHT = {
    "DATABASE_URL": "postgresql://user:database-password@localhost:5432/horoscope",
    "RABBITMQ_URL": "amqp://user:broker-password@one:5672/;amqps://user:broker-password@two:5671/",
    "BOT_TOKEN": "123456:ABC-DEF_ghi",
    "OPENAI_API_KEY": "sk-key",
}


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in RIGHT.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", "mysql://localhost/horoscope", "postgresql://"),
        ("DATABASE_URL", "localhost", "postgresql://"),
        ("RABBITMQ_URL", "http://localhost", "amqp://"),
        ("RABBITMQ_URL", "amqp://one;two", "amqp://"),
        ("BOT_TOKEN", "no-token", "@BotFather"),
        ("TELEGRAM_API_URL", "api.telegram.org", "https://"),
        ("WEBHOOK_URL", "bot.example/hook", "https://"),
        ("WEBHOOK_SECRET", "with spaces", "1 to 256"),
        ("WEBHOOK_LISTEN", "8080", "host:port"),
        ("WEBHOOK_LISTEN", "127.0.0.1:99999", "host:port"),
        ("OPENAI_BASE_URL", "ftp://model", "https://"),
        ("HOME_TIMEZONE", "Europe/Atlantis", "IANA"),
        ("TEXT_LANGUAGE", "de", "'ru' or 'en'"),
        ("NIGHT_RETRIES", "5 minutes", "whole seconds"),
        ("NIGHT_RETRIES", "300,,x", "whole seconds"),
        ("NIGHT_RETRIES", ",", "from one to ten"),
        ("REQUEST_RETRIES", "0", "whole seconds"),
        ("REQUEST_RETRIES", "5.5", "whole seconds"),
        ("TOKEN_PRICES", "0.15", "two prices in US dollars"),
        ("TOKEN_PRICES", "0.15,-0.60", "two prices in US dollars"),
        ("TOKEN_PRICES", "0.15,free", "such as 0.15,0.60"),
        ("TOKEN_PRICES", "1,2,3", "such as 0.15,0.60"),
        ("DAILY_TOKEN_LIMIT", "-1", "whole number of tokens"),
        ("DAILY_TOKEN_LIMIT", "1.5", "whole number of tokens"),
        ("DAILY_TOKEN_LIMIT", "a lot", "0 for no limit"),
        ("READER_RETENTION", "0", "whole number of days from 1"),
        ("READER_RETENTION", "a year", "such as 365"),
        ("ADMIN_LISTEN", "8081", "host:port"),
        ("ADMIN_PASSWORD", "short", "at least 8 characters"),
        ("ADMIN_PASSWORD", "password-\udcff", "in UTF-8"),
        ("ADMIN_PROXIES", "127.0.0.1,proxy.example", "'proxy.example' does not appear"),
        ("ADMIN_PROXIES", "*", "addresses or networks"),
        ("ADMIN_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("METRICS_LISTEN", "localhost", "host:port"),
        ("RABBITMQ_MANAGEMENT_URL", "rabbitmq:15672", "https://"),
        ("LOG_FORMAT", "xml", "console or json"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_expected(
    right: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    right.setenv(name, value)
    with pytest.raises(WrongSettings) as refused:
        Settings.read("database_url")
    assert str(refused.value).startswith(f"{name} is wrong: ")
    assert expected in str(refused.value)


@pytest.mark.parametrize("name", ["DATABASE_URL", "RABBITMQ_URL", "BOT_TOKEN", "OPENAI_API_KEY"])
def test_a_missing_setting_is_named_with_what_is_expected(right: pytest.MonkeyPatch, name: str) -> None:
    right.delenv(name)
    with pytest.raises(WrongSettings, match=f"{name} is not set: expected "):
        Settings.read("database_url", "rabbitmq_url", "bot_token", "openai_api_key")


def test_a_webhook_needs_its_secret(right: pytest.MonkeyPatch) -> None:
    right.setenv("WEBHOOK_URL", "https://bot.example/hook")
    with pytest.raises(WrongSettings, match="WEBHOOK_SECRET is not set"):
        Settings.read("bot_token")


def test_all_that_is_wrong_is_told_at_once(right: pytest.MonkeyPatch) -> None:
    right.setenv("LOG_FORMAT", "xml")
    right.setenv("HOME_TIMEZONE", "Nowhere")
    with pytest.raises(WrongSettings) as refused:
        Settings.read()
    assert len(str(refused.value).splitlines()) == 2


def test_an_empty_setting_is_an_unset_one(right: pytest.MonkeyPatch) -> None:
    right.setenv("WEBHOOK_URL", "")
    right.setenv("NIGHT_RETRIES", "")
    right.setenv("BOT_TOKEN", "")
    settings = Settings.read()
    assert settings.night_retries == (300, 600, 1800)
    assert settings.bot_token is None


def test_prices_and_limit_are_read_as_they_are_written(right: pytest.MonkeyPatch) -> None:
    assert Settings.read().token_prices == ()
    assert Settings.read().daily_token_limit == 0
    right.setenv("TOKEN_PRICES", "0.15, 0.60")
    right.setenv("DAILY_TOKEN_LIMIT", "1000000")
    settings = Settings.read()
    assert settings.token_prices == (Decimal("0.15"), Decimal("0.60"))
    assert settings.daily_token_limit == 1_000_000
    right.setenv("TOKEN_PRICES", "")
    right.setenv("DAILY_TOKEN_LIMIT", "0")
    assert not Settings.read().token_prices
    assert not Settings.read().daily_token_limit


def test_settings_do_not_print_their_secrets(right: pytest.MonkeyPatch) -> None:
    right.setenv("WEBHOOK_SECRET", "hook-secret")
    settings = Settings.read()
    shown = f"{settings!r} {settings}"
    for secret in ("database-password", "broker-password", "ABC-DEF_ghi", "sk-key", "hook-secret"):
        assert secret not in shown
        assert any(secret in known for known in settings.secrets)


def test_a_wrong_secret_is_not_repeated_in_the_complaint(right: pytest.MonkeyPatch) -> None:
    right.setenv("BOT_TOKEN", "a-secret-with-a-typo")
    with pytest.raises(WrongSettings) as refused:
        Settings.read()
    assert "a-secret-with-a-typo" not in str(refused.value)


def test_a_file_that_is_no_text_is_named(right: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"ADMIN_PASSWORD=password-\xff")
    right.chdir(tmp_path)
    with pytest.raises(WrongSettings, match=r"^\.env is wrong: expected UTF-8$"):
        Settings.read()
