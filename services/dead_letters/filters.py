"""Which dead letters an operator asks for: the query of an address, read and written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from starlette.datastructures import QueryParams

from schema.signs import Sign
from services.days import instant_asked
from services.dead_letters.records import STATES, Filter, State

#: What may be asked for, in the order of the form; as the command line names it.
FIELDS = (
    "actor",
    "queue",
    "cause",
    "error",
    "text",
    "sign",
    "day",
    "since",
    "until",
    "state",
    "group",
    "run",
)
#: Letters that may be named one by one.
NAMED = 1000
#: Any state.
ANY = "any"

_LONGEST = 200
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Query:
    """What somebody asks for.

    Args:
        wanted: The letters; what is at fault is left out.
        typed: What was typed, by field.
        faults: The fields that nobody can make sense of.
        is_given: Something is asked for at all.
    """

    wanted: Filter
    typed: dict[str, str]
    faults: tuple[str, ...] = ()
    is_given: bool = True

    @property
    def is_definite(self) -> bool:
        """Something can be done with what is asked for: it is there, and nothing about it is at fault."""
        return self.is_given and not self.faults

    @property
    def named(self) -> bool:
        """Letters are named one by one."""
        return bool(self.wanted.ids)

    @property
    def is_narrow(self) -> bool:
        """Something else is asked for than what lies there when nothing is."""
        return self.wanted != Filter()

    @property
    def written(self) -> str:
        """The same as the query of an address; an age has become a time."""
        wanted = self.wanted
        if wanted.ids:
            return urlencode({"id": ",".join(map(str, wanted.ids))})
        told = {name: getattr(wanted, name) for name in FIELDS}
        told |= {name: value.isoformat() for name in ("since", "until") if (value := told[name])}
        return urlencode(
            {name: value for name, value in told.items() if value} | {"state": wanted.state or ANY}
        )

    def until(self, now: datetime) -> "Query":
        """The same without what dies from the end of this second on."""
        if self.named or (self.wanted.until and self.wanted.until <= now):
            return self
        end = now.replace(microsecond=0) + timedelta(seconds=1)
        return replace(self, wanted=replace(self.wanted, until=end))


def read_query(given: QueryParams, now: datetime, home: ZoneInfo) -> Query:
    """What the query of an address asks for.

    Args:
        given: The query; ``id`` may stand there several times, with several numbers each.
        now: Ages count from here.
        home: The zone of times that name none.
    """
    ids, is_sound = _ids(given.getlist("id"))
    if ids or not is_sound:
        return Query(Filter(ids=ids, state=None), {}, () if is_sound else ("id",))
    typed = {name: given[name].replace("\0", "").strip()[:_LONGEST] for name in FIELDS if name in given}
    typed = {name: value for name, value in typed.items() if value}
    found: dict[str, object] = {}
    faults = []
    for name, value in typed.items():
        try:
            found[name] = _read(name, value, now, home)
        except ValueError:
            faults.append(name)
    return Query(Filter(**found), typed, tuple(faults), is_given="state" in found)  # type: ignore[arg-type]


def _read(name: str, value: str, now: datetime, home: ZoneInfo) -> object:
    if name in {"since", "until"}:
        return instant_asked(value, now, home)
    return _READ.get(name, str)(value)


def _ids(given: Sequence[str]) -> tuple[tuple[int, ...], bool]:
    """The numbers, and whether they are all that was given."""
    named = [number for each in given for number in each.split(",") if number.strip()]
    try:
        return tuple(sorted({_number(number) for number in named[:NAMED]})), len(named) <= NAMED
    except ValueError:
        return (), False


def _number(value: str) -> int:
    number = int(value[:20])
    if not 0 < number < _LARGEST:
        raise ValueError(value)
    return number


def _state(value: str) -> State | None:
    return None if value == ANY else STATES[STATES.index(value)]


_READ: dict[str, Callable[[str], object]] = {
    "state": _state,
    "sign": lambda value: Sign(value.lower()),
    "day": date.fromisoformat,
    "run": _number,
}
