"""Dropping dead letters, and restoring dropped ones."""

from dataclasses import replace

from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.admin.pages.page import Act, Question, Visit, digest_of
from services.days import shown_in
from services.dead_letters.filters import Filter, Query, State, numbers

#: Letters that one act takes at most, the earliest.
AT_ONCE = 100_000
#: The latest letters, which are shown before the decision.
SHOWN = 20


def chosen(visit: Visit) -> Query:
    """The letters that an act is about, without those that die after this second; 422 or 400 if none are selected."""
    query = visit.query
    if not query.is_definite:
        raise HTTPException(400 if visit.form else 422)
    return query.until(shown_in(visit.site.home, visit.site.clock()))


def address_of(query: Query) -> str:
    """The page from which these letters were selected."""
    ids = query.wanted.ids
    return f"/dead/{ids[0]}" if len(ids) == 1 else "/dead" if ids else f"/dead?{query.written}"


async def _look(visit: Visit, act: str, state: State) -> Question:
    query, records = chosen(visit), visit.site.inspector.records
    ids = []
    if query.wanted.state in (None, state):
        ids = await records.ids(replace(query.wanted, state=state), limit=AT_ONCE)
    letters = await records.listed(Filter(ids=tuple(ids[-SHOWN:]), state=None), limit=SHOWN) if ids else []
    values = {"act": act, "query": query, "count": len(ids), "letters": letters, "at_once": AT_ONCE}
    own = {"of": query.written, "here": f"/dead/{act}?{query.written}"}
    return Question(digest_of(ids), address_of(query), values, own, subject=ids, possible=bool(ids))


async def _drop(visit: Visit, question: Question) -> Response:
    visit.entry.subject = numbers(question.subject)
    count = await visit.site.inspector.edits.drop(question.subject, by=visit.by, why=visit.said("why"))
    visit.entry.after = {
        "dropped": count,
        "why": visit.said("why"),
        "what": question.values["query"].wanted.words,
    }
    return visit.done(_after(visit), visit.gettext("Letters dropped: %(count)s.", count=count))


async def _restore(visit: Visit, question: Question) -> Response:
    visit.entry.subject = numbers(question.subject)
    count = await visit.site.inspector.edits.restore(question.subject, by=visit.by)
    visit.entry.after = {"restored": count}
    return visit.done(_after(visit), visit.gettext("Letters restored: %(count)s.", count=count))


def _after(visit: Visit) -> str:
    """The letter, if it was one; otherwise the list, in which the letters may be no longer."""
    ids = visit.query.wanted.ids
    return f"/dead/{ids[0]}" if len(ids) == 1 else "/dead"


#: ``/dead/drop``: give letters up, with a reason.
DROP = Act("dead_drop.html", lambda visit: _look(visit, "drop", "dead"), _drop, required=("why",), slow=True)
#: ``/dead/restore``: take dropped letters back.
RESTORE = Act("dead_drop.html", lambda visit: _look(visit, "restore", "dropped"), _restore, slow=True)
