"""Floods, limited chats and waits that cannot end: what one reader does or suffers delays nobody else."""

import pytest

from ops.sandbox.telegram.world import Reader
from ops.stack.ports import free_port
from schema.messages import DEAD_LETTERS, VIEWS
from schema.signs import Language, Sign
from services.readers.strings import STRINGS
from tests.acceptance.conftest import AGAIN, FAILED, GENERATING, heading, reader_of
from tests.faults.conftest import SOON, WORK, Scene
from tests.proxy import Cable
from tests.telling import measure
from tests.waiting import until_sql, until_views

SLOW_DOWN = STRINGS[Language.RU].slow_down
#: No token comes back while a test runs.
BURST = 4
STILL = {"services.bot.admission:BURST": BURST, "services.bot.admission:REFILL_S": 3600.0}


def hook(mode: str) -> dict[str, str]:
    """The settings of a bot in this mode, with metrics."""
    settings = {"METRICS_LISTEN": f"127.0.0.1:{free_port()}"}
    if mode == "webhook":
        port = free_port()
        settings |= {
            "WEBHOOK_URL": f"http://127.0.0.1:{port}/hook",
            "WEBHOOK_SECRET": "a-long-secret_of-the-webhook",
        }
        settings |= {"WEBHOOK_LISTEN": f"127.0.0.1:{port}"}
    return settings


async def readers_of(scene: Scene, first: int, count: int, sign: Sign = Sign.VIRGO) -> list[Reader]:
    """Readers whose text exists, unless their sign is Leo."""
    return [await reader_of(scene.sql, scene.sandbox, first + number, sign) for number in range(count)]


def texts(reader: Reader) -> int:
    return sum(heading("Дева") in message.text for message in reader.received)


@pytest.mark.parametrize("mode", ["polling", "webhook"])
async def test_a_flood_of_one_reader_delays_nobody_and_counts_only_the_texts_that_were_shown(
    scene: Scene, mode: str
) -> None:
    flood, telegram = 1500, scene.sandbox.telegram
    (flooder,) = await readers_of(scene, 7, 1)
    quiet = await readers_of(scene, 1000, 20)
    settings = hook(mode)
    bot = await scene.processes.bot(settings, constants=STILL)
    telegram.limits.per_chat, telegram.limits.overall = 1, 30
    for _ in range(flood):
        await flooder.say("/today")
    for reader in quiet:
        await reader.say("/today")
    for reader in quiet:
        await reader.wait_for(lambda messages: heading("Дева") in messages[-1].text)
    assert texts(flooder) <= BURST, "nobody waits until the flood has been answered"

    await flooder.wait_for(lambda messages: messages[-1].text == SLOW_DOWN)
    await telegram.wait_until_delivered()
    assert [texts(flooder), len(flooder.received)] == [BURST, BURST + 1], "the rest is passed over"
    assert [len(reader.received) for reader in quiet] == [1] * len(quiet)
    metrics = await measure(int(settings["METRICS_LISTEN"].rpartition(":")[2]))
    assert metrics["horoscope_updates_passed_over_total"] == flood - BURST - 1
    await until_sql(scene.sql, "SELECT count(*) FROM unfinished_updates", 0)
    await scene.processes.workers(queues=[VIEWS])
    await until_views(scene.sql, BURST + len(quiet))
    assert await bot.stop() == 0
    await scene.at_rest()
    await until_views(scene.sql, BURST + len(quiet))
    said = [line for line in bot.lines if "updates.passed_over" in line]
    assert said
    assert len(bot.lines) < 40, "a flood costs a few lines of log"


@pytest.mark.parametrize("mode", ["polling", "webhook"])
async def test_many_chats_that_telegram_limits_delay_nobody_and_are_answered_once_by_the_next_bot(
    scene: Scene, mode: str
) -> None:
    limited = await readers_of(scene, 1000, 150)
    (quiet,) = await readers_of(scene, 7, 1)
    add, remove = scene.sandbox.telegram.faults.add, scene.sandbox.telegram.faults.remove
    faults = [add("429", method="sendMessage", chat_id=each.id, retry_after=600) for each in limited]
    soon = {
        "services.bot.inbox:HELD_S": 3,
        "services.bot.process:RENEW_S": 1,
        "services.telegram.pace:CHAT_S": 60,
    }
    settings = hook(mode)
    bot = await scene.processes.bot(settings, constants=soon)
    for reader in limited:
        if (
            mode == "webhook"
        ):  # Telegram does not tell what became of an answer in a response: here it refuses it
            await reader.say("/sign")
        await reader.say("/help")
    await quiet.say("/today")
    await quiet.wait_for(lambda messages: heading("Дева") in messages[-1].text)
    await scene.sandbox.telegram.wait_until_delivered()
    kept = "SELECT count(*) FROM unfinished_updates"
    await until_sql(scene.sql, kept, len(limited))
    assert await scene.sql.fetchval(f"{kept} WHERE body LIKE '%Reader%'") == 0, "without names"
    bot.kill()
    await bot.ended()
    for fault in faults:
        remove(fault.id)
    await scene.processes.bot(settings, constants=soon)
    for reader in limited:
        await reader.wait_for(lambda messages: "/timezone" in messages[-1].text and messages[-1].from_bot)
    await until_sql(scene.sql, kept, 0)
    assert {len(reader.received) for reader in limited} == {1}


async def test_a_wait_that_cannot_be_recorded_holds_up_nobody_whom_the_bot_knows(scene: Scene) -> None:
    known = await readers_of(scene, 1000, 150)
    waiting = await scene.reader()
    async with Cable(scene.processes.environment["DATABASE_URL"]) as cable:
        await scene.processes.bot({"DATABASE_URL": cable.url}, constants=SOON)
        for reader in known:
            await reader.say("/today")
        for reader in known:
            await reader.wait_for(lambda messages: heading("Дева") in messages[-1].text)
        async with scene.sql.transaction():
            await scene.sql.execute("LOCK TABLE waiters IN SHARE MODE")
            await waiting.say("/today")
            held = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'waiters'::regclass"
            await until_sql(scene.sql, held, 1)
            cable.unplug()
        for reader in known:
            await reader.say("/today")
        for reader in known:
            await reader.wait_for(lambda messages: sum(m.from_bot for m in messages) == 2)
        assert not waiting.received
        cable.plug()
        await waiting.wait_for(lambda messages: messages[-1].text == GENERATING)
        await scene.processes.workers(queues=WORK)
        await waiting.wait_for(lambda messages: heading("Лев") in messages[-1].text)
        await until_views(scene.sql, 2 * len(known) + 1)
        await scene.at_rest()
        (answer,) = waiting.received
        assert answer.texts == [GENERATING, answer.text]


async def test_a_delivery_to_a_limited_chat_is_set_aside_and_delays_no_other(scene: Scene) -> None:
    await scene.sql.execute(
        "DELETE FROM horoscope_cache WHERE zodiac_sign = 'virgo' AND horoscope_date = $1", scene.today
    )
    limited = await scene.ask()
    telegram, edit = scene.sandbox.telegram, "editMessageText"
    telegram.faults.add("429", method=edit, chat_id=limited.id, times=1, retry_after=600)
    (worker,) = await scene.processes.workers(queues=WORK, constants=SOON)
    aside = "SELECT count(*) FROM waiters WHERE answered_at IS NULL AND due_at > now() + interval '9 minutes'"
    await until_sql(scene.sql, aside, 1)
    # Others of the same sign and of another one, in the same worker.
    (other,) = await readers_of(scene, 7, 1)
    await scene.bot_handles(await other.say("/today"))
    await other.wait_for(lambda messages: heading("Дева") in messages[-1].text)
    assert limited.last.text == GENERATING
    assert len(telegram.calls_of(edit, limited.id)) == 1, "Telegram's pause is kept"
    worker.kill()
    await worker.ended()

    await scene.sql.execute("UPDATE waiters SET due_at = now() WHERE answered_at IS NULL")
    await scene.processes.workers(queues=WORK, constants=SOON)
    await limited.wait_for(lambda messages: heading("Лев") in messages[-1].text)
    await until_views(scene.sql, 2)
    await scene.at_rest()
    (answer,) = limited.received
    assert answer.texts == [GENERATING, answer.text]


async def test_while_the_model_writes_nonsense_readers_have_it_asked_again_only_after_a_rest(
    scene: Scene,
) -> None:
    trouble, calls = scene.sandbox.model.faults.add("english"), scene.sandbox.model.calls
    await scene.processes.workers(queues=(*WORK, DEAD_LETTERS))
    reader = await scene.ask()
    await reader.wait_for(lambda messages: "через 15 мин." in messages[-1].text)
    assert len(calls) == 8, "a ladder of four attempts, each with one repair"
    for press in range(1, 4):
        await scene.bot_handles(await reader.press(AGAIN))
        await reader.wait_for(lambda messages: len(messages[-1].versions) == 2 + 2 * press)  # noqa: B023
    other = await scene.ask()
    await other.wait_for(lambda messages: FAILED in messages[-1].text)
    assert len(calls) == 8, "whoever asks"

    # The rest is over, and the next one is longer.
    await scene.sql.execute("UPDATE generations SET again_at = now()")
    await scene.bot_handles(await reader.press(AGAIN))
    await reader.wait_for(lambda messages: "через 30 мин." in messages[-1].text)
    assert len(calls) == 16

    # A person need not wait.
    scene.sandbox.model.faults.remove(trouble.id)
    code, said = await scene.processes.run("generate", "--day", scene.today.isoformat(), "--sign", "leo")
    assert code == 0, said
    text = "SELECT count(*) FROM horoscope_cache WHERE zodiac_sign = 'leo' AND horoscope_date = $1"
    await until_sql(scene.sql, text, 1, scene.today)
    await scene.bot_handles(await other.press(AGAIN))
    assert heading("Лев") in other.last.text
