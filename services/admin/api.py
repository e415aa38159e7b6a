"""The figures of the pages as JSON, for scripts."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

import orjson
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from schema.errors import DatabaseUnavailable, NotPublished
from services.accounts.roles import Role
from services.admin import snapshots
from services.admin.auth import Forbidden
from services.admin.pages.audit import read_audit_query
from services.admin.pages.page import ACT_S, Site, before_of
from services.admin.snapshots import POSTGRESQL, RABBITMQ, Service, Snapshot
from services.dead_letters.filters import Filter
from services.process.escaping import visible_json
from services.process.logs import Mask
from services.readers.analytics import Trend

#: Entries of one answer, unless the query says otherwise; and at most.
ENTRIES = 50
ENTRIES_AT_MOST = 1000

_FORM = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="horoscope", charset="UTF-8"'}
#: A word and a sentence for each HTTP status.
ERRORS = {
    400: ("bad_request", "The request cannot be understood."),
    401: (
        "not_signed_in",
        "Sign in, or send a token as Authorization: Bearer, or a name and a password by HTTP Basic.",
    ),
    403: ("forbidden", "The role does not allow this."),
    404: (
        "not_found",
        "There are /api/today, /api/queues, /api/processes, /api/dead, /api/dead/letters, /api/dead/runs and /api/audit.",
    ),
    405: ("method_not_allowed", "Use GET."),
    429: ("too_many_tries", "Too many failed attempts; Retry-After says in how many seconds to try again."),
    500: ("failed", "The page has failed; the process's log says more, at the event admin.failed."),
}
_SERVERS = ((DatabaseUnavailable, POSTGRESQL), (TimeoutError, POSTGRESQL), (NotPublished, RABBITMQ))

Figures = Callable[[Site, Snapshot, QueryParams], Awaitable[dict[str, Any]]]


def endpoint(site: Site, figures: Figures, role: Role) -> Callable[[Request], Awaitable[Response]]:
    """A handler that answers browsers that have signed in, and scripts that send a token or a password."""

    async def answer(request: Request) -> Response:
        result = await site.gate.caller(request)
        if result.locked_s:
            return failure(429, headers={"Retry-After": str(result.locked_s)})
        if result.session is None or not result.welcome:
            return failure(401, headers=_CHALLENGE)
        if not result.session.role.allows(role):
            raise Forbidden(result.session, role)
        snapshot = await site.snapshots.now()
        judges = bool(request.query_params.get("verdict"))
        async with asyncio.timeout(ACT_S if judges else snapshots.PATIENCE_S):
            told = await figures(site, snapshot, request.query_params)
        away = [{"server": each.server, "since": each.since, "reason": each.reason} for each in snapshot.away]
        return _json({"at": snapshot.at, **told, "away": away})

    return answer


async def today(_: Site, snapshot: Snapshot, __: QueryParams) -> dict[str, Any]:
    """``GET /api/today``."""
    service = _service(snapshot)
    seen, status = service.analytics, service.status
    return {
        "horoscopes_today": seen.horoscopes_today,
        "day": seen.day,
        "trend": _trend(seen.trend),
        "yesterday": seen.yesterday,
        "signs": [{"sign": of.sign, "views": of.views, "trend": _trend(of.trend)} for of in seen.signs],
        "hours": seen.hours,
        "week": seen.week,
        "readers_today": seen.readers_today,
        "answered": seen.answered,
        "waited": seen.waited,
        "from_cache": seen.from_cache,
        "p50_s": seen.p50_s,
        "p99_s": seen.p99_s,
        "texts": [
            {
                "day": each.day,
                "over": each.day < service.first_alive,
                "ready": each.written,
                "signs": each.signs,
            }
            for each in service.days
        ],
        "ticks": status.ticks,
        "readers": status.readers,
        "waiters": status.waiters,
        "parked": status.parked,
        "tokens_today": status.tokens_today,
        "cost_today_usd": status.cost_today_usd,
        "dead_letters": snapshot.dead_letters,
        "alarms": [str(alarm) for alarm in status.alarms],
    }


async def queues(_: Site, snapshot: Snapshot, __: QueryParams) -> dict[str, Any]:
    """``GET /api/queues``."""
    if snapshot.queues is None:
        raise NotPublished("RabbitMQ cannot be reached")
    return {
        "queues": [queue.to_json(snapshot.pauses) for queue in snapshot.queues],
        "dead_letters": snapshot.dead_letters,
        "management_api": {"reachable": snapshot.unmanaged is None, "reason": snapshot.unmanaged},
    }


async def processes(_: Site, snapshot: Snapshot, __: QueryParams) -> dict[str, Any]:
    """``GET /api/processes``."""
    return {"processes": _service(snapshot).records.processes}


async def dead(site: Site, _: Snapshot, given: QueryParams) -> dict[str, Any]:
    """``GET /api/dead``: how many dead letters there are, and the groups that a filter selects."""
    counts = await site.inspector.records.counts()
    groups = await site.inspector.records.groups(_wanted(site, given), limit=_limit(given))
    return {"dead": counts.dead, "waiting": counts.waiting, "groups": _rows(groups, site.mask)}


async def dead_letters(site: Site, _: Snapshot, given: QueryParams) -> dict[str, Any]:
    """``GET /api/dead/letters``: the letters that a filter selects, latest first."""
    limit = _limit(given)
    wanted, before = _wanted(site, given), before_of(given)
    found = await site.inspector.records.listed(wanted, limit=limit, before=before)
    return {"letters": _rows(found, site.mask), "next": found[-1].id if len(found) == limit else None}


async def dead_runs(site: Site, _: Snapshot, given: QueryParams) -> dict[str, Any]:
    """``GET /api/dead/runs``: runs of replays, latest first."""
    limit = _limit(given)
    found = await site.inspector.replays.runs(limit, before=before_of(given))
    return {"runs": _rows(found, site.mask), "next": found[-1].id if len(found) == limit else None}


async def audit(site: Site, _: Snapshot, given: QueryParams) -> dict[str, Any]:
    """``GET /api/audit``: who did what, latest first."""
    limit = _limit(given)
    query = read_audit_query(given, site.clock(), site.home)
    if query.faults:
        raise HTTPException(400, f"Wrong in the query: {', '.join(query.faults)}.")
    found = await site.audit.listed(query.wanted, limit=limit, before=before_of(given))
    entries = [site.mask.in_json(asdict(each)) for each in found]
    return {"entries": entries, "next": found[-1].id if len(found) == limit else None}


async def failed(site: Site, error: Exception, status: int) -> Response:
    """The answer to a request that failed."""
    server = next((server for kind, server in _SERVERS if isinstance(error, kind)), None)
    if server:
        away = (await site.snapshots.now()).away
        reason = next((each.reason for each in away if each.server == server), f"{server} cannot be reached")
        return failure(503, f"{server.lower()}_away", reason)
    if isinstance(error, HTTPException):
        said = error.detail if status in {400, 403} else ""
        return failure(status, "", said, dict(error.headers or {}))
    return failure(status)


def failure(
    status: int, error: str = "", message: str = "", headers: dict[str, str] | None = None
) -> Response:
    """An error, as a word for scripts and a sentence for people."""
    word, sentence = ERRORS.get(status, ("error", f"HTTP {status}"))
    response = _json({"error": error or word, "message": message or sentence})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def _service(snapshot: Snapshot) -> Service:
    if snapshot.service is None:
        raise DatabaseUnavailable("PostgreSQL cannot be reached")
    return snapshot.service


def _wanted(site: Site, given: QueryParams) -> Filter:
    query = site.query(given)
    if query.faults:
        expected = "; ".join(f"{name} is {expected}" for name, expected in query.faults.items())
        raise HTTPException(400, f"Expected: {expected}.")
    return query.wanted


def _limit(given: QueryParams) -> int:
    """The number of entries that are asked for; 400 if it is not from 1 to :data:`ENTRIES_AT_MOST`."""
    asked = given.get("limit", str(ENTRIES))
    if not re.fullmatch(r"[1-9][0-9]{0,3}", asked) or int(asked) > ENTRIES_AT_MOST:
        raise HTTPException(400, f"limit is a number from 1 to {ENTRIES_AT_MOST}.")
    return int(asked)


def _rows(found: Sequence[Any], mask: Mask) -> list[dict[str, Any]]:
    rows = []
    for each in found:
        row = mask.in_json(asdict(each))
        if row.get("arguments"):
            # orjson does not write integers beyond 64 bits.
            row["arguments"] = orjson.Fragment(json.dumps(row["arguments"], ensure_ascii=False))
        rows.append(row)
    return rows


def _trend(trend: Trend) -> dict[str, Any]:
    return {
        "until": trend.until, "today": trend.today, "yesterday": trend.yesterday, "change": trend.change,
    }  # fmt: skip


def _json(told: dict[str, Any]) -> Response:
    content = orjson.dumps(told, default=_number, option=_FORM).decode()
    return Response(visible_json(content, keep="\n"), media_type="application/json")


def _number(value: Any) -> float:
    """PostgreSQL's sums are decimals."""
    return float(value) if value % 1 else int(value)
