"""The settings, read once per process from the environment and ``.env``."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Self, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from schema.signs import Language
from services.process.addresses import (
    Server,
    amqp_servers,
    database_servers,
    http_server,
    plain_database_url,
    root_certificates,
    why_not_certificates,
    with_ca_file,
    with_root_certificates,
    without_ca_file,
)
from services.process.passwords import SHORTEST_PASSWORD, SHORTEST_SECRET, why_weak
from services.process.spellings import secrets_in


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


def _hosts(value: Any) -> Any:
    """``"postgres,rabbitmq"`` as a tuple of host names."""
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip().strip("[]").lower() for part in value.split(","))
    if not all(re.fullmatch(r"[\w.:-]+", part) for part in parts):
        raise ValueError("expected host names or IP addresses with commas between, such as postgres,rabbitmq")
    return parts


Seconds = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_seconds)]

Tokens = Annotated[int, BeforeValidator(_tokens)]
Days = Annotated[int, BeforeValidator(_days)]
Proxies = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_proxies)]
Hosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_hosts)]
Prices = Annotated[tuple[Decimal, ...], NoDecode, BeforeValidator(_prices)]

_LISTEN = re.compile(r"(?P<host>[^:\s]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})")


class Settings(BaseSettings):
    """Every setting, with its default. A secret prints as asterisks."""

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: SecretStr | None = None
    migration_database_url: SecretStr | None = None
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
    rabbitmq_management_url: SecretStr = SecretStr("")
    unencrypted_hosts: Hosts = ()
    ca_file: str = ""
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
        faults = [f"{name.upper()} is not set: expected {_EXPECTED[name]}" for name in missing]
        faults += [f"{name.upper()} is wrong: {fault}" for name, fault in settings.unsafe()]
        if faults:
            raise WrongSettings("\n".join(faults))
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  one folder for all; here each has its path
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """[override] Secrets may also stand in files, which ``NAME_FILE`` names."""
        files = _SecretFiles(settings_cls, dotenv_settings, env_settings)
        return init_settings, env_settings, dotenv_settings, files

    @model_validator(mode="after")
    def _trust(self) -> Self:
        """Name the trusted authorities in the addresses whose libraries expect them there."""
        for name, trust in (
            ("database_url", with_root_certificates),
            ("migration_database_url", with_root_certificates),
            ("rabbitmq_url", with_ca_file),
        ):
            if url := getattr(self, name):
                setattr(self, name, SecretStr(trust(url.get_secret_value(), self.ca_file)))
        return self

    def unsafe(self) -> Iterator[tuple[str, str]]:
        """The settings by which others could read along or get in, each with what is expected."""
        for name, server in self._servers():
            if server.is_local:
                continue
            # In an address with a slip, a part of the password may stand where the host should.
            host = server.host if re.fullmatch(r"[\w.:-]+", server.host) else "its server"
            if not server.verified and server.host not in self.unencrypted_hosts:
                yield name, f"{host} is not on this machine, and {_VERIFIED[name]}; {_OTHERWISE}"
            if server.password is not None and (weak := why_weak(server.password)):
                yield name, f"the password for {host} can be guessed: {weak}"
        for name, shortest in (("admin_password", SHORTEST_PASSWORD), ("webhook_secret", SHORTEST_SECRET)):
            secret: SecretStr | None = getattr(self, name)
            if secret and (weak := why_weak(secret.get_secret_value(), shortest)):
                yield name, f"it can be guessed: {weak}"
        for name, file in self._certificates():
            if file and (why := why_not_certificates(file)):
                yield name, why

    def _certificates(self) -> Iterator[tuple[str, str]]:
        """The files of certificates that addresses name, by setting."""
        for name in ("database_url", "migration_database_url"):
            if url := getattr(self, name):
                yield name, root_certificates(url.get_secret_value())
        for url in self.rabbitmq_url.get_secret_value().split(";") if self.rabbitmq_url else ():
            yield "rabbitmq_url", without_ca_file(url)[1]

    def _servers(self) -> Iterator[tuple[str, Server]]:
        """The servers that this process may connect to, or ask others to, by the setting that names them."""
        for name in ("database_url", "migration_database_url"):
            if url := getattr(self, name):
                yield from ((name, server) for server in database_servers(url.get_secret_value()))
        if self.rabbitmq_url:
            urls = self.rabbitmq_url.get_secret_value()
            yield from (("rabbitmq_url", server) for server in amqp_servers(urls))
        for name in ("telegram_api_url", "webhook_url", "openai_base_url"):
            if address := getattr(self, name):
                yield name, http_server(address)
        if management := self.rabbitmq_management_url.get_secret_value():
            yield "rabbitmq_management_url", http_server(management)

    @field_validator("database_url", "migration_database_url")
    @classmethod
    def _plain_scheme(cls, value: SecretStr | None) -> SecretStr | None:
        return SecretStr(plain_database_url(value.get_secret_value())) if value else None

    @field_validator("database_url", "migration_database_url", "rabbitmq_url", "bot_token", "webhook_secret")
    @classmethod
    def _form(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        assert info.field_name
        if not value:
            return value
        text = value.get_secret_value()
        if not re.fullmatch(_FORMS[info.field_name], text) or not _can_be_read(info.field_name, text):
            raise ValueError(f"expected {_EXPECTED[info.field_name]}")
        return value

    @field_validator("admin_password")
    @classmethod
    def _admin_password(cls, value: SecretStr | None) -> SecretStr | None:
        if value and re.search(r"[\ud800-\udfff]", value.get_secret_value()):  # bytes that are not UTF-8
            raise ValueError(f"expected {_EXPECTED['admin_password']}, in UTF-8")
        return value

    @field_validator("telegram_api_url", "openai_base_url", "webhook_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        return _http_address(value)

    @field_validator("rabbitmq_management_url")
    @classmethod
    def _management_url(cls, value: SecretStr) -> SecretStr:
        return SecretStr(_http_address(value.get_secret_value()))

    @field_validator("ca_file")
    @classmethod
    def _ca_file(cls, value: str) -> str:
        if value and (why := why_not_certificates(value)):
            raise ValueError(f"{why}; expected a file with the certificates of your authorities")
        return value

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
        """Every secret string, also those inside of addresses; none may be shown anywhere."""
        plain: list[str] = []
        inside: list[str] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if isinstance(text, str) and text and name.endswith("_url"):
                inside += secrets_in(text)
            elif isinstance(value, SecretStr):
                plain.append(value.get_secret_value())
        if self.bot_token:  # its first part is the bot's public number
            inside.append(self.bot_token.get_secret_value().partition(":")[2])
        return (*plain, *inside)


_FORMS = {
    "database_url": r"postgres(ql)?://[^/]*(/(?s:.*))?",
    "migration_database_url": r"postgres(ql)?://[^/]*(/(?s:.*))?",
    "rabbitmq_url": r"amqps?://[^\s;]+(;amqps?://[^\s;]+)*",
    "bot_token": r"\d+:[\w-]{3,}",
    "webhook_secret": r"[A-Za-z0-9_-]{1,256}",
}
_EXPECTED = {
    "database_url": "an address such as postgresql://user:password@host:5432/horoscope",
    "migration_database_url": "an address such as postgresql://owner:password@host:5432/horoscope",
    "rabbitmq_url": "an address such as amqp://user:password@host:5672/vhost, or several with ; between",
    "bot_token": "the token that @BotFather gave you, such as 123456:ABC-DEF",
    "webhook_secret": (
        f"{SHORTEST_SECRET} to 256 letters, digits, _ or -, known only to Telegram and you, "
        "such as the output of: openssl rand -hex 32"
    ),
    "openai_api_key": "the key of the model's server",
    "admin_password": f"at least {SHORTEST_PASSWORD} characters that nobody guesses",
}
_DATABASE = (
    "the address does not demand a verified server: append sslmode=verify-full, and for an authority of your own "
    "sslrootcert=FILE or the setting CA_FILE"
)
_HTTPS = "the address does not begin with https://; name an authority of your own in CA_FILE"
#: Why the connection of a setting would not be verified, and what to do.
_VERIFIED = {
    "database_url": _DATABASE,
    "migration_database_url": _DATABASE,
    "rabbitmq_url": (
        "the address does not begin with amqps://, or has ssl_options; name an authority of your own in CA_FILE"
    ),
    "telegram_api_url": _HTTPS,
    "openai_base_url": _HTTPS,
    "webhook_url": _HTTPS,
    "rabbitmq_management_url": _HTTPS,
}
_OTHERWISE = (
    "or, if nobody else can listen on the whole way, name the host in UNENCRYPTED_HOSTS, such as "
    "UNENCRYPTED_HOSTS=postgres,rabbitmq"
)


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads the secrets that stand in files: ``BOT_TOKEN_FILE`` is the path of a file with ``BOT_TOKEN``."""

    def __init__(self, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource) -> None:
        super().__init__(settings_cls)
        self._given: dict[str, str | None] = {}
        for source in sources:
            assert isinstance(source, EnvSettingsSource)
            self._given |= source.env_vars

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  abstract
        """Not used: a call reads all files at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        return read_secret_files(self._given)


def secret_settings() -> list[str]:
    """The names of the secret settings, in lower case."""
    return [
        name
        for name, field in Settings.model_fields.items()
        if SecretStr in (field.annotation, *get_args(field.annotation))
    ]


def read_secret_files(given: Mapping[str, str | None]) -> dict[str, str]:
    """The secrets that stand in files, by the setting's name in lower case.

    Args:
        given: Variables as the environment and ``.env`` have them, in lower or upper case.

    Raises:
        WrongSettings: A file cannot be read or is empty, or a secret is given twice.
    """
    given = {name.lower(): value for name, value in given.items()}
    found: dict[str, str] = {}
    faults: list[str] = []
    for name in secret_settings():
        if not (path := given.get(f"{name}_file")):
            continue
        try:
            found[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            why = "" if found[name] else f"{path} is empty"
        except OSError as error:
            why = f"{path} cannot be read: {error.strerror or error}"
        except UnicodeDecodeError:
            why = f"{path} is not a text in UTF-8"
        if given.get(name):
            why = f"{name.upper()} is set, too; set one of them"
        if why:
            faults.append(f"{name.upper()}_FILE is wrong: {why}")
    if faults:
        raise WrongSettings("\n".join(faults))
    return found


def _can_be_read(name: str, value: str) -> bool:
    """Whether the address in this setting has its parts where they belong; True for a setting that is no address."""
    try:
        if name.endswith("database_url"):
            urlsplit(value)  # its ports may be several: asyncpg reads them
        elif name.endswith("url"):
            for url in value.split(";"):
                urlsplit(url).port  # noqa: B018  it raises
    except ValueError:  # half of an IPv6 address, or a port that is no number
        return False
    return True


def _http_address(value: str) -> str:
    if value and not (re.match(r"https?://[^\s/]+", value) and _can_be_read("url", value)):
        raise ValueError("expected an address that begins with https:// or http://")
    return value.rstrip("/")


def split_listen(listen: str) -> tuple[str, int]:
    """``host:port`` as its two parts."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _fault(fault: Any) -> str:
    name = str(fault["loc"][0]).upper() if fault["loc"] else "Settings"
    return f"{name} is wrong: {fault['msg'].removeprefix('Value error, ')}"
