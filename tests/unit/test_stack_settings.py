"""What `make up` hands to the processes, by what is set already."""

from pathlib import Path

import pytest

from ops.stack import __main__ as up
from ops.stack.screen import Screen
from services.process.settings import Settings, WrongSettings

SERVERS = {
    "DATABASE_URL": "postgresql://me:secret@db/h?password=secret",
    "RABBITMQ_URL": "amqp://me:secret@a/;amqp://b/",
}
BOT = {"BOT_TOKEN": "1:ours"}
MODEL = {"OPENAI_API_KEY": "ours"}
PAGE = {"ADMIN_LISTEN": "0.0.0.0:8081", "ADMIN_PASSWORD": "a secret of ours"}


def env(settings: dict[str, str]) -> dict[str, str]:
    stack = up.Stack({**SERVERS, **PAGE, **settings}, Screen())
    stack._sandbox_url = "http://127.0.0.1:1"
    return stack._env()


def test_nothing_is_replaced_that_is_set() -> None:
    assert env({**BOT, **MODEL, "LOG_FORMAT": "json"}) == {"LOG_FORMAT": "json"}


def test_the_sandbox_stands_in_for_telegram_alone() -> None:
    assert env(MODEL) == {
        "LOG_FORMAT": "console",
        "BOT_TOKEN": up.SANDBOX_TOKEN,
        "TELEGRAM_API_URL": "http://127.0.0.1:1",
    }


def test_the_sandbox_stands_in_for_the_model_alone() -> None:
    assert env(BOT) == {
        "LOG_FORMAT": "console",
        "OPENAI_API_KEY": "sk-the-sandbox-takes-any-key",
        "OPENAI_BASE_URL": "http://127.0.0.1:1/v1",
        "OPENAI_MODEL": "sandbox",
    }


def test_private_servers_stand_in_where_no_url_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(up, "LOCAL", tmp_path)
    for name in ("postgres", "rabbitmq"):
        (tmp_path / name).mkdir()
    stack = up.Stack({**BOT, **MODEL, **PAGE}, Screen())
    settings = stack._env()
    # The processes get neither the owner's address nor an administrator's.
    assert settings["DATABASE_URL"].startswith("postgresql://horoscope_app:")
    assert settings["RABBITMQ_URL"].startswith("amqp://horoscope_app:")
    assert settings["RABBITMQ_MANAGEMENT_URL"].startswith("http://horoscope_page:")
    assert stack._postgres
    assert stack._rabbitmq
    for password in (stack._postgres._password(), stack._rabbitmq._password()):
        assert password not in str(settings)


def test_the_page_has_an_address_and_a_password_that_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(up, "LOCAL", tmp_path)
    stack = up.Stack({**SERVERS, **BOT, **MODEL}, Screen())
    first = stack._env()
    assert first == stack._env() == up.Stack({**SERVERS, **BOT, **MODEL}, Screen())._env()
    assert len(first["ADMIN_PASSWORD"]) >= 16
    assert (tmp_path / "admin" / "password").stat().st_mode & 0o777 == 0o600
    shown = stack._where_to_look()
    assert f"http://{first['ADMIN_LISTEN']}/" in shown
    assert first["ADMIN_PASSWORD"] in shown


def test_all_that_is_needed_to_connect_to_the_servers_started_here_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(up, "LOCAL", tmp_path)
    for name in ("postgres", "rabbitmq"):
        (tmp_path / name).mkdir()
    stack = up.Stack({**BOT, **MODEL, **PAGE}, Screen())
    assert stack._postgres
    assert stack._rabbitmq
    shown = stack._where_to_look()
    assert stack._postgres.url in shown
    assert stack._rabbitmq.url in shown
    assert f"{stack._rabbitmq.management_url}/  user horoscope  password {stack._rabbitmq.password}" in shown


def test_a_command_beside_it_gets_every_setting_that_was_given() -> None:
    given = {name.upper(): "a value" for name in Settings.model_fields} | {"home_timezone": "Europe/London"}
    assert up._given(given | {"PATH": "/bin", "HOME": "/root"}) == given


def test_a_secret_in_a_file_counts_as_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("1:ours\n")
    (tmp_path / ".env").write_text(f"BOT_TOKEN_FILE={tmp_path}/token\n")
    monkeypatch.setattr(up, "ROOT", tmp_path)
    settings = up.given_settings()
    assert settings["BOT_TOKEN"] == "1:ours"
    assert up.Stack({**SERVERS, **PAGE, **settings}, Screen())._missing == ["OPENAI_API_KEY"]
    kept = up._given({**settings, "OPENAI_MODEL": "m"})
    assert kept == {"BOT_TOKEN_FILE": f"{tmp_path}/token", "OPENAI_MODEL": "m"}, "not the secret itself"
    (tmp_path / "token").unlink()
    with pytest.raises(WrongSettings, match="BOT_TOKEN_FILE is wrong"):
        up.given_settings()


def test_no_password_of_another_server_is_shown() -> None:
    shown = up.Stack({**SERVERS, **BOT, **MODEL, **PAGE}, Screen())._where_to_look()
    assert "secret" not in shown
    assert "http://127.0.0.1:8081/" in shown
    assert "postgresql://me@db/h" in shown
    assert "amqp://me@a/ ; amqp://b/" in shown


def test_each_process_tells_its_metrics_at_an_address_of_its_own(tmp_path: Path) -> None:
    kept = up.metrics_addresses("", tmp_path / "metrics")
    assert kept.keys() == up.COMMANDS.keys()
    assert len(set(kept.values())) == len(kept)
    assert up.metrics_addresses("", tmp_path / "metrics") == kept, "the same the next time"
    assert up.metrics_addresses("0.0.0.0:9100", tmp_path) == {
        name: f"0.0.0.0:{9100 + number}" for number, name in enumerate(up.COMMANDS)
    }
    assert set(up.metrics_addresses("nonsense", tmp_path).values()) == {"nonsense"}, "it is told of by each"
