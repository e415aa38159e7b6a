"""Which dead letters a person selects: a filter, as it is typed, as SQL and as the query of an address."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime, timedelta, tzinfo
from typing import Any, Literal, get_args
from urllib.parse import urlencode

from schema.errors import Refused
from schema.signs import Sign
from services.days import parse_instant

#: The states of a dead letter. A ``dead`` one waits for a person, a ``waiting`` one for the outcome of its replay. That
#: is one of the next three: the replay had its effect, it was answered without one, or it became another dead letter.
State = Literal["dead", "waiting", "did_it", "nothing_to_do", "died_again", "dropped"]
STATES: tuple[State, ...] = get_args(State)

#: What a replay of a letter would do. ``ready``: it would be published. ``unfit``: its bytes or its arguments fit no
#: actor. ``done``: it has nothing left to do. ``capped``: it died again too often. ``waiting``: a replay is under way.
#: ``settled``: the letter is not dead any more.
Judgement = Literal["ready", "unfit", "done", "capped", "waiting", "settled"]
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)

#: The value that stands for every state.
ANY = "any"
#: Letters that the query of an address may name one by one.
NAMED = 1000

#: Characters of a value in the query of an address; the rest is cut off.
_LONGEST = 200
_LARGEST = 2**63

_CONDITIONS = {
    "ids": "letter.id = ANY(:ids)",
    "judged": "letter.id = ANY(:judged)",
    "state": "letter.state = :state",
    "actor": "letter.actor = :actor",
    "queue": "letter.queue = :queue",
    "cause": "letter.cause IN (CAST(:cause AS text), replace(CAST(:cause AS text), '-', ' '))",
    "error": "(letter.error_type = :error OR strpos(lower(letter.error), lower(:error)) > 0)",
    "group": "letter.fingerprint = :group",
    "sign": "letter.zodiac_sign = :sign",
    "day": "letter.day = :day",
    "since": "letter.died_at >= :since",
    "until": "letter.died_at < :until",
    "text": (
        "(strpos(lower(letter.error), lower(:text)) > 0 OR strpos(lower(letter.arguments::text), lower(:text)) > 0"
        " OR letter.message_id = :text)"
    ),
    "run": "letter.id IN (SELECT letter FROM replays WHERE run = :run)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Selects the dead letters that meet every condition; None is no condition."""

    ids: tuple[int, ...] = ()  #: Their ids; empty is no condition
    state: State | None = "dead"
    verdict: Judgement | None = None  #: What a replay of them would do at this moment
    judged: tuple[int, ...] | None = None  #: The letters with this verdict: see Records.judged
    actor: str | None = None
    queue: str | None = None  #: The queue in which they died
    cause: str | None = None  #: Hyphens may stand for its spaces
    error: str | None = None  #: The exception's class, or words of the error
    text: str | None = None  #: Words of the error or the arguments, or the message's id
    sign: Sign | None = None  #: Among their arguments, as is the day
    day: date | None = None
    since: datetime | None = None  #: They died then or later
    until: datetime | None = None  #: They died before
    group: str | None = None  #: The fingerprint of their failure
    run: int | None = None  #: They are part of this run of replays

    @property
    def asked(self) -> dict[str, Any]:
        """The conditions, by name; the parameters of :meth:`where`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)} | {"ids": self.ids or None}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if value is not None
        }

    @property
    def words(self) -> str:
        """The conditions, as people read them."""
        told = {name: value for name, value in self.asked.items() if name not in {"ids", "judged"}}
        if self.ids:
            told = {"ids": ", ".join(map(str, self.ids))}
        return ", ".join(f"{name} {value}" for name, value in told.items()) or "all"

    def where(self) -> str:
        """The conditions in SQL, about a table that is called ``letter``."""
        if self.verdict and self.judged is None:
            raise AssertionError("a verdict is no condition in SQL: call Records.judged first")
        conditions = [_CONDITIONS[name] for name in self.asked if name != "verdict"]
        return f"WHERE {' AND '.join(conditions)}" if conditions else ""


class InvalidFilter(Refused):
    """Some conditions cannot be understood; ``faults`` has what is expected of each, by its name."""

    def __init__(self, faults: Mapping[str, str], given: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{name}: {given[name]!r} is not {faults[name]}" for name in faults))
        self.faults = faults


def parse_filter(
    given: Mapping[str, str],
    now: datetime,
    zone: tzinfo | None,
    *,
    ids: Sequence[int] = (),
    state: State | None = "dead",
) -> Filter:
    """The filter that a person typed, on the command line or into an address.

    Args:
        given: Conditions by name, those of :data:`FIELDS`; empty ones and other names are ignored.
        now: Ages such as ``2h`` count from here.
        zone: The zone of times that name none; None: the machine's own.
        ids: Letters that are named one by one.
        state: The state if none is given.

    Raises:
        InvalidFilter: Some conditions cannot be understood.
    """
    found: dict[str, Any] = {"state": state, "ids": tuple(ids)}
    faults = {}
    for name, (read, expected) in _FIELDS.items():
        if value := given.get(name, "").strip():
            try:
                found[name] = parse_instant(value, now, zone) if read is None else read(value)
            except ValueError:
                faults[name] = expected
    if faults:
        raise InvalidFilter(faults, given)
    return Filter(**found | {"state": None if found["state"] == ANY else found["state"]})


def _words(value: str) -> str:
    value.encode()  # PostgreSQL has no lone surrogates
    return value.replace("\0", "")


def _number(value: str) -> int:
    number = int(value[:20])
    if not 0 < number < _LARGEST:
        raise ValueError(value)
    return number


def _one_of(*names: str) -> tuple[Callable[[str], str], str]:
    return lambda value: names[names.index(value.lower())], f"one of {', '.join(names)}"


_MOMENT = "a date or time such as 2026-11-22 or 2026-11-22T06:30, or an age such as 15m, 2h, 3d"
_TEXT = (_words, "text in UTF-8")
#: How each condition is read, and what is expected of it; a moment is read by the clock.
_FIELDS: dict[str, tuple[Callable[[str], Any] | None, str]] = {
    "actor": _TEXT,
    "queue": _TEXT,
    "cause": _TEXT,
    "error": _TEXT,
    "text": _TEXT,
    "sign": _one_of(*Sign),
    "day": (date.fromisoformat, "a day such as 2026-11-22"),
    "since": (None, _MOMENT),
    "until": (None, _MOMENT),
    "state": _one_of(*STATES, ANY),
    "verdict": _one_of(*JUDGEMENTS),
    "group": _TEXT,
    "run": (_number, "the number of a run"),
}
#: The names of the conditions, in the order of the page's form.
FIELDS = tuple(_FIELDS)


@dataclass(frozen=True, slots=True)
class Query:
    """The query of an address: a filter, and what was typed."""

    wanted: Filter  #: The filter, without the conditions that cannot be understood
    typed: dict[str, str]  #: What was typed, by field
    #: What is expected of each field that cannot be understood
    faults: Mapping[str, str] = field(default_factory=dict)
    is_given: bool = True  #: A state was named, or letters one by one: it is not just the page's default

    @property
    def is_definite(self) -> bool:
        """Letters may be changed by it: it is given, and every condition was understood."""
        return self.is_given and not self.faults

    @property
    def named(self) -> bool:
        """Letters are named one by one."""
        return bool(self.wanted.ids)

    @property
    def is_narrow(self) -> bool:
        """It is not the filter that is used when nothing is asked for."""
        return self.wanted != Filter()

    @property
    def written(self) -> str:
        """The query as text; ages have become times."""
        wanted = self.wanted
        if wanted.ids:
            return urlencode({"id": ",".join(map(str, wanted.ids))})
        told = {name: getattr(wanted, name) for name in FIELDS}
        told |= {name: value.isoformat() for name in ("since", "until") if (value := told[name])}
        return urlencode(
            {name: value for name, value in told.items() if value} | {"state": wanted.state or ANY}
        )

    def until(self, now: datetime) -> "Query":
        """The same query without letters that die after this second."""
        if self.named or (self.wanted.until and self.wanted.until <= now):
            return self
        end = now.replace(microsecond=0) + timedelta(seconds=1)
        return replace(self, wanted=replace(self.wanted, until=end))


def read_query(given: Mapping[str, str], ids: Sequence[str], now: datetime, home: tzinfo) -> Query:
    """Read the query of an address.

    Args:
        given: Its conditions, as for :func:`parse_filter`; ignored where letters are named one by one.
        ids: Each a number, or several with commas between them; at most :data:`NAMED` numbers together.
    """
    named = [number for each in ids for number in each.split(",") if number.strip()]
    if named:
        try:
            numbers = tuple(sorted({_number(number) for number in named[:NAMED]}))
        except ValueError:
            numbers = ()
        is_sound = numbers and len(named) <= NAMED
        faults = {} if is_sound else {"id": f"at most {NAMED} numbers of letters"}
        return Query(Filter(ids=numbers, state=None), {}, faults)
    typed = {name: given[name].replace("\0", "").strip()[:_LONGEST] for name in FIELDS if name in given}
    typed = {name: value for name, value in typed.items() if value}
    try:
        return Query(parse_filter(typed, now, home), typed, is_given="state" in typed)
    except InvalidFilter as error:
        understood = {name: value for name, value in typed.items() if name not in error.faults}
        return Query(parse_filter(understood, now, home), typed, error.faults, is_given="state" in understood)


def numbers(letters: Sequence[int], most: int = 20) -> str:
    """Numbers of letters in words: the first ones, and how many more there are."""
    shown = ", ".join(map(str, letters[:most]))
    return f"{shown} and {len(letters) - most} more" if len(letters) > most else shown
