"""The sandbox as a whole: its state file, its process, its control API."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ops.sandbox import Sandbox
from tests.waiting import DEADLINE_S

TOKEN = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"
ROOT = Path(__file__).parents[2]
KEYS = {"inline_keyboard": [[{"text": "♌ Лев", "callback_data": "sign:leo"}]]}

Api = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def api(sandbox: Sandbox) -> Api:
    async def call(method: str, **parameters: Any) -> dict[str, Any]:
        url = f"{sandbox.url}/bot{TOKEN}/{method}"
        async with aiohttp.request("POST", url, json=parameters) as response:
            return dict(await response.json())

    return call


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_the_state_outlives_the_sandbox(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    path = tmp_path / "state.json"
    async with Sandbox(state=path) as sandbox:
        anya = sandbox.telegram.reader(1, name="Аня", language="en")
        update_id = await anya.say("/start")
        parameters = {"chat_id": 1, "text": "<b>Привет</b>", "parse_mode": "HTML", "reply_markup": KEYS}
        async with http.post(f"{sandbox.url}/bot{TOKEN}/sendMessage", json=parameters) as response:
            sent = (await response.json())["result"]
        form = aiohttp.FormData({"chat_id": "1"})
        form.add_field("document", b"\x00data", filename="data.json")
        async with http.post(f"{sandbox.url}/bot{TOKEN}/sendDocument", data=form) as response:
            assert response.status == 200
        await anya.block()

    async with Sandbox(state=path) as sandbox:
        anya = sandbox.telegram.readers[1]

        assert (anya.name, anya.language, anya.blocked) == ("Аня", "en", True)
        assert [message.text for message in anya.messages] == ["/start", "Привет", ""]
        assert anya.messages[1].buttons == ["♌ Лев"]
        assert anya.file(anya.last).data == b"\x00data"
        assert next(iter(sandbox.telegram.updates.pending)) == update_id
        await anya.unblock()
        assert await anya.say("ещё") > update_id
        assert anya.last.message_id > sent["message_id"]


async def test_the_id_of_a_deleted_reader_is_never_given_out_again(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    async with Sandbox(state=path) as sandbox:
        first, second = sandbox.telegram.add_reader("Аня"), sandbox.telegram.add_reader("Борис")
        await second.say("/start")
        sandbox.telegram.delete_reader(second)
        assert not sandbox.telegram.updates.pending

    async with Sandbox(state=path) as sandbox:
        assert list(sandbox.telegram.readers) == [first.id]
        assert sandbox.telegram.add_reader("Вера").id == second.id + 1
        sandbox.telegram.reset()
        assert sandbox.telegram.add_reader("Глеб").id == second.id + 2


async def test_an_unreadable_state_is_put_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "state.json"
    path.write_text('{"readers": [{"id": 1}]}')

    async with Sandbox(state=path) as sandbox:
        assert sandbox.telegram.readers == {}

    assert "unreadable" in capsys.readouterr().out
    assert (tmp_path / "state.json.unreadable").exists()


async def test_the_process_says_where_it_listens_and_keeps_its_state(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    command = (sys.executable, "-m", "ops.sandbox", "--port", "0", "--state", str(tmp_path / "state.json"))
    readers = []
    for name in ("Борис", "Вера"):
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
        assert process.stdout
        async with asyncio.timeout(DEADLINE_S):
            line = (await process.stdout.readline()).decode()
            url = line.split("chat at ")[1].split("/,")[0]
            async with http.post(f"{url}/sandbox/readers", json={"name": name}) as response:
                assert response.status == 201
            async with http.get(f"{url}/sandbox/state") as response:
                readers.append([reader["name"] for reader in (await response.json())["readers"]])
            process.terminate()
            assert await process.wait() == 0

    assert readers == [["Аня", "Борис"], ["Аня", "Борис", "Вера"]]


async def test_the_sandbox_can_go_away_and_come_back(sandbox: Sandbox, api: Api) -> None:
    url = sandbox.url
    await sandbox.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await api("getMe")

    await sandbox.start()

    assert sandbox.url == url
    assert (await api("getMe"))["ok"]


async def test_the_control_api_does_what_a_test_in_another_process_needs(
    sandbox: Sandbox, api: Api, http: aiohttp.ClientSession
) -> None:
    base = f"{sandbox.url}/sandbox"
    async with http.post(f"{base}/readers", json={"name": "Боря", "language": "en"}) as response:
        boris = await response.json()
    async with http.post(f"{base}/readers/{boris['id']}/say", json={"text": "/start"}) as response:
        assert (await response.json())["update_id"]
    await api("sendMessage", chat_id=boris["id"], text="Выберите", reply_markup=KEYS)
    async with http.post(f"{base}/readers/{boris['id']}/press", json={"button": "♌ Лев"}) as response:
        assert (await response.json())["callback_query_id"]
    async with http.post(f"{base}/readers/{boris['id']}/press", json={"button": "Дева"}) as response:
        assert response.status == 409
    async with http.post(f"{base}/faults", json={"kind": "403", "times": 1}) as response:
        fault = await response.json()
    async with http.post(f"{base}/faults", json={"kind": "unheard of"}) as response:
        assert response.status == 400
    async with http.delete(f"{base}/faults/{fault['id']}") as response:
        assert response.status == 200
    async with http.get(f"{base}/readers/{boris['id']}/messages") as response:
        assert [message["text"] for message in await response.json()] == ["/start", "Выберите"]
    async with http.get(f"{base}/calls", params={"method": "sendMessage"}) as response:
        assert len(await response.json()) == 1
    async with http.post(f"{base}/faults", data={"kind": "403"}) as response:
        assert response.status == 415
