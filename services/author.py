"""The model that writes, called through the openai SDK."""

import asyncio
import time
from dataclasses import dataclass
from datetime import date

import openai

from schema.errors import ModelRefused, ModelUnavailable, TextRejected
from schema.signs import Language, Sign
from services import prompt

#: Seconds for one answer, from the first byte sent to the last received.
ANSWER_TIMEOUT_S = 40.0


@dataclass(frozen=True, slots=True)
class Draft:
    """A text as the model wrote it, and where it came from.

    Args:
        text: Stripped of surrounding white space; not yet held against the rules.
        model: The model's name, as the server gave it.
        prompt_version: Which words asked for it.
        prompt_tokens: Tokens read; None when the server did not count.
        completion_tokens: Tokens written; None when the server did not count.
        latency_ms: Milliseconds until the answer had come.
    """

    text: str
    model: str
    prompt_version: str
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: int


class Author:
    """Asks the model for a text.

    Args:
        client: The SDK's client; its own retries are off, since the ladder owns them.
        model: The model's name.
        language: The language of the texts.
    """

    def __init__(self, client: openai.AsyncOpenAI, model: str, language: Language) -> None:
        self._client = client.with_options(max_retries=0, timeout=ANSWER_TIMEOUT_S)
        self._model = model
        self.language = language

    async def write(self, sign: Sign, day: date) -> Draft:
        """One call to the model.

        Raises:
            ModelUnavailable: No answer, or one that asks to come back later.
            ModelRefused: The server refuses the key, the model's name or the request.
            TextRejected: The answer holds no text.
        """
        started = time.monotonic()
        try:
            # The SDK's own timeout starts anew with every byte; a server may drip for ever.
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                answer = await self._client.chat.completions.create(
                    model=self._model, messages=prompt.messages(sign, day, self.language)
                )
        except TimeoutError as error:
            raise ModelUnavailable(f"the model gave no answer within {ANSWER_TIMEOUT_S:g} s") from error
        except openai.APIStatusError as error:
            raise _told_apart(error) from error
        except openai.APIError as error:  # no connection, no answer in time, an answer that is no JSON
            raise ModelUnavailable(f"the model gave no answer: {type(error).__name__}: {error}") from error
        except ValueError as error:  # an answer that calls itself JSON and is not
            raise ModelUnavailable(f"the model's answer cannot be read: {error}") from error
        try:
            choice = answer.choices[0]
            text = choice.message.content or choice.message.refusal or ""
            if not isinstance(text, str):
                raise TypeError(f"{type(text).__name__} is no text")  # noqa: TRY301
        except (AttributeError, IndexError, TypeError) as error:
            raise TextRejected("answer", f"the model's answer holds no message: {error}") from error
        if choice.message.refusal or choice.finish_reason == "content_filter":
            raise TextRejected("refusal", f"the model declined: {text[:200]!r}")
        # What the server says beside the text is taken as it comes, or left out: a text is not lost for it.
        said = answer.model if isinstance(answer.model, str) else ""
        return Draft(
            text=text.strip(),
            model=said.replace("\0", "")[:200] or self._model,
            prompt_version=prompt.VERSION,
            prompt_tokens=_tokens(answer.usage, "prompt_tokens"),
            completion_tokens=_tokens(answer.usage, "completion_tokens"),
            latency_ms=round((time.monotonic() - started) * 1000),
        )


def _tokens(usage: object, name: str) -> int | None:
    count = getattr(usage, name, None)
    return count if isinstance(count, int) and 0 <= count < 1 << 31 else None


def _told_apart(error: openai.APIStatusError) -> ModelUnavailable | ModelRefused:
    """4xx means that we are wrong, save for the few that mean later."""
    said = f"the model's server answered {error.status_code}: {error.message}"
    if error.status_code in {408, 409, 429} or error.status_code >= 500:
        return ModelUnavailable(said, retry_after=_retry_after(error))
    everything = error.status_code in {401, 403, 404}
    return ModelRefused(
        f"{said}; check OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL", everything=everything
    )


def _retry_after(error: openai.APIStatusError) -> float | None:
    try:
        return float(error.response.headers["retry-after"])
    except (KeyError, ValueError):  # absent, or a date, which model servers do not send
        return None
