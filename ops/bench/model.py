"""The sandbox's model, in a process of its own, and what it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import orjson


@dataclass(frozen=True, slots=True)
class Call:
    """A text that the model was asked for; times in seconds since the epoch."""

    started: float
    finished: float
    outcome: str

    @property
    def took(self) -> float:
        """Seconds."""
        return self.finished - self.started


class Model:
    """The model.

    Args:
        address: Of the sandbox.
        http: How it is asked.
    """

    def __init__(self, address: str, http: aiohttp.ClientSession) -> None:
        self._address = address
        self._http = http
        #: What has a worker call this model.
        self.settings = {"OPENAI_BASE_URL": f"{address}/v1"}

    async def calls(self, since: float) -> list[Call]:
        """The calls that began after ``since`` and are over, in seconds since the epoch."""
        async with self._http.get(f"{self._address}/sandbox/model/calls?limit=10000") as response:
            calls = orjson.loads(await response.read())
        return [
            Call(call["started"], call["finished"], call["outcome"])
            for call in calls
            if call["started"] >= since and call["finished"]
        ]


def most_in_flight(calls: Sequence[Call]) -> int:
    """The most calls that there were at once."""
    return max(
        (sum(each.started <= call.started < each.finished for each in calls) for call in calls), default=0
    )
