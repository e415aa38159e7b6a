"""The text server behaves as OpenAI does, over real HTTP, and writes texts worth reading."""

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from datetime import date, timedelta
from importlib.resources import files
from typing import Any

import aiohttp
import openai
import pytest

from ops.sandbox import Sandbox
from ops.sandbox.model.prompts import Prompt
from ops.sandbox.model.texts import LONGEST, SHORTEST, compose
from schema.signs import Language, Sign
from services.horoscopes.rules import Neighbour, check

DAYS = [str(date(2026, 3, 1) + timedelta(days=number)) for number in range(7)]
RUSSIAN = dict(
    zip(
        (
            "aries",
            "taurus",
            "gemini",
            "cancer",
            "leo",
            "virgo",
            "libra",
            "scorpio",
            "sagittarius",
            "capricorn",
            "aquarius",
            "pisces",
        ),
        (
            "Овен",
            "Тельца",
            "Близнецам",
            "Рак",
            "Льва",
            "Деве",
            "весы",
            "Скорпионом",
            "стрельцов",
            "Козерога",
            "Водолеем",
            "Рыб",
        ),
        strict=True,
    )
)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{sandbox.url}/v1", api_key="sandbox", max_retries=0, timeout=5
    ) as client:
        yield client


async def ask(client: openai.AsyncOpenAI, prompt: str, **options: Any) -> str:
    completion = await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[
            {"role": "system", "content": "Ты — опытный астролог. Пиши без разметки."},
            {"role": "user", "content": prompt},
        ],
        **options,
    )
    return completion.choices[0].message.content or ""


async def test_the_texts_of_a_week_are_all_different_and_of_good_length(
    sandbox: Sandbox, client: openai.AsyncOpenAI
) -> None:
    texts = await asyncio.gather(
        *(ask(client, f"Гороскоп: {name}, {day}") for name in RUSSIAN.values() for day in DAYS)
    )

    assert len(set(texts)) == 12 * 7
    assert {(call.sign, call.day) for call in sandbox.model.calls} == set(itertools.product(RUSSIAN, DAYS))
    for text in texts:
        assert 450 <= len(text) <= 900
        assert not re.search(r"[A-Za-z<>{}*_#]|не могу|\bИИ\b", text)
        assert re.search(r"(?i)\b(вы|вам|вас|ваш\w*|\w+(?:ите|йте))\b", text)
    # Different in substance, not in the name only: no sentence comes twice among the signs of a day.
    for texts_of_a_day in (texts[number::7] for number in range(7)):
        sentences = [sentence for text in texts_of_a_day for sentence in re.split(r"(?<=\.)\s+", text)]
        assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize("language", ["ru", "en"])
def test_every_text_of_two_years_is_within_the_lengths_and_unlike_its_sign_s_text_of_the_day_before(
    language: str,
) -> None:
    before: dict[str, set[str]] = {}
    for number in range(731):
        day = str(date(2026, 1, 1) + timedelta(days=number))
        for sign in RUSSIAN:
            text = compose(Prompt(sign, day, language))
            sentences = set(re.split(r"(?<=\.)\s+", text))
            assert SHORTEST <= len(text) <= LONGEST
            assert "{" not in text
            assert not sentences & before.get(sign, set())
            before[sign] = sentences


@pytest.mark.parametrize("language", list(Language))
def test_no_later_attempt_is_too_like_a_text_beside_it(language: Language) -> None:
    day = date(2026, 3, 1)
    around = [
        Neighbour(sign, other, compose(Prompt(sign, str(other), language)))
        for sign in Sign
        for other in (day - timedelta(days=1), day, day + timedelta(days=1))
    ]
    for attempt, messages in itertools.product(range(1, 7), (2, 4)):
        if (attempt, messages) == (1, 2):
            continue
        for sign in Sign:
            text = compose(Prompt(sign, str(day), language, messages), attempt)
            check(text, language, [each for each in around if each.day == day or each.sign is sign])


async def test_a_text_depends_on_sign_day_and_attempt_only(client: openai.AsyncOpenAI) -> None:
    async with Sandbox() as other, client.with_options(base_url=f"{other.url}/v1") as twin:
        first = [await ask(client, "Лев, 2026-03-01") for _ in range(3)]
        second = [await ask(twin, "Напиши на 2026-03-01 для знака ♌") for _ in range(3)]

    assert first == second
    assert len(set(first)) == 3


@pytest.mark.parametrize(
    ("prompt", "sign", "day", "language"),
    [
        ("Write a horoscope for Leo, 2026-03-01, in English.", "leo", "2026-03-01", "en"),
        ("Horoscope for Pisces", "pisces", None, "en"),
        ("Horoscope for Aries on 2026-12-31. Write in Russian.", "aries", "2026-12-31", "ru"),
        ("Гороскоп на английском для Девы", "virgo", None, "en"),
        ("Как дела? Девять, парк, всё левее", None, None, "ru"),
    ],
)
async def test_sign_day_and_language_are_found_in_the_prompt(
    sandbox: Sandbox,
    client: openai.AsyncOpenAI,
    prompt: str,
    sign: str | None,
    day: str | None,
    language: str,
) -> None:
    await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": prompt}])

    call = sandbox.model.calls[-1]
    assert (call.sign, call.day, call.language, call.outcome) == (sign, day, language, "ok")
    assert bool(re.search("[а-яё]", call.text)) is (language == "ru")


async def test_the_answer_has_all_that_clients_read(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model="any-model", messages=[{"role": "user", "content": "Лев"}], temperature=0.9, max_tokens=1000
    )

    assert completion.model == "any-model"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage
    assert (
        completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    assert 100 < completion.usage.completion_tokens < 400
    assert "gpt-4o-mini" in [model.id async for model in client.models.list()]


async def test_too_few_tokens_cut_the_text(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "Лев"}], max_completion_tokens=20
    )

    assert completion.choices[0].finish_reason == "length"
    assert len(completion.choices[0].message.content or "") == 70


async def test_json_is_written_when_asked_for(client: openai.AsyncOpenAI) -> None:
    text = await ask(client, "Лев", response_format={"type": "json_object"})

    assert text.startswith('{"text": "')


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b"{", None, None),
        (b"[]", None, None),
        (b'{"messages": [{"role": "user", "content": "x"}]}', None, None),
        (b'{"model": "m"}', "messages", "missing_required_parameter"),
        (b'{"model": "m", "messages": []}', "messages", "empty_array"),
        (
            b'{"model": "m", "messages": [{"role": "poet", "content": "x"}]}',
            "messages[0].role",
            "invalid_value",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": 3}',
            "temperature",
            "invalid_value",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
            "max_tokens",
            "integer_below_min_value",
        ),
        (b'{"model": "m", "messages": [7]}', "messages[0]", "invalid_value"),
        (b'{"model": "m", "messages": [{"content": "x"}]}', "messages[0].role", "invalid_value"),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}, {"role": "user"}]}',
            "messages[1].content",
            "missing_required_parameter",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": 7}]}',
            "messages[0].content",
            "invalid_value",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "max_tokens": "7"}',
            "max_tokens",
            "invalid_value",
        ),
        (
            b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": true}',
            "stream",
            "invalid_value",
        ),
    ],
)
async def test_bad_requests_are_refused_in_the_shape_of_openai(
    sandbox: Sandbox, body: bytes, param: str | None, code: str | None
) -> None:
    headers = {"Authorization": "Bearer sandbox"}
    request = aiohttp.request("POST", f"{sandbox.url}/v1/chat/completions", data=body, headers=headers)
    async with request as response:
        error = (await response.json())["error"]

    assert response.status == 400
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["message"]


async def test_a_key_is_demanded(sandbox: Sandbox) -> None:
    async with aiohttp.request("POST", f"{sandbox.url}/v1/chat/completions", json={}) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("500", openai.InternalServerError),
        ("503", openai.InternalServerError),
        ("429", openai.RateLimitError),
        ("401", openai.AuthenticationError),
        ("400", openai.BadRequestError),
        ("404", openai.NotFoundError),
        ("disconnect", openai.APIConnectionError),
    ],
)
async def test_faults_are_the_errors_of_the_real_client(
    sandbox: Sandbox, client: openai.AsyncOpenAI, kind: str, error: type[Exception]
) -> None:
    sandbox.model.faults.add(kind, times=1, retry_after=9)

    with pytest.raises(error) as raised:
        await ask(client, "Лев")

    assert await ask(client, "Лев")
    assert [call.outcome for call in sandbox.model.calls] == [kind, "ok"]
    if isinstance(raised.value, openai.RateLimitError):
        assert raised.value.response.headers["retry-after"] == "9"
        assert raised.value.code == "rate_limit_exceeded"


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("empty", r""),
        ("refusal", r"Извините, но я не могу.*"),
        ("english", r"[^а-яё]{450,}"),
        ("too_long", r"(?s).{5000,}"),
        ("short", r".{1,20}"),
        ("html", r"(?s).*&.*<script>.*"),
    ],
)
async def test_bad_texts_are_bad_in_the_way_asked_for(
    sandbox: Sandbox, client: openai.AsyncOpenAI, kind: str, pattern: str
) -> None:
    sandbox.model.faults.add(kind)

    assert re.fullmatch(pattern, await ask(client, "Лев, 2026-03-01"))


async def test_one_text_for_all_is_the_same_for_all(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    sandbox.model.faults.add("same", times=2)

    assert await ask(client, "Лев") == await ask(client, "Дева") != await ask(client, "Лев")


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Дева, 2026-03-01", "Лев, 2026-03-01"),
        ("Лев, 2026-02-28", "Лев, 2026-03-01"),
        (None, "Лев, 2026-03-01"),
    ],
)
async def test_an_alike_text_differs_from_a_neighbour_in_a_few_words(
    sandbox: Sandbox, client: openai.AsyncOpenAI, written: str | None, asked: str
) -> None:
    before = await ask(client, written or "Дева, 2026-03-01")
    if written is None:
        sandbox.model.calls.clear()
    await ask(client, "Дева, 2026-02-01")  # no neighbour: another sign on another day
    sandbox.model.faults.add("alike")
    alike = await ask(client, asked)

    ours, theirs = alike.split(), before.split()
    assert len(ours) == len(theirs)
    assert 1 <= sum(one != other for one, other in zip(ours, theirs, strict=True)) <= 6


async def test_a_text_that_is_cut_says_so(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    sandbox.model.faults.add("cut", times=1)
    asked: Any = [{"role": "user", "content": "Лев"}]
    cut, whole = [await client.chat.completions.create(model="m", messages=asked) for _ in range(2)]

    assert cut.choices[0].finish_reason == "length"
    assert not re.search(r"[.!]$", cut.choices[0].message.content or ".")
    assert whole.choices[0].finish_reason == "stop"


async def test_a_repair_is_told_apart_and_brings_another_text(
    sandbox: Sandbox, client: openai.AsyncOpenAI
) -> None:
    async def first_text(url: str, *more: str) -> str:
        asked: Any = [{"role": "system", "content": "Пиши."}, {"role": "user", "content": "Лев, 2026-03-01"}]
        asked += [{"role": "user", "content": each} for each in more]
        twin = client.with_options(base_url=f"{url}/v1")
        completion = await twin.chat.completions.create(model="m", messages=asked)
        return completion.choices[0].message.content or ""

    texts = [await first_text(sandbox.url)]
    async with Sandbox() as other:  # it has not been asked before
        texts.append(await first_text(other.url, "Ещё раз."))
        assert [call.as_json()["repair"] for call in other.model.calls] == [True]
    async with Sandbox() as third:
        texts.append(await first_text(third.url, "Ещё раз.", "И ещё."))
    assert len(set(texts)) == 3
    assert [call.as_json()["repair"] for call in sandbox.model.calls] == [False]


async def test_the_page_has_words_for_every_fault(sandbox: Sandbox) -> None:
    script = (files("ops.sandbox.page") / "words.js").read_text("utf-8")
    for kind in sandbox.model.faults.KINDS:
        assert len(re.findall(rf"\bm{kind}: \[", script)) == 2, kind
        assert f"`{kind}`" in (type(sandbox.model.faults).__doc__ or "")


async def test_garbage_is_no_json(sandbox: Sandbox) -> None:
    sandbox.model.faults.add("garbage")
    body = {"model": "m", "messages": [{"role": "user", "content": "Лев"}]}

    headers = {"Authorization": "Bearer sandbox"}
    request = aiohttp.request("POST", f"{sandbox.url}/v1/chat/completions", json=body, headers=headers)
    async with request as response:
        assert response.status == 200
        assert not (await response.text()).startswith("{")


async def test_a_fault_may_concern_one_sign_only(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    sandbox.model.faults.add("500", sign="leo")

    assert await ask(client, "Дева")
    with pytest.raises(openai.InternalServerError):
        await ask(client, "Лев")
    sandbox.model.faults.clear()
    assert await ask(client, "Лев")


async def test_what_is_in_flight_is_counted(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    fault = sandbox.model.faults.add("hang")
    prompts = ["Лев 2026-03-01", "Лев 2026-03-01", "Дева 2026-03-01"]
    asked = [asyncio.create_task(ask(client, prompt)) for prompt in prompts]

    await sandbox.model.wait_for_calls(3)
    assert sandbox.model.in_flight == 3
    assert len(await sandbox.model.wait_for_calls(2, sign="leo")) == 2
    sandbox.model.faults.remove(fault.id)

    assert all(
        isinstance(error, openai.APIConnectionError)
        for error in await asyncio.gather(*asked, return_exceptions=True)
    )
    assert sandbox.model.in_flight == 0
    assert sandbox.model.max_in_flight == 3
    assert sandbox.model.max_in_flight_of["leo", "2026-03-01"] == 2
    assert sandbox.model.max_in_flight_of["virgo", "2026-03-01"] == 1


async def test_a_client_that_leaves_is_noticed(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    sandbox.model.latency = 60
    asked = asyncio.create_task(ask(client, "Лев"))
    (call,) = await sandbox.model.wait_for_calls()

    asked.cancel()
    await sandbox.model.wait_until_idle()

    assert call.outcome == "gone"
    assert call.finished


async def test_the_control_api_changes_the_model(sandbox: Sandbox, client: openai.AsyncOpenAI) -> None:
    base = f"{sandbox.url}/sandbox/model"
    async with aiohttp.ClientSession() as http:
        async with http.post(base, json={"latency": 0.01}) as response:
            assert (await response.json())["latency"] == 0.01
        async with http.post(f"{base}/faults", json={"kind": "500", "sign": "leo", "times": 1}) as response:
            assert response.status == 201
        with pytest.raises(openai.InternalServerError):
            await ask(client, "Лев")
        async with http.get(base) as response:
            state = await response.json()
        async with http.get(f"{base}/calls") as response:
            (call,) = await response.json()

    assert (state["outcomes"], state["faults"]) == ({"500": 1}, [])
    assert (call["sign"], call["outcome"]) == ("leo", "500")
