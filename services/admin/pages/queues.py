"""The pages of the queues, and what an operator can do with one."""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.admin.pages.page import Act, Question, Shown, Visit
from services.messaging import pauses
from services.messaging.queues import QueuedMessage, QueueStatus

#: Messages that a look into a queue shows.
PEEKED = 20


async def queues(visit: Visit) -> Shown:
    """``GET /queues``."""
    snapshots = visit.site.snapshots
    values = {"addresses": snapshots.api.addresses, "is_ours": snapshots.queues.is_ours}
    return Shown("queues.html", values, live=True)


async def queue(visit: Visit, seen: list[QueuedMessage] | None = None) -> Shown:
    """``GET /queues/{name}``."""
    found = await _find(visit)
    pause = (await pauses.read_pauses(visit.site.database)).get(found.name)
    return Shown(
        "queue.html", {"queue": found, "pause": pause, "seen": seen, "here": f"/queues/{found.name}"}
    )


async def pause(visit: Visit) -> Response:
    """``POST /queues/{name}/pause``."""
    name = await _pausable(visit)
    visit.entry.after = {"why": visit.said("why")}
    if not await pauses.pause(visit.site.database, name, by=visit.by, why=visit.said("why")):
        visit.entry.refuse("it was paused already")
    return visit.done(f"/queues/{name}", visit.gettext("%(queue)s is paused.", queue=name))


async def resume(visit: Visit) -> Response:
    """``POST /queues/{name}/resume``."""
    name = await _pausable(visit)
    paused = (await pauses.read_pauses(visit.site.database)).get(name)
    visit.entry.before = paused and {"by": paused.by, "why": paused.why, "since": paused.since}
    if not await pauses.resume(visit.site.database, name, by=visit.by):
        visit.entry.refuse("it was not paused")
    return visit.done(f"/queues/{name}", visit.gettext("%(queue)s is resumed.", queue=name))


async def peek(visit: Visit) -> Shown:
    """``POST /queues/{name}/peek``: the oldest messages, which stay where they are."""
    return await queue(
        visit, await visit.site.snapshots.queues.peek(visit.request.path_params["name"], PEEKED)
    )


async def _look(visit: Visit) -> Question:
    found = await _find(visit)
    told = visit.said("shown")
    # Fewer messages than were shown are no surprise: workers have taken them meanwhile.
    as_shown = told.isdecimal() and len(told) < 19 and found.messages <= int(told)
    return Question(told if as_shown else str(found.messages), f"/queues/{found.name}", {"queue": found})


async def _purge(visit: Visit, question: Question) -> Response:
    name = question.values["queue"].name
    shown = int(question.basis)
    visit.entry.before = {"messages": question.values["queue"].messages}
    count = await visit.site.snapshots.queues.purge(name, at_most=shown, by=visit.by)
    visit.entry.after = {"deleted": count}
    deleted = visit.site.rendering.wording(visit.request).number(count)
    note = visit.gettext("Deleted messages of %(queue)s: %(count)s.", queue=name, count=deleted)
    return visit.done(f"/queues/{name}", note)


#: ``/queues/{name}/purge``: delete its messages, if they are no more than were shown.
PURGE = Act("purge.html", _look, _purge)


async def _find(visit: Visit) -> QueueStatus:
    return await visit.site.snapshots.queues.find(visit.request.path_params["name"])


async def _pausable(visit: Visit) -> str:
    found = await _find(visit)
    if found.kind == "waiting":
        raise HTTPException(404)
    return found.name
