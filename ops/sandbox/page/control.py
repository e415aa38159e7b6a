"""The page and its API under `/sandbox/`, which tests of other processes use, too."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web

from ops.sandbox.events import Events
from ops.sandbox.faults import Faults
from ops.sandbox.hooks import MOVES, Clock, HookError, Missing, Texts
from ops.sandbox.model.server import Model
from ops.sandbox.telegram.world import Reader, World

_HERE = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Control:
    """Shows and changes everything in the sandbox."""

    def __init__(
        self, world: World, model: Model, events: Events, texts: Texts | Missing, clock: Clock | Missing
    ) -> None:
        self._world = world
        self._model = model
        self._events = events
        self._texts = texts
        self._clock = clock

    def routes(self) -> list[web.AbstractRouteDef]:
        """The page's files and the API."""
        reader = "/sandbox/readers/{id:\\d+}"
        return [
            web.get("/", self._page),
            web.get("/{name:\\w+\\.(?:css|js)}", self._page),
            web.get("/sandbox/state", self._state),
            web.get("/sandbox/events", self._events.stream),
            web.post("/sandbox/readers", self._add_reader),
            web.delete(reader, self._delete_reader),
            web.get(f"{reader}/messages", self._messages),
            web.get(f"{reader}/text", self._text),
            web.delete(f"{reader}/text", self._forget_text),
            web.post(reader + "/{act:say|press|block}", self._act),
            web.get("/sandbox/files/{id:[\\w-]+}", self._file),
            web.get("/sandbox/calls", self._calls),
            web.post("/sandbox/updates", self._send_update),
            web.post("/sandbox/updates/{id:\\d+}/repeat", self._repeat),
            web.get("/sandbox/telegram", self._telegram_now),
            web.post("/sandbox/telegram", self._set_telegram),
            web.get("/sandbox/model", self._model_state),
            web.post("/sandbox/model", self._set_model),
            web.get("/sandbox/model/calls", self._model_calls),
            *_fault_routes("/sandbox/faults", self._world.faults),
            *_fault_routes("/sandbox/model/faults", self._model.faults),
            web.post("/sandbox/clock", self._move_clock),
            web.post("/sandbox/reset", self._reset),
        ]

    # The page

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(_HERE / request.match_info.get("name", "chat.html"), headers=_HEADERS)

    async def _state(self, _: web.Request) -> web.Response:
        world = self._world
        return web.json_response(
            {
                "bot": world.bot,
                "profile": [[*key, text] for key, text in world.profile.items()],
                "commands": [[*key, commands] for key, commands in world.commands.items()],
                "readers": [reader.as_json() for reader in world.readers.values()],
                "telegram": self._telegram_state(),
                "model": self._model.as_json(),
                "clock": self._clock_state(),
            }
        )

    # Readers

    async def _add_reader(self, request: web.Request) -> web.Response:
        return web.json_response(self._new_reader(await _body(request)).as_json(), status=201)

    def _new_reader(self, body: dict[str, Any]) -> Reader:
        name, language = str(body.get("name", ""))[:64], str(body.get("language", "ru"))[:8]
        if reader_id := body.get("id"):
            return self._world.reader(int(reader_id), name=name, language=language)
        return self._world.add_reader(name, language)

    def _reader(self, request: web.Request) -> Reader:
        reader = self._world.readers.get(int(request.match_info["id"]))
        if not reader:
            raise web.HTTPNotFound(text="no such reader")
        return reader

    async def _delete_reader(self, request: web.Request) -> web.Response:
        self._world.delete_reader(self._reader(request))
        return web.json_response({})

    async def _messages(self, request: web.Request) -> web.Response:
        return web.json_response([message.as_json() for message in self._reader(request).messages])

    async def _act(self, request: web.Request) -> web.Response:
        reader, body = self._reader(request), await _body(request)
        try:
            if request.match_info["act"] == "say":
                update_id = await reader.say(str(body["text"])[:4096])
            elif request.match_info["act"] == "press":
                message = reader.find(body["message_id"]) if "message_id" in body else None
                update_id = await reader.press(str(body["button"]), message)
            else:
                update_id = await (reader.block() if body["blocked"] else reader.unblock())
        except KeyError as missing:
            raise web.HTTPBadRequest(text=f"{missing} is missing") from None
        except (LookupError, RuntimeError) as error:
            raise web.HTTPConflict(text=str(error)) from None
        update = self._world.updates.recent.get(update_id, {})
        return web.json_response(
            {"update_id": update_id, "callback_query_id": update.get("callback_query", {}).get("id")}
        )

    async def _file(self, request: web.Request) -> web.Response:
        file = self._world.files.get(request.match_info["id"])
        if not file:
            raise web.HTTPNotFound(text="no such file")
        # Downloaded, never shown: what a bot sends must not run on this page.
        named = f"attachment; filename*=UTF-8''{quote(file.name, safe='')}"
        headers = _HEADERS | {"Content-Disposition": named, "Content-Type": "application/octet-stream"}
        return web.Response(body=file.data, headers=headers)

    # The reader's text, the clock, a new beginning

    async def _text(self, request: web.Request) -> web.Response:
        return await self._answer_with_text(request, forget=False)

    async def _forget_text(self, request: web.Request) -> web.Response:
        return await self._answer_with_text(request, forget=True)

    async def _answer_with_text(self, request: web.Request, *, forget: bool) -> web.Response:
        reader_id, texts = int(request.match_info["id"]), self._texts
        if isinstance(texts, str):
            return web.json_response({"missing": texts, "text": None})
        try:
            text = await (texts.forget(reader_id) if forget else texts.of(reader_id))
        except HookError as error:
            raise web.HTTPConflict(text=str(error)) from None
        return web.json_response({"missing": None, "text": text and asdict(text)})

    def _clock_state(self) -> dict[str, Any]:
        if isinstance(self._clock, str):
            return {"missing": self._clock, "now": time.time(), "offset": 0, "zone": None}
        return {"missing": None, "now": time.time(), "offset": self._clock.offset, "zone": self._clock.zone}

    async def _move_clock(self, request: web.Request) -> web.Response:
        to = (await _body(request)).get("to")
        move = next((move for move in MOVES if move == to), None)
        if not move:
            raise web.HTTPBadRequest(text=f"expected one of {', '.join(MOVES)}, not {to!r}")
        if isinstance(self._clock, str):
            raise web.HTTPConflict(text="this sandbox has no clock that can be moved")
        await self._clock.move(move)
        self._events.publish("clock", self._clock_state())
        return web.json_response(self._clock_state())

    async def _reset(self, request: web.Request) -> web.Response:
        body = await _body(request)
        self._world.reset()
        self._model.reset()
        reader = self._new_reader(body)  # first: a page that leaves ends the wait for the clock
        if not isinstance(self._clock, str):
            await self._clock.move("real")
        self._events.publish("reload", {})
        return web.json_response(reader.as_json())

    # Telegram

    def _telegram_state(self) -> dict[str, Any]:
        world = self._world
        return {
            **world.faults.as_json(),
            "latency": world.latency,
            "limits": {"per_chat": world.limits.per_chat, "overall": world.limits.overall},
            "online": world.online,
            "calls": len(world.calls),
            "pending": len(world.updates.pending),
            "webhook": world.webhook.info(),
        }

    async def _calls(self, request: web.Request) -> web.Response:
        method, limit = request.query.get("method"), int(request.query.get("limit", "100"))
        chat_id = int(request.query["chat_id"]) if "chat_id" in request.query else None
        calls = [
            call.as_json()
            for call in self._world.calls
            if chat_id in {None, call.chat_id} and (not method or call.method.lower() == method.lower())
        ]
        return web.json_response(calls[-limit:])

    async def _send_update(self, request: web.Request) -> web.Response:
        update_id = await self._world.send_update(await _body(request))
        return web.json_response({"update_id": update_id}, status=201)

    async def _repeat(self, request: web.Request) -> web.Response:
        try:
            await self._world.repeat(int(request.match_info["id"]))
        except KeyError:
            raise web.HTTPNotFound(text="no such update") from None
        return web.json_response({})

    async def _telegram_now(self, _: web.Request) -> web.Response:
        return web.json_response(self._telegram_state())

    async def _set_telegram(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if "latency" in body:
            latency = {str(name).lower(): _seconds(value) for name, value in body["latency"].items()}
            self._world.latency = {name: seconds for name, seconds in latency.items() if seconds}
        for name in ("per_chat", "overall"):
            if name in body.get("limits", {}):
                setattr(self._world.limits, name, body["limits"][name])
        self._world.publish("faults", {})
        return web.json_response(self._telegram_state())

    # The model

    async def _model_state(self, _: web.Request) -> web.Response:
        return web.json_response(self._model.as_json())

    async def _set_model(self, request: web.Request) -> web.Response:
        self._model.latency = _seconds((await _body(request)).get("latency"))
        self._events.publish("model", self._model.as_json())
        return web.json_response(self._model.as_json())

    async def _model_calls(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", "100"))
        return web.json_response([call.as_json() for call in self._model.calls][-limit:])


def _fault_routes(path: str, faults: Faults) -> list[web.AbstractRouteDef]:
    async def add(request: web.Request) -> web.Response:
        try:
            fault = faults.add(**await _body(request))
        except (TypeError, ValueError) as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        return web.json_response(fault.as_json(), status=201)

    async def clear(_: web.Request) -> web.Response:
        faults.clear()
        return web.json_response({})

    async def remove(request: web.Request) -> web.Response:
        if not faults.remove(int(request.match_info["id"])):
            raise web.HTTPNotFound(text="no such fault")
        return web.json_response({})

    return [web.post(path, add), web.delete(path, clear), web.delete(path + "/{id:\\d+}", remove)]


async def _body(request: web.Request) -> dict[str, Any]:
    # A browser asks before it sends JSON to another site, so forms of other sites cannot reach this API.
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="send application/json")
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="send a JSON object")
    return body


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 600:
        raise web.HTTPBadRequest(text=f"expected seconds between 0 and 600, not {value!r}")
    return float(value)
