"""What only workers need: the model, the writer, the delivery."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import openai

from services.app import App
from services.author import Author
from services.delivery import Delivery
from services.leases import Leases
from services.writer import Writer


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where texts are written and handed out."""

    app: App
    writer: Writer
    delivery: Delivery


@asynccontextmanager
async def open_workshop(app: App) -> AsyncIterator[Workshop]:
    """Open what a worker needs beside the app; ``openai_api_key`` must be set."""
    settings = app.settings
    assert settings.openai_api_key
    async with openai.AsyncOpenAI(
        api_key=settings.openai_api_key.get_secret_value(), base_url=settings.openai_base_url
    ) as client:
        author = Author(client, settings.openai_model, settings.text_language)
        yield Workshop(
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
            delivery=Delivery(app.bot, app.horoscopes, app.waiters, app.readers, app.bus, app.clock),
        )
