"""Replaying dead letters: what a replay would do, and the order."""

from collections import Counter
from dataclasses import dataclass

from starlette.responses import Response

from services.admin.pages.drops import AT_ONCE, SHOWN, address_of, chosen
from services.admin.pages.page import Act, Question, Visit, digest_of
from services.dead_letters.filters import JUDGEMENTS, Judgement, numbers
from services.dead_letters.preflight import FORCED, Verdict
from services.dead_letters.replays import FASTEST, RATE, ordered

#: Reasons that are shown of one judgement, the most frequent; the others are only counted.
_REASONS = 5


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a replay of some letters would do."""

    letters: int
    taken: int  #: Letters that would be published
    insisted: int  #: Further letters that would be published by force
    #: Each judgement, the number of its letters, and its most frequent reasons, each with its number
    judgements: list[tuple[Judgement, int, list[tuple[str, int]]]]
    actors: list[tuple[str, int, int]]  #: Each actor, how many messages it would get, and how many by force
    first: list[Verdict]  #: On the latest letters

    @classmethod
    def on(cls, verdicts: list[Verdict]) -> "Outlook":
        """The outlook for letters with these verdicts."""
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


async def _look(visit: Visit) -> Question:
    query, inspector = chosen(visit), visit.site.inspector
    verdicts = await inspector.replays.verdicts(await inspector.records.ids(query.wanted, limit=AT_ONCE))
    values = {
        "query": query,
        "outlook": Outlook.on(verdicts),
        "at_once": AT_ONCE,
        "rate": RATE,
        "fastest": FASTEST,
        "forced": FORCED,
    }
    own = {"of": query.written, "here": f"/dead/replay?{query.written}"}
    shown = digest_of([(each.id, str(each.death), each.judgement, each.edit) for each in verdicts])
    return Question(
        shown,
        address_of(query),
        values,
        own,
        subject=verdicts,
        possible=any(each.judgement in FORCED for each in verdicts),
    )


async def _start(visit: Visit, question: Question) -> Response:
    visit.entry.subject = numbers([each.id for each in question.subject])
    run = await visit.site.inspector.replays.start(
        question.subject,
        what=question.values["query"].wanted.words,
        by=visit.by,
        why=visit.said("why"),
        rate=int(visit.said("rate")),
        force=bool(visit.said("force")),
    )
    visit.entry.after = ordered(run)
    return visit.done(f"/dead/runs/{run.id}", visit.gettext("Run %(number)s is ordered.", number=run.id))


def _reasons(verdicts: list[Verdict], judgement: Judgement) -> list[tuple[str, int]]:
    reasons = Counter(each.reason for each in verdicts if each.judgement == judgement and each.reason)
    return reasons.most_common(_REASONS)


#: ``/dead/replay``: publish letters again, in a run that is put on record.
REPLAY = Act("dead_replay.html", _look, _start, required=("why", "rate"), slow=True)
