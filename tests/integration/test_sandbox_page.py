"""The chat page does in a real browser what a messenger does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from ops.sandbox import Sandbox
from ops.sandbox.hooks import Move, ReaderText
from tests.browser import chromium

# One browser for all tests here, so one event loop too.
pytestmark = pytest.mark.asyncio(loop_scope="module")

Scheme = Literal["light", "dark"]
TOKEN = "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr"
SIGNS = ["♈ Овен", "♉ Телец", "♊ Близнецы", "♋ Рак", "♌ Лев", "♍ Дева"]
KEYS = [[{"text": name, "callback_data": name} for name in SIGNS[at : at + 3]] for at in (0, 3)]
GREETING = {
    "ru": "Здравствуйте! Я пишу <b>гороскопы</b> на каждый день. Выберите свой знак или напишите /today.",
    "en": "Hello! I write <b>horoscopes</b> for every day. Choose your sign or write /today.",
}
TEXT = (
    "<b>♌ Лев, 1 марта</b>\n\nЗвёзды советуют вам смотреть на вещи шире: именно в этом сейчас ваша сила. "
    "Близкие ждут от вас <i>решительности</i>: даже короткий звонок многое изменит. В работе лучше всего пойдёт "
    "всё, что связано с переговорами.\n\nСамочувствие будет ровным, если вы дадите глазам отдохнуть от экрана. "
    "1 &lt; 2 &amp; &lt;img src=x onerror=alert(1)&gt;"
)


class Bot:
    """A small bot that polls the emulator, as a stranger's would."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.base = f"{url}/bot{TOKEN}"
        self.http = http

    async def call(self, method: str, **parameters: Any) -> Any:
        async with self.http.post(f"{self.base}/{method}", json=parameters) as response:
            return (await response.json())["result"]

    async def run(self) -> None:
        await self.call(
            "setMyCommands", commands=[{"command": "today", "description": "Гороскоп на сегодня"}]
        )
        await self.call(
            "setMyCommands",
            language_code="en",
            commands=[
                {"command": "today", "description": "Today's horoscope"},
                {"command": "sign", "description": "Change the sign"},
            ],
        )
        await self.call("setMyDescription", description="Гороскоп на сегодня для вашего знака.")
        offset = 0
        while True:
            for update in await self.call("getUpdates", offset=offset, timeout=50):
                offset = update["update_id"] + 1
                await self.handle(update)

    async def handle(self, update: dict[str, Any]) -> None:
        if message := update.get("message"):
            greeting = GREETING[message["from"]["language_code"]]
            await self.call(
                "sendMessage",
                chat_id=message["chat"]["id"],
                text=greeting,
                parse_mode="HTML",
                reply_markup={"inline_keyboard": KEYS},
            )
        elif query := update.get("callback_query"):
            chat_id = query["message"]["chat"]["id"]
            await self.call(
                "answerCallbackQuery", callback_query_id=query["id"], text=f"Ваш знак: {query['data']}"
            )
            await self.call("sendChatAction", chat_id=chat_id, action="typing")
            waiting = await self.call("sendMessage", chat_id=chat_id, text="Генерирую гороскоп…")
            await self.call(
                "editMessageText",
                chat_id=chat_id,
                message_id=waiting["message_id"],
                text=TEXT,
                parse_mode="HTML",
                reply_markup={"inline_keyboard": [[{"text": "Другой знак", "callback_data": "other"}]]},
            )


class ShelfOfTexts:
    """Texts as a service might have them: every reader is a Leo."""

    def __init__(self) -> None:
        self.written = True

    async def of(self, reader_id: int) -> ReaderText | None:
        return ReaderText("leo", "2026-03-01", self.written)

    async def forget(self, reader_id: int) -> ReaderText | None:
        self.written = False
        return await self.of(reader_id)


class Hands:
    """A clock that nothing follows."""

    zone = "Europe/Moscow"

    def __init__(self) -> None:
        self.offset = 0.0

    async def move(self, to: Move) -> None:
        self.offset = {"hour": self.offset + 3600, "day": self.offset + 86_400, "midnight": 5.0, "real": 0.0}[
            to
        ]


@pytest.fixture
def texts() -> ShelfOfTexts:
    return ShelfOfTexts()


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest_asyncio.fixture(loop_scope="module")
async def sandbox(texts: ShelfOfTexts, hands: Hands) -> AsyncIterator[Sandbox]:
    async with Sandbox(texts=texts, clock=hands) as sandbox:
        sandbox.telegram.reader(1001, name="Аня", language="ru")
        yield sandbox


@pytest_asyncio.fixture(loop_scope="module")
async def bot(sandbox: Sandbox) -> AsyncIterator[Bot]:
    async with aiohttp.ClientSession() as http:
        bot = Bot(sandbox.url, http)
        running = asyncio.create_task(bot.run())
        await sandbox.telegram.wait_for_polling()
        yield bot
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
def screen() -> tuple[int, int, Scheme]:
    return 1440, 900, "light"


@pytest_asyncio.fixture(loop_scope="module")
async def page(sandbox: Sandbox, browser: Browser, screen: tuple[int, int, Scheme]) -> AsyncIterator[Page]:
    width, height, scheme = screen
    page = await browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        locale="ru-RU",
        reduced_motion="reduce",
    )
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on(
        "request", lambda asked: problems.append(asked.url) if not _is_own(asked.url, sandbox.url) else None
    )
    await page.goto(sandbox.url)
    yield page
    await page.close()
    # The browser itself reports every request that fails while the sandbox is away.
    assert [problem for problem in problems if "net::ERR" not in problem] == []


def _is_own(url: str, base: str) -> bool:
    return url.startswith((f"{base}/", "data:"))


SIZES = pytest.mark.parametrize(
    "screen", [(1440, 900, "light"), (360, 740, "dark")], ids=["1440 light", "360 dark"]
)


async def no_sideways_scroll(page: Page) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@SIZES
async def test_a_stranger_starts_presses_and_reads(
    sandbox: Sandbox, bot: Bot, page: Page, tmp_path: Path
) -> None:
    reader = sandbox.telegram.readers[1001]
    await expect(page.locator("#status")).to_have_text("на связи")
    await expect(page.locator("#description")).to_have_text("Гороскоп на сегодня для вашего знака.")
    await page.screenshot(path=tmp_path / "1-first.png")

    await page.get_by_role("button", name="Начать /start").click()
    await expect(page.locator("#messages strong")).to_have_text("гороскопы")
    await page.screenshot(path=tmp_path / "2-started.png")

    await page.get_by_role("button", name="♌ Лев").click()
    edited = page.locator(".message").last
    await expect(edited).to_contain_text("<img src=x onerror=alert(1)>")
    await expect(edited).to_contain_text("изменено")
    await expect(page.locator("#toast")).to_have_text("Ваш знак: ♌ Лев")
    await expect(page.locator(".key.waiting")).to_have_count(0)
    assert await page.locator("#messages img").count() == 0
    assert reader.last.texts[0] == "Генерирую гороскоп…"
    await page.screenshot(path=tmp_path / "3-edited.png")

    await page.locator(".words .command").first.click()
    await reader.wait_for(
        lambda messages: messages[-1].text.startswith("Здравствуйте") and len(messages) == 5
    )
    await no_sideways_scroll(page)


@SIZES
async def test_a_file_of_the_bot_is_downloaded_and_the_panel_blocks_the_bot(
    sandbox: Sandbox, bot: Bot, page: Page, tmp_path: Path
) -> None:
    reader = sandbox.telegram.readers[1001]
    await expect(page.locator("#status")).to_have_text("на связи")
    await expect(page.locator("#intro")).to_be_visible()  # the conversation is loaded
    fields = {"chat_id": "1001", "caption": "Ваши данные. Удалить — /forget"}
    form = aiohttp.FormData(fields, quote_fields=False)
    form.add_field("document", b"{}" * 800, filename="данные.json")
    async with bot.http.post(f"{bot.base}/sendDocument", data=form) as response:
        assert response.status == 200
    sent = page.locator(".message").last
    await expect(sent).to_contain_text("данные.json")
    await expect(sent).to_contain_text("1,6 КБ")
    await expect(sent.locator(".command")).to_have_text("/forget")
    await page.screenshot(path=tmp_path / "file.png")
    async with page.expect_download() as downloading:
        await sent.locator(".file").click()
    download = await downloading.value
    assert download.suggested_filename == "данные.json"
    read = Path(await download.path()).read_bytes
    assert await asyncio.to_thread(read) == b"{}" * 800

    await page.get_by_role("button", name="Панель").click()
    block = page.locator("#block-reader")
    await block.click()
    await expect(block).to_have_text("Разблокировать бота")
    assert reader.blocked
    await page.screenshot(path=tmp_path / "blocked.png")
    await block.click()
    await expect(block).to_have_text("Заблокировать бота")
    await no_sideways_scroll(page)


@SIZES
async def test_a_second_reader_with_another_language(
    sandbox: Sandbox, bot: Bot, page: Page, tmp_path: Path
) -> None:
    narrow = await page.locator("#back").is_visible()
    if narrow:
        await page.locator("#back").click()
        await page.screenshot(path=tmp_path / "4-list.png")
    await page.locator("#language").click()
    await expect(page.locator("#list-title")).to_have_text("Readers")
    await page.get_by_role("button", name="Add a reader").click()
    await page.get_by_label("Name").fill("Clara")
    await page.get_by_label("English", exact=True).check()
    await page.screenshot(path=tmp_path / "5-add.png")
    await page.get_by_role("button", name="Add", exact=True).click()

    await expect(page.locator("#start")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".message").last).to_contain_text("Hello! I write horoscopes")

    await page.locator("#text").press_sequentially("/")
    await expect(page.get_by_role("option")).to_have_count(2)
    await page.screenshot(path=tmp_path / "6-commands.png")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message.mine").last).to_contain_text("/sign")

    await sandbox.telegram.readers[1001].say("/start")
    if narrow:
        await page.locator("#back").click()
    await expect(page.locator(".reader", has_text="Аня").locator(".unread")).to_have_text("1")
    await page.screenshot(path=tmp_path / "7-unread.png")
    await no_sideways_scroll(page)


@SIZES
async def test_the_panel_breaks_and_mends(sandbox: Sandbox, bot: Bot, page: Page, tmp_path: Path) -> None:
    await page.get_by_role("button", name="Панель").click()
    await page.get_by_role("tab", name="Сбои").click()
    await page.get_by_label("Сколько раз").select_option("1")
    await page.get_by_role("switch", name="Слишком много запросов").first.check()
    await expect(page.locator("#fault-badge")).to_have_text("1")
    (fault,) = sandbox.telegram.faults
    assert (fault.kind, fault.times, fault.details) == ("429", 1, {"retry_after": 3})

    await page.get_by_label("Для знака").select_option("leo")
    await page.get_by_role("switch", name="Отказ").check()
    await expect(page.locator("#fault-badge")).to_have_text("2")
    (refusal,) = sandbox.model.faults
    assert (refusal.kind, refusal.where) == ("refusal", {"sign": "leo"})
    await page.locator("#model-latency").fill("5")
    await expect(page.locator("#model-latency-value")).to_have_text("5 с")
    await page.screenshot(path=tmp_path / "8-panel.png")
    await no_sideways_scroll(page)

    await page.get_by_role("button", name="Выключить все").click()
    await expect(page.locator("#fault-badge")).to_be_hidden()
    assert len(sandbox.telegram.faults) == len(sandbox.model.faults) == 0
    assert sandbox.model.latency == 5
    await page.keyboard.press("Escape")
    await expect(page.locator("#panel")).to_be_hidden()


@SIZES
async def test_a_fault_that_cannot_bite_is_explained_until_the_text_is_forgotten(
    sandbox: Sandbox, texts: ShelfOfTexts, bot: Bot, page: Page, tmp_path: Path
) -> None:
    await page.get_by_role("button", name="Панель").click()
    await expect(page.locator("#text-state")).to_have_text("Лев, 1 марта: текст написан.")
    await page.get_by_role("tab", name="Сбои").click()
    hint = page.get_by_text("Текст уже написан, поэтому нейросеть не спрашивают")
    await expect(hint).to_be_hidden()

    await page.get_by_label("Для знака").select_option("virgo")
    await page.get_by_role("switch", name="Отказ").check()
    await expect(page.locator("#fault-badge")).to_have_text("1")
    await expect(hint).to_be_hidden()
    await page.get_by_role("button", name="Выключить все").click()
    await page.get_by_label("Для знака").select_option("leo")
    await page.get_by_role("switch", name="Отказ").check()
    await expect(hint).to_be_visible()
    await hint.scroll_into_view_if_needed()
    await page.screenshot(path=tmp_path / "9-hint.png")
    await no_sideways_scroll(page)

    await page.locator("#forget-here").click()
    await expect(hint).to_be_hidden()
    assert not texts.written
    await page.get_by_role("tab", name="Демо").click()
    await expect(page.locator("#text-state")).to_contain_text("Лев, 1 марта: текста нет.")
    await expect(page.locator("#forget")).to_be_disabled()
    texts.written = True
    await sandbox.telegram.readers[1001].say("/start")
    await expect(page.locator("#text-state")).to_have_text("Лев, 1 марта: текст написан.")
    await page.locator("#forget").click()
    await expect(page.locator("#text-state")).to_contain_text("текста нет")


@SIZES
async def test_the_clock_is_moved_and_put_back(
    sandbox: Sandbox, hands: Hands, bot: Bot, page: Page, tmp_path: Path
) -> None:
    await page.get_by_role("button", name="Начать /start").click()
    await expect(page.locator(".day").first).to_have_text("Сегодня")
    await page.get_by_role("button", name="Панель").click()
    await expect(page.locator("#clock-offset")).to_have_text("настоящее время")

    await page.get_by_role("button", name="+1 час").click()
    await expect(page.locator("#clock-offset")).to_have_text("впереди на 1:00")
    await page.get_by_role("button", name="+1 день").click()
    await expect(page.locator("#clock-offset")).to_have_text("впереди на 1 д 1:00")
    await expect(page.locator(".day").first).not_to_have_text("Сегодня")
    await page.screenshot(path=tmp_path / "10-clock.png")
    await no_sideways_scroll(page)
    await page.get_by_role("button", name="К полуночи").click()
    await expect(page.locator("#clock-offset")).to_have_text("впереди на 0:00")
    await page.get_by_role("button", name="Настоящее время").press("Enter")
    await expect(page.locator("#clock-offset")).to_have_text("настоящее время")
    assert hands.offset == 0


@SIZES
async def test_the_journal_shows_every_call_with_its_answer(
    sandbox: Sandbox, bot: Bot, page: Page, tmp_path: Path
) -> None:
    await page.get_by_role("button", name="Панель").click()
    await page.get_by_role("tab", name="Журнал").click()
    calls = page.locator("#calls > li")
    await expect(calls).to_have_count(3)  # the bot's commands and description
    sandbox.telegram.reader(1002, name="Борис")
    await bot.call("sendMessage", chat_id=1001, text="<b>Раз</b>", parse_mode="HTML")
    sandbox.telegram.faults.add("429", method="sendMessage", times=1, retry_after=3)
    for method, body in (
        ("sendMessage", {"chat_id": 1002, "text": "Два"}),
        ("setWebhook", {"url": "ftp://x", "secret_token": "a-secret-of-the-webhook"}),
    ):
        async with bot.http.post(f"{bot.base}/{method}", json=body) as response:
            assert response.status in {400, 429}

    await expect(calls).to_have_count(6)
    shown = [" ".join((await call.inner_text()).split()) for call in (await calls.all())[:3]]
    for words, expected in zip(
        shown, ("setWebhook 400", "sendMessage 429 Борис", "sendMessage ok Аня"), strict=True
    ):
        assert expected in words
    await calls.nth(1).locator("summary").press("Enter")
    await expect(calls.nth(1)).to_contain_text('"retry_after": 3')
    await expect(calls.nth(1)).to_contain_text('"text": "Два"')
    await page.screenshot(path=tmp_path / "11-journal.png")
    await no_sideways_scroll(page)

    await page.locator("#journal-reader").select_option("Аня")
    await expect(calls).to_have_count(1)
    query = sandbox.telegram.new_callback_query(sandbox.telegram.readers[1001])
    await bot.call("answerCallbackQuery", callback_query_id=query["id"])
    await expect(calls.first).to_contain_text("answerCallbackQuery")
    await bot.call("sendChatAction", chat_id=1002, action="typing")
    await bot.call("sendChatAction", chat_id=1001, action="typing")
    await expect(calls).to_have_count(3)
    await expect(calls.first).to_contain_text("sendChatAction")
    await page.locator("#journal-reader").select_option("")
    await page.get_by_label("показывать getUpdates").check()
    await expect(calls.filter(has_text="getUpdates").first).to_be_visible()
    everything = await page.content()
    assert TOKEN not in everything
    assert "a-secret-of-the-webhook" not in everything


@SIZES
async def test_a_reader_is_deleted_for_good(
    sandbox: Sandbox, bot: Bot, page: Page, screen: tuple[int, int, Scheme]
) -> None:
    await page.get_by_role("button", name="Панель").click()
    await page.get_by_role("button", name="Удалить читателя").click()
    await page.get_by_role("button", name="Отмена").click()
    assert 1001 in sandbox.telegram.readers
    await page.get_by_role("button", name="Удалить читателя").click()
    await page.get_by_role("alertdialog").get_by_role("button", name="Удалить").click()

    await expect(page.locator("#notice")).to_have_text("Добавьте читателя, чтобы начать разговор.")
    await expect(page.locator("#composer")).to_be_hidden()
    assert sandbox.telegram.readers == {}
    async with bot.http.post(f"{bot.base}/sendMessage", json={"chat_id": 1001, "text": "Раз"}) as response:
        assert (await response.json())["description"] == "Forbidden: user is deactivated"

    await page.get_by_role("button", name="Закрыть").click()
    if screen[0] < 760:
        await page.locator("#back").click()
    await page.get_by_role("button", name="Добавить читателя").click()
    await page.get_by_role("button", name="Добавить", exact=True).click()
    await page.get_by_role("button", name="Начать /start").click()
    await expect(page.locator(".message").last).to_contain_text("Здравствуйте")
    assert list(sandbox.telegram.readers) == [1002]


@SIZES
async def test_reset_begins_anew(
    sandbox: Sandbox, hands: Hands, bot: Bot, page: Page, tmp_path: Path
) -> None:
    sandbox.telegram.faults.add("403", chat_id=7)
    sandbox.telegram.latency["*"] = 0.01
    sandbox.model.faults.add("500")
    sandbox.model.latency = 9
    hands.offset = 3600
    await page.get_by_role("button", name="Начать /start").click()
    await expect(page.locator(".message").last).to_contain_text("Здравствуйте")
    await page.get_by_role("button", name="Панель").click()
    await page.get_by_role("button", name="Начать сначала").click()
    await page.screenshot(path=tmp_path / "12-reset.png")
    await page.keyboard.press("Escape")
    assert (list(sandbox.telegram.readers), len(sandbox.model.faults)) == ([1001], 1)

    await page.get_by_role("button", name="Начать сначала").click()
    await page.get_by_role("alertdialog").get_by_role("button", name="Начать сначала").click()

    await expect(page.locator("#fault-badge")).to_be_hidden()
    await expect(page.locator(".message")).to_have_count(0)
    assert [(reader.id, reader.name) for reader in sandbox.telegram.readers.values()] == [(1002, "Аня")]
    assert len(sandbox.telegram.faults) == len(sandbox.model.faults) == 0
    assert (sandbox.telegram.latency, sandbox.model.latency, hands.offset) == ({}, 0, 0)
    await page.get_by_role("tab", name="Журнал").click()
    await expect(page.locator("#calls > li")).to_have_count(0)


async def test_a_page_that_leaves_during_a_reset_finds_a_reader_when_it_is_back(
    sandbox: Sandbox, hands: Hands, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = asyncio.Event()

    async def move(_: Move) -> None:
        moving.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(hands, "move", move)
    body = {"name": "Аня", "language": "ru"}
    reset = asyncio.create_task(bot.http.post(f"{sandbox.url}/sandbox/reset", json=body).__aenter__())
    await moving.wait()
    reset.cancel()
    assert [reader.name for reader in sandbox.telegram.readers.values()] == ["Аня"]


async def test_a_sandbox_on_its_own_says_what_it_lacks(browser: Browser) -> None:
    async with Sandbox(clock="library") as sandbox:
        sandbox.telegram.reader(1001, name="Anna", language="en")
        page = await browser.new_page(locale="en-GB")
        await page.goto(sandbox.url)
        await page.get_by_role("button", name="Panel").click()
        await expect(page.locator("#text-state")).to_contain_text("Available under `make up`")
        await expect(page.locator("#clock-missing")).to_contain_text("apt-get install libfaketime")
        await expect(page.get_by_role("button", name="+1 day")).to_be_hidden()
        await page.close()


async def test_the_tabs_are_reached_by_the_arrow_keys(page: Page) -> None:
    await page.get_by_role("button", name="Панель").click()
    await page.get_by_role("tab", name="Демо").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.get_by_role("tab", name="Сбои")).to_be_focused()
    await expect(page.locator("#part-faults")).to_be_visible()
    await page.keyboard.press("ArrowLeft")
    await page.keyboard.press("ArrowLeft")
    await expect(page.locator("#part-journal")).to_be_visible()
    await expect(page.locator("#part-demo")).to_be_hidden()


@pytest.mark.parametrize(("locale", "chosen"), [("ru-RU", "Русский"), ("en-GB", "English")])
async def test_a_new_reader_speaks_the_page_s_language(
    sandbox: Sandbox, browser: Browser, locale: str, chosen: str
) -> None:
    page = await browser.new_page(locale=locale)
    await page.goto(sandbox.url)
    await page.locator("#add").click()
    await expect(page.get_by_label(chosen, exact=True)).to_be_checked()
    await page.locator("#add-form .primary").click()
    await expect(page.locator("#start")).to_be_focused()
    assert sandbox.telegram.readers[1002].language == locale[:2]
    await page.close()


async def test_a_reader_blocks_the_bot_and_forgives(sandbox: Sandbox, bot: Bot, page: Page) -> None:
    await page.get_by_role("button", name="Заблокировать бота").click()
    await expect(page.locator("#composer")).to_be_hidden()
    assert sandbox.telegram.readers[1001].blocked
    await page.locator("#unblock").click()
    await expect(page.locator("#composer")).to_be_visible()
    assert not sandbox.telegram.readers[1001].blocked


async def test_what_is_hidden_typed_and_alerted_is_shown_so(sandbox: Sandbox, page: Page) -> None:
    async with aiohttp.ClientSession() as http:
        bot = Bot(sandbox.url, http)
        await bot.call("sendMessage", chat_id=1001, text="<tg-spoiler>Тайна</tg-spoiler>", parse_mode="HTML")
        await expect(page.locator(".spoiler")).to_have_text("Тайна")
        await bot.call("sendChatAction", chat_id=1001, action="typing")
        await expect(page.locator("#status")).to_have_text("печатает")
        await bot.call("sendMessage", chat_id=1001, text="Да?", reply_markup={"inline_keyboard": KEYS})
        await expect(page.locator("#status")).not_to_have_text("печатает")
        await page.get_by_role("button", name="♌ Лев").click()
        (update,) = await bot.call("getUpdates", timeout=10)
        await expect(page.locator(".key.waiting")).to_have_text("♌ Лев")
        await bot.call(
            "answerCallbackQuery",
            callback_query_id=update["callback_query"]["id"],
            text="Важно!",
            show_alert=True,
        )
    await expect(page.get_by_role("alertdialog")).to_contain_text("Важно!")
    await expect(page.locator(".key.waiting")).to_have_count(0)


async def test_the_page_survives_an_outage(sandbox: Sandbox, page: Page) -> None:
    await expect(page.locator("#status")).to_have_text("бот не запущен")
    await sandbox.stop()
    await expect(page.locator("#notice")).to_be_visible()

    await sandbox.start()

    await expect(page.locator("#notice")).to_be_hidden()
    await page.get_by_role("button", name="Начать /start").click()
    await expect(page.locator(".message.mine")).to_contain_text("/start")
