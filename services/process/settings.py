"""The settings, read once per process from the environment and ``.env``."""

import re
from decimal import Decimal
from ipaddress import ip_network
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schema.signs import Language


class WrongSettings(Exception):
    """One or more settings are missing or wrong; the message names each, with the expected form."""


def _seconds(value: Any) -> Any:
    """``"300,600,1800"`` as a tuple of positive whole seconds."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(part.isdecimal() and 0 < int(part) <= 86_400 for part in parts):
        raise ValueError("expected whole seconds from 1 to 86400 with commas between, such as 5,10,30")
    return tuple(int(part) for part in parts)


def _zone(value: Any) -> Any:
    if isinstance(value, str):
        if value not in available_timezones():
            raise ValueError("expected an IANA time zone such as Europe/Moscow")
        return ZoneInfo(value)
    return value


def _tokens(value: Any) -> Any:
    """``"1000000"`` as a whole number."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,15}", value):
        raise ValueError("expected a whole number of tokens such as 1000000, or 0 for no limit")
    return value


def _days(value: Any) -> Any:
    """``"365"`` as a whole number of days."""
    if isinstance(value, str) and not re.fullmatch(r"[1-9][0-9]{0,4}", value):
        raise ValueError("expected a whole number of days from 1 to 99999, such as 365")
    return value


def _prices(value: Any) -> Any:
    """``"0.15,0.60"`` as two amounts."""
    if not isinstance(value, str):
        return value
    parts = [part.strip() for part in value.split(",")]
    if len(parts) != 2 or not all(re.fullmatch(r"[0-9]{1,4}(\.[0-9]{1,6})?", part) for part in parts):
        raise ValueError(
            "expected two prices in US dollars, per million prompt tokens and per million completion tokens, "
            "such as 0.15,0.60"
        )
    return tuple(Decimal(part) for part in parts)


def _proxies(value: Any) -> Any:
    """``"127.0.0.1,172.29.81.0/24"`` as a tuple of addresses and networks."""
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(","))
    for part in parts:
        try:
            ip_network(part)
        except ValueError as error:
            raise ValueError(
                f"expected addresses or networks with commas between, such as 127.0.0.1,10.0.0.0/24: {error}"
            ) from None
    return parts


Seconds = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_seconds)]

Tokens = Annotated[int, BeforeValidator(_tokens)]
Days = Annotated[int, BeforeValidator(_days)]
Proxies = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_proxies)]
Prices = Annotated[tuple[Decimal, ...], NoDecode, BeforeValidator(_prices)]

#: The fewest characters of the admin page's password.
SHORTEST_PASSWORD = 8

_LISTEN = re.compile(r"(?P<host>[^:\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


class Settings(BaseSettings):
    """Every setting, with its default. A secret prints as asterisks."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = None
    rabbitmq_url: SecretStr | None = None
    bot_token: SecretStr | None = None
    telegram_api_url: str = "https://api.telegram.org"
    webhook_url: str = ""
    webhook_secret: SecretStr | None = None
    webhook_listen: str = "127.0.0.1:8080"
    openai_api_key: SecretStr | None = None
    openai_base_url: str = "https://api.openai.com/v1"
    openai_model: str = Field(default="gpt-4o-mini", min_length=1)
    token_prices: Prices = ()
    daily_token_limit: Tokens = 0
    home_timezone: Annotated[ZoneInfo, BeforeValidator(_zone)] = ZoneInfo("Europe/Moscow")
    text_language: Language = Language.RU
    night_retries: Seconds = (300, 600, 1800)
    request_retries: Seconds = (5, 10, 30)
    reader_retention: Days = 365
    privacy_texts: str = ""
    admin_listen: str = "127.0.0.1:8081"
    admin_password: SecretStr | None = None
    admin_proxies: Proxies = ("127.0.0.1", "::1")
    rabbitmq_management_url: str = ""
    metrics_listen: str = ""
    log_format: str = "console"

    @classmethod
    def read(cls, *required: str) -> Self:
        """The settings of this process; raises WrongSettings if one is wrong, or a ``required`` one is missing."""
        try:
            settings = cls()
        except ValidationError as error:
            raise WrongSettings("\n".join(_fault(fault) for fault in error.errors())) from None
        except UnicodeDecodeError:
            raise WrongSettings(".env is wrong: expected UTF-8") from None
        missing = [name for name in required if getattr(settings, name) is None]
        if settings.webhook_url and "bot_token" in required and settings.webhook_secret is None:
            missing.append("webhook_secret")
        if missing:
            raise WrongSettings(
                "\n".join(f"{name.upper()} is not set: expected {_EXPECTED[name]}" for name in missing)
            )
        return settings

    @field_validator("database_url", "rabbitmq_url", "bot_token", "webhook_secret")
    @classmethod
    def _form(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        assert info.field_name
        if value and not re.fullmatch(_FORMS[info.field_name], value.get_secret_value()):
            raise ValueError(f"expected {_EXPECTED[info.field_name]}")
        return value

    @field_validator("admin_password")
    @classmethod
    def _admin_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value()) < SHORTEST_PASSWORD:
            raise ValueError(f"expected {_EXPECTED['admin_password']}")
        if value and re.search(r"[\ud800-\udfff]", value.get_secret_value()):  # bytes that are not UTF-8
            raise ValueError(f"expected {_EXPECTED['admin_password']}, in UTF-8")
        return value

    @field_validator("telegram_api_url", "openai_base_url", "webhook_url", "rabbitmq_management_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        if value and not re.match(r"https?://[^\s/]+", value):
            raise ValueError("expected an address that begins with https:// or http://")
        return value.rstrip("/")

    @field_validator("webhook_listen", "admin_listen", "metrics_listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        if not value:  # allowed for METRICS_LISTEN, whose default is empty
            return value
        match = _LISTEN.fullmatch(value)
        if not match or int(match["port"]) > 65_535:
            raise ValueError("expected host:port, such as 0.0.0.0:8080")
        return value

    @field_validator("night_retries", "request_retries")
    @classmethod
    def _some(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= 10:
            raise ValueError("expected from one to ten delays, such as 5,10,30")
        return value

    @field_validator("log_format")
    @classmethod
    def _log_format(cls, value: str) -> str:
        if value not in {"console", "json"}:
            raise ValueError("expected console or json")
        return value

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret string; none may be shown anywhere."""
        values = (self.bot_token, self.webhook_secret, self.openai_api_key, self.admin_password)
        plain = [value.get_secret_value() for value in values if value]
        urls = [url.get_secret_value() for url in (self.database_url, self.rabbitmq_url) if url]
        for url in (*urls, self.rabbitmq_management_url):
            plain += re.findall(r"://[^:/@\s]*:([^@/\s]+)@", url)
        return tuple(plain)


_FORMS = {
    "database_url": r"postgres(ql)?://[^/]*(/(?s:.*))?",
    "rabbitmq_url": r"amqps?://[^\s;]+(;amqps?://[^\s;]+)*",
    "bot_token": r"\d+:[\w-]{3,}",
    "webhook_secret": r"[A-Za-z0-9_-]{1,256}",
}
_EXPECTED = {
    "database_url": "an address such as postgresql://user:password@host:5432/horoscope",
    "rabbitmq_url": "an address such as amqp://user:password@host:5672/vhost, or several with ; between",
    "bot_token": "the token that @BotFather gave you, such as 123456:ABC-DEF",
    "webhook_secret": "1 to 256 letters, digits, _ or -, known only to Telegram and you",
    "openai_api_key": "the key of the model's server",
    "admin_password": f"at least {SHORTEST_PASSWORD} characters that nobody guesses",
}


def split_listen(listen: str) -> tuple[str, int]:
    """``host:port`` as its two parts."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _fault(fault: Any) -> str:
    name = str(fault["loc"][0]).upper() if fault["loc"] else "Settings"
    return f"{name} is wrong: {fault['msg'].removeprefix('Value error, ')}"
