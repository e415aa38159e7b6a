"""Receives updates by webhook. The HTTP response confirms an update, and often carries the answer too."""

import asyncio
import hmac
from typing import Any

import orjson
import structlog
from aiogram import Bot
from aiogram.exceptions import TelegramBadRequest
from aiogram.methods import SetWebhook
from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import BadHttpMessage

from schema.errors import PassingError
from services.bot.admission import Verdict
from services.bot.runner import HOLD_S, Runner, number_of
from services.bot.updates import ALLOWED_UPDATES
from services.process.descriptions import said
from services.process.settings import WrongSettings
from services.telegram import client as telegram

log = structlog.get_logger(__name__)

#: Bytes; Telegram's updates are far smaller.
LARGEST_BODY = 1 << 20
#: Seconds that running requests have to finish when the process stops.
GRACE_S = 30.0


def application(runner: Runner, path: str, secret: str) -> web.Application:
    """The web application that Telegram posts updates to; ``secret`` is the expected secret token."""

    async def receive(request: web.Request) -> web.Response:
        token = request.headers.get("X-Telegram-Bot-Api-Secret-Token", "")
        if not hmac.compare_digest(token.encode(errors="surrogateescape"), secret.encode()):
            log.warning("webhook.forged", remote=request.remote)
            return web.Response(status=401)
        try:
            raw = orjson.loads(await request.read())
        except ConnectionError:
            return web.Response(status=400)  # nobody reads the answer
        except (orjson.JSONDecodeError, BadHttpMessage, ClientPayloadError) as error:
            log.warning("webhook.not_json", reason=said(error))
            return web.Response(status=400)
        return await _respond(runner, raw)

    web_app = web.Application(client_max_size=LARGEST_BODY)
    web_app.router.add_post(path, receive)
    return web_app


async def _respond(runner: Runner, raw: Any) -> web.Response:
    """Carry an update through, and confirm it as soon as it is finished or on record."""
    number = number_of(raw)
    if number in runner.known or runner.has_finished(number):
        return web.Response()
    work = runner.under_way(number)
    if work is None:
        verdict = runner.admission.judge(raw)
        if verdict is Verdict.PASSED_OVER:
            return web.Response()
        work = runner.begin(raw, verdict, responds=True)
    # Telegram opens few connections, so none is kept waiting.
    await asyncio.wait({work.settled}, timeout=HOLD_S)
    if not work.task.done() and not work.responding:
        kept = work.number is not None and await runner.keep([work])
        if not work.task.done() and not work.responding:
            work.responds, work.repeats = False, not kept
            return web.Response(status=200 if kept else 503)
    await asyncio.wait({work.task})
    try:
        work.task.result()
    except PassingError as error:
        # Telegram sends the update again later.
        log.warning("update.put_back", reason=str(error))
        return web.Response(status=503)
    body, work.body = work.body, None
    if body is None:
        return web.Response()
    return web.Response(body=orjson.dumps(body), content_type="application/json")


async def announce(bot: Bot, url: str, secret: str) -> None:
    """Register the webhook at Telegram.

    Raises:
        TelegramUnavailable: Telegram cannot be reached.
        WrongSettings: Telegram refuses the address.
    """
    try:
        await telegram.call(bot, SetWebhook(url=url, secret_token=secret, allowed_updates=ALLOWED_UPDATES))
    except TelegramBadRequest as error:
        raise WrongSettings(f"WEBHOOK_URL is wrong: Telegram refuses it: {error.message}") from error
