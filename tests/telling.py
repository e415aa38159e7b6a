"""Asking a process how it is, and for its metrics, as a supervisor and Prometheus do."""

import asyncio
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import DEADLINE_S


async def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """The status and the body of an answer."""
    async with aiohttp.ClientSession() as client, client.request(method, _url(port, path)) as answer:
        return answer.status, await answer.text()


async def health(port: int, word: str) -> tuple[int, dict[str, str]]:
    """What ``/health/live`` or ``/health/ready`` answers: the status, and what it says of each part."""
    async with aiohttp.ClientSession() as client, client.get(_url(port, f"/health/{word}")) as answer:
        told: Any = await answer.json()
        assert told[word] is (answer.status == 200)
        parts: dict[str, str] = told["parts"]
        return answer.status, parts


async def until_health(port: int, word: str, status: int, within: float = DEADLINE_S) -> dict[str, str]:
    """Wait until a process says that it is, or is not, live or ready; then what it says of each part."""
    said: object = None
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    said = found, parts = await health(port, word)
                    if found == status:
                        return parts
                except aiohttp.ClientConnectionError as error:
                    said = error
                await asyncio.sleep(0.03)
    except TimeoutError:
        raise AssertionError(f"/health/{word} said {said}, not {status}, for {within} s") from None


async def measure(port: int) -> dict[str, float]:
    """Every sample of ``/metrics``, by its name and labels as Prometheus writes them."""
    status, body = await ask(port, "/metrics")
    assert status == 200, body
    return {
        series(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def series(name: str, labels: dict[str, str]) -> str:
    """A series as Prometheus writes it, its labels in alphabetical order."""
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name


def _url(port: int, path: str) -> str:
    return f"http://127.0.0.1:{port}{path}"
