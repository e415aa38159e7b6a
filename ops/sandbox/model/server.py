"""An OpenAI-compatible text server: writes a horoscope for the sign and the day in a prompt."""

import asyncio
import itertools
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from ops.sandbox.events import Events
from ops.sandbox.faults import ModelFaults
from ops.sandbox.model import texts
from ops.sandbox.model.completions import Completion, Invalid, check
from ops.sandbox.model.prompts import Prompt, read_prompt
from ops.sandbox.watch import Watch

_MOST_CALLS = 10_000
_MODELS = ("gpt-4o-mini", "gpt-4o", "gpt-4.1-mini", "gpt-5-mini")


@dataclass(slots=True, eq=False)
class ModelCall:
    """One request for a text.

    Attributes:
        sign: English name in lower case; None where the prompt named none.
        day: ISO date; None where the prompt named none.
        attempt: The number of the request for this sign and day, from 1.
        started: Unix time.
        finished: Unix time; None while it is in flight.
        outcome: `in_flight`, `ok`, the kind of its fault, or `gone` (the client left).
        repair: Whether it asks for another text in place of a rejected one.
        text: The answer.
        request: The body.
    """

    sign: str | None
    day: str | None
    language: str
    attempt: int
    started: float
    finished: float | None = None
    outcome: str = "in_flight"
    repair: bool = False
    text: str = ""
    request: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As the control API shows it."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "request"}


class Model:
    """The text server.

    Attributes:
        latency: Seconds a text takes.
        calls: The requests, the latest last.
        faults: Faults in force.
        in_flight: Requests being answered now.
        max_in_flight: The most requests at once.
        max_in_flight_of: The most requests at once for one (sign, day).
    """

    def __init__(self, events: Events, latency: float = 0.0) -> None:
        self.latency = self._usual_latency = latency
        self.calls: deque[ModelCall] = deque(maxlen=_MOST_CALLS)
        self.faults = ModelFaults(self._changed)
        self.in_flight = 0
        self.max_in_flight = 0
        self.max_in_flight_of: Counter[tuple[str | None, str | None]] = Counter()
        self._in_flight_of: Counter[tuple[str | None, str | None]] = Counter()
        self._attempts: Counter[tuple[str | None, str | None]] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._ids = itertools.count(1)
        self._events = events
        self._watch = Watch()
        self._stopping = asyncio.Event()

    # For tests and the control API

    def calls_for(self, sign: str, day: str | None = None) -> list[ModelCall]:
        """The requests for a sign, of one day or of all."""
        return [call for call in self.calls if call.sign == sign and day in {None, call.day}]

    async def wait_for_calls(
        self, count: int = 1, sign: str | None = None, day: str | None = None, within: float = 60.0
    ) -> list[ModelCall]:
        """Wait until so many requests have come, finished or not; returns them."""

        def enough() -> list[ModelCall]:
            calls = [call for call in self.calls if sign in {None, call.sign} and day in {None, call.day}]
            return calls if len(calls) >= count else []

        def describe() -> str:
            return f"requests: {[(call.sign, call.day, call.outcome) for call in self.calls][-20:]}"

        return await self._watch.until(enough, within, describe)

    async def wait_until_idle(self, within: float = 60.0) -> None:
        """Wait until no request is in flight."""
        await self._watch.until(lambda: not self.in_flight, within, lambda: f"{self.in_flight} are in flight")

    async def wait_until_busy(self, within: float = 60.0) -> None:
        """Wait until some request is in flight."""
        await self._watch.until(lambda: self.in_flight, within, lambda: "no request is in flight")

    def as_json(self) -> dict[str, Any]:
        """As the control API shows it."""
        return {
            **{name: getattr(self, name) for name in ("latency", "in_flight", "max_in_flight")},
            "calls": sum(self._outcomes.values()) + self.in_flight,
            "outcomes": dict(self._outcomes),
            **self.faults.as_json(),
        }

    def reset(self) -> None:
        """Remove all faults, calls and counts; put the latency back."""
        self.latency = self._usual_latency
        self.calls.clear()
        self.faults.clear()
        self.max_in_flight = self.in_flight
        self._outcomes.clear()
        self._changed()

    def _changed(self) -> None:
        self._watch.notify()
        if self._events.watched:
            self._events.publish("model", self.as_json())

    # Over HTTP

    def routes(self) -> list[web.AbstractRouteDef]:
        """The two endpoints."""
        return [
            web.post("/v1/chat/completions", self._complete),
            web.get("/v1/models", self._list),
        ]

    def start(self) -> None:
        """Serve again."""
        self._stopping.clear()

    def stop(self) -> None:
        """End every call that hangs."""
        self._stopping.set()

    async def _list(self, _: web.Request) -> web.Response:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "sandbox"} for name in _MODELS]
        return web.json_response({"object": "list", "data": models})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = check(request.headers, await request.read())
        except Invalid as error:
            return error.response()
        prompt = read_prompt(body["messages"])
        call = self._begin(prompt, body)
        try:
            response = await self._answer(request, call, prompt)
        except asyncio.CancelledError:
            call.outcome = "gone" if call.outcome == "in_flight" else call.outcome
            raise
        finally:
            self._end(call)
        return response

    def _begin(self, prompt: Prompt, body: dict[str, Any]) -> ModelCall:
        key = (prompt.sign, prompt.day)
        self._attempts[key] += 1
        self._in_flight_of[key] += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.max_in_flight_of[key] = max(self.max_in_flight_of[key], self._in_flight_of[key])
        call = ModelCall(
            *key, prompt.language, self._attempts[key], time.time(), repair=prompt.repair, request=body
        )
        self.calls.append(call)
        self._changed()
        return call

    def _end(self, call: ModelCall) -> None:
        call.finished = time.time()
        self.in_flight -= 1
        self._in_flight_of[call.sign, call.day] -= 1
        self._outcomes[call.outcome] += 1
        self._changed()

    async def _answer(self, request: web.Request, call: ModelCall, prompt: Prompt) -> web.StreamResponse:
        fault = self.faults.take({"sign": call.sign, "day": call.day})
        if fault and fault.kind == "hang":
            call.outcome = "hang"
            await fault.hang(self._stopping)
        elif self.latency:
            await asyncio.sleep(self.latency)
        call.outcome = fault.kind if fault else "ok"
        if fault and fault.kind in {"hang", "disconnect"}:
            if request.transport:
                request.transport.abort()
            return web.Response()
        if fault and fault.kind == "garbage":
            return web.Response(text="upstream connect error or disconnect/reset before headers")
        if fault and fault.kind.isdigit():
            return Invalid.of_status(int(fault.kind), str(call.request["model"])).response(
                fault.details.get("retry_after")
            )
        if fault:
            call.text = texts.spoilt(fault.kind, prompt, self._neighbour(call))
        else:
            call.text = texts.compose(prompt, call.attempt)
        completion = Completion(next(self._ids), call.request, call.text, cut=call.outcome == "cut")
        call.text = completion.text
        return web.json_response(body=orjson.dumps(completion.as_json()))

    def _neighbour(self, call: ModelCall) -> str | None:
        """The last good text of another sign of that day, or of that sign on another day."""
        return next(
            (
                other.text
                for other in reversed(self.calls)
                if (other.outcome, other.language) == ("ok", call.language)
                and (other.sign == call.sign) != (other.day == call.day)
            ),
            None,
        )
