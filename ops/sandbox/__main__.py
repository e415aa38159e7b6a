"""`python -m ops.sandbox`: the sandbox as a process."""

import argparse
import asyncio
import signal
from pathlib import Path

import uvloop

from ops.sandbox.server import Sandbox

_LATENCY = 2.0  # seconds: long enough for a person to see that a text is being written


async def serve(sandbox: Sandbox) -> None:
    """Run a sandbox until SIGTERM or Ctrl-C."""
    if not sandbox.telegram.readers:
        sandbox.telegram.add_reader("Аня", "ru")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with sandbox:
        url = sandbox.url
        print(f"Sandbox: chat at {url}/, Bot API at {url}, model at {url}/v1", flush=True)
        await stopped.wait()


def argument_parser(program: str) -> argparse.ArgumentParser:
    """Options of a sandbox process; their names are the arguments of `Sandbox`."""
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="where to listen; 0 for any free port")
    parser.add_argument("--state", type=Path, help="file that keeps readers and chats")
    parser.add_argument(
        "--latency", type=float, default=_LATENCY, help="seconds the model takes (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    arguments = argument_parser("python -m ops.sandbox").parse_args()
    uvloop.run(serve(Sandbox(**vars(arguments))))
