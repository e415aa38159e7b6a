"""The bot process, by polling or by webhook."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramAPIError, TelegramNotFound, TelegramUnauthorizedError
from aiogram.methods import DeleteWebhook, SetMyCommands, SetMyShortDescription
from aiogram.types import BotCommand

from schema.errors import DatabaseUnavailable, PassingError
from schema.signs import Language
from services.app import App, open_app
from services.bot import webhook
from services.bot.admission import REPORT_S
from services.bot.inbox import RENEW_S
from services.bot.polling import Polling
from services.bot.runner import Runner
from services.bot.typing import TYPING_S
from services.bot.updates import Updates
from services.days import Clock, system_clock
from services.health import Health, serve_health
from services.horoscopes.serving import FORGOTTEN_S
from services.messaging.bus import UNPARK_S
from services.messaging.publisher import Queue
from services.process.heartbeats import present
from services.process.http import serve_http
from services.process.periodic import periodic
from services.process.settings import Settings, WrongSettings
from services.readers.activity import WRITE_S
from services.readers.privacy import read_texts
from services.readers.strings import STRINGS
from services.telegram import client as telegram

log = structlog.get_logger(__name__)

#: Seconds between two reads of the current texts into memory.
REFRESH_S = 30


async def run(
    settings: Settings, queues: Sequence[Queue], stop: asyncio.Event, *, clock: Clock = system_clock
) -> None:
    """Answer readers until ``stop`` is set, then finish the running updates.

    Raises:
        DatabaseUnavailable, NotPublished: A server cannot be reached at the start.
        WrongSettings: Telegram does not know the token, or the privacy text cannot be shown.
    """
    read_texts(settings.privacy_texts, settings.reader_retention)  # a wrong one is told before anything opens
    async with (
        open_app(settings, queues, process="bot", clock=clock) as app,
        serve_health(settings, "bot", app.database, app.publisher, stop) as health,
        present(app.database, "bot"),
    ):
        updates = Updates(app)
        runner = Runner(app, updates)
        jobs: dict[Callable[[], Awaitable[object]], float] = {
            app.horoscopes.refresh: REFRESH_S,
            app.horoscopes.follow_forgotten: FORGOTTEN_S,
            app.bus.send_parked: UNPARK_S,
            app.activity.write: WRITE_S,
            updates.typing.show: TYPING_S,
            runner.tend: RENEW_S,
            runner.admission.report: REPORT_S,
        }
        async with periodic(jobs):
            await app.horoscopes.refresh()
            await _introduce(app.bot, stop)
            await _serve(app, runner, health, stop)
        await runner.admission.report()
        with suppress(DatabaseUnavailable):
            await app.activity.write()
        log.info("bot.stopped")


async def _serve(app: App, runner: Runner, health: Health, stop: asyncio.Event) -> None:
    settings = app.settings
    if not settings.webhook_url:
        try:
            await telegram.call(app.bot, DeleteWebhook())
        except (TelegramAPIError, PassingError) as error:  # if a webhook is set, polling will report it
            log.warning("telegram.webhook_not_deleted", reason=str(error))
        polling = Polling(app, runner)
        health.ready = {"telegram": lambda: polling.trouble}
        log.info("bot.ready", mode="polling")
        await polling.run(stop)
        return
    assert settings.webhook_secret
    secret = settings.webhook_secret.get_secret_value()
    path = urlsplit(settings.webhook_url).path or "/"
    web_app = webhook.application(runner, path, secret)
    listen = settings.webhook_listen
    async with runner, serve_http(web_app, "WEBHOOK_LISTEN", listen, grace=webhook.GRACE_S):
        await runner.recover()
        await webhook.announce(app.bot, settings.webhook_url, secret)
        health.ready = {}  # whether Telegram reaches the webhook cannot be checked from here
        log.info("bot.ready", mode="webhook", listen=listen)
        await stop.wait()


async def _introduce(bot: Bot, stop: asyncio.Event) -> None:
    """Check the token, then register the bot's commands; wait while Telegram is away."""
    while not stop.is_set():
        try:
            me: Any = await telegram.call(bot, telegram.WhoAmI())
        except (TelegramUnauthorizedError, TelegramNotFound):
            raise WrongSettings(
                "BOT_TOKEN is wrong: Telegram does not know it; ask @BotFather for the token"
            ) from None
        except PassingError as error:
            log.warning("telegram.unreachable", reason=str(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 5)
        else:
            log.info("telegram.reached", username=me.get("username"))
            break
    if stop.is_set():
        return
    try:
        for language in Language:
            strings = STRINGS[language]
            commands = [BotCommand(command=name, description=text) for name, text in strings.commands.items()]
            # Readers of all other languages see Russian.
            code = None if language is Language.RU else language.value
            await telegram.call(bot, SetMyCommands(commands=commands, language_code=code))
            await telegram.call(
                bot, SetMyShortDescription(short_description=strings.description, language_code=code)
            )
    except (TelegramAPIError, PassingError) as error:  # the bot works without its menu
        log.warning("telegram.menu_not_set", reason=str(error))
