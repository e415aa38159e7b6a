"""RabbitMQ's management API: rates, consumers and ages of queues."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import orjson
import pika
import yarl

from schema.errors import ManagementUnavailable
from services.messaging.publisher import connection_parameters
from services.process.addresses import trusting, without_ca_file

TIMEOUT_S = 2.0
_PORT, _TLS_PORT = 15672, 15671
_FAR_FUTURE = 1 << 33  # in seconds since the epoch: the year 2242
_COLUMNS = (
    "name,type,messages_ready,messages_unacknowledged,consumers,head_message_timestamp,"
    "message_stats.publish_details.rate,message_stats.deliver_get_details.rate"
)


@dataclass(frozen=True, slots=True)
class QueueFlow:
    """A queue's rates and counts, as RabbitMQ measured them some seconds ago."""

    name: str
    messages: int  #: Messages that wait
    unacknowledged: int  #: Messages delivered to a consumer and not acknowledged yet
    consumers: int  #: The number of consumers
    rate_in: float  #: Messages published per second
    rate_out: float  #: Messages delivered per second
    oldest_at: datetime | None  #: When the oldest waiting message was published; None: unknown
    type: str | None = None  #: classic, quorum or stream; None: unknown


class ManagementApi:
    """The management API of one virtual host.

    Args:
        urls: ``RABBITMQ_URL``; gives the user, password and virtual host.
        management_url: The API's address; it may name another user. Empty: port 15672 on the hosts of ``urls``,
            or 15671 with TLS for amqps addresses.
        ca_file: The certificates of authorities that are trusted beside the public ones; empty: those that ``urls``
            name in ``cacertfile``, if any.
    """

    def __init__(self, urls: str, management_url: str, ca_file: str = "") -> None:
        self._places = [_place(each, management_url) for each in connection_parameters(urls)]
        self._ca_file = ca_file or without_ca_file(urls.partition(";")[0])[1]

    async def __aenter__(self) -> Self:
        """Open the HTTP client; no request is made yet."""
        verified: ssl.SSLContext | bool = trusting(self._ca_file) if self._ca_file else True
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=verified), timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.close()

    @property
    def addresses(self) -> list[str]:
        """The API's addresses, without users and passwords."""
        return list(dict.fromkeys(str(url.origin()) for url, _ in self._places))

    async def queues(self) -> list[QueueFlow]:
        """Every queue, by name; raises ManagementUnavailable without a valid answer."""
        trouble = ""
        for url, authorization in self._places:
            try:
                async with self._http.get(
                    url, headers={"Authorization": authorization}, allow_redirects=False
                ) as response:
                    if response.status == 200:
                        return sorted(map(_flow, _rows(await response.read())), key=lambda flow: flow.name)
                    trouble = f"{response.status} {response.reason}"
            except TimeoutError:
                trouble = f"no answer within {TIMEOUT_S:g} s"
            except (aiohttp.ClientError, OSError, ValueError) as error:
                trouble = str(error) or type(error).__name__
        raise ManagementUnavailable(trouble)


def _place(parameters: pika.URLParameters, management_url: str) -> tuple[yarl.URL, str]:
    """The address of the queues' API, and the ``Authorization`` header for it."""
    scheme, port = ("https", _TLS_PORT) if parameters.ssl_options else ("http", _PORT)
    base = yarl.URL(management_url or str(yarl.URL.build(scheme=scheme, host=parameters.host, port=port)))
    credentials = parameters.credentials
    user, password = (
        (base.user, base.password or "") if base.user else (credentials.username, credentials.password)
    )
    vhost = quote(parameters.virtual_host, safe="")
    path = f"{str(base.with_user(None)).rstrip('/')}/api/queues/{vhost}?columns={_COLUMNS}"
    return yarl.URL(path, encoded=True), aiohttp.encode_basic_auth(user, password)


def _rows(body: bytes) -> Sequence[Any]:
    rows = orjson.loads(body)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
        raise ValueError("this is not RabbitMQ's management API")
    return rows


def _flow(row: dict[str, Any]) -> QueueFlow:
    stats = row.get("message_stats") or {}
    return QueueFlow(
        name=str(row["name"]),
        messages=row.get("messages_ready") or 0,
        unacknowledged=row.get("messages_unacknowledged") or 0,
        consumers=row.get("consumers") or 0,
        rate_in=(stats.get("publish_details") or {}).get("rate") or 0.0,
        rate_out=(stats.get("deliver_get_details") or {}).get("rate") or 0.0,
        oldest_at=_instant(row.get("head_message_timestamp")),
        type=row.get("type"),
    )


def _instant(seconds: Any) -> datetime | None:
    """The time, if it is one: a foreign publisher may have sent any timestamp."""
    if isinstance(seconds, int) and 0 < seconds < _FAR_FUTURE:
        return datetime.fromtimestamp(seconds, UTC)
    return None
