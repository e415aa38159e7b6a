"""What an operator does to dead letters beside replaying them: edit, drop, take back, note."""

import hashlib
from dataclasses import replace
from typing import Any, Literal

import orjson
from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from schema.errors import InvalidMessage, Refused
from services.admin.auth import Session
from services.admin.pages.dead_letters import DeadPages, group_of, number_of
from services.admin.pages.page import DeadPage, answered, by, said
from services.dead_letters.filters import Filter, Query, State
from services.dead_letters.inspector import Inspector

#: Letters that are dropped or taken back at once at the most.
AT_ONCE = 100_000
#: Letters that are shown before somebody decides.
SHOWN = 20
#: Characters of arguments that may be typed.
_LONGEST = 4000

Act = Literal["drop", "restore"]
#: The state of the letters that something can be done with.
_OF: dict[Act, State] = {"drop": "dead", "restore": "dropped"}


class DeadForms:
    """What the forms of dead letters do.

    Args:
        page: How a page is made.
        pages: What is shown when something is not done.
        inspector: Where the letters are.
    """

    def __init__(self, page: DeadPage, pages: DeadPages, inspector: Inspector) -> None:
        self._page = page
        self._pages = pages
        self._inspector = inspector

    async def edit(self, request: Request, session: Session) -> Response:
        """``POST /dead/{id}/edit``: say what is replayed in the place of the message."""
        form = await self._page.gate.form(request, session)
        letter = await self._pages.find(request)
        typed = {"actor": said(form, "actor"), "arguments": said(form, "arguments", _LONGEST)}
        show = self._pages.show_letter
        if said(form, "seen") != str(letter.edit.id if letter.edit else ""):
            return await show(request, session, letter, status=409, typed=typed, refused="edited_meanwhile")
        try:
            arguments = _arguments(typed["arguments"])
            await answered(
                self._inspector.edits.edit(
                    letter.id, by=by(request, form), arguments=arguments, actor=typed["actor"]
                )
            )
        except InvalidMessage as error:
            return await show(request, session, letter, status=422, typed=typed, fault=str(error))
        except Refused as error:
            letter = await self._pages.find(request)
            return await show(request, session, letter, status=409, typed=typed, refused=str(error))
        return self._page.done(request, form, f"/dead/{letter.id}", "edited", letter.id)

    async def note(self, request: Request, session: Session) -> Response:
        """``POST /dead/group/{fingerprint}/note``."""
        form = await self._page.gate.form(request, session)
        group = group_of(request)
        note = said(form, "note", 1500)
        try:
            await answered(self._inspector.edits.note(group, note, by=by(request, form)))
        except Refused:
            raise HTTPException(404) from None
        return self._page.done(request, form, f"/dead/group/{group}", "noted" if note else "unnoted")

    # Dropping and taking back

    async def ask_to_drop(self, request: Request, session: Session) -> Response:
        """``GET /dead/drop``: how many that would be."""
        return await self._ask(request, session, "drop", self._page.query(request.query_params))

    async def ask_to_restore(self, request: Request, session: Session) -> Response:
        """``GET /dead/restore``: the same."""
        return await self._ask(request, session, "restore", self._page.query(request.query_params))

    async def drop(self, request: Request, session: Session) -> Response:
        """``POST /dead/drop``: give letters up, as many as were shown."""
        return await self._act(request, session, "drop")

    async def restore(self, request: Request, session: Session) -> Response:
        """``POST /dead/restore``: take letters back, as many as were shown."""
        return await self._act(request, session, "restore")

    async def drop_one(self, request: Request, session: Session) -> Response:
        """``POST /dead/{id}/drop``."""
        form = await self._page.gate.form(request, session)
        letter = await self._pages.find(request)
        why = said(form, "why")
        if not why:
            return await self._pages.show_letter(request, session, letter, status=422, refused="no_reason")
        dropped = await answered(self._inspector.edits.drop([letter.id], by=by(request, form), why=why))
        if not dropped:
            letter = await self._pages.find(request)
            return await self._pages.show_letter(request, session, letter, status=409, refused="not_dropped")
        return self._page.done(request, form, f"/dead/{letter.id}", "dropped", dropped)

    async def restore_one(self, request: Request, session: Session) -> Response:
        """``POST /dead/{id}/restore``."""
        form = await self._page.gate.form(request, session)
        number = number_of(request)
        restored = await answered(self._inspector.edits.restore([number], by=by(request, form)))
        if not restored:
            letter = await self._pages.find(request)
            return await self._pages.show_letter(request, session, letter, status=409, refused="not_restored")
        return self._page.done(request, form, f"/dead/{number}", "restored", restored)

    async def _act(self, request: Request, session: Session, act: Act) -> Response:
        form = await self._page.gate.form(request, session)
        query = self._page.query(QueryParams(str(form.get("of", ""))))
        if not query.is_definite:
            raise HTTPException(400)
        ids = await self._ids(act, query)
        if digest_of(ids) != said(form, "shown"):
            return await self._ask(request, session, act, query, form=form, refused="changed")
        why = said(form, "why")
        if act == "drop" and not why:
            return await self._ask(request, session, act, query, form=form, refused="no_reason")
        who = by(request, form)
        edits = self._inspector.edits
        acted = edits.drop(ids, by=who, why=why) if act == "drop" else edits.restore(ids, by=who)
        count = await answered(acted, 30)
        return self._page.done(request, form, "/dead", _PAST[act], count)

    async def _ask(
        self,
        request: Request,
        session: Session,
        act: Act,
        query: Query,
        *,
        form: FormData | None = None,
        refused: str = "",
    ) -> Response:
        if not query.is_definite:
            return await self._page.show(request, session, "dead_nothing.html", status=422, query=query)
        query = query.until(self._page.clock())
        ids = await self._ids(act, query)
        first = Filter(ids=tuple(ids[-SHOWN:]), state=None)
        letters = await answered(self._inspector.records.listed(first, limit=SHOWN)) if ids else []
        return await self._page.show(
            request,
            session,
            "dead_drop.html",
            status={"": 200, "no_reason": 422}.get(refused, 409),
            own={"of": query.written, "shown": digest_of(ids), "here": f"/dead/{act}?{query.written}"},
            act=act,
            query=query,
            count=len(ids),
            letters=letters,
            typed={"why": said(form, "why") if form else ""},
            refused=refused,
            at_once=AT_ONCE,
        )

    async def _ids(self, act: Act, query: Query) -> list[int]:
        wanted = query.wanted
        if wanted.state not in (None, _OF[act]):
            return []
        wanted = replace(wanted, state=_OF[act])
        return await answered(self._inspector.records.ids(wanted, limit=AT_ONCE), 30)


_PAST: dict[Act, str] = {"drop": "dropped", "restore": "restored"}


def digest_of(shown: Any) -> str:
    """The same for the same letters: what an operator saw is what is acted upon."""
    return hashlib.sha256(orjson.dumps(shown)).hexdigest()


def _arguments(typed: str) -> dict[str, Any]:
    """The arguments that somebody typed.

    Raises:
        InvalidMessage: There are none.
    """
    try:
        arguments = orjson.loads(typed or "{}")
    except orjson.JSONDecodeError as error:
        raise InvalidMessage(f"that is no JSON: {error}") from None
    if not isinstance(arguments, dict):
        raise InvalidMessage(f"expected a JSON object, not {type(arguments).__name__}")
    return arguments
