"""Requests and answers of `POST /v1/chat/completions` in OpenAI's shapes."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aiohttp import web
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ops.sandbox.model.prompts import content_text

_CHARACTERS_A_TOKEN = 3.5
_WRONG = "invalid_request_error"
_STATUS_ERRORS: dict[int, tuple[str, str | None, str]] = {  # type, code, message
    400: (_WRONG, "invalid_value", "This request was refused by the sandbox."),
    401: (_WRONG, "invalid_api_key", "Incorrect API key provided: sandbox."),
    404: (_WRONG, "model_not_found", "The model `{model}` does not exist or you do not have access to it."),
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later."),
}


class Invalid(Exception):
    """An error in OpenAI's shape."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = _WRONG,
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}

    @classmethod
    def of_status(cls, status: int, model: str) -> "Invalid":
        """The usual error of a status."""
        kind, code, message = _STATUS_ERRORS[status]
        return cls(message.format(model=model), status=status, kind=kind, code=code)

    def response(self, retry_after: int | None = None) -> web.Response:
        """The error as it goes over the wire."""
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        return web.json_response(self.body, status=self.status, headers=headers)


class _Request(BaseModel):
    """The checked part of a request."""

    model_config = ConfigDict(strict=True)

    model: str = Field(min_length=1)
    messages: list[Annotated[ChatCompletionMessageParam, Field(discriminator="role")]] = Field(min_length=1)
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1)
    stream: Literal[False] | None = None


_CODES = {
    "missing": "missing_required_parameter",
    "too_short": "empty_array",
    "greater_than_equal": "integer_below_min_value",
}


def check(headers: Mapping[str, str], raw: bytes) -> dict[str, Any]:
    """The body of a request.

    Raises:
        Invalid: The request is wrong; the error has the shape of OpenAI's.
    """
    scheme, _, key = headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer" or not key.strip():
        raise Invalid(
            "You didn't provide an API key. You need to provide your API key in an Authorization header "
            "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            status=401,
        )
    try:
        body = json.loads(raw)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Invalid("We could not parse the JSON body of your request.")
    try:
        _Request.model_validate(body)
    except ValidationError as error:
        raise _invalid(error.errors()[0]) from None
    return body


def _invalid(error: ErrorDetails) -> Invalid:
    name, *inside = error["loc"]
    if name == "model":
        return Invalid("you must provide a model parameter")
    if error["type"].startswith("union_tag"):
        inside = [*inside, "role"]
    elif name == "messages" and len(inside) > 1:
        inside = [inside[0], *inside[2:3]]  # without the role and the alternatives of a type
    param = str(name) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inside)
    code = _CODES.get(error["type"], "invalid_value")
    return Invalid(f"Invalid '{param}': {error['msg']}.", param=param, code=code)


def tokens(text: str) -> int:
    """The approximate number of tokens in a text."""
    return max(1, round(len(text) / _CHARACTERS_A_TOKEN)) if text else 0


@dataclass
class Completion:
    """An answer; the request's limit of tokens may cut its text, or `cut` says that it is cut."""

    number: int
    request: dict[str, Any]
    text: str
    cut: bool = False

    def __post_init__(self) -> None:
        self.finish_reason = "length" if self.cut else "stop"
        most = self.request.get("max_completion_tokens") or self.request.get("max_tokens")
        if most and tokens(self.text) > most:
            self.text = self.text[: int(most * _CHARACTERS_A_TOKEN)]
            self.finish_reason = "length"
        wanted = self.request.get("response_format")
        if isinstance(wanted, dict) and str(wanted.get("type", "text")).startswith("json"):
            self.text = json.dumps({_text_property(wanted): self.text}, ensure_ascii=False)

    def as_json(self) -> dict[str, Any]:
        """The answer's body."""
        asked = sum(tokens(content_text(message["content"])) + 4 for message in self.request["messages"])
        written = tokens(self.text)
        usage = {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}
        message: dict[str, Any] = {
            "role": "assistant",
            "content": self.text,
            "refusal": None,
            "annotations": [],
        }
        return {
            "id": f"chatcmpl-sandbox{self.number:08d}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self.request["model"],
            "choices": [
                {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish_reason}
            ],
            "usage": usage,
            "system_fingerprint": "fp_sandbox",
        }


def _text_property(response_format: dict[str, Any]) -> str:
    """The property of a JSON answer that carries the text: the schema's first string, else `text`."""
    properties = response_format.get("json_schema", {}).get("schema", {}).get("properties", {})
    for name, described in properties.items():
        if described.get("type") == "string":
            return str(name)
    return "text"
