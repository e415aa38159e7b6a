"""The servers in the settings' addresses: which are on this machine, and which connections would be verified.

A connection that leaves the machine must be TLS with the server's certificate and host name verified. Otherwise
anybody on the way reads passwords and readers' data.
"""

import os
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import parse_qs, quote, unquote, urlsplit

import certifi


@dataclass(frozen=True, slots=True)
class Server:
    """One server of an address.

    Attributes:
        host: Its name or IP address in lower case; empty or a path: this machine.
        verified: The client encrypts, and checks the certificate and its host name.
        user: Whom the client signs in as; None: the address does not say.
        password: With which password.
    """

    host: str
    verified: bool
    user: str | None = None
    password: str | None = None

    @property
    def is_local(self) -> bool:
        """The connection stays on this machine: a Unix socket or loopback. A name counts by its letters only."""
        host = self.host.rstrip(".")
        if not host or host.startswith(("/", "@")) or host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def database_servers(url: str) -> list[Server]:
    """The servers of a ``DATABASE_URL``, as asyncpg reads it: several hosts, hosts in the query, ``PGHOST``."""
    parts = urlsplit(url)
    query = _query(parts.query)
    login, _, authority = parts.netloc.partition("@") if "@" in parts.netloc else ("", "", parts.netloc)
    user, _, password = (unquote(part) for part in login.partition(":"))
    hosts = [_host(each) for text in (authority, query.get("host", "")) if text for each in text.split(",")]
    if not hosts and "service" in query:
        hosts = [f"service={query['service']}"]  # a file names the host
    return [
        Server(
            host,
            verified=query.get("sslmode") == "verify-full",
            user=user or query.get("user"),
            password=password or query.get("password"),
        )
        for host in hosts or os.environ.get("PGHOST", "").split(",")
    ]


def _host(text: str) -> str:
    """The host of ``host``, ``host:port`` or ``[address]:port``; a Unix socket's path stays as it is."""
    in_brackets = re.match(r"\[([^\]]+)\]", text)
    host = in_brackets[1] if in_brackets else text if text.startswith("/") else text.partition(":")[0]
    return unquote(host).lower()


def amqp_servers(urls: str) -> Iterator[Server]:
    """The servers of ``RABBITMQ_URL``, as pika reads it: without a user it signs in as ``guest``."""
    for url in urls.split(";"):
        parts = urlsplit(url)
        user, password = ("guest", "guest") if parts.username is None else (parts.username, parts.password)
        yield Server(
            (parts.hostname or "").lower(),
            # With these options pika makes a TLS context that may verify nothing.
            verified=parts.scheme == "amqps" and "ssl_options" not in _query(parts.query),
            user=unquote(user),
            password=unquote(password or ""),
        )


def http_server(url: str) -> Server:
    """The server of an HTTP address."""
    parts = urlsplit(url)
    user, password = parts.username, parts.password
    return Server(
        (parts.hostname or "").lower(),
        verified=parts.scheme.lower() == "https",
        user=unquote(user) if user else None,
        password=unquote(password) if password else None,
    )


def plain_database_url(url: str) -> str:
    """A ``DATABASE_URL`` as libpq and asyncpg spell it, also if it is spelt as SQLAlchemy does."""
    return re.sub(r"^(postgres(ql)?)\+asyncpg:", r"\1:", url)


def with_root_certificates(url: str, ca_file: str) -> str:
    """A ``DATABASE_URL`` whose ``sslrootcert`` names the trusted authorities.

    asyncpg wants a file for ``sslmode=verify-full``. If the address names none, that is ``ca_file``, or else the
    public authorities, which ``sslrootcert=system`` also stands for.
    """
    query = _query(urlsplit(url).query)
    if query.get("sslmode") != "verify-full" or query.get("sslrootcert") not in {None, "system"}:
        return url
    trusted = certifi.where() if query.get("sslrootcert") or not ca_file else ca_file
    base, _, rest = url.partition("?")
    kept = [part for part in rest.split("&") if part.partition("=")[0] != "sslrootcert"]
    return f"{base}?{'&'.join([*kept, f'sslrootcert={quote(trusted)}'])}"


def root_certificates(url: str) -> str:
    """The file that a ``DATABASE_URL`` names in ``sslrootcert``; empty if it names none."""
    return _query(urlsplit(url).query).get("sslrootcert", "")


def with_ca_file(urls: str, ca_file: str) -> str:
    """``RABBITMQ_URL`` with ``cacertfile``, RabbitMQ's own name for it, in each encrypted address without one."""
    if not ca_file:
        return urls

    def trusting(url: str) -> str:
        if not url.startswith("amqps:") or "cacertfile" in _query(urlsplit(url).query):
            return url
        return f"{url}{'&' if '?' in url else '?'}cacertfile={quote(ca_file)}"

    return ";".join(map(trusting, urls.split(";")))


def without_ca_file(url: str) -> tuple[str, str]:
    """An AMQP address without ``cacertfile``, which pika does not know, and that file; empty if there is none."""
    base, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and part.partition("=")[0] != "cacertfile"]
    return f"{base}?{'&'.join(kept)}" if kept else base, _query(query).get("cacertfile", "")


def trusting(ca_file: str) -> ssl.SSLContext:
    """How a client verifies servers: by the public authorities, the machine's own, and those in ``ca_file``.

    Raises:
        OSError: The file cannot be read, or contains no certificate (ssl.SSLError).
    """
    context = ssl.create_default_context(cafile=certifi.where())
    context.load_default_certs()
    context.load_verify_locations(ca_file)
    return context


def why_not_certificates(file: str) -> str:
    """Why a file cannot be used as certificates of authorities; empty if it can."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except ssl.SSLError:
        return f"{file} contains no certificate in PEM form"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    return ""


def _query(text: str) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(text, keep_blank_values=True).items()}
