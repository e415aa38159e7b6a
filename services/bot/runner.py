"""Carries updates through: those of different chats concurrently, those of one chat in order, each until it is finished."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Self

import structlog
from aiogram.exceptions import AiogramError

from schema.errors import DatabaseUnavailable, PassingError, UpdateUnfinished
from services.app import App
from services.bot import answers
from services.bot.admission import Admission, Verdict, chat_of
from services.bot.inbox import Inbox
from services.bot.updates import Updates
from services.process import metrics
from services.process.descriptions import said

log = structlog.get_logger(__name__)

#: Seconds before a failed update is handled again.
PAUSES_S = (1, 2, 5, 10, 20, 30, 60)
#: The longest such pause for an update whose wait is begun: it is never given up.
UNFINISHED_PAUSE_S = 10
#: Seconds after which an update goes on record, so that it can be confirmed before it is finished.
HOLD_S = 1.0
#: Seconds for which updates are not put on record after PostgreSQL was found to be away.
AWAY_S = 2.0
#: Seconds that a stopping bot gives running handlers; unfinished updates come again.
GRACE_S = 25.0
#: Updates that are remembered as finished after Telegram was asked to repeat them.
FINISHED_AT_MOST = 1000


@dataclass(slots=True, eq=False)
class Work:
    """One update under way."""

    raw: Any  #: The update, as JSON values
    number: int | None  #: Its number; None: it has none, so it cannot go on record
    verdict: Verdict
    responds: bool  #: A webhook's request waits, and may carry the answer
    began: float = field(default_factory=time.monotonic)  #: On the monotonic clock
    responding: bool = False  #: The answer goes into the response
    body: dict[str, Any] | None = None  #: The response with the answer
    kept: bool = False  #: It may be on record, so it must be deleted there in the end
    on_record: bool = False  #: It is on record: whatever happens, it will be finished
    repeats: bool = False  #: Telegram was asked to repeat it, but it goes on
    waits: bool = False  #: It had to wait for an earlier update of its chat, so it may wait for Telegram, too
    at_risk: bool = False  #: It counts as confirmed, but is not on record: it is lost if this process dies
    task: asyncio.Task[None] = field(init=False)  #: Raises PassingError if Telegram must repeat the update
    #: Done when the update is finished, or its first attempt has failed and it is on record.
    settled: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self) -> None:
        """Let a webhook's request go on that waits."""
        if not self.settled.done():
            self.settled.set_result(None)

    @property
    def is_slow(self) -> bool:
        """It should go on record, so that it occupies no place at Telegram."""
        return time.monotonic() - self.began >= HOLD_S

    @property
    def may_be_confirmed(self) -> bool:
        """Telegram need not keep it any longer."""
        finished = self.task.done() and not self.task.cancelled()
        return finished or self.on_record or self.at_risk


class Runner:
    """The updates under way in one bot."""

    def __init__(self, app: App, updates: Updates) -> None:
        self.admission = Admission()
        #: Updates that were on record when this bot came upon them: copies of them from Telegram need no handling.
        self.known: set[int] = set()
        self._inbox = Inbox(app.database)
        self._app = app
        self._updates = updates
        self._works: set[Work] = set()
        self._numbered: dict[int, Work] = {}
        self._latest_of_chat: dict[int, asyncio.Task[None]] = {}
        # Finished updates that may be on record still, because PostgreSQL was away.
        self._to_finish: set[int] = set()
        # Updates that finished after Telegram was asked to repeat them.
        self._finished: OrderedDict[int, None] = OrderedDict()
        self._away_until = 0.0

    def begin(self, raw: Any, verdict: Verdict, *, responds: bool = False) -> Work:
        """Begin with an update; it waits for the earlier ones of its chat."""
        work = Work(raw, number_of(raw), verdict, responds)
        chat = chat_of(raw)
        earlier = None if chat is None else self._latest_of_chat.get(chat)
        work.task = asyncio.create_task(self._run(work, earlier), name="update")
        self._works.add(work)
        if work.number is not None:
            self._numbered[work.number] = work
        if chat is not None:
            self._latest_of_chat[chat] = work.task
        self.admission.began(chat)

        def ended(task: asyncio.Task[None]) -> None:
            self._works.discard(work)
            if work.number is not None and self._numbered.get(work.number) is work:
                del self._numbered[work.number]
            if chat is not None and self._latest_of_chat.get(chat) is task:
                del self._latest_of_chat[chat]
            self.admission.ended(chat)
            work.settle()

        work.task.add_done_callback(ended)
        return work

    def under_way(self, number: int | None) -> Work | None:
        """The update of this number, if it is under way here."""
        return None if number is None else self._numbered.get(number)

    def has_finished(self, number: int | None) -> bool:
        """The update was finished after Telegram was asked to repeat it."""
        return number in self._finished

    async def keep(self, works: Collection[Work]) -> bool:
        """Put updates on record; False: PostgreSQL is away."""
        works = [work for work in works if work.number is not None and not work.on_record]
        if not works:
            return True
        if time.monotonic() < self._away_until:
            return False
        for work in works:
            work.kept = True
        try:
            await asyncio.gather(*(self._inbox.keep(work.raw) for work in works))
        except DatabaseUnavailable as error:
            self._away_until = time.monotonic() + AWAY_S
            log.warning("updates.not_kept", count=len(works), reason=str(error))
            return False
        metrics.KEPT.inc(len(works))
        for work in works:
            work.on_record, work.at_risk = True, False
            if work.task.done():
                await self._finish(work)
        return True

    def risk(self, works: Collection[Work]) -> None:
        """Count updates as confirmed that cannot be put on record, because they hold up others."""
        for work in works:
            work.at_risk = True
        metrics.AT_RISK.inc(len(works))
        log.warning("updates.at_risk", count=len(works))

    async def recover(self) -> None:
        """Find out what earlier bots left on record, before updates arrive."""
        try:
            self.known.update(await self._inbox.on_record())
            await self.tend()
        except DatabaseUnavailable as error:
            log.warning("updates.on_record_unknown", reason=str(error))

    async def tend(self) -> None:
        """Keep the record up to date, and take over updates of bots that died; may raise DatabaseUnavailable."""
        for number in tuple(self._to_finish):
            await self._inbox.finish(number)
            self._to_finish.discard(number)
        await self._inbox.renew()
        await self.keep([work for work in self._works if work.at_risk])
        taken = [raw for raw in await self._inbox.take_over() if raw["update_id"] not in self._numbered]
        self.known.update(raw["update_id"] for raw in taken)
        for raw in taken:
            work = self.begin(raw, Verdict.ADMITTED)
            work.kept = work.on_record = True
        if taken:
            log.info("updates.taken_over", count=len(taken))

    async def __aenter__(self) -> Self:
        """Open nothing."""
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let running handlers finish; leave on record what does not finish in time."""
        if self._works:
            await asyncio.wait([work.task for work in self._works], timeout=GRACE_S)
        left = [*self._works]
        if not left:
            return
        await self.keep(left)
        for work in left:
            work.task.cancel()
        await asyncio.wait([work.task for work in left])
        if lost := sum(work.at_risk for work in left):
            log.error("updates.lost", count=lost)
        try:
            await self._inbox.release()
        except DatabaseUnavailable as error:
            log.warning("updates.not_released", reason=str(error))

    async def _run(self, work: Work, earlier: asyncio.Task[None] | None) -> None:
        if earlier:
            work.waits = True
            await asyncio.wait({earlier})
        try:
            await self._until_finished(work)
        except PassingError:
            await self._finish(work)
            raise
        if work.repeats and work.number is not None:
            self._finished[work.number] = None
            if len(self._finished) > FINISHED_AT_MOST:
                self._finished.popitem(last=False)
        await self._finish(work)

    async def _finish(self, work: Work) -> None:
        """Delete an update that may be on record."""
        if not work.kept or work.number is None:
            return
        if not work.on_record:
            # The statement that was to keep it may still run: delete it later again.
            self._to_finish.add(work.number)
        try:
            await self._inbox.finish(work.number)
        except DatabaseUnavailable:
            self._to_finish.add(work.number)

    async def _until_finished(self, work: Work) -> None:
        """Handle an update; repeat it while Telegram or a server is away."""
        unfinished = False
        pauses = iter(PAUSES_S)
        while True:
            try:
                await self._answer(work, unfinished=unfinished)
            except PassingError as error:
                if work.responds:
                    if not await self.keep([work]):
                        raise
                    work.responds = False
                    work.settle()
                pause = next(pauses, None)
                if isinstance(error, UpdateUnfinished):
                    unfinished = True
                    pause = min(pause or UNFINISHED_PAUSE_S, UNFINISHED_PAUSE_S)
                elif pause is None:
                    log.error("update.given_up", update_id=work.number, reason=str(error))
                    return
                await asyncio.sleep(max(pause, error.retry_after or 0))
            except AiogramError as error:
                log.error("answer.refused", update_id=work.number, reason=said(error))
                return
            except Exception:
                log.exception("answer.failed", update_id=work.number)
                return
            else:
                return

    async def _answer(self, work: Work, *, unfinished: bool) -> None:
        if work.verdict is Verdict.SLOW_DOWN:
            answer = self._updates.slow_down(work.raw)
        else:
            answer = await self._updates.handle(work.raw, unfinished=unfinished)
        if answer is None:
            return
        # Telegram does not report what became of an answer in a response. So that carries only answers that exceed no limit.
        if work.responds and self._app.paces.is_free(answer.chat_id):
            work.responding = True
            self._app.paces.note_sent(answer.chat_id)
            work.body = await answers.in_response(answer, self._app)
        else:
            await answers.by_call(answer, self._app)


def number_of(raw: Any) -> int | None:
    """The number of an update; None if it has none, or an impossible one."""
    number = raw.get("update_id") if isinstance(raw, dict) else None
    return number if type(number) is int and 0 <= number < 1 << 63 else None
