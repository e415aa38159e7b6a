"""Loopback ports that stay the same from run to run."""

import random
import socket
from pathlib import Path

# Below the ephemeral ports. Among them, a client that retries while its server is down may be given the
# server's own port as its source, connect to itself, and keep the server from coming back.
_RANGE = range(20_000, 30_000)


def kept_port(file: Path) -> int:
    """The port kept in a file. If the file is missing or the port is taken, choose and keep a new one."""
    if file.exists() and is_free(port := int(file.read_text())):
        return port
    port = free_port()
    file.write_text(f"{port}\n")
    return port


def free_port() -> int:
    """A loopback TCP port that nobody listens on."""
    return next(port for port in random.sample(_RANGE, len(_RANGE)) if is_free(port))


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as attempt:
        # As servers do: lingering connections of the last run do not block the port.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
