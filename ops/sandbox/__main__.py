"""`python -m ops.sandbox`: the sandbox as a process."""

import argparse
import asyncio
import signal
from pathlib import Path

import uvloop

from ops.sandbox.server import Sandbox

_LATENCY = 2.0  # seconds: long enough for a person to see that a text is being written
_FIRST_READER = 1001


async def _serve(arguments: argparse.Namespace) -> None:
    sandbox = Sandbox(
        host=arguments.host, port=arguments.port, latency=arguments.latency, state=arguments.state
    )
    if not sandbox.telegram.readers:
        sandbox.telegram.reader(_FIRST_READER, name="Аня", language="ru")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with sandbox:
        print(
            f"Sandbox: chat at {sandbox.url}/, Bot API at {sandbox.url}, model at {sandbox.url}/v1",
            flush=True,
        )
        await stopped.wait()


def main() -> None:
    """Run until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m ops.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="where to listen; 0 for any free port")
    parser.add_argument("--state", type=Path, help="file that keeps readers and chats")
    parser.add_argument(
        "--latency",
        type=float,
        default=_LATENCY,
        help="seconds the model takes for a text (default: %(default)s)",
    )
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
