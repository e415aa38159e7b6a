"""Dead letters and their replays as JSON."""

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any
from zoneinfo import ZoneInfo

import orjson
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from services.admin import api
from services.admin.api import Handler
from services.admin.pages.dead_letters import before_of
from services.admin.pages.page import answered
from services.admin.snapshots import POSTGRESQL, Snapshots
from services.days import Clock
from services.dead_letters.filters import Filter, read_query
from services.dead_letters.inspector import Inspector
from services.process.logs import Mask

#: Entries of one answer, unless the query says otherwise; and at the most.
ENTRIES = 50
ENTRIES_AT_MOST = 1000


class DeadApi:
    """What a script is told.

    Args:
        snapshots: Which servers cannot be reached.
        inspector: Where the letters are.
        mask: Applied to whatever is told.
        clock: The time.
        home: The zone of times that name none.
    """

    def __init__(
        self, snapshots: Snapshots, inspector: Inspector, mask: Mask, clock: Clock, home: ZoneInfo
    ) -> None:
        self._snapshots = snapshots
        self._inspector = inspector
        self._mask = mask
        self._clock = clock
        self._home = home

    def told(self, tell: Callable[[QueryParams], Awaitable[dict[str, Any]]]) -> Handler:
        """A handler that answers with what the query of the address asks for."""

        async def handle(request: Request) -> Response:
            try:
                told = await answered(tell(request.query_params))
            except HTTPException as error:
                if error.status_code == 503:
                    return api.away(await self._snapshots.now(), POSTGRESQL)
                return api.failure(error.status_code, message=error.detail)
            return api.answer(await self._snapshots.now(), told)

        return handle

    async def overview(self, given: QueryParams) -> dict[str, Any]:
        """``GET /api/dead``: how many there are, and the groups that a filter asks for."""
        wanted = self._wanted(given)
        counts = await self._inspector.records.counts()
        groups = await self._inspector.records.groups(wanted, limit=_limit(given))
        return {"dead": counts.dead, "waiting": counts.waiting, "groups": self._rows(groups)}

    async def letters(self, given: QueryParams) -> dict[str, Any]:
        """``GET /api/dead/letters``: the letters that a filter asks for, latest first."""
        limit = _limit(given)
        found = await self._inspector.records.listed(
            self._wanted(given), limit=limit, before=before_of(given)
        )
        return {"letters": self._rows(found), "next": found[-1].id if len(found) == limit else None}

    async def runs(self, given: QueryParams) -> dict[str, Any]:
        """``GET /api/dead/runs``: runs of replays, latest first."""
        limit = _limit(given)
        found = await self._inspector.replays.runs(limit, before=before_of(given))
        return {"runs": self._rows(found), "next": found[-1].id if len(found) == limit else None}

    def _wanted(self, given: QueryParams) -> Filter:
        query = read_query(given, given.getlist("id"), self._clock(), self._home)
        if query.faults:
            expected = "; ".join(f"{name} is {expected}" for name, expected in query.faults.items())
            raise HTTPException(400, f"Expected: {expected}.")
        return query.wanted

    def _rows(self, found: Sequence[Any]) -> list[dict[str, Any]]:
        rows = []
        for each in found:
            row = self._mask.in_json(asdict(each))
            if row.get("arguments"):
                # Numbers of any size, which orjson does not write.
                row["arguments"] = orjson.Fragment(json.dumps(row["arguments"], ensure_ascii=False))
            rows.append(row)
        return rows


def _limit(given: QueryParams) -> int:
    """How many entries are asked for.

    Raises:
        HTTPException: 400 when that is no number that may be asked for.
    """
    asked = given.get("limit", str(ENTRIES))
    if not re.fullmatch(r"[1-9][0-9]{0,3}", asked) or int(asked) > ENTRIES_AT_MOST:
        raise HTTPException(400, f"limit is a number from 1 to {ENTRIES_AT_MOST}.")
    return int(asked)
