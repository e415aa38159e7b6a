"""The services that only workers need: the model, the writer, the delivery, the archive of dead letters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import openai

from schema.messages import GenerateHoroscope, HoroscopeRequested, Message
from services.app import App
from services.dead_letters.archive import Archive
from services.dead_letters.outcomes import Outcomes
from services.horoscopes.delivery import Delivery
from services.horoscopes.leases import Leases
from services.horoscopes.model import Author
from services.horoscopes.writer import Writer
from services.messaging.poison import PoisonMessages
from services.process.addresses import trusting
from services.process.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerApp:
    """A worker's services, beside those of :class:`services.app.App`."""

    app: App
    writer: Writer
    delivery: Delivery
    archive: Archive
    outcomes: Outcomes
    poison: PoisonMessages

    async def give_up(self, message: Message, message_id: str, error: Exception) -> None:
        """Tell waiting readers that the text they wait for will not come: its message has died unanswered."""
        if isinstance(message, GenerateHoroscope) or (
            isinstance(message, HoroscopeRequested) and not message.answered
        ):
            await self.writer.give_up(message.sign, message.day, message_id, error)


@asynccontextmanager
async def open_worker_app(app: App) -> AsyncIterator[WorkerApp]:
    """Open a worker's services on an open app; ``openai_api_key`` must be set."""
    async with open_author(app.settings) as author:
        yield make_worker_app(app, author)


@asynccontextmanager
async def open_author(settings: Settings) -> AsyncIterator[Author]:
    """The client of the model; ``openai_api_key`` must be set."""
    assert settings.openai_api_key
    http_client = (
        openai.DefaultAsyncHttpxClient(verify=trusting(settings.ca_file)) if settings.ca_file else None
    )
    async with openai.AsyncOpenAI(
        api_key=settings.openai_api_key.get_secret_value(),
        base_url=settings.openai_base_url,
        http_client=http_client,
    ) as client:
        yield Author(client, settings.openai_model, settings.text_language)


def make_worker_app(app: App, author: Author) -> WorkerApp:
    """Put a worker's services together, on an open app."""
    return WorkerApp(
        app=app,
        writer=Writer(
            app.database,
            Leases(app.database),
            author,
            app.usage,
            app.outages,
            app.waiters,
            app.bus,
            app.clock,
            app.mask,
        ),
        delivery=Delivery(app.bot, app.paces, app.horoscopes, app.waiters, app.readers, app.bus, app.clock),
        archive=Archive(app.database, app.mask),
        outcomes=Outcomes(app.database),
        poison=PoisonMessages(app.database),
    )
