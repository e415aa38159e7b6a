"""The page of the audit: who did what."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from services.accounts.audit import ACTS, AuditFilter
from services.admin.pages.page import Shown, Visit
from services.days import parse_instant

#: Entries on one page.
ENTRIES = 50
#: The most characters of a condition.
_LONGEST = 100

#: The kinds of acts: the part of their names before the dot.
KINDS = tuple(sorted({act.partition(".")[0] for act in ACTS}))


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """The query of an address."""

    wanted: AuditFilter
    typed: dict[str, str]  #: What was typed, by field
    faults: tuple[str, ...]  #: The fields that cannot be understood

    @property
    def written(self) -> str:
        """What was typed, as the query of an address."""
        return urlencode(self.typed)


def read_audit_query(given: Mapping[str, str], now: datetime, home: ZoneInfo) -> AuditQuery:
    """Read the query of an address; times that name no zone are in the home zone."""
    typed = {
        name: value.encode(errors="replace").decode()
        for name in ("who", "what", "since", "until")
        if (value := given.get(name, "").replace("\0", "").strip()[:_LONGEST])
    }
    found: dict[str, Any] = {}
    faults = []
    for name, value in typed.items():
        try:
            found[name] = value if name in {"who", "what"} else parse_instant(value, now, home)
        except ValueError:
            faults.append(name)
    if found.get("what") and found["what"] not in (*ACTS, *KINDS):
        faults.append("what")
    return AuditQuery(AuditFilter(**found), typed, tuple(faults))


async def entries(visit: Visit) -> Shown:
    """``GET /audit``."""
    site, before = visit.site, visit.before
    query = read_audit_query(visit.request.query_params, site.clock(), site.home)
    found = []
    if not query.faults:
        found = await site.audit.listed(query.wanted, limit=ENTRIES + 1, before=before)
    values = {
        "query": query,
        "entries": found[:ENTRIES],
        "next": found[ENTRIES - 1].id if len(found) > ENTRIES else None,
        "before": before,
        "known_acts": ACTS,
        "kinds": KINDS,
    }
    return Shown("audit.html", values, status=422 if query.faults else 200)
