"""Settings: each wrong one is named, with what is expected."""

from decimal import Decimal
from pathlib import Path
from urllib.parse import quote

import certifi
import pytest

from services.process.addresses import plain_database_url, with_root_certificates, without_ca_file
from services.process.settings import Settings, WrongSettings, secret_settings

RIGHT = {
    "DATABASE_URL": "postgresql://user:database-password@localhost:5432/horoscope",
    "RABBITMQ_URL": "amqp://user:broker-password@localhost:5672/;amqps://user:broker-passwort-2@two:5671/",
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
        ("RABBITMQ_URL", "amqp://localhost;two", "amqp://"),
        ("RABBITMQ_URL", "amqp://[::1", "amqp://"),
        ("RABBITMQ_URL", "amqp://localhost:port", "amqp://"),
        ("DATABASE_URL", "postgresql://[::1/x", "postgresql://"),
        ("OPENAI_BASE_URL", "https://[::1", "https://"),
        ("BOT_TOKEN", "no-token", "@BotFather"),
        ("TELEGRAM_API_URL", "api.telegram.org", "https://"),
        ("WEBHOOK_URL", "bot.example/hook", "https://"),
        ("WEBHOOK_SECRET", "with spaces", "16 to 256"),
        ("WEBHOOK_SECRET", "a", "it has 1 characters; expected at least 16"),
        ("WEBHOOK_SECRET", "webhook-secret-12", "well-known words"),
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
        ("ADMIN_PASSWORD", "password", "it has 8 characters; expected at least 12"),
        ("ADMIN_PASSWORD", "Password1234", "well-known words"),
        ("ADMIN_PASSWORD", "password-\udcff", "in UTF-8"),
        ("ADMIN_PROXIES", "127.0.0.1,proxy.example", "'proxy.example' does not appear"),
        ("ADMIN_PROXIES", "*", "addresses or networks"),
        ("ADMIN_PROXIES", "10.0.0.1/8", "has host bits set"),
        ("METRICS_LISTEN", "localhost", "host:port"),
        ("RABBITMQ_MANAGEMENT_URL", "rabbitmq:15672", "https://"),
        ("UNENCRYPTED_HOSTS", "http://postgres", "host names"),
        ("UNENCRYPTED_HOSTS", "a,,b", "host names"),
        ("CA_FILE", "/no/such/file", "/no/such/file cannot be read: No such file"),
        ("CA_FILE", "/dev/null", "/dev/null contains no certificate"),
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


def refusal(right: pytest.MonkeyPatch, name: str, value: str) -> str:
    """The one line that refuses this value."""
    right.setenv(name, value)
    with pytest.raises(WrongSettings) as refused:
        Settings.read()
    (line,) = str(refused.value).splitlines()
    return line


STRONG = "k3-Vq8sLw2pZx7R"
FULL = "sslmode=verify-full"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"postgresql://me:{STRONG}@db.example/x"),
        ("DATABASE_URL", f"postgresql+asyncpg://me:{STRONG}@db.example/x"),
        *(
            ("DATABASE_URL", f"postgresql://me:{STRONG}@db.example/x?sslmode={mode}")
            for mode in ("disable", "allow", "prefer", "require", "verify-ca")
        ),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@db.example/x?{FULL}&sslmode=require"),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@localhost,db.example:5433/x"),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@/x?host=db.example"),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@localhost/x?host=db.example"),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@[2001:db8::1]:5432/x"),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@localhost.example/x"),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@127.0.0.1.example/x"),
        ("DATABASE_URL", f"postgresql://me:{STRONG}@0.0.0.0/x"),
        ("DATABASE_URL", "postgresql:///x?service=far"),
        ("MIGRATION_DATABASE_URL", f"postgresql://me:{STRONG}@db.example/x?sslmode=require"),
        ("RABBITMQ_URL", f"amqp://me:{STRONG}@rabbit.example/"),
        ("RABBITMQ_URL", f"amqps://me:{STRONG}@a.example/;amqp://me:{STRONG}@b.example/"),
        ("RABBITMQ_URL", f"amqps://me:{STRONG}@a.example/?ssl_options=%7B%27protocol%27%3A2%7D"),
        ("RABBITMQ_MANAGEMENT_URL", f"http://me:{STRONG}@rabbit.example:15672"),
        ("TELEGRAM_API_URL", "http://10.0.0.7:8081"),
        ("WEBHOOK_URL", "http://bot.example/hook"),
        ("OPENAI_BASE_URL", "http://model.example/v1"),
    ],
)
def test_an_address_off_the_machine_must_be_verified(
    right: pytest.MonkeyPatch, name: str, value: str
) -> None:
    line = refusal(right, name, value)
    assert line.startswith(f"{name} is wrong: ")
    assert "is not on this machine, and the address does not" in line
    assert "UNENCRYPTED_HOSTS" in line
    assert STRONG not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"postgresql+asyncpg://me:{STRONG}@db.example/x?{FULL}"),
        (
            "DATABASE_URL",
            f"postgresql://me:{STRONG}@a.example,b.example:5433/x?{FULL}&target_session_attrs=primary",
        ),
        ("DATABASE_URL", f"postgresql://me@db.example/x?{FULL}"),
        ("DATABASE_URL", "postgresql://me:weak@localhost/x"),
        ("DATABASE_URL", "postgresql://me:weak@127.8.9.10/x"),
        ("DATABASE_URL", "postgresql://me:weak@[::1]:5432/x"),
        ("DATABASE_URL", "postgresql://me:weak@[::ffff:127.0.0.1]/x"),
        ("DATABASE_URL", "postgresql://me@%2Frun%2Fpostgresql/x"),
        ("DATABASE_URL", "postgresql:///x?host=/run/postgresql"),
        ("DATABASE_URL", "postgresql:///x"),
        ("RABBITMQ_URL", f"amqps://me:{STRONG}@a.example/;amqps://me:{STRONG}@b.example/"),
        ("RABBITMQ_URL", "amqp://guest:guest@LOCALHOST/"),
        ("RABBITMQ_URL", "amqp:///"),
        ("RABBITMQ_MANAGEMENT_URL", "https://rabbit.example:15671"),
        ("TELEGRAM_API_URL", "http://sandbox.localhost:8081"),
        ("WEBHOOK_URL", "https://bot.example/hook"),
        ("OPENAI_BASE_URL", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_that_is_verified_or_on_this_machine_is_taken(
    right: pytest.MonkeyPatch, name: str, value: str
) -> None:
    right.setenv(name, value)
    Settings.read()


def test_a_slip_in_an_address_shows_no_part_of_the_password(right: pytest.MonkeyPatch) -> None:
    right.setenv("DATABASE_URL", "postgresql://me:half-of@another-half@db.example/x")
    with pytest.raises(WrongSettings) as refused:
        Settings.read()
    assert "its server is not on this machine" in str(refused.value)
    assert "half" not in str(refused.value)


def test_where_postgresql_is_taken_from_the_environment_counts(right: pytest.MonkeyPatch) -> None:
    right.setenv("DATABASE_URL", f"postgresql://me:{STRONG}@/x")
    right.setenv("PGHOST", "localhost,db.example")
    with pytest.raises(WrongSettings, match=r"db\.example is not on this machine"):
        Settings.read()


def test_a_private_network_is_an_explicit_choice(right: pytest.MonkeyPatch) -> None:
    right.setenv("DATABASE_URL", f"postgresql://me:{STRONG}@postgres,10.0.0.7/x")
    right.setenv("RABBITMQ_URL", f"amqp://me:{STRONG}@rabbitmq/")
    right.setenv("OPENAI_BASE_URL", "http://[fd00::7]:8000/v1")
    right.setenv("UNENCRYPTED_HOSTS", "postgres, RabbitMQ,10.0.0.7,fd00::7")
    Settings.read()
    right.setenv("UNENCRYPTED_HOSTS", "postgres,rabbitmq,10.0.0.8,fd00::7")
    with pytest.raises(
        WrongSettings, match=r"^DATABASE_URL is wrong: 10\.0\.0\.7 is not on this machine[^\n]*$"
    ):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"postgresql://me:password@db.example/x?{FULL}"),
        ("DATABASE_URL", f"postgresql://me@db.example/x?{FULL}&password=password1234"),
        ("DATABASE_URL", f"postgresql://me:horo%73cope-2026@db.example/x?{FULL}"),
        ("MIGRATION_DATABASE_URL", f"postgresql://postgres:postgres@db.example/x?{FULL}"),
        ("RABBITMQ_URL", "amqps://guest:guest@rabbit.example/"),
        ("RABBITMQ_URL", "amqps://rabbit.example/"),
        ("RABBITMQ_URL", f"amqps://me:{STRONG}@a.example/;amqps://me:rabbitmq@b.example/"),
        ("RABBITMQ_MANAGEMENT_URL", "https://guest:guest@rabbit.example"),
        ("OPENAI_BASE_URL", "https://me:short@model.example/v1"),
    ],
)
def test_a_weak_password_off_the_machine_is_refused_with_the_rule(
    right: pytest.MonkeyPatch, name: str, value: str
) -> None:
    line = refusal(right, name, value)
    assert line.startswith(f"{name} is wrong: the password for ")
    assert "can be guessed: it " in line
    assert "expected" in line


def test_sslrootcert_must_be_a_file_of_certificates(right: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"postgresql://me:{STRONG}@db.example/x?{FULL}&sslrootcert="
    right.setenv("DATABASE_URL", f"{url}{tmp_path}/none.pem")
    with pytest.raises(
        WrongSettings, match=r"DATABASE_URL is wrong: .*none\.pem cannot be read: No such file"
    ):
        Settings.read()
    right.setenv("DATABASE_URL", f"{url}system")
    settings = Settings.read()
    assert settings.database_url
    assert "sslrootcert=/" in settings.database_url.get_secret_value()


def test_our_own_authorities_are_trusted_where_an_address_names_none(
    right: pytest.MonkeyPatch,
) -> None:
    right.setenv("CA_FILE", certifi.where())
    ours = quote(certifi.where(), safe="/")
    for before, after in (
        (f"postgresql://a.example/x?{FULL}", f"postgresql://a.example/x?{FULL}&sslrootcert={ours}"),
        (f"postgres+asyncpg://a.example/x?{FULL}", f"postgres://a.example/x?{FULL}&sslrootcert={ours}"),
        ("postgresql://localhost/x?sslmode=require", "postgresql://localhost/x?sslmode=require"),
        ("postgresql://localhost/x", "postgresql://localhost/x"),
    ):
        assert with_root_certificates(plain_database_url(before), certifi.where()) == after
        right.setenv("DATABASE_URL", before)
        settings = Settings.read()
        assert settings.database_url
        assert settings.database_url.get_secret_value() == after
    right.setenv(
        "RABBITMQ_URL",
        f"amqps://me:{STRONG}@a/v;amqps://me:{STRONG}@b/?heartbeat=5;amqps://me:{STRONG}@c/?cacertfile=/c;amqp://localhost/",
    )
    assert [without_ca_file(url) for url in Settings().rabbitmq_url.get_secret_value().split(";")] == [  # type: ignore[union-attr]
        (f"amqps://me:{STRONG}@a/v", certifi.where()),
        (f"amqps://me:{STRONG}@b/?heartbeat=5", certifi.where()),
        (f"amqps://me:{STRONG}@c/", "/c"),
        ("amqp://localhost/", ""),
    ]
    with pytest.raises(WrongSettings, match="RABBITMQ_URL is wrong: /c cannot be read"):
        Settings.read()


# Secrets in files


def test_every_secret_may_stand_in_a_file(right: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values = {
        **RIGHT,
        "MIGRATION_DATABASE_URL": "postgresql://owner:x@localhost/x",
        "WEBHOOK_SECRET": "Zr4_another-Secret9",
        "ADMIN_PASSWORD": "correct horse  ",
        "RABBITMQ_MANAGEMENT_URL": "http://page:x@localhost:15672",
    }
    assert {name.upper() for name in secret_settings()} == values.keys()
    for name, value in values.items():
        right.delenv(name, raising=False)
        (tmp_path / name).write_text(f"{value}\n")
        right.setenv(f"{name}_FILE", str(tmp_path / name))
    settings = Settings.read("database_url", "bot_token")
    for name, value in values.items():
        assert getattr(settings, name.lower()).get_secret_value() == value


def test_the_files_may_be_named_in_the_env_file(right: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right.delenv("BOT_TOKEN")
    (tmp_path / "token").write_text("77:from-a-file\r\n")
    (tmp_path / ".env").write_text(f"BOT_TOKEN_FILE={tmp_path}/token\n")
    right.chdir(tmp_path)
    assert Settings.read("bot_token").secrets[0] == "77:from-a-file"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not a text in UTF-8"),
    ],
)
def test_a_file_without_a_secret_is_named_in_one_line(
    right: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, why: str
) -> None:
    right.delenv("BOT_TOKEN")
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    right.setenv("BOT_TOKEN_FILE", str(file))
    with pytest.raises(WrongSettings) as refused:
        Settings.read("bot_token")
    assert str(refused.value) == f"BOT_TOKEN_FILE is wrong: {file} {why}"


def test_a_secret_that_is_given_twice_is_refused(right: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("77:from-a-file")
    right.setenv("BOT_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(
        WrongSettings, match=r"^BOT_TOKEN_FILE is wrong: BOT_TOKEN is set, too; set one of them$"
    ):
        Settings.read("bot_token")


def test_a_secret_in_a_file_is_checked_as_any_other(right: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right.delenv("BOT_TOKEN")
    (tmp_path / "token").write_text("no-token")
    right.setenv("BOT_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(WrongSettings, match="BOT_TOKEN is wrong: expected the token"):
        Settings.read("bot_token")


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
    right.setenv("WEBHOOK_SECRET", "the-hook-s-own-secret")
    right.setenv("RABBITMQ_MANAGEMENT_URL", "http://page:page-password@localhost:15672")
    right.setenv("MIGRATION_DATABASE_URL", "postgresql://owner:owner-password@localhost/x")
    settings = Settings.read()
    shown = f"{settings!r} {settings}"
    for secret in (
        "database-password",
        "owner-password",
        "broker-password",
        "page-password",
        "ABC-DEF_ghi",
        "sk-key",
        "the-hook-s-own-secret",
    ):
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
