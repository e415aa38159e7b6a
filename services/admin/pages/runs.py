"""The runs of replays: their history, the progress of one, cancelling and resuming it."""

from starlette.responses import Response

from services.admin.pages.page import Act, Question, Shown, Visit, digest_of

#: Runs on one page.
RUNS = 25
#: Letters of one run that are shown as having died again.
DIED_AGAIN = 50


async def runs(visit: Visit) -> Shown:
    """``GET /dead/runs``."""
    found = await visit.site.inspector.replays.runs(RUNS + 1, before=visit.before)
    more = len(found) > RUNS
    values = {"runs": found[:RUNS], "next": found[RUNS - 1].id if more else None, "before": visit.before}
    return Shown("dead_runs.html", values, live=True)


async def run(visit: Visit) -> Shown:
    """``GET /dead/runs/{number}``."""
    inspector = visit.site.inspector
    found = await inspector.replays.run(visit.number)
    died = await inspector.records.died_again(found.id, limit=DIED_AGAIN)
    return Shown("dead_run.html", {"run": found, "died": died}, live=True)


async def _look(visit: Visit, act: str) -> Question:
    found = await visit.site.inspector.replays.run(visit.number)
    # How many letters are published changes all the time; the state decides what can be done.
    return Question(digest_of([found.id, found.state]), f"/dead/runs/{found.id}", {"run": found, "act": act})


async def _cancel(visit: Visit, question: Question) -> Response:
    visit.entry.before = {"state": question.values["run"].state}
    found = await visit.site.inspector.replays.cancel(visit.number, by=visit.by)
    visit.entry.after = {"state": found.state}
    note = visit.gettext("Run %(number)s is being cancelled.", number=found.id)
    return visit.done(f"/dead/runs/{found.id}", note)


async def _resume(visit: Visit, question: Question) -> Response:
    visit.entry.before = {"state": question.values["run"].state}
    found = await visit.site.inspector.replays.resume(visit.number, by=visit.by)
    visit.entry.after = {"state": found.state}
    return visit.done(f"/dead/runs/{found.id}", visit.gettext("Run %(number)s goes on.", number=found.id))


#: ``/dead/runs/{number}/cancel``: publish no more of a run.
CANCEL = Act("dead_run_ask.html", lambda visit: _look(visit, "cancel"), _cancel)
#: ``/dead/runs/{number}/resume``: go on with a run that was cancelled.
RESUME = Act("dead_run_ask.html", lambda visit: _look(visit, "resume"), _resume)
