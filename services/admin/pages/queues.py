"""The pages of the queues: all of them, one of them, and what an operator may do with it."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from schema.errors import DatabaseUnavailable, NotPublished, Refused, UnknownQueue
from services.admin.auth import NOTE_COOKIE, Gate, Session, remote
from services.admin.rendering import Rendering
from services.admin.snapshots import PATIENCE_S, Snapshots
from services.database.pool import Database
from services.messaging import pauses
from services.messaging.queues import QueueStatus, Seen

log = structlog.get_logger(__name__)

#: Messages that a look at a queue shows.
PEEKED = 20

_Found = TypeVar("_Found")


class QueuePages:
    """What a browser is shown of the queues.

    Args:
        gate: Checks forms.
        rendering: How a page is made.
        snapshots: What there is to show.
        database: Where pauses are put down.
    """

    def __init__(self, gate: Gate, rendering: Rendering, snapshots: Snapshots, database: Database) -> None:
        self._gate = gate
        self._rendering = rendering
        self._snapshots = snapshots
        self._queues = snapshots.queues
        self._database = database

    async def queues(self, request: Request, session: Session) -> Response:
        """``GET /queues``."""
        return self._rendering.watched(
            request,
            session,
            await self._snapshots.lately(),
            "queues",
            addresses=self._snapshots.management_addresses,
            is_ours=self._queues.is_ours,
        )

    async def queue(self, request: Request, session: Session) -> Response:
        """``GET /queues/{name}``: what is known of it, and what can be done."""
        return await self._queue(request, session)

    async def pause(self, request: Request, session: Session) -> Response:
        """``POST /queues/{name}/pause``."""
        form = await self._gate.form(request, session)
        queue = await self._find(request)
        self._check_pausable(queue)
        why = str(form.get("why", ""))
        await _answered(pauses.pause(self._database, queue.name, by=_who(request), why=why))
        return self._done(request, queue.name, "paused")

    async def resume(self, request: Request, session: Session) -> Response:
        """``POST /queues/{name}/resume``."""
        await self._gate.form(request, session)
        queue = await self._find(request)
        self._check_pausable(queue)
        await _answered(pauses.resume(self._database, queue.name, by=_who(request)))
        return self._done(request, queue.name, "resumed")

    async def peek(self, request: Request, session: Session) -> Response:
        """``POST /queues/{name}/peek``: the oldest messages, which stay where they are."""
        await self._gate.form(request, session)
        try:
            seen = await _answered(self._queues.peek(request.path_params["name"], PEEKED))
        except Refused as refusal:
            return await self._queue(request, session, refusal=str(refusal))
        return await self._queue(request, session, seen=seen)

    async def ask_to_purge(self, request: Request, session: Session) -> Response:
        """``GET /queues/{name}/purge``: the question whether its messages shall be deleted."""
        return self._ask(request, session, await self._find(request))

    async def purge(self, request: Request, session: Session) -> Response:
        """``POST /queues/{name}/purge``: delete them, if there are no more than the operator was told of."""
        form = await self._gate.form(request, session)
        queue = await self._find(request)
        try:
            told = int(str(form.get("messages", "")))
        except ValueError:
            raise HTTPException(400) from None
        try:
            deleted = await _answered(self._queues.purge(queue.name, at_most=told, by=_who(request)))
        except Refused:
            response = self._ask(request, session, await self._find(request), changed=True)
            response.status_code = 409
            return response
        return self._done(request, queue.name, "purged", deleted)

    async def _find(self, request: Request) -> QueueStatus:
        return await _answered(self._queues.find(request.path_params["name"]))

    def _check_pausable(self, queue: QueueStatus) -> None:
        if queue.kind == "waiting":
            raise HTTPException(404)

    async def _queue(
        self,
        request: Request,
        session: Session,
        *,
        seen: list[Seen] | None = None,
        refusal: str | None = None,
    ) -> Response:
        queue = await self._find(request)
        note = self._note(request, queue.name)
        response = self._rendering.page(
            request,
            "queue.html",
            session,
            name="queues",
            here=f"/queues/{queue.name}",
            queue=queue,
            pause=await _answered(self._paused(queue.name)),
            note=note,
            seen=seen,
            refusal=refusal,
        )
        if note:
            response.delete_cookie(NOTE_COOKIE)
        if refusal:
            response.status_code = 409
        return response

    async def _paused(self, name: str) -> pauses.Pause | None:
        async with asyncio.timeout(PATIENCE_S), self._database.transaction() as connection:
            return (await pauses.read_pauses(connection)).get(name)

    def _ask(
        self, request: Request, session: Session, queue: QueueStatus, *, changed: bool = False
    ) -> Response:
        return self._rendering.page(
            request, "purge.html", session, name="queues", queue=queue, changed=changed
        )

    def _done(self, request: Request, name: str, what: str, count: int = 0) -> Response:
        response = RedirectResponse(f"/queues/{name}", 303)
        self._gate.leave_note(request, response, f"{what} {name} {count}")
        return response

    def _note(self, request: Request, name: str) -> str | None:
        """What became of an order, told once."""
        wording = self._rendering.wording(request)
        match (self._gate.take_note(request) or "").split():
            case ["paused", of, _] if of == name:
                return wording.gettext("%(queue)s is paused.", queue=name)
            case ["resumed", of, _] if of == name:
                return wording.gettext("%(queue)s is resumed.", queue=name)
            case ["purged", of, count] if of == name:
                deleted = wording.number(int(count))
                return wording.gettext("Deleted messages of %(queue)s: %(count)s.", queue=name, count=deleted)
        return None


def _who(request: Request) -> str:
    """Everybody has the same password: the address is all that is known."""
    return f"page@{remote(request)}"


async def _answered(work: Awaitable[_Found]) -> _Found:
    """What the servers answer.

    Raises:
        HTTPException: 404 when there is no such queue; 502 and 503 when RabbitMQ and PostgreSQL cannot be reached.
    """
    try:
        return await work
    except UnknownQueue:
        raise HTTPException(404) from None
    except NotPublished:
        raise HTTPException(502) from None
    except (DatabaseUnavailable, TimeoutError):
        raise HTTPException(503) from None
