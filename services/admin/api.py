"""The same figures as JSON, for scripts and other pages."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from services.admin.auth import Gate
from services.admin.snapshots import POSTGRESQL, RABBITMQ, Away, Service, Snapshot, Snapshots
from services.readers.analytics import Trend
from services.status import DayStatus

Handler = Callable[[Request], Awaitable[Response]]

_FORM = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="horoscope", charset="UTF-8"'}
#: A status of HTTP as a word, and what is wrong in a sentence.
ERRORS = {
    400: ("bad_request", "The request cannot be understood."),
    401: ("not_signed_in", "Sign in, or send the password by HTTP Basic with any user name."),
    404: (
        "not_found",
        "There are /api/today, /api/queues, /api/processes, /api/dead, /api/dead/letters and /api/dead/runs.",
    ),
    405: ("method_not_allowed", "Use GET."),
    429: (
        "too_many_tries",
        "Too many failed tries; Retry-After says in how many seconds another is looked at.",
    ),
    500: ("failed", "This page has failed; the log of the process says more, at the event admin.failed."),
}


class Api:
    """What a script is told.

    Args:
        gate: Who comes in.
        snapshots: What there is to tell.
    """

    def __init__(self, gate: Gate, snapshots: Snapshots) -> None:
        self._gate = gate
        self._snapshots = snapshots

    def told(self, tell: Callable[[Snapshot], dict[str, Any] | str]) -> Handler:
        """A handler that answers whoever has signed in, or sends the password along.

        Args:
            tell: Makes the answer, or names the server without which there is none.
        """

        async def handle(_: Request) -> Response:
            snapshot = await self._snapshots.now()
            told = tell(snapshot)
            return away(snapshot, told) if isinstance(told, str) else answer(snapshot, told)

        return self.signed_in(handle)

    def signed_in(self, handler: Handler) -> Handler:
        """The same of a handler that makes the whole answer by itself."""

        async def handle(request: Request) -> Response:
            if self._gate.session(request, "operator") is None:
                verdict = self._gate.try_header(request)
                if verdict is None or not (verdict.welcome or verdict.locked_s):
                    return failure(401, headers=_CHALLENGE)
                if not verdict.welcome:
                    return failure(429, headers={"Retry-After": str(verdict.locked_s)})
            return await handler(request)

        return handle


def answer(snapshot: Snapshot, told: dict[str, Any]) -> Response:
    """What there is to tell, with when that was so and which servers cannot be reached."""
    return _json({"at": snapshot.at, **told, "away": [_away(each) for each in snapshot.away]})


def away(snapshot: Snapshot, server: str) -> Response:
    """There is nothing to tell without this server."""
    reason = next((each.reason for each in snapshot.away if each.server == server), "")
    return failure(503, f"{server.lower()}_away", reason or f"{server} cannot be reached")


def today(snapshot: Snapshot) -> dict[str, Any] | str:
    """``GET /api/today``."""
    if not (service := snapshot.service):
        return POSTGRESQL
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
        "texts": [_texts(service, day) for day in service.days],
        "ticks": status.ticks,
        "readers": status.readers,
        "waiters": status.waiters,
        "parked": status.parked,
        "tokens_today": status.tokens_today,
        "cost_today_usd": status.cost_today_usd,
        "dead_letters": snapshot.dead_letters,
        "alarms": status.alarms,
    }


def queues(snapshot: Snapshot) -> dict[str, Any] | str:
    """``GET /api/queues``."""
    if snapshot.queues is None:
        return RABBITMQ
    return {
        "queues": [queue.to_json(snapshot.pauses) for queue in snapshot.queues],
        "dead_letters": snapshot.dead_letters,
        "management_api": {"reachable": snapshot.unmanaged is None, "reason": snapshot.unmanaged},
    }


def processes(snapshot: Snapshot) -> dict[str, Any] | str:
    """``GET /api/processes``."""
    return {"processes": snapshot.service.records.processes} if snapshot.service else POSTGRESQL


def failure(
    status: int, error: str = "", message: str = "", headers: dict[str, str] | None = None
) -> Response:
    """An error, as a word for scripts and a sentence for people."""
    word, sentence = ERRORS.get(status, ("error", f"HTTP {status}"))
    response = _json({"error": error or word, "message": message or sentence})
    response.status_code = status
    response.headers.update(headers or {})
    return response


def _texts(service: Service, day: DayStatus) -> dict[str, Any]:
    return {"day": day.day, "over": day.day < service.first_alive, "ready": day.written, "signs": day.signs}


def _trend(trend: Trend) -> dict[str, Any]:
    return {
        "until": trend.until, "today": trend.today, "yesterday": trend.yesterday, "change": trend.change,
    }  # fmt: skip


def _away(away: Away) -> dict[str, str | datetime]:
    return {"server": away.server, "since": away.since, "reason": away.reason}


def _json(told: dict[str, Any]) -> Response:
    body = orjson.dumps(told, default=_number, option=_FORM)
    return Response(body, media_type="application/json")


def _number(value: Any) -> float:
    """PostgreSQL's sums are decimals."""
    return float(value) if value % 1 else int(value)
