"""The sandbox's model, in its own process, and the calls to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp


@dataclass(frozen=True, slots=True)
class Call:
    """A call for a text; times in seconds since the epoch."""

    started: float
    finished: float
    outcome: str


class Model:
    """The model at the sandbox's address."""

    def __init__(self, address: str, http: aiohttp.ClientSession) -> None:
        self._address = address
        self._http = http
        #: The settings that make a worker call this model.
        self.settings = {"OPENAI_BASE_URL": f"{address}/v1"}

    async def calls(self, since: float) -> list[Call]:
        """The finished calls that began at ``since`` or later, in seconds since the epoch."""
        async with self._http.get(f"{self._address}/sandbox/model/calls?limit=10000") as response:
            calls = await response.json()
        return [
            Call(call["started"], call["finished"], call["outcome"])
            for call in calls
            if call["started"] >= since and call["finished"]
        ]


def most_in_flight(calls: Sequence[Call]) -> int:
    """The largest number of simultaneous calls."""
    return max(
        (sum(each.started <= call.started < each.finished for each in calls) for call in calls), default=0
    )
