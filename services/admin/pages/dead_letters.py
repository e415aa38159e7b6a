"""The pages of dead letters: all of them, a group, one in full."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from schema.errors import Refused
from schema.messages import Message
from schema.signs import Sign
from services.admin.auth import Session
from services.admin.pages.page import DeadPage, answered
from services.days import instant_noted
from services.dead_letters.death import CAUSES
from services.dead_letters.filters import STATES, Filter, Query
from services.dead_letters.inspector import Inspector
from services.dead_letters.preflight import FORCED
from services.dead_letters.records import Edit, Group, Letter, Listed

#: Letters on one page, and groups.
LETTERS = 50
GROUPS = 50
#: Of one letter's attempts, the last.
ATTEMPTS = 30
#: Characters of bytes that are no message.
BYTES = 4000

_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a message, as far as the letter tells."""

    at: datetime | None
    seconds: float | None
    host: str
    pid: str
    release: str
    error: str


@dataclass(frozen=True, slots=True)
class Change:
    """What an edit made of one argument, or of the actor; None: there is none of this name."""

    name: str
    before: str | None
    after: str | None


class DeadPages:
    """What a browser is shown of dead letters.

    Args:
        page: How a page is made.
        inspector: Where the letters are.
        actors: What each actor answers, by its name.
    """

    def __init__(self, page: DeadPage, inspector: Inspector, actors: Mapping[str, type[Message]]) -> None:
        self._page = page
        self._inspector = inspector
        self._actors = actors

    async def letters(self, request: Request, session: Session) -> Response:
        """``GET /dead``: the letters that a filter asks for, by group and one by one."""
        query = self._page.query(request.query_params)
        before = before_of(request.query_params)
        records = self._inspector.records
        groups, count, letters = await answered(
            asyncio.gather(
                records.groups(query.wanted, limit=GROUPS + 1),
                records.count(query.wanted),
                records.listed(query.wanted, limit=LETTERS + 1, before=before),
            )
        )
        return await self._page.show(
            request,
            session,
            "dead.html",
            status=422 if query.faults else 200,
            query=query,
            groups=groups[:GROUPS],
            more_groups=len(groups) > GROUPS,
            count=count,
            **_paged(letters, before),
            choices=self._choices(),
        )

    async def group(self, request: Request, session: Session) -> Response:
        """``GET /dead/group/{fingerprint}``."""
        group = await self._group(request)
        query = Query(Filter(group=group.fingerprint, state=None), {})
        before = before_of(request.query_params)
        letters = await answered(
            self._inspector.records.listed(query.wanted, limit=LETTERS + 1, before=before)
        )
        return await self._page.show(
            request, session, "dead_group.html", group=group, query=query, **_paged(letters, before)
        )

    async def _group(self, request: Request) -> Group:
        fingerprint = group_of(request)
        found = await answered(self._inspector.records.groups(Filter(group=fingerprint, state=None)))
        if not found:
            raise HTTPException(404)
        return found[0]

    async def letter(self, request: Request, session: Session) -> Response:
        """``GET /dead/{id}``."""
        return await self.show_letter(request, session, await self.find(request))

    async def find(self, request: Request) -> Letter:
        """The letter of the address.

        Raises:
            HTTPException: 404 when there is none, 503 when nobody knows.
        """
        number = number_of(request)
        try:
            return await answered(self._inspector.records.whole(number))
        except Refused:
            raise HTTPException(404) from None

    async def show_letter(
        self,
        request: Request,
        session: Session,
        letter: Letter,
        *,
        status: int = 200,
        typed: Mapping[str, str] | None = None,
        fault: str = "",
        refused: str = "",
    ) -> Response:
        """A letter in full, and what can be done with it.

        Args:
            request: What was asked for.
            session: Whose forms it holds.
            letter: The letter.
            status: Of HTTP.
            typed: What stands in the form already.
            fault: What is wrong with the arguments that stand there.
            refused: Why something was not done.
        """
        verdicts = await answered(self._inspector.replays.verdicts([letter.id]))
        now: Letter | Edit = letter.edit or letter
        return await self._page.show(
            request,
            session,
            "dead_letter.html",
            status=status,
            letter=letter,
            told_bytes=None if letter.message_id else letter.body[:BYTES].decode(errors="backslashreplace"),
            cut_bytes=len(letter.body) > BYTES,
            arguments=_arguments(letter.arguments),
            attempts=_attempts(letter.tries),
            edits=_lineage(letter),
            here=f"/dead/{letter.id}",
            verdict=verdicts[0] if verdicts else None,
            forced=FORCED,
            actors=sorted(self._actors),
            signatures={name: _signature(message) for name, message in sorted(self._actors.items())},
            form={"actor": now.actor or "", "arguments": _as_json(now.arguments or {}), **(typed or {})},
            fault=fault,
            refused=refused,
        )

    def _choices(self) -> dict[str, Sequence[str]]:
        """What may be chosen in the filter, by field."""
        return {
            "actor": sorted(self._actors),
            "queue": sorted({name.partition(".")[0] for name in self._actors}),
            "cause": CAUSES,
            "sign": [sign.value for sign in Sign],
            "state": STATES,
        }


def group_of(request: Request) -> str:
    """The fingerprint in the address.

    Raises:
        HTTPException: 404 when it is none.
    """
    fingerprint: str = request.path_params["fingerprint"]
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise HTTPException(404)
    return fingerprint


def number_of(request: Request) -> int:
    """The number in the address.

    Raises:
        HTTPException: 404 when there can be nothing of that number.
    """
    number: int = request.path_params["number"]
    if number >= _LARGEST:
        raise HTTPException(404)
    return number


def before_of(given: QueryParams) -> int | None:
    """Where the page of a list begins; None: at its top.

    Raises:
        HTTPException: 400 when it begins nowhere.
    """
    before = given.get("before", "")
    if not before:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", before):
        raise HTTPException(400, "before is the number of an entry.")
    return int(before)


def _paged(letters: list[Listed], before: int | None) -> dict[str, Any]:
    more = len(letters) > LETTERS
    return {
        "letters": [(letter, _arguments(letter.arguments)) for letter in letters[:LETTERS]],
        "next": letters[LETTERS - 1].id if more else None,
        "before": before,
    }


def _arguments(arguments: dict[str, Any] | None) -> dict[str, str]:
    """Arguments as people read them: what is text without its quotes."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in (arguments or {}).items()
    }


def _as_json(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, ensure_ascii=False, indent=2)


def _signature(message: type[Message]) -> dict[str, str]:
    """The fields of a message, each with its type in words."""
    return {each.name: getattr(each.type, "__name__", str(each.type)) for each in fields(message)}


def _attempts(tries: Sequence[dict[str, Any]]) -> list[Attempt]:
    """The attempts that a message brought along; anybody may have put anything there."""
    return [
        Attempt(
            at=instant_noted(each.get("at")),
            seconds=_duration(each.get("seconds")),
            host=str(each.get("host", "")),
            pid=str(each.get("pid", "")),
            release=str(each.get("release", "")),
            error=str(each.get("error", "")),
        )
        for each in tries[-ATTEMPTS:]
        if isinstance(each, dict)
    ]


def _duration(said: object) -> float | None:
    return float(said) if isinstance(said, int | float) and 0 <= said < 1e6 else None


def _lineage(letter: Letter) -> list[tuple[Edit, list[Change]]]:
    """Each edit with what it changed, oldest first."""
    before = _with_actor(letter.actor, letter.arguments)
    found = []
    for edit in letter.edits:
        after = _with_actor(edit.actor, edit.arguments)
        names = [*before, *(name for name in after if name not in before)]
        changes = [
            Change(name, before.get(name), after.get(name))
            for name in names
            if before.get(name) != after.get(name)
        ]
        found.append((edit, changes))
        before = after
    return found


def _with_actor(actor: str | None, arguments: dict[str, Any] | None) -> dict[str, str]:
    return ({"actor": actor} if actor else {}) | _arguments(arguments)
