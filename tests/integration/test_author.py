"""The model, called over real HTTP: the sandbox's, and servers that speak in unusual ways."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from ops.sandbox import Sandbox
from schema.errors import ModelRefused, ModelUnavailable, TextRejected
from schema.signs import Language, Sign
from services.horoscopes import model as module
from services.horoscopes import rules
from services.horoscopes.model import Author
from services.horoscopes.prompt import VERSION, Rejected
from services.horoscopes.rules import Neighbour

DAY = date(2026, 11, 22)


@pytest.fixture
async def author(sandbox: Sandbox) -> AsyncIterator[Author]:
    async with openai.AsyncOpenAI(api_key="key", base_url=f"{sandbox.url}/v1") as client:
        yield Author(client, "configured", Language.RU)


@asynccontextmanager
async def answering(status: int = 200, body: Any = None, **headers: str) -> AsyncIterator[Author]:
    """An author whose server always says the same."""

    async def answer(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(body or {"error": {"message": "no"}}, status=status, headers=named)

    app = web.Application()
    app.router.add_post("/chat/completions", answer)
    async with (
        TestServer(app) as server,
        openai.AsyncOpenAI(api_key="key", base_url=str(server.make_url("/"))) as client,
    ):
        yield Author(client, "configured", Language.RU)


async def test_a_draft_says_where_it_came_from_and_what_it_cost(sandbox: Sandbox, author: Author) -> None:
    draft = await author.write(Sign.LEO, DAY)
    (call,) = sandbox.model.calls
    assert draft.text == call.text
    assert (draft.model, draft.prompt_version) == ("configured", VERSION)
    assert draft.prompt_tokens
    assert 100 < draft.prompt_tokens < 1000
    assert draft.completion_tokens
    assert 100 < draft.completion_tokens < 400
    assert draft.latency_ms >= 0
    assert not call.repair


# Refused texts


async def test_a_repair_tells_the_model_its_text_and_the_reason_and_brings_another(
    sandbox: Sandbox, author: Author
) -> None:
    sandbox.model.faults.add("html", times=1)
    draft = await author.write(Sign.LEO, DAY)
    with pytest.raises(TextRejected) as refused:
        rules.check(draft.text, Language.RU)
    error = refused.value
    again = await author.write(Sign.LEO, DAY, Rejected(error.reason, error.text))
    rules.check(again.text, Language.RU)

    first, second = sandbox.model.calls
    assert (first.repair, second.repair) == (False, True)
    assert (second.sign, second.day, second.language) == (first.sign, first.day, first.language)
    asked, repaired = first.request["messages"], second.request["messages"]
    assert repaired[:2] == asked
    assert [each["role"] for each in repaired] == ["system", "user", "assistant", "user"]
    assert repaired[2]["content"] == draft.text
    assert error.reason in repaired[3]["content"]
    assert again.prompt_tokens
    assert draft.prompt_tokens
    assert again.prompt_tokens > draft.prompt_tokens


async def test_an_answer_that_was_cut_off_is_refused_with_what_it_cost(
    sandbox: Sandbox, author: Author
) -> None:
    sandbox.model.faults.add("cut", times=1)
    with pytest.raises(TextRejected, match="cut off by the limit of tokens after") as refused:
        await author.write(Sign.LEO, DAY)
    error = refused.value
    assert error.rule == "unfinished"
    assert error.text == sandbox.model.calls[0].text.strip()
    assert error.answer
    assert error.answer.model == "configured"
    assert error.answer.prompt_tokens
    assert error.answer.completion_tokens
    assert (await author.write(Sign.LEO, DAY, Rejected(error.reason, error.text))).text


async def test_the_almost_same_text_is_refused_and_its_repair_is_not(
    sandbox: Sandbox, author: Author
) -> None:
    virgo = await author.write(Sign.VIRGO, DAY)
    sandbox.model.faults.add("alike", times=1)
    draft = await author.write(Sign.LEO, DAY)
    neighbours = [Neighbour(Sign.VIRGO, DAY, virgo.text)]
    assert draft.text != virgo.text
    with pytest.raises(TextRejected, match="is the text of virgo for 2026-11-22") as refused:
        rules.check(draft.text, Language.RU, neighbours)
    again = await author.write(Sign.LEO, DAY, Rejected(refused.value.reason, refused.value.text))
    rules.check(again.text, Language.RU, neighbours)


def completion(message: dict[str, Any], finish_reason: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant"} | message}
    usage = {"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15}
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "theirs",
        "choices": [choice],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("body", "rule", "text"),
    [
        (completion({"content": None, "refusal": "I will not."}), "refusal", "I will not."),
        (completion({"content": "Не скажу."}, "content_filter"), "refusal", "Не скажу."),
        (completion({"content": ""}, "length"), "unfinished", ""),
        (completion({"content": 7}), "answer", None),
        (completion({}) | {"choices": []}, "answer", None),
    ],
)
async def test_an_answer_without_a_text_is_refused_with_what_it_cost(
    body: dict[str, Any], rule: str, text: str | None
) -> None:
    async with answering(body=body) as author:
        with pytest.raises(TextRejected) as refused:
            await author.write(Sign.LEO, DAY)
    error = refused.value
    assert (error.rule, error.text) == (rule, text)
    assert error.answer
    assert (error.answer.model, error.answer.prompt_tokens, error.answer.completion_tokens) == (
        "theirs",
        7,
        8,
    )


# Refused requests


@pytest.mark.parametrize(
    ("status", "everything"),
    [(400, False), (401, True), (403, True), (404, True), (413, False), (422, False)],
)
async def test_a_refusal_says_whether_it_is_of_everything(status: int, everything: bool) -> None:
    async with answering(status) as author:
        with pytest.raises(ModelRefused, match=f"answered {status}") as refused:
            await author.write(Sign.LEO, DAY)
    assert refused.value.everything is everything


# Come back later


def in_seconds(seconds: float) -> str:
    """A time as HTTP writes it, counted from when the tests were collected."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        ({"Retry_After": "7"}, 7, 7),
        ({"Retry_After": "0.5"}, 0.5, 0.5),
        ({"Retry_After": "0"}, 0, 0),
        ({"Retry_After": in_seconds(7200)}, 3600, 7200),
        ({"Retry_After": in_seconds(7200).replace("GMT", "-0000")}, 3600, 7200),
        ({"retry_after_ms": "1500"}, 1.5, 1.5),
        ({"retry_after_ms": "1500", "Retry_After": "2"}, 1.5, 1.5),
        ({"retry_after_ms": "soon", "Retry_After": "2"}, 2, 2),
        ({"Retry_After": "86401"}, 86_400, 86_400),
        ({"Retry_After": in_seconds(864_000)}, 86_400, 86_400),
        ({"retry_after_ms": "1e12"}, 86_400, 86_400),
    ],
)
async def test_the_time_to_come_back_is_read_in_every_form(
    headers: dict[str, str], least: float, most: float
) -> None:
    seconds = await told_to_wait(headers)
    assert seconds is not None
    assert least <= seconds <= most


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Retry_After": "-1"},
        {"Retry_After": "nan"},
        {"Retry_After": "inf"},
        {"Retry_After": "later"},
        {"Retry_After": in_seconds(-60)},
        {"Retry_After": "Sun, 99 Nov 2026 00:00:00 GMT"},
        {"retry_after_ms": "-1500"},
    ],
)
async def test_a_senseless_time_to_come_back_is_none(headers: dict[str, str]) -> None:
    assert await told_to_wait(headers) is None


async def told_to_wait(headers: dict[str, str]) -> float | None:
    async with answering(429, **headers) as author:
        with pytest.raises(ModelUnavailable) as unavailable:
            await author.write(Sign.LEO, DAY)
    return unavailable.value.retry_after


@given(said=st.text() | st.integers().map(str) | st.floats().map(str) | st.datetimes().map(format_datetime))
def test_no_header_breaks_the_reading(said: str) -> None:
    seconds = module._retry_after({"retry-after": said, "retry-after-ms": said})
    assert seconds is None or 0 <= seconds <= 86_400
