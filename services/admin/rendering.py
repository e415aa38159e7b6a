"""How a template becomes a page in the visitor's language, with text that others wrote made harmless."""

from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import jinja2
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from schema.sentences import Sentence
from schema.signs import Language, Sign
from services.accounts.roles import Role
from services.admin import charts
from services.admin.auth import Gate, Session, local_path
from services.admin.i18n import LANGUAGES, Wording, catalogue, language_names
from services.admin.snapshots import Snapshot
from services.days import Clock
from services.process.escaping import visible_json
from services.process.heartbeats import BEAT_S, LOST_S
from services.process.logs import Mask

LANGUAGE_COOKIE = "horoscope_admin_language"

#: Seconds between two updates of a page that is kept up to date.
REFRESH_S = 5.0
#: The header of a request for such an update; it does not prolong the session.
LIVE = "x-live"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Rendering:
    """Fills templates."""

    gate: Gate
    clock: Clock
    home: ZoneInfo  #: The zone in which times are shown
    texts: Language  #: The language of the horoscopes

    def page(
        self,
        request: Request,
        template: str,
        session: Session | None = None,
        snapshot: Snapshot | None = None,
        *,
        http_status: int = 200,
        **values: Any,
    ) -> HTMLResponse:
        """A page; ``values`` are for the template."""
        wording = self.wording(request, snapshot)
        here = local_path(asked(request), signing=True)
        defaults = {"name": None, "note": None, "refresh_s": REFRESH_S, "here": here}
        page = (
            _templates(wording.language)
            .get_template(template)
            .render(
                say=wording,
                others={code: name for code, name in language_names().items() if code != wording.language},
                form_token=self.gate.cookies.form_token(session.key) if session else None,
                account=session if session and session.who else None,
                may=lambda role: (
                    session is not None and bool(session.who) and session.role.allows(Role(role))
                ),
                snapshot=snapshot,
                language_of_texts=self.texts,
                **(defaults | values),
            )
        )
        return HTMLResponse(page, http_status)

    def wording(self, request: Request, snapshot: Snapshot | None = None) -> Wording:
        """The visitor's language, at the time of the snapshot or now."""
        return Wording(language_of(request), snapshot.at if snapshot else self.clock(), self.home)


@cache
def _templates(language: str) -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
        finalize=_harmless,
    )
    templates.install_gettext_translations(catalogue(language), newstyle=True)  # type: ignore[attr-defined]
    templates.globals.update(
        total=len(Sign), part=charts.part, curves=charts.curves, beat_s=BEAT_S, lost_s=LOST_S
    )
    return templates


def _harmless(value: object) -> object:
    """A value as a template shows it: without characters that deceive, whoever wrote it."""
    if isinstance(value, Markup):
        return Markup(visible_json(value))  # noqa: S704  the escapes hold nothing that HTML knows
    return visible_json(value) if isinstance(value, str) else value


def asked(request: Request) -> str:
    """The path and the query of the request."""
    query = request.scope["query_string"].decode("ascii", errors="replace")
    path: str = request.scope["path"]
    return f"{path}?{query}" if query else path


def language_of(request: Request) -> str:
    """The chosen language; else the first of the browser's languages that the page speaks; else Russian."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    if chosen in LANGUAGES:
        return chosen
    wanted = []
    for place, each in enumerate(request.headers.get("accept-language", "")[:500].split(",")):
        name, _, quality = each.partition(";q=")
        try:
            wanted.append((-float(quality or 1), place, name.strip().lower().partition("-")[0]))
        except ValueError:
            continue
    return next((name for worth, _, name in sorted(wanted) if worth and name in LANGUAGES), "ru")


def plain(value: _Value, mask: Mask) -> _Value:
    """Text that others wrote, without secrets and deceiving characters; also in dataclasses, dictionaries and lists."""
    found: object = value
    if isinstance(value, Sentence):
        found = Sentence.counted(value.message, value.plural, **plain(value.values, mask))
    elif isinstance(value, str) and not isinstance(value, Sign):
        found = visible_json(mask(value))
    elif isinstance(value, bytes):
        found = mask.in_bytes(value)
    elif isinstance(value, dict):
        found = {plain(name, mask): plain(inner, mask) for name, inner in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(plain(inner, mask) for inner in value)
    elif is_dataclass(value) and not isinstance(value, type):
        found = replace(
            value, **{each.name: plain(getattr(value, each.name), mask) for each in fields(value)}
        )
    return found  # type: ignore[return-value]
