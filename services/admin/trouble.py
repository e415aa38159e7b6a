"""What is not ready, put together: texts of one day that failed for the same reason are told of once."""

from dataclasses import dataclass
from datetime import date

from services.admin.snapshots import Service
from services.status import SignStatus


@dataclass(frozen=True, slots=True)
class Trouble:
    """Texts of one day in the same state for the same reason.

    Args:
        day: The day.
        state: As of :data:`services.status.STATES`; or that of a text which is to replace one.
        error: Why their last attempts failed.
        anew: Readers are shown an older text meanwhile.
        signs: The texts.
    """

    day: date
    state: str
    error: str | None
    anew: bool
    signs: list[SignStatus]


def troubles(service: Service) -> list[Trouble]:
    """Whatever somebody has begun and nobody has finished, day by day."""
    found: dict[tuple[date, str, str | None, bool], Trouble] = {}
    for day in service.days:
        if day.day < service.first_alive:
            continue
        for sign in day.signs:
            if sign.state == "written" and not sign.anew:
                continue
            if sign.since is None:
                continue  # nobody has begun it: the table says all there is to say
            state, anew = (sign.anew, True) if sign.anew else (sign.state, False)
            key = (day.day, state, sign.error, anew)
            found.setdefault(key, Trouble(*key, [])).signs.append(sign)
    return list(found.values())
