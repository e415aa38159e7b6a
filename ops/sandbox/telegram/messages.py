"""A message in a chat, with all its versions."""

from dataclasses import dataclass, field
from typing import Any

from ops.sandbox.telegram.entities import Entity
from ops.sandbox.telegram.markup import Markup, inline_buttons

_STORED = ("message_id", "chat_id", "from_bot", "content", "deleted")
_SHOWN = (*_STORED, "date", "edited", "text", "entities", "reply_markup")


@dataclass(slots=True, frozen=True)
class Version:
    """The content of a message from a moment on.

    Attributes:
        time: Unix time, with fractions.
    """

    time: float
    text: str
    entities: list[Entity]
    reply_markup: Markup | None


@dataclass(slots=True)
class Message:
    """One message of a private chat.

    Attributes:
        from_bot: Sent by the bot, not by the reader.
        versions: The first version and every edit, the latest last.
        content: Content other than text, for example `{"location": {…}}`.
        deleted: Deleted by the bot; kept so that tests see it.
    """

    message_id: int
    chat_id: int
    from_bot: bool
    versions: list[Version]
    content: dict[str, Any] = field(default_factory=dict)
    deleted: bool = False

    @property
    def text(self) -> str:
        """The present text."""
        return self.versions[-1].text

    @property
    def entities(self) -> list[Entity]:
        """The formatting of the present text."""
        return self.versions[-1].entities

    @property
    def reply_markup(self) -> Markup | None:
        """The present buttons."""
        return self.versions[-1].reply_markup

    @property
    def date(self) -> int:
        """Unix time at which it was sent."""
        return int(self.versions[0].time)

    @property
    def edited(self) -> bool:
        """Whether the text has changed; new buttons alone do not show as an edit."""
        return any(version.text != self.versions[0].text for version in self.versions)

    @property
    def texts(self) -> list[str]:
        """The texts of all versions."""
        return [version.text for version in self.versions]

    @property
    def buttons(self) -> list[str]:
        """The texts of its inline buttons, row after row."""
        return [str(button["text"]) for button in inline_buttons(self.reply_markup)]

    def find_button(self, what: str) -> dict[str, Any] | None:
        """The inline button with this text or callback data."""
        for button in inline_buttons(self.reply_markup):
            if what in {button["text"], button.get("callback_data")}:
                return button
        return None

    def as_api(self, chat: dict[str, Any], sender: dict[str, Any]) -> dict[str, Any]:
        """As the Bot API describes it."""
        described = {"message_id": self.message_id, "from": sender, "chat": chat, "date": self.date}
        described |= self.content
        if len(self.versions) > 1:
            described["edit_date"] = int(self.versions[-1].time)
        text, entities = ("caption", "caption_entities") if self.content else ("text", "entities")
        if self.text:
            described[text] = self.text
        if self.entities:
            described[entities] = self.entities
        if self.reply_markup and "inline_keyboard" in self.reply_markup:
            described["reply_markup"] = self.reply_markup
        return described

    def as_json(self) -> dict[str, Any]:
        """As the page shows it and the state file keeps it."""
        return {name: getattr(self, name) for name in _SHOWN}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Message":
        """Restore from the state file, which keeps the first time and the last text."""
        said = Version(kept["date"], kept["text"], kept["entities"], kept["reply_markup"])
        versions = [Version(kept["date"], "", [], None), said] if kept["edited"] else [said]
        return cls(
            kept["message_id"], kept["chat_id"], kept["from_bot"], versions, kept["content"], kept["deleted"]
        )
