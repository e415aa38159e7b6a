"""The page and the control API under `/sandbox/`, used by the page and by tests of other processes."""

from pathlib import Path
from typing import Any

from aiohttp import web

from ops.sandbox.model.server import Model
from ops.sandbox.page.events import Events
from ops.sandbox.telegram.server import Telegram
from ops.sandbox.telegram.world import Reader

_HERE = Path(__file__).parent
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Control:
    """Looks at and changes everything the sandbox does."""

    def __init__(self, telegram: Telegram, model: Model, events: Events) -> None:
        self._telegram = telegram
        self._model = model
        self._events = events

    def routes(self) -> list[web.AbstractRouteDef]:
        """The page's files and the control API."""
        return [
            web.get("/", self._page),
            web.get("/{name:chat\\.(?:css|js)}", self._page),
            web.get("/favicon.ico", self._no_icon),
            web.get("/sandbox/state", self._state),
            web.get("/sandbox/events", self._events.stream),
            web.post("/sandbox/readers", self._add_reader),
            web.get("/sandbox/readers/{id:\\d+}/messages", self._messages),
            web.post("/sandbox/readers/{id:\\d+}/{act:say|press|block}", self._act),
            web.get("/sandbox/calls", self._calls),
            web.post("/sandbox/updates", self._send_update),
            web.post("/sandbox/updates/{id:\\d+}/repeat", self._repeat),
            web.get("/sandbox/faults", self._faults),
            web.post("/sandbox/faults", self._add_fault),
            web.delete("/sandbox/faults", self._clear_faults),
            web.delete("/sandbox/faults/{id:\\d+}", self._remove_fault),
            web.get("/sandbox/telegram", self._telegram_now),
            web.post("/sandbox/telegram", self._set_telegram),
            web.get("/sandbox/model", self._model_state),
            web.post("/sandbox/model", self._set_model),
            web.get("/sandbox/model/calls", self._model_calls),
            web.post("/sandbox/model/faults", self._add_model_fault),
            web.delete("/sandbox/model/faults", self._clear_model_faults),
            web.delete("/sandbox/model/faults/{id:\\d+}", self._remove_model_fault),
        ]

    # The page

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(_HERE / request.match_info.get("name", "chat.html"), headers=_HEADERS)

    async def _no_icon(self, _: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _state(self, _: web.Request) -> web.Response:
        telegram = self._telegram
        return web.json_response(
            {
                "bot": telegram.bot,
                "profile": [[*key, text] for key, text in telegram.profile.items()],
                "commands": [[*key, commands] for key, commands in telegram.commands.items()],
                "readers": [reader.as_json() for reader in telegram.readers.values()],
                "telegram": self._telegram_state(),
                "model": self._model.as_json(),
            }
        )

    # Readers

    async def _add_reader(self, request: web.Request) -> web.Response:
        body = await _body(request)
        reader_id = body.get("id") or max([*self._telegram.readers, 1000]) + 1
        reader = self._telegram.reader(
            int(reader_id), name=str(body.get("name", ""))[:64], language=str(body.get("language", "ru"))[:8]
        )
        return web.json_response(reader.as_json(), status=201)

    def _reader(self, request: web.Request) -> Reader:
        reader = self._telegram.readers.get(int(request.match_info["id"]))
        if not reader:
            raise _wrong("no such reader", 404)
        return reader

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
            raise _wrong(f"{missing} is missing") from None
        except (LookupError, RuntimeError) as error:
            raise _wrong(str(error), 409) from None
        update = self._telegram.updates.recent.get(update_id, {})
        return web.json_response(
            {"update_id": update_id, "callback_query_id": update.get("callback_query", {}).get("id")}
        )

    # Telegram

    def _telegram_state(self) -> dict[str, Any]:
        telegram = self._telegram
        return {
            "faults": [fault.as_json() for fault in telegram.faults],
            "kinds": telegram.faults.KINDS,
            "latency": telegram.latency,
            "limits": {"per_chat": telegram.limits.per_chat, "overall": telegram.limits.overall},
            "online": telegram.online,
            "met": telegram.faults.met,
            "calls": len(telegram.calls),
            "pending": len(telegram.updates.pending),
            "webhook": telegram.webhook.info(),
        }

    async def _calls(self, request: web.Request) -> web.Response:
        method, limit = request.query.get("method"), int(request.query.get("limit", "100"))
        chat_id = int(request.query["chat_id"]) if "chat_id" in request.query else None
        calls = [
            call.as_json()
            for call in self._telegram.calls
            if chat_id in {None, call.chat_id} and (not method or call.method.lower() == method.lower())
        ]
        return web.json_response(calls[-limit:])

    async def _send_update(self, request: web.Request) -> web.Response:
        update_id = await self._telegram.send_update(await _body(request))
        return web.json_response({"update_id": update_id}, status=201)

    async def _repeat(self, request: web.Request) -> web.Response:
        try:
            await self._telegram.repeat(int(request.match_info["id"]))
        except KeyError:
            raise _wrong("no such update", 404) from None
        return web.json_response({})

    async def _faults(self, _: web.Request) -> web.Response:
        return web.json_response([fault.as_json() for fault in self._telegram.faults])

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = self._telegram.faults.add(**await _body(request))
        except (TypeError, ValueError) as error:
            raise _wrong(str(error)) from None
        return web.json_response(fault.as_json(), status=201)

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._telegram.faults.clear()
        return web.json_response({})

    async def _remove_fault(self, request: web.Request) -> web.Response:
        if not self._telegram.faults.remove(int(request.match_info["id"])):
            raise _wrong("no such fault", 404)
        return web.json_response({})

    async def _telegram_now(self, _: web.Request) -> web.Response:
        return web.json_response(self._telegram_state())

    async def _set_telegram(self, request: web.Request) -> web.Response:
        body = await _body(request)
        if "latency" in body:
            latency = {str(name).lower(): _seconds(value) for name, value in body["latency"].items()}
            self._telegram.latency = {name: seconds for name, seconds in latency.items() if seconds}
        for name in ("per_chat", "overall"):
            if name in body.get("limits", {}):
                setattr(self._telegram.limits, name, body["limits"][name])
        self._telegram.publish("faults", {})
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

    async def _add_model_fault(self, request: web.Request) -> web.Response:
        try:
            fault = self._model.faults.add(**await _body(request))
        except (TypeError, ValueError) as error:
            raise _wrong(str(error)) from None
        return web.json_response(fault.as_json(), status=201)

    async def _clear_model_faults(self, _: web.Request) -> web.Response:
        self._model.faults.clear()
        return web.json_response({})

    async def _remove_model_fault(self, request: web.Request) -> web.Response:
        if not self._model.faults.remove(int(request.match_info["id"])):
            raise _wrong("no such fault", 404)
        return web.json_response({})


async def _body(request: web.Request) -> dict[str, Any]:
    # Demanding JSON keeps other sites' forms out: a browser asks before it sends that elsewhere.
    if request.content_type != "application/json":
        raise _wrong("send application/json", 415)
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise _wrong("send a JSON object")
    return body


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 600:
        raise _wrong(f"expected seconds between 0 and 600, not {value!r}")
    return float(value)


def _wrong(what: str, status: int = 400) -> web.HTTPException:
    error = {
        400: web.HTTPBadRequest,
        404: web.HTTPNotFound,
        409: web.HTTPConflict,
        415: web.HTTPUnsupportedMediaType,
    }
    return error[status](text=what)
