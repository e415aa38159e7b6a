"""The composition root: everything that a process needs, opened and closed in one place."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.database.pool import Database
from services.days import Clock, system_clock
from services.horoscopes.night import Night
from services.horoscopes.outages import Outages, endpoint
from services.horoscopes.serving import Horoscopes
from services.horoscopes.usage import Usage
from services.horoscopes.waiters import Waiters
from services.messaging.bus import Bus
from services.messaging.publisher import START_PATIENCE_S, Publisher, Queue
from services.process.logs import Mask
from services.process.settings import Settings
from services.readers.activity import Activity
from services.readers.personal_data import PersonalData
from services.readers.profiles import Readers
from services.readers.views import Views
from services.telegram import Bot
from services.telegram.client import open_bot
from services.telegram.pace import Paces


@dataclass(frozen=True, slots=True)
class App:
    """The services that every process shares."""

    settings: Settings
    clock: Clock
    mask: Mask
    database: Database
    publisher: Publisher
    bus: Bus
    bot: Bot
    paces: Paces
    readers: Readers
    personal_data: PersonalData
    horoscopes: Horoscopes
    waiters: Waiters
    views: Views
    outages: Outages
    usage: Usage
    night: Night
    activity: Activity


@asynccontextmanager
async def open_app(
    settings: Settings, queues: Sequence[Queue], *, process: str, clock: Clock = system_clock
) -> AsyncIterator[App]:
    """Open the services on the running event loop; close them in the reverse order.

    ``database_url``, ``rabbitmq_url`` and ``bot_token`` must be set. Raises DatabaseUnavailable if PostgreSQL cannot be
    reached or has not been migrated, NotPublished if RabbitMQ cannot be reached.
    """
    assert settings.bot_token
    async with open_servers(settings, queues, process=process) as (database, publisher):
        await database.check()
        async with database.transaction():
            pass  # the pool's first connection takes long: opened here, no reader waits for it
        await publisher.wait_ready(START_PATIENCE_S)
        bot = open_bot(settings.bot_token.get_secret_value(), settings.telegram_api_url, settings.ca_file)
        async with bot, Bus(publisher, database) as bus:
            yield make_app(settings, database, publisher, bus, bot, clock)


def make_app(
    settings: Settings, database: Database, publisher: Publisher, bus: Bus, bot: Bot, clock: Clock
) -> App:
    """Put the services together, on open connections."""
    home = settings.home_timezone
    waiters = Waiters(database)
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""
    outages = Outages(database, endpoint(settings.openai_base_url, settings.openai_model, key))
    usage = Usage(database, home, clock, settings.token_prices, settings.daily_token_limit)
    return App(
        settings=settings,
        clock=clock,
        mask=Mask(settings.secrets),
        database=database,
        publisher=publisher,
        bus=bus,
        bot=bot,
        paces=Paces(),
        readers=Readers(database, home),
        personal_data=PersonalData(database, settings.reader_retention),
        horoscopes=Horoscopes(database, home, clock),
        waiters=waiters,
        views=Views(database, clock),
        outages=outages,
        usage=usage,
        night=Night(database, waiters, outages, usage, bus, clock, home),
        activity=Activity(database, clock, home),
    )


@asynccontextmanager
async def open_servers(
    settings: Settings, queues: Sequence[Queue], *, process: str
) -> AsyncIterator[tuple[Database, Publisher]]:
    """Open PostgreSQL and RabbitMQ for one process, without waiting until they can be reached."""
    assert settings.database_url
    assert settings.rabbitmq_url
    async with (
        Database(settings.database_url.get_secret_value(), process=f"horoscope {process}") as database,
        Publisher(settings.rabbitmq_url.get_secret_value(), queues) as publisher,
    ):
        yield database, publisher
