"""A call of a Bot API method: its parameters, its error, its record."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from ops.sandbox.faults import Fault

# Parameters that are objects or lists; in forms and query strings they come as JSON text.
STRUCTURED = {"reply_markup", "entities", "caption_entities", "allowed_updates", "commands", "scope"}


@dataclass(slots=True, frozen=True)
class Upload:
    """A file in the body of a call."""

    name: str
    kind: str  #: media type
    data: bytes


class ApiError(Exception):
    """An error of the Bot API: a code, a description, and sometimes `retry_after`."""

    def __init__(self, code: int, description: str, retry_after: int | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.description = description
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        """The body of the answer."""
        body: dict[str, Any] = {"ok": False, "error_code": self.code, "description": self.description}
        if self.retry_after is not None:
            body["parameters"] = {"retry_after": self.retry_after}
        return body


def bad_request(what: str) -> ApiError:
    """A 400 with Telegram's description."""
    return ApiError(400, f"Bad Request: {what}")


@dataclass(slots=True)
class Call:
    """One call of the bot and its answer.

    Attributes:
        number: Grows by one with every call.
        time: Unix time at which it came.
        method: As the bot wrote it.
        parameters: As sent, with JSON texts decoded.
        via: `http`, or `webhook` where the method came in the answer to an update.
        response: The body of the answer; None while there is none.
        reader_id: The reader that it concerns, if any.
        answered: Unix time of the answer.
        met: The fault that met it.
    """

    number: int
    time: float
    method: str
    parameters: dict[str, Any]
    via: str = "http"
    reader_id: int | None = None
    response: dict[str, Any] | None = None
    answered: float | None = None
    met: Fault | None = None

    @property
    def fault(self) -> str | None:
        """Kind of the fault that met it."""
        return self.met.kind if self.met else None

    @property
    def chat_id(self) -> int | None:
        """The chat that it names, if any."""
        value = self.parameters.get("chat_id")
        try:
            return int(value) if value is not None else None
        except (TypeError, ValueError):
            return None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return bool(self.response and self.response.get("ok"))

    def as_json(self) -> dict[str, Any]:
        """As the control API shows it, without secrets."""
        shown = {name: getattr(self, name) for name in self.__slots__ if name != "met"}
        parameters = {
            name: f"{value.name}, {len(value.data)} bytes" if isinstance(value, Upload) else value
            for name, value in self.parameters.items()
        }
        if parameters.get("secret_token"):
            parameters |= {"secret_token": "…"}
        shown["parameters"] = parameters
        return {**shown, "chat_id": self.chat_id, "fault": self.fault}


class Parameters:
    """Typed access to the parameters of a call."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = {name: self._decoded(name, value) for name, value in values.items()}

    @staticmethod
    def _decoded(name: str, value: Any) -> Any:
        if name in STRUCTURED and isinstance(value, str) and value:
            try:
                return json.loads(value)
            except ValueError:
                raise bad_request(f"can't parse {name.replace('_', ' ')} JSON object") from None
        return value

    def text(self, name: str) -> str:
        """A text; empty where it is missing."""
        value = self.values.get(name)
        return "" if value is None else str(value)

    def integer(self, name: str, default: int = 0) -> int:
        """A whole number; the default where it is missing or no number."""
        value = self.text(name)
        return int(value) if re.fullmatch(r"-?\d{1,18}", value) else default

    def flag(self, name: str) -> bool:
        """True for `true`, `yes` and `1`."""
        return self.text(name).lower() in {"true", "yes", "1"}

    def file(self, name: str) -> Upload | None:
        """A file, sent under this name or under the one that `attach://` names; None where it is missing."""
        value = self.values.get(name)
        if isinstance(value, str) and value.startswith("attach://"):
            value = self.values.get(value.removeprefix("attach://"))
        return value if isinstance(value, Upload) else None

    def structure(self, name: str) -> Any:
        """An object or a list; None where it is missing."""
        return self.values.get(name) or None


async def read_parameters(request: web.Request) -> dict[str, Any]:
    """The parameters of a request: from its query string and its JSON, form or multipart body.

    Raises:
        ApiError: The body claims to be JSON but is no JSON object.
    """
    values: dict[str, Any] = dict(request.query)
    if not request.can_read_body:
        return values
    if request.content_type == "application/json":
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise bad_request("can't parse JSON object")
        values.update(body)
    else:
        for name, value in (await request.post()).items():
            if isinstance(value, str):
                values[name] = value
            elif isinstance(value, web.FileField):
                values[name] = Upload(value.filename, value.content_type, value.file.read())
    return values
