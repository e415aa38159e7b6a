"""Calls the model that writes the texts, through the openai SDK."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

import openai
from openai.types.chat import ChatCompletion

from schema.errors import Answer, ModelRefused, ModelUnavailable, TextRejected
from schema.signs import Language, Sign
from services.horoscopes import prompt
from services.horoscopes.prompt import Rejected
from services.process import metrics

#: Seconds for one answer, from the first byte sent to the last byte received.
ANSWER_TIMEOUT_S = 40.0
# The longest wait that we grant a server that asks us to come back later.
_LONGEST_WAIT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Draft(Answer):
    """A text as the model wrote it, and its origin."""

    text: str  #: Stripped of surrounding white space; not checked against the rules yet
    prompt_version: str  #: The version of the prompt


class Author:
    """Asks the model for texts. The SDK's own retries are turned off, because the ladder does them."""

    def __init__(self, client: openai.AsyncOpenAI, model: str, language: Language) -> None:
        self._client = client.with_options(max_retries=0, timeout=ANSWER_TIMEOUT_S)
        self._model = model
        self.language = language

    async def write(self, sign: Sign, day: date, rejected: Rejected | None = None) -> Draft:
        """Ask the model for one text.

        Args:
            rejected: The model's previous text, if a rule rejected it; the model is told why.

        Raises:
            ModelUnavailable: There was no answer, or the server asks us to come back later.
            ModelRefused: The server refuses the key, the model's name or the request.
            TextRejected: The answer holds no complete text; the error carries the answer's cost.
        """
        outcome = "unavailable"
        answer: Answer | None = None
        started = time.monotonic()
        try:
            answer = draft = await self._ask(sign, day, rejected)
            outcome = "answered"
        except TextRejected as error:
            outcome, answer = "rejected", error.answer
            raise
        except ModelRefused:
            outcome = "refused"
            raise
        finally:
            metrics.MODEL_SECONDS.observe(time.monotonic() - started)
            metrics.MODEL_CALLS.labels(outcome).inc()
            if answer:
                metrics.MODEL_TOKENS.labels("prompt").inc(answer.prompt_tokens or 0)
                metrics.MODEL_TOKENS.labels("completion").inc(answer.completion_tokens or 0)
        return draft

    async def _ask(self, sign: Sign, day: date, rejected: Rejected | None) -> Draft:
        started = time.monotonic()
        try:
            # The SDK restarts its own timeout with every byte, so a slow server could take for ever.
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                completion = await self._client.chat.completions.create(
                    model=self._model, messages=prompt.messages(sign, day, self.language, rejected)
                )
        except TimeoutError as error:
            raise ModelUnavailable(f"the model gave no answer within {ANSWER_TIMEOUT_S:g} s") from error
        except openai.APIStatusError as error:
            raise _our_error(error) from error
        except openai.APIError as error:  # no connection, a timeout, or an answer that is not JSON
            raise ModelUnavailable(f"the model gave no answer: {type(error).__name__}: {error}") from error
        except ValueError as error:  # an answer that claims to be JSON and is not
            raise ModelUnavailable(f"the model's answer cannot be read: {error}") from error
        answer = self._answer(completion, round((time.monotonic() - started) * 1000))
        return Draft(**asdict(answer), text=_text(completion, answer), prompt_version=prompt.VERSION)

    def _answer(self, completion: ChatCompletion, latency_ms: int) -> Answer:
        """The answer's cost. Missing or invalid parts are left out, so that the text is not lost because of them."""
        model = getattr(completion, "model", None)
        usage = getattr(completion, "usage", None)
        return Answer(
            model=(model.replace("\0", "")[:200] if isinstance(model, str) else "") or self._model,
            prompt_tokens=_tokens(usage, "prompt_tokens"),
            completion_tokens=_tokens(usage, "completion_tokens"),
            latency_ms=latency_ms,
        )


def _text(completion: ChatCompletion, answer: Answer) -> str:
    """The answer's text, stripped; raises TextRejected if there is none or the model did not finish it."""
    try:
        choice = completion.choices[0]
        text = choice.message.content or choice.message.refusal or ""
        if not isinstance(text, str):
            raise TypeError(f"expected a string, not {type(text).__name__}")  # noqa: TRY301
    except (AttributeError, IndexError, TypeError) as error:
        raise TextRejected(
            "answer", f"the model's answer holds no message: {error}", answer=answer
        ) from error
    text = text.strip()
    if choice.message.refusal or choice.finish_reason == "content_filter":
        raise TextRejected("refusal", f"the model declined: {text[:200]!r}", text=text, answer=answer)
    if choice.finish_reason == "length":
        reason = f"it was cut off by the limit of tokens after {len(text)} characters"
        raise TextRejected("unfinished", reason, text=text, answer=answer)
    return text


def _tokens(usage: object, name: str) -> int | None:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) and 0 <= count < 1 << 31 else None


def _our_error(error: openai.APIStatusError) -> ModelUnavailable | ModelRefused:
    """A 4xx status is our mistake, except for those that mean "later"."""
    message = f"the model's server answered {error.status_code}: {error.message}"
    if error.status_code in {408, 409, 429} or error.status_code >= 500:
        return ModelUnavailable(message, retry_after=_retry_after(error.response.headers))
    return ModelRefused(
        f"{message}; check OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL",
        kind=f"{error.status_code} {error.code or ''}".strip(),
        everything=error.status_code in {401, 403, 404},
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, at most a day; None: the headers name no valid time.

    ``Retry-After`` holds seconds or a date (RFC 9110, section 10.2.3). OpenAI also sends ``retry-after-ms``, which is
    more precise.
    """
    forms: tuple[tuple[str, Callable[[str], float]], ...] = (
        ("retry-after-ms", lambda value: float(value) / 1000),
        ("retry-after", float),
        ("retry-after", _seconds_until),
    )
    for name, read in forms:
        try:
            seconds = read(headers[name])
        except (KeyError, ValueError, OverflowError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return min(seconds, _LONGEST_WAIT_S)
    return None


def _seconds_until(value: str) -> float:
    moment = parsedate_to_datetime(value)
    if not moment.tzinfo:  # the offset "-0000" means UTC
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()
