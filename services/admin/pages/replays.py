"""The pages of replays: what one would come to, the order to do it, and how far it is."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from schema.errors import Refused
from services.admin.auth import Session
from services.admin.pages.dead_letters import before_of, number_of
from services.admin.pages.drops import SHOWN, digest_of
from services.admin.pages.page import DeadPage, answered, by, known, said
from services.dead_letters.filters import JUDGEMENTS, Judgement, Query
from services.dead_letters.inspector import Inspector
from services.dead_letters.preflight import FORCED, Verdict
from services.dead_letters.replays import FASTEST, RATE, Run

#: Letters of one run that is ordered here at the most.
AT_ONCE = 100_000
#: Seconds that so many may take to be judged.
_PATIENCE_S = 30
#: Reasons that are told of one judgement; the rest is counted.
_REASONS = 5
#: Runs on one page; letters of a run that died again.
RUNS = 25
DIED_AGAIN = 50


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a replay of some letters would come to.

    Args:
        letters: How many there are.
        taken: How many would be published.
        insisted: How many more, if somebody insists.
        judgements: How many are judged so, with the reasons that are given most often.
        actors: How many would be published, by who answers them.
        first: Verdicts on some of them, latest first.
    """

    letters: int
    taken: int
    insisted: int
    judgements: list[tuple[Judgement, int, list[tuple[str, int]]]]
    actors: list[tuple[str, int, int]]
    first: list[Verdict]

    @classmethod
    def on(cls, verdicts: list[Verdict]) -> "Outlook":
        """The outlook by the verdicts on each."""
        judged = Counter(each.judgement for each in verdicts)
        ready = Counter(each.actor or "" for each in verdicts if each.judgement == "ready")
        forced = Counter(each.actor or "" for each in verdicts if each.judgement in FORCED)
        return cls(
            letters=len(verdicts),
            taken=judged["ready"],
            insisted=forced.total() - judged["ready"],
            judgements=[
                (judgement, judged[judgement], _reasons(verdicts, judgement))
                for judgement in JUDGEMENTS
                if judged[judgement]
            ],
            actors=[(actor, ready[actor], forced[actor]) for actor in sorted(forced)],
            first=verdicts[::-1][:SHOWN],
        )


class DeadReplays:
    """What a browser is shown of replays, and what its forms order.

    Args:
        page: How a page is made.
        inspector: Where they are on record.
    """

    def __init__(self, page: DeadPage, inspector: Inspector) -> None:
        self._page = page
        self._inspector = inspector

    # Ordering

    async def ask(self, request: Request, session: Session) -> Response:
        """``GET /dead/replay``: what a replay of these letters would come to."""
        query = self._page.query(request.query_params)
        if not query.is_definite:
            return await self._page.show(request, session, "dead_nothing.html", status=422, query=query)
        query = query.until(self._page.clock())
        return await self._ask(request, session, query, await self._verdicts(query))

    async def start(self, request: Request, session: Session) -> Response:
        """``POST /dead/replay``: put a run on record, if the letters are still those that were shown."""
        form = await self._page.gate.form(request, session)
        query = self._page.query(QueryParams(str(form.get("of", ""))))
        if not query.is_definite:
            raise HTTPException(400)
        verdicts = await self._verdicts(query)
        if _digest(verdicts) != said(form, "shown"):
            return await self._ask(request, session, query, verdicts, form=form, refused="changed")
        rate, why = said(form, "rate"), said(form, "why")
        faults = [] if _is_rate(rate) else ["rate"]
        faults += [] if why else ["why"]
        if faults:
            return await self._ask(request, session, query, verdicts, form=form, faults=tuple(faults))
        try:
            run = await answered(
                self._inspector.replays.start(
                    verdicts,
                    what=query.wanted.words,
                    by=by(request, form),
                    why=why,
                    rate=int(rate),
                    force=bool(said(form, "force")),
                ),
                _PATIENCE_S,
            )
        except Refused as error:
            return await self._ask(request, session, query, verdicts, form=form, refused=str(error))
        return self._page.done(request, form, f"/dead/runs/{run.id}", "ordered", run.id)

    async def _verdicts(self, query: Query) -> list[Verdict]:
        """A verdict on each letter, earliest first; no more than one run takes."""
        ids = await answered(self._inspector.records.ids(query.wanted, limit=AT_ONCE), _PATIENCE_S)
        return await answered(self._inspector.replays.verdicts(ids), _PATIENCE_S)

    async def _ask(
        self,
        request: Request,
        session: Session,
        query: Query,
        verdicts: list[Verdict],
        *,
        form: FormData | None = None,
        faults: tuple[str, ...] = (),
        refused: str = "",
    ) -> Response:
        typed: Mapping[str, str] = {"rate": str(RATE), "why": "", "force": ""}
        if form:
            typed = {name: said(form, name) for name in typed}
        return await self._page.show(
            request,
            session,
            "dead_replay.html",
            status=409 if refused else 422 if faults else 200,
            own={"of": query.written, "shown": _digest(verdicts), "here": f"/dead/replay?{query.written}"},
            query=query,
            outlook=Outlook.on(verdicts),
            at_once=AT_ONCE,
            fastest=FASTEST,
            forced=FORCED,
            typed=typed,
            faults=faults,
            refused=refused,
        )

    # Runs

    async def runs(self, request: Request, session: Session) -> Response:
        """``GET /dead/runs``: the history."""
        before = before_of(request.query_params)
        runs = await known(self._inspector.replays.runs(RUNS + 1, before=before))
        return await self._page.watch(
            request,
            session,
            "dead_runs.html",
            runs=None if runs is None else runs[:RUNS],
            next=runs[RUNS - 1].id if runs and len(runs) > RUNS else None,
            before=before,
        )

    async def run(self, request: Request, session: Session) -> Response:
        """``GET /dead/runs/{number}``: how far it is."""
        number = number_of(request)
        try:
            run = await known(self._inspector.replays.run(number))
        except Refused:
            raise HTTPException(404) from None
        died = await known(self._inspector.records.died_again(number, limit=DIED_AGAIN)) or []
        return await self._page.watch(request, session, "dead_run.html", number=number, run=run, died=died)

    async def ask_to_cancel(self, request: Request, session: Session) -> Response:
        """``GET /dead/runs/{number}/cancel``: what that would leave out."""
        return await self._ask_about(request, session, "cancel")

    async def ask_to_resume(self, request: Request, session: Session) -> Response:
        """``GET /dead/runs/{number}/resume``: what that would go on with."""
        return await self._ask_about(request, session, "resume")

    async def cancel(self, request: Request, session: Session) -> Response:
        """``POST /dead/runs/{number}/cancel``."""
        form = await self._page.gate.form(request, session)
        run = await self._find(request)
        try:
            await answered(self._inspector.replays.cancel(run.id, by=by(request, form)))
        except Refused as error:
            return await self._ask_about(request, session, "cancel", refused=str(error))
        return self._page.done(request, form, f"/dead/runs/{run.id}", "cancelled", run.id)

    async def resume(self, request: Request, session: Session) -> Response:
        """``POST /dead/runs/{number}/resume``."""
        form = await self._page.gate.form(request, session)
        run = await self._find(request)
        try:
            await answered(self._inspector.replays.resume(run.id, by=by(request, form)))
        except Refused as error:
            return await self._ask_about(request, session, "resume", refused=str(error))
        return self._page.done(request, form, f"/dead/runs/{run.id}", "resumed", run.id)

    async def _ask_about(
        self, request: Request, session: Session, act: str, *, refused: str = ""
    ) -> Response:
        run = await self._find(request)
        return await self._page.show(
            request,
            session,
            "dead_run_ask.html",
            status=409 if refused else 200,
            run=run,
            act=act,
            refused=refused,
        )

    async def _find(self, request: Request) -> Run:
        try:
            return await answered(self._inspector.replays.run(number_of(request)))
        except Refused:
            raise HTTPException(404) from None


def _reasons(verdicts: list[Verdict], judgement: Judgement) -> list[tuple[str, int]]:
    """What is given as the reason most often, and how often."""
    reasons = Counter(each.reason for each in verdicts if each.judgement == judgement and each.reason)
    return reasons.most_common(_REASONS)


def _digest(verdicts: list[Verdict]) -> str:
    return digest_of([(each.id, str(each.death), each.judgement, each.edit) for each in verdicts])


def _is_rate(typed: str) -> bool:
    return typed.isascii() and typed.isdigit() and len(typed) < 10 and 0 < int(typed) <= FASTEST
