"""``python -m ops.bench.yardsticks NAME``: two bots to compare ours with, each in its own process.

``empty`` is our bot with an empty handler: the same process, web server, checks and dispatch. The difference to ours
is the price of an answer.

``plain`` is the straightforward design: aiogram's webhook, a lock per sign, SQLAlchemy sessions, and a call to
answer. It gets every advantage that keeps the design: uvloop, orjson, aiogram's models built lazily, no request
log, the readers' signs without a query, and the answer sent after the lock is released. Besides being slower, it
loses views or counts them twice at a crash.
"""

import asyncio
import os
import sys
from collections import defaultdict
from datetime import datetime

from aiogram import Dispatcher
from aiogram.filters import Command
from aiogram.types import Message
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from actors import topology
from ops import cli
from ops.bench.stage import WEBHOOK_PATH, sign_of
from schema.signs import Sign
from schema.tables import horoscope_cache, horoscope_views
from services.bot import handlers, process, updates, webhook
from services.bot.answers import Answer
from services.process.http import serve_http
from services.process.settings import Settings
from services.telegram.client import open_bot

EMPTY, PLAIN = "empty", "plain"
#: The bot's own log event when it serves.
READY = "bot.ready"


class _NothingToDo(handlers.Handlers):
    """Our handlers with an empty ``/today``."""

    async def today(self, _: Message, asker: handlers.Asker) -> Answer | None:
        """Do nothing; ``asker`` is made, as for every handler."""
        del asker
        return None


def run_empty() -> None:
    """Run our bot with the empty handler."""
    updates.Handlers = _NothingToDo  # type: ignore[attr-defined]
    settings = cli.start("bot", "database_url", "rabbitmq_url", "bot_token")
    cli.run_until_stopped(lambda stop: process.run(settings, topology.queues(settings), stop))


def run_plain() -> None:
    """Run the plain design."""
    settings = cli.start("bot", "database_url", "bot_token", "webhook_secret")
    cli.run_until_stopped(lambda stop: _plain(settings, stop))


async def _plain(settings: Settings, stop: asyncio.Event) -> None:
    assert settings.bot_token
    assert settings.webhook_secret
    url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://")
    engine = create_async_engine(url, pool_size=20)
    sessions = async_sessionmaker(engine, expire_on_commit=False)
    locks: defaultdict[Sign, asyncio.Lock] = defaultdict(asyncio.Lock)
    dispatcher = Dispatcher()

    @dispatcher.message(Command("today"))
    async def today(message: Message) -> None:
        assert message.from_user
        sign, day = sign_of(message.from_user.id), datetime.now(settings.home_timezone).date()
        async with locks[sign], sessions() as session:
            text = await session.scalar(
                select(horoscope_cache.c.content).where(
                    horoscope_cache.c.zodiac_sign == sign, horoscope_cache.c.horoscope_date == day
                )
            )
            first = insert(horoscope_views).values(zodiac_sign=sign, view_date=day, view_count=1)
            await session.execute(
                first.on_conflict_do_update(
                    constraint="uq_horoscope_views_sign_date",
                    set_={"view_count": horoscope_views.c.view_count + 1},
                )
            )
            await session.commit()
        assert text
        await message.answer(text)

    async with open_bot(settings.bot_token.get_secret_value(), settings.telegram_api_url) as bot:
        app = web.Application()
        SimpleRequestHandler(
            dispatcher,
            bot,
            handle_in_background=False,
            secret_token=settings.webhook_secret.get_secret_value(),
        ).register(app, path=WEBHOOK_PATH)
        setup_application(app, dispatcher, bot=bot)
        async with serve_http(app, "WEBHOOK_LISTEN", settings.webhook_listen, grace=webhook.GRACE_S):
            print(READY, flush=True)
            await stop.wait()
    await engine.dispose()


if __name__ == "__main__":
    {EMPTY: run_empty, PLAIN: run_plain}[sys.argv[1]]()
