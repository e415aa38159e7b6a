"""A plan: what a replay is to do, in a file that somebody reads before it is carried out, and nothing else is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from schema.errors import Refused
from services.dead_letters.preflight import Verdict

#: Letters that an error names at the most.
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """Letters, each with the verdict on it.

    Args:
        made_at: When.
        made_by: Who made it.
        what: Which letters were asked for, in words.
        force: Also what is done, was replayed too often, or is being replayed.
        letters: The verdict on each; its death tells that the number means the same letter then and there.
    """

    made_at: AwareDatetime
    made_by: str
    what: str
    force: bool
    letters: tuple[Verdict, ...]

    def to_json(self) -> bytes:
        """The plan as a file holds it."""
        return _plans.dump_json(self, indent=2)

    @classmethod
    def read(cls, content: bytes) -> Self:
        """The plan that a file holds.

        Raises:
            Refused: It holds none.
        """
        try:
            plan: Self = _plans.validate_json(content)  # type: ignore[assignment]
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, fault["loc"]))
            raise Refused(f"that is no plan: {place}: {fault['msg']}") from None
        return plan

    def demand_unchanged(self, verdicts: Sequence[Verdict]) -> None:
        """Compare the plan with what is so now.

        Raises:
            Refused: Something has changed since the plan was made.
        """
        now = {each.id: (each.death, each.judgement, each.edit) for each in verdicts}
        changed = [
            each.id for each in self.letters if now.get(each.id) != (each.death, each.judgement, each.edit)
        ]
        if changed:
            more = f" and {len(changed) - _NAMED} more" if len(changed) > _NAMED else ""
            named = ", ".join(map(str, changed[:_NAMED]))
            raise Refused(f"dead letters {named}{more} have changed since the plan was made; make it anew")


_plans = TypeAdapter(Plan)
