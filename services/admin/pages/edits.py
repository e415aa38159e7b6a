"""What an operator changes in dead letters: the arguments of one, and the note of a group."""

from typing import Any

import orjson
from starlette.responses import Response

from schema.errors import InvalidMessage, Refused, text_of
from schema.sentences import Sentence
from services.admin.pages import dead_letters
from services.admin.pages.dead_letters import group_of, typed_edit
from services.admin.pages.page import Shown, Visit


async def edit(visit: Visit) -> Shown | Response:
    """``POST /dead/{number}/edit``: change what is replayed in place of the message."""
    letter = await visit.site.inspector.records.whole(visit.number)
    typed = {"actor": "", "arguments": ""} | typed_edit(visit)
    now = letter.edit or letter
    visit.entry.before = {"actor": now.actor, "arguments": now.arguments}
    if visit.said("seen") != str(letter.edit.id if letter.edit else ""):
        refused = Sentence(
            "Somebody else has edited this letter meanwhile. Nothing was saved; see that edit below."
        )
        return await dead_letters.letter(visit, 409, refused=refused)
    try:
        arguments = _arguments(typed["arguments"])
        edited = await visit.site.inspector.edits.edit(
            letter.id, by=visit.by, arguments=arguments, actor=typed["actor"]
        )
        if edited.edit:
            visit.entry.after = {"actor": edited.edit.actor, "arguments": edited.edit.arguments}
    except InvalidMessage as error:
        return await dead_letters.letter(visit, 422, fault=text_of(error))
    except Refused as error:
        return await dead_letters.letter(visit, 409, refused=text_of(error))
    return visit.done(
        f"/dead/{letter.id}", visit.gettext("The edit of letter %(number)s is saved.", number=letter.id)
    )


async def note(visit: Visit) -> Response:
    """``POST /dead/group/{fingerprint}/note``."""
    group, note = group_of(visit), visit.said("note", 1500)
    visit.entry.before = {"note": await visit.site.inspector.edits.note(group, note, by=visit.by)}
    visit.entry.after = {"note": note or None}
    saved = visit.gettext("The note is saved.") if note else visit.gettext("The note is deleted.")
    return visit.done(f"/dead/group/{group}", saved)


def _arguments(typed: str) -> dict[str, Any]:
    """The arguments that were typed.

    Raises:
        InvalidMessage: They are not a JSON object.
    """
    try:
        arguments = orjson.loads(typed or "{}")
    except orjson.JSONDecodeError as error:
        raise InvalidMessage(Sentence("this is not JSON: %(error)s", error=str(error))) from None
    if not isinstance(arguments, dict):
        raise InvalidMessage(Sentence("expected a JSON object, such as {}"))
    return arguments
