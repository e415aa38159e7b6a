"""The pages of dead letters: all of them, a group, one in full."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException

from schema.messages import Message
from schema.signs import Sign
from services.admin.pages.page import Shown, Visit
from services.days import iso_instant
from services.dead_letters.contents import NAME, cut
from services.dead_letters.death import CAUSES
from services.dead_letters.filters import JUDGEMENTS, STATES, Filter
from services.dead_letters.preflight import FORCED
from services.dead_letters.records import Edit, Letter, Listed

#: Seconds between two updates of a list for which every letter is judged.
JUDGED_EVERY_S = 60.0
#: Letters on one page, and groups.
LETTERS = 50
GROUPS = 50
#: Attempts of one letter that are shown, the last ones.
ATTEMPTS = 30
#: Characters that are shown of bytes that are no message.
BYTES = 4000
#: Characters of arguments that can be edited, and that are shown of one.
ARGUMENTS = 4000
#: Arguments of one letter that are shown.
_ARGUMENTS_SHOWN = 50

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to answer a message, as the letter records it."""

    at: datetime | None
    seconds: float | None
    host: str
    pid: str
    release: str
    error: str


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit changed in one argument, or in the actor; None: it was or is missing."""

    name: str
    before: str | None
    after: str | None


async def letters(visit: Visit) -> Shown:
    """``GET /dead``: the letters that a filter selects, by group and one by one."""
    query, before, records = visit.query, visit.before, visit.site.inspector.records
    wanted = await records.judged(query.wanted)
    groups, count, listed = await asyncio.gather(
        records.groups(wanted, limit=GROUPS + 1),
        records.count(wanted),
        records.listed(wanted, limit=LETTERS + 1, before=before),
    )
    values = {
        "query": query,
        "groups": groups[:GROUPS],
        "more_groups": len(groups) > GROUPS,
        "count": count,
        "choices": _choices(visit.site.actors),
        **_page_of(listed, before),
    }
    if wanted.verdict:
        values["refresh_s"] = JUDGED_EVERY_S
    return Shown("dead.html", values, status=422 if query.faults else 200, live=True)


async def group(visit: Visit) -> Shown:
    """``GET /dead/group/{fingerprint}``."""
    records, before = visit.site.inspector.records, visit.before
    wanted = Filter(group=group_of(visit), state=None)
    found = await records.groups(wanted)
    if not found:
        raise HTTPException(404)
    listed = await records.listed(wanted, limit=LETTERS + 1, before=before)
    return Shown("dead_group.html", {"group": found[0], **_page_of(listed, before)})


def group_of(visit: Visit) -> str:
    """The fingerprint in the path; 404 if it is not one."""
    fingerprint: str = visit.request.path_params["fingerprint"]
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise HTTPException(404)
    return fingerprint


async def letter(visit: Visit, status: int = 200, *, fault: str = "", refused: str = "") -> Shown:
    """``GET /dead/{number}``; an edit that was refused stays in the form, with its ``fault`` or the reason."""
    inspector, actors = visit.site.inspector, visit.site.actors
    letter = await inspector.records.whole(visit.number)
    verdicts = await inspector.replays.verdicts([letter.id])
    now: Letter | Edit = letter.edit or letter
    arguments = cut(json.dumps(now.arguments or {}, ensure_ascii=False, indent=2), ARGUMENTS)
    values = {
        "letter": letter,
        "told_bytes": None
        if letter.actor is not None
        else letter.body[:BYTES].decode(errors="backslashreplace"),
        "cut_bytes": letter.size > BYTES,
        "arguments": _first(_readable(letter.arguments)),
        "attempts": _attempts(letter.tries),
        "edits": _lineage(letter),
        "verdict": verdicts[0] if verdicts else None,
        "forced": FORCED,
        "actors": sorted(actors),
        "signatures": {name: _signature(message) for name, message in sorted(actors.items())},
        "form": {"actor": now.actor or "", "arguments": arguments} | typed_edit(visit),
        "fault": fault,
        "refused": refused,
    }
    return Shown("dead_letter.html", values, {"here": f"/dead/{letter.id}"}, status)


def typed_edit(visit: Visit) -> dict[str, str]:
    """The actor and the arguments in a form; empty for a page that is only looked at."""
    longest = {"actor": 500, "arguments": ARGUMENTS}
    return {name: visit.said(name, most) for name, most in longest.items() if name in visit.form}


def _choices(actors: Mapping[str, type[Message]]) -> dict[str, Sequence[str]]:
    """The values that the filter offers, by field."""
    return {
        "actor": sorted(actors),
        "queue": sorted({name.partition(".")[0] for name in actors}),
        "cause": CAUSES,
        "sign": [sign.value for sign in Sign],
        "state": STATES,
        "verdict": JUDGEMENTS,
    }


def _page_of(listed: list[Listed], before: int | None) -> dict[str, Any]:
    more = len(listed) > LETTERS
    return {
        "letters": [(letter, _readable(letter.arguments)) for letter in listed[:LETTERS]],
        "next": listed[LETTERS - 1].id if more else None,
        "before": before,
    }


def _readable(arguments: dict[str, Any] | None) -> dict[str, str]:
    """Arguments as people read them: JSON, but text without quotes."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in (arguments or {}).items()
    }


def _signature(message: type[Message]) -> dict[str, str]:
    """The fields of a message, each with the name of its type."""
    return {each.name: getattr(each.type, "__name__", str(each.type)) for each in fields(message)}


def _attempts(tries: Sequence[dict[str, Any]]) -> list[Attempt]:
    """The attempts that a message carries; they may hold anything, since anybody can publish a message."""
    return [
        Attempt(
            at=iso_instant(each.get("at")),
            seconds=_duration(each.get("seconds")),
            **{name: str(each.get(name, "")) for name in ("host", "pid", "release", "error")},
        )
        for each in tries[-ATTEMPTS:]
        if isinstance(each, dict)
    ]


def _duration(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and 0 <= said < 1e6 else None


def _lineage(letter: Letter) -> list[tuple[Edit, list[Change]]]:
    """Each edit with what it changed, oldest first."""
    versions = [_with_actor(letter), *map(_with_actor, letter.edits)]
    return [
        (
            edit,
            [
                Change(name, _cut(old.get(name)), _cut(new.get(name)))
                for name in old | new
                if old.get(name) != new.get(name)
            ],
        )
        for edit, old, new in zip(letter.edits, versions, versions[1:], strict=False)
    ]


def _first(arguments: dict[str, str]) -> dict[str, str]:
    return {
        cut(name, NAME): cut(value, ARGUMENTS) for name, value in list(arguments.items())[:_ARGUMENTS_SHOWN]
    }


def _cut(value: str | None) -> str | None:
    return value and cut(value, ARGUMENTS)


def _with_actor(version: Letter | Edit) -> dict[str, str]:
    return ({"actor": version.actor} if version.actor else {}) | _readable(version.arguments)
