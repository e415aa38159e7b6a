"""The Bot API over HTTP, and from the answers of the bot's webhook."""

import asyncio
import re
import time
from typing import Any

import orjson
from aiohttp import web

from ops.sandbox.faults import Fault
from ops.sandbox.telegram.calls import ApiError, Call, Parameters, read_parameters
from ops.sandbox.telegram.methods import METHODS
from ops.sandbox.telegram.world import World

_TOKEN = re.compile(r"\d{1,16}:[A-Za-z0-9_-]{30,50}")
_NOT_DONE = {"hang", "disconnect", "garbage"}
_NOT_ANSWERED = {"hang", "timeout_after_doing"}
_CUT_OFF = {"hang", "timeout_after_doing", "disconnect", "disconnect_after_doing"}
_DESCRIPTIONS = {
    "400": "Bad Request: chat not found",
    "403": "Forbidden: bot was blocked by the user",
    "500": "Internal Server Error",
}


class BotApi:
    """Serves one world to one bot; ``token`` is the only one accepted, None accepts every well-formed one."""

    def __init__(self, world: World, token: str | None = None) -> None:
        self._world = world
        self._token = token
        self._stopping = asyncio.Event()
        world.webhook.perform = self._perform_reply

    def routes(self) -> list[web.AbstractRouteDef]:
        """All methods."""
        return [web.route("*", "/bot{token:[^/]+}/{method}", self._handle)]

    def start(self) -> None:
        """Serve again."""
        self._stopping.clear()
        self._world.webhook.start()

    async def stop(self) -> None:
        """End every call that hangs or waits, and every delivery."""
        self._stopping.set()
        self._world.updates.release_poll()
        await self._world.webhook.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        token, method = request.match_info["token"], request.match_info["method"]
        if token != self._token and (self._token or not _TOKEN.fullmatch(token)):
            return _answer(ApiError(401, "Unauthorized"))
        if not self._token:
            self._world.bot["id"] = int(token.split(":")[0])
        try:
            call = self._world.record(method, await read_parameters(request))
        except ApiError as error:
            return _answer(error)
        kind = call.fault or ""
        response = web.Response(text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")
        if kind not in _NOT_DONE:
            response = await self._carry_out(call)
        if call.met and kind in _NOT_ANSWERED:
            await call.met.hang(self._stopping)
        if kind in _CUT_OFF and request.transport:
            request.transport.abort()
        return response

    async def _perform_reply(self, method: str, parameters: dict[str, Any]) -> None:
        """Carry out a method that came in the answer to an update."""
        call = self._world.record(method, parameters, via="webhook")
        if call.fault not in _NOT_DONE:
            await self._carry_out(call)

    async def _carry_out(self, call: Call) -> web.Response:
        error: ApiError | None = None
        try:
            call.response = {"ok": True, "result": await self._result(call)}
        except ApiError as refused:
            call.response, error = refused.as_json(), refused
        call.answered = time.time()
        self._world.call_changed(call)
        return _answer(error) if error else web.json_response(body=orjson.dumps(call.response))

    async def _result(self, call: Call) -> Any:
        name, latency = call.method.lower(), self._world.latency
        if seconds := latency.get(name, latency.get("*", 0.0) if name != "getupdates" else 0.0):
            await asyncio.sleep(seconds)
        if call.met and call.met.kind.isdigit():
            raise _error_of(call.met)
        method = METHODS.get(name)
        if not method:
            raise ApiError(404, "Not Found: method not found")
        parameters = Parameters(call.parameters)
        call.parameters = parameters.values
        self._world.limits.check(name, call.chat_id)
        return await method(self._world, parameters)


def _error_of(fault: Fault) -> ApiError:
    if fault.kind == "429":
        retry_after = int(fault.details.get("retry_after", 1))
        return ApiError(429, f"Too Many Requests: retry after {retry_after}", retry_after)
    return ApiError(int(fault.kind), fault.details.get("description", _DESCRIPTIONS[fault.kind]))


def _answer(error: ApiError) -> web.Response:
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
    return web.json_response(body=orjson.dumps(error.as_json()), status=error.code, headers=headers)
