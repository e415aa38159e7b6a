"""Runs a dead letter's message under Python's debugger, without any effect.

The actor's own handler answers the message, in this process's main thread, with a worker's services. Statements run
in one transaction, which is rolled back. Messages and calls to Telegram are printed instead of sent.
"""

import asyncio
import io
import pdb  # noqa: T100  this is what it is for
import sys
import time
from bdb import BdbQuit
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import asyncpg
import click
import orjson
from aiogram import Bot
from aiogram.client.session.base import BaseSession
from aiogram.methods import SendMessage, TelegramMethod
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from actors import REPLAYABLE, TABLE
from actors.app import WorkerApp, make_worker_app, open_author
from actors.table import Actor
from ops.cli.console import asking
from schema.errors import ModelUnavailable, Refused
from schema.messages import GenerateHoroscope, HoroscopeRequested, Message
from schema.signs import Language, Sign
from services.app import make_app
from services.database.pool import Database, Lane
from services.days import system_clock
from services.dead_letters.death import described
from services.dead_letters.inspector import make_inspector
from services.dead_letters.records import Letter
from services.horoscopes.model import Author, Draft
from services.horoscopes.prompt import Rejected
from services.messaging.attempts import Attempt
from services.messaging.bus import Bus
from services.messaging.publisher import Publisher, Queue
from services.process.escaping import visible
from services.process.logs import Mask
from services.process.settings import Settings, WrongSettings

#: Minutes after which PostgreSQL ends the transaction, and with it the locks, of a forgotten prompt.
IDLE_MINUTES = 15

#: A token of the right form; no call leaves this process.
_TOKEN = "1:DEBUGGER"  # noqa: S105

_IDLE = text("SELECT set_config('idle_in_transaction_session_timeout', :limit, true)")

#: Commands for the debugger; read only if somebody asks for it.
_PDBRC = Path("~/.pdbrc")

_Say = Callable[[str], None]


def run(settings: Settings, number: int, *, post_mortem: bool, no_model: bool, pdbrc: bool = False) -> bool:
    """Run a dead letter's message under the debugger; whether its handler raised.

    ``post_mortem`` stops only where the handler raises. With ``no_model`` the model counts as away. With ``pdbrc`` the
    commands in ``~/.pdbrc`` come first.

    Raises:
        Refused: There is no such letter, or no actor can answer it.
        WrongSettings: The model's key is missing.
    """
    mask = Mask(settings.secrets)
    with asyncio.Runner(loop_factory=_PatientLoop) as runner:
        running = _run(settings, mask, number, post_mortem=post_mortem, no_model=no_model, pdbrc=pdbrc)
        return runner.run(running)


async def _run(
    settings: Settings, mask: Mask, number: int, *, post_mortem: bool, no_model: bool, pdbrc: bool
) -> bool:
    assert settings.database_url
    loop = asyncio.get_running_loop()
    assert isinstance(loop, _PatientLoop)
    debugger = _Debugger(mask, loop, pdbrc=pdbrc)

    def say(words: str) -> None:
        click.echo(visible(mask(words)))

    async with RolledBack(settings.database_url.get_secret_value()) as database:
        await database.check()
        letter, message, actor = await _found(database, number)
        async with _worker_app(settings, database, say, message, no_model=no_model) as worker_app:
            say(f"Dead letter {number}: {actor.name} {orjson.dumps(message.arguments()).decode()}")
            say("Nothing is published or sent, and the database is rolled back at the end.")
            handler: Any = actor.handler
            try:
                if not post_mortem:
                    debugger.stop_in(handler.__code__)
                await _handled(worker_app, actor, letter, message)
            except BdbQuit:
                raise click.Abort from None
            except Exception as error:  # noqa: BLE001  whatever it is, it is what this is about
                sys.settrace(None)
                say(f"It raised {described(error, mask)}")
                if post_mortem:
                    debugger.look_at(error)
                return True
            finally:
                sys.settrace(None)
    say("The handler ran to its end.")
    return False


async def _found(database: Database, number: int) -> tuple[Letter, Message, Actor]:
    """The letter, its message as a replay would publish it, and the actor that answers it."""
    inspector = make_inspector(database, REPLAYABLE, system_clock)
    letter = await inspector.records.whole(number)
    (verdict,) = await inspector.replays.verdicts([number])
    if verdict.actor is None:
        raise Refused(f"dead letter {number} cannot be answered: {verdict.reason}")
    message = REPLAYABLE[verdict.actor].parse((letter.edit or letter).arguments or {})
    return letter, message, next(each for each in TABLE if each.name == verdict.actor)


async def _handled(worker_app: WorkerApp, actor: Actor, letter: Letter, message: Message) -> None:
    """Answer a message as a worker does, on the last rung of the ladder."""
    if actor.batch:
        await actor.handler(worker_app, [message])
        return
    attempt = Attempt(letter.message_id or str(letter.death), published_at=system_clock())
    await actor.handler(worker_app, message, attempt)


@asynccontextmanager
async def _worker_app(
    settings: Settings, database: Database, say: _Say, message: Message, *, no_model: bool
) -> AsyncIterator[WorkerApp]:
    """A worker's services; only the model can be reached through them."""
    publisher = _Unsent(say)
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(Bus(publisher, database))
        bot = await stack.enter_async_context(Bot(_TOKEN, session=_Unspoken(say)))
        author: Author = _Absent(say, settings.text_language)
        if _wants_model(message) and not no_model:
            if settings.openai_api_key is None:
                raise WrongSettings(
                    "OPENAI_API_KEY is not set: expected the key of the model's server, which this message calls; "
                    "or give --no-model"
                )
            author = await stack.enter_async_context(open_author(settings))
        yield make_worker_app(make_app(settings, database, publisher, bus, bot, system_clock), author)


def _wants_model(message: Message) -> bool:
    return isinstance(message, GenerateHoroscope) or (
        isinstance(message, HoroscopeRequested) and not message.answered
    )


class RolledBack(Database):
    """Runs every statement in one transaction, which is rolled back at the end.

    Transactions become savepoints and take turns. PostgreSQL's ``now()`` stands still, so no lease runs out.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, process="horoscope debugger", pool_size=1)
        self._turn = asyncio.Lock()
        self._only: AsyncConnection | None = None

    async def __aexit__(self, *about: object) -> None:
        """Roll everything back."""
        if self._only:
            await self._only.close()
        await super().__aexit__(*about)

    def lane(self) -> Lane:
        """A lane whose statements take turns with all others."""
        return _NoLane(self)

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[AsyncConnection]:
        async with self._turn:
            if self._only is None:
                self._only = await self._engine.connect()
                await self._only.begin()
                await self._only.execute(_IDLE, {"limit": f"{IDLE_MINUTES}min"})
            async with self._only.begin_nested():
                yield self._only


class _NoLane(Lane):
    def __init__(self, database: RolledBack) -> None:
        self._database = database

    async def fetch(self, query: str, *arguments: Any, timeout: float) -> list[asyncpg.Record]:
        async with self._database.transaction() as connection:
            raw = (await connection.get_raw_connection()).driver_connection
            assert raw
            rows: list[asyncpg.Record] = await raw.fetch(query, *arguments, timeout=timeout)
        return rows


class _Unsent(Publisher):
    """Prints messages instead of publishing them."""

    def __init__(self, say: _Say) -> None:
        super().__init__("amqp://nowhere", ())
        self._say = say

    @property
    def connected(self) -> bool:
        return True

    async def send(
        self,
        queue: str | Queue,
        body: bytes,
        headers: dict[str, Any] | None = None,  # noqa: ARG002
        *,
        patience: float = 0,  # noqa: ARG002
    ) -> None:
        message = orjson.loads(body)
        name = queue.name if isinstance(queue, Queue) else queue
        arguments = orjson.dumps(message["kwargs"]).decode()
        self._say(f"Would be published to {name}: {message['actor_name']} {arguments}")


class _Unspoken(BaseSession):
    """Prints calls to Telegram instead of making them; each is taken to have succeeded."""

    def __init__(self, say: _Say) -> None:
        super().__init__()
        self._say = say

    async def close(self) -> None:
        pass

    async def make_request(self, bot: Bot, method: TelegramMethod[Any], timeout: int | None = None) -> Any:  # noqa: ARG002
        given = method.model_dump(mode="json", exclude_unset=True, exclude_none=True)
        self._say(f"Telegram would be told: {method.__api_method__} {orjson.dumps(given).decode()}")
        return {"message_id": 1} if isinstance(method, SendMessage) else True

    async def stream_content(self, *_: Any, **__: Any) -> AsyncGenerator[bytes, None]:
        raise NotImplementedError
        yield b""


class _Absent(Author):
    """A model that cannot be reached."""

    def __init__(self, say: _Say, language: Language) -> None:
        self._say = say
        self.language = language

    async def write(self, sign: Sign, day: date, rejected: Rejected | None = None) -> Draft:  # noqa: ARG002
        self._say(f"The model would be called: {sign} {day}")
        raise ModelUnavailable("the model is not called under the debugger: --no-model")


class _PatientLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock stands still at the prompt, so that nothing times out."""

    sat = 0.0

    def time(self) -> float:
        return super().time() - self.sat


class _Debugger(pdb.Pdb):
    def __init__(self, mask: Mask, loop: _PatientLoop, *, pdbrc: bool) -> None:
        # By itself pdb would run the commands in the file .pdbrc of whatever folder this is started in.
        super().__init__(stdout=_Masked(mask), readrc=False)  # type: ignore[arg-type]  # it only writes
        self.use_rawinput = sys.stdin.isatty()
        if pdbrc:
            self.rcLines: list[str] = (
                _PDBRC.expanduser().read_text(encoding="utf-8").splitlines(keepends=True)
            )
        self._loop = loop

    def stop_in(self, code: CodeType) -> None:
        """Stop where this code begins."""

        def trace(frame: FrameType, _: str, __: Any) -> Any:
            if frame.f_code is not code:
                return None
            self.set_trace(frame)
            return self.trace_dispatch

        sys.settrace(trace)

    def look_at(self, error: BaseException) -> None:
        """Look at where an error was raised."""
        self.reset()
        self.interaction(None, error.__traceback__)

    def interaction(self, *about: Any) -> None:
        began = time.monotonic()
        with asking():
            super().interaction(*about)
        self._loop.sat += time.monotonic() - began


class _Masked(io.TextIOBase):
    """Writes to the standard output, without secrets."""

    def __init__(self, mask: Mask) -> None:
        self._mask = mask

    def write(self, words: str) -> int:
        return sys.stdout.write(visible(self._mask(words)))

    def flush(self) -> None:
        sys.stdout.flush()
