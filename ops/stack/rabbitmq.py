"""A private RabbitMQ, from the scripts of Debian's package `rabbitmq-server`."""

import base64
import http.client
import json
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ops.stack import programs
from ops.stack.ports import free_port, kept_port
from ops.stack.server import Server, ServerError

# The server's folder, seen from the server: the scripts expect no blanks in a path, and Erlang no Cyrillic.
_HERE = "/proc/self/cwd"
_USER = "horoscope"
#: The user of the processes: no administrator, and no login to the management page.
RUNNING = "horoscope_app"
#: The user with which the operators' page asks the management API: it sees queues and may not touch one.
WATCHING = "horoscope_page"
# The plugins to load. Files not named rabbitmq_* are libraries.
_PLUGINS = (
    "rabbitmq_prelaunch",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_web_dispatch",
)
_CONFIG = """\
[{{rabbit, [
    {{tcp_listeners, [{{"127.0.0.1", {port}}}]}},
    {{default_user, <<"{user}">>}},
    {{default_pass, <<"{password}">>}},
    {{vm_memory_high_watermark, {{absolute, 1073741824}}}},
    {{disk_free_limit, 50000000}},
    {{collect_statistics_interval, 1000}}
 ]}},
 {{rabbitmq_management, [{{tcp_config, [{{ip, "127.0.0.1"}}, {{port, {management_port}}}]}}]}}
].
"""


class RabbitMQ(Server):
    """RabbitMQ with its management API, on two loopback ports.

    The node is not distributed: no epmd, no Erlang port, no cookie that matters. rabbitmqctl cannot
    reach it; the management API does the same work, and faster.
    """

    title = "RabbitMQ"
    stop_signal = signal.SIGTERM
    # Queues are on disk and closed within milliseconds. The management plugin of 3.10 then asks, for 5 s,
    # the very process that waits for it, so waiting longer gains nothing.
    stop_grace = 2
    death_signal = signal.SIGKILL  # confirmed messages survive it, and no process lingers

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._port: int | None = None
        self._management_port: int | None = None

    @property
    def url(self) -> str:
        """`amqp://USER:PASSWORD@127.0.0.1:PORT/%2F`; known once the server was launched."""
        return self.vhost_url("/")

    @property
    def user(self) -> str:
        """The user with all rights, on the broker and on the management page."""
        return _USER

    @property
    def password(self) -> str:
        """The user's password."""
        return self._password()

    @property
    def management_url(self) -> str:
        """The management page, without user and password; `/api` below it is the HTTP API."""
        return f"http://127.0.0.1:{self._management_port}"

    def vhost_url(self, name: str) -> str:
        """The address of one virtual host."""
        return f"amqp://{_USER}:{self._password()}@127.0.0.1:{self._port}/{quote(name, safe='')}"

    def add_users(self, vhost: str = "/") -> None:
        """Make the users of the service, and let them use a virtual host; safe to repeat."""
        for user, tag, may in ((RUNNING, "", ".*"), (WATCHING, "management", "^$")):
            self.request("PUT", f"/users/{user}", {"password": self._password(user), "tags": tag})
            rights = dict.fromkeys(("configure", "write", "read"), may)
            self.request("PUT", f"/permissions/{quote(vhost, safe='')}/{user}", rights)

    def running_url(self, vhost: str = "/") -> str:
        """A virtual host's address for the processes."""
        name = quote(vhost, safe="")
        return f"amqp://{RUNNING}:{self._password(RUNNING)}@127.0.0.1:{self._port}/{name}"

    @property
    def watching_url(self) -> str:
        """The management API's address for the operators' page, with its user and password."""
        return f"http://{WATCHING}:{self._password(WATCHING)}@127.0.0.1:{self._management_port}"

    def create_vhost(self, name: str) -> str:
        """Make a virtual host that the user owns; return its address."""
        self.request("PUT", f"/vhosts/{quote(name, safe='')}")
        return self.vhost_url(name)

    def delete_vhost(self, name: str) -> None:
        """Remove a virtual host with all that is in it."""
        self.request("DELETE", f"/vhosts/{quote(name, safe='')}")

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Call the management API at a quoted path below `/api`; returns the answer's JSON, or None.

        Raises:
            ServerError: The API refused.
            OSError: RabbitMQ does not answer.
        """
        credentials = base64.b64encode(f"{_USER}:{self._password()}".encode()).decode()
        connection = http.client.HTTPConnection("127.0.0.1", self._management_port or 0, timeout=30)
        try:
            connection.request(
                method,
                f"/api{path}",
                body=None if body is None else json.dumps(body),
                headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
            )
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise ServerError(f"RabbitMQ refused {method} {path}: {response.status} {answer.decode()}")
        return json.loads(answer) if answer else None

    def _prepare(self) -> None:
        if self._port is None:
            self._port = kept_port(self.folder / "port")
            self._management_port = kept_port(self.folder / "management-port")
        (self.folder / "home").mkdir(exist_ok=True)
        self._link_programs()
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        config = self.folder / "advanced.config"
        config.touch(mode=0o600)
        config.write_text(
            _CONFIG.format(
                port=self._port,
                management_port=self._management_port,
                user=_USER,
                password=self._password(),
            )
        )

    def _link_programs(self) -> None:
        """Link RabbitMQ's programs and only the plugins that are needed.

        Erlang looks for each module in each of them: without, the server starts in 4 s instead of 6.
        """
        installation = programs.RABBITMQ.path.resolve().parents[1]
        plugins = self.folder / "programs" / "plugins"
        plugins.mkdir(parents=True, exist_ok=True)
        for link in (*plugins.parent.iterdir(), *plugins.iterdir()):
            if link.is_symlink():
                link.unlink()
        for part in ("sbin", "escript"):
            (plugins.parent / part).symlink_to(installation / part)
        for plugin in (installation / "plugins").iterdir():
            name = plugin.name.partition("-")[0]
            if name in _PLUGINS or not name.startswith("rabbitmq_"):
                (plugins / plugin.name).symlink_to(plugin)

    def _command(self) -> Sequence[str]:
        return [f"{_HERE}/programs/sbin/rabbitmq-server"]

    def _environment(self) -> Mapping[str, str]:
        erlang = [
            *("+S", "2:2"),  # two schedulers, on however many cores
            *("-sname", "horoscope@localhost", "-dist_listen", "false"),
            # RabbitMQ asks epmd for its own port. Here the option gives one, without epmd; nobody listens on it.
            *("-start_epmd", "false", "-erl_epmd_port", str(free_port())),
        ]
        return {
            **super()._environment(),
            "HOME": f"{_HERE}/home",  # of the Erlang cookie
            "ERL_CRASH_DUMP_BYTES": "0",
            "RABBITMQ_SCRIPTS_DIR": f"{_HERE}/programs/sbin",
            "RABBITMQ_PLUGINS_DIR": f"{_HERE}/programs/plugins",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{_HERE}/enabled_plugins",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{_HERE}/advanced.config",
            # Nothing from /etc/rabbitmq: that is the system's RabbitMQ.
            "RABBITMQ_CONF_ENV_FILE": f"{_HERE}/none",
            "RABBITMQ_CONFIG_FILE": f"{_HERE}/none",
            "RABBITMQ_CONFIG_FILES": f"{_HERE}/none",
            "RABBITMQ_NODENAME": "horoscope@localhost",
            "RABBITMQ_MNESIA_BASE": f"{_HERE}/data",
            "RABBITMQ_LOG_BASE": f"{_HERE}/data",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(erlang),
            # The script then executes the server, instead of waiting for it with signal handlers of its own.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _is_ready(self) -> bool:
        try:
            # The AMQP port opens last, after the management API's.
            socket.create_connection(("127.0.0.1", self._port or 0), timeout=5).close()
        except OSError:
            return False
        return True
