"""Readers: Telegram users with their private chats, and what they can do there."""

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ops.sandbox.telegram.entities import commands
from ops.sandbox.telegram.messages import Message, Version
from ops.sandbox.watch import Watch

if TYPE_CHECKING:
    from ops.sandbox.telegram.server import Telegram

KEPT = 200  # messages of a chat
_PATIENCE = 10.0  # seconds a test waits for the bot unless it says otherwise


class Reader:
    """A Telegram user and the private chat with the bot; the chat's id is the user's.

    Attributes:
        language: The `language_code` of the reader's app; empty where the app tells none.
        answers: What `answerCallbackQuery` said, the latest last.
        action: The chat action under way and when it ends (Unix time), for example "typing".
        keyboard: The reply keyboard under the text field.
    """

    def __init__(self, telegram: "Telegram", reader_id: int, name: str, language: str) -> None:
        self.telegram = telegram
        self.id = reader_id
        self.name = name
        self.language = language
        self.blocked = False
        self.answers: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.action: tuple[str, float] | None = None
        self.keyboard: dict[str, Any] | None = None
        self._messages: dict[int, Message] = {}
        self._watch = Watch()

    # What a reader sees

    @property
    def messages(self) -> list[Message]:
        """The chat as the reader sees it, the latest last."""
        return [message for message in self._messages.values() if not message.deleted]

    @property
    def last(self) -> Message:
        """The latest message.

        Raises:
            IndexError: The chat is empty.
        """
        return self.messages[-1]

    @property
    def received(self) -> list[Message]:
        """The bot's messages."""
        return [message for message in self.messages if message.from_bot]

    def find(self, message_id: int) -> Message | None:
        """The message with this id, unless it was deleted or is too old to be kept."""
        message = self._messages.get(message_id)
        return message if message and not message.deleted else None

    # What a reader does

    async def say(self, text: str) -> int:
        """Send a text; returns the update's id (0: the bot asked for no such updates)."""
        return await self.send(text=text)

    async def send(self, text: str = "", **content: Any) -> int:
        """Send anything, for example `send(location={"latitude": 55.7, "longitude": 37.6})`.

        Raises:
            RuntimeError: The reader has blocked the bot; one cannot write to whom one blocked.
        """
        if self.blocked:
            raise RuntimeError(f"{self.name} has blocked the bot: unblock it first")
        version = Version(time.time(), text, commands(text), None)
        message = Message(
            self.telegram.new_message_id(), self.id, from_bot=False, versions=[version], content=content
        )
        self.add(message)
        return self.telegram.updates.add("message", message.as_api(self.chat, self.user))

    async def press(self, what: str, message: Message | None = None) -> int:
        """Press a button by its text or its callback data; returns the update's id.

        Args:
            what: Text or callback data of an inline button, or text of a reply keyboard's button.
            message: Under which message; without it, under the latest that has such a button.

        Raises:
            LookupError: There is no such button.
        """
        for candidate in [message] if message else reversed(self.received):
            button = candidate.find_button(what)
            if button and "callback_data" in button:
                query = self.telegram.new_callback_query(self)
                query["message"] = candidate.as_api(self.chat, self.telegram.bot)
                query["data"] = button["callback_data"]
                return self.telegram.updates.add("callback_query", query)
        for row in (self.keyboard or {}).get("keyboard", []):
            for key in row:
                if what == (key if isinstance(key, str) else key.get("text")):
                    return await self.say(what)
        raise LookupError(f"no button {what!r}; {self.transcript()}")

    async def block(self) -> int:
        """Block the bot; returns the update's id."""
        return self._set_blocked(blocked=True)

    async def unblock(self) -> int:
        """Unblock the bot; returns the update's id."""
        return self._set_blocked(blocked=False)

    def _set_blocked(self, *, blocked: bool) -> int:
        if blocked == self.blocked:
            return 0
        self.blocked = blocked
        self.telegram.reader_changed(self)
        member, kicked = (
            {"user": self.telegram.bot, "status": "member"},
            {"user": self.telegram.bot, "status": "kicked", "until_date": 0},
        )
        change = {"chat": self.chat, "from": self.user, "date": int(time.time())}
        change["old_chat_member"], change["new_chat_member"] = (
            (member, kicked) if blocked else (kicked, member)
        )
        return self.telegram.updates.add("my_chat_member", change)

    # What a test waits for

    async def wait_for(
        self, condition: Callable[[list[Message]], Any], within: float = _PATIENCE
    ) -> list[Message]:
        """Wait until the condition holds for the chat's messages; returns them.

        Raises:
            TimeoutError: It did not in time; the error shows the chat.
        """
        await self._watch.until(lambda: condition(self.messages), within, self.transcript)
        return self.messages

    async def wait_for_text(self, part: str, within: float = _PATIENCE) -> Message:
        """Wait until a message of the bot contains these words; returns the latest such message."""
        found = await self._watch.until(
            lambda: [message for message in self.received if part in message.text], within, self.transcript
        )
        return found[-1]

    async def wait_for_answer(self, update_id: int, within: float = _PATIENCE) -> dict[str, Any]:
        """Wait for what `answerCallbackQuery` said to a press, by the id `press` returned."""
        query_id = self.telegram.updates.recent[update_id]["callback_query"]["id"]
        found = await self._watch.until(
            lambda: [answer for answer in self.answers if answer["callback_query_id"] == query_id],
            within,
            self.transcript,
        )
        return found[0]

    def transcript(self) -> str:
        """The chat in words, for the messages of failed tests."""
        lines = [f"the chat with {self.name} ({self.id}):"]
        for message in self.messages[-10:]:
            sender = "bot" if message.from_bot else self.name
            buttons = f" {message.buttons}" if message.buttons else ""
            lines.append(f"  {message.message_id} {sender}: {' → '.join(message.texts)!r}{buttons}")
        return "\n".join(lines)

    # What the emulator needs

    @property
    def user(self) -> dict[str, Any]:
        """As the Bot API describes the user."""
        user = {"id": self.id, "is_bot": False, "first_name": self.name}
        return {**user, "language_code": self.language} if self.language else user

    @property
    def chat(self) -> dict[str, Any]:
        """As the Bot API describes the chat."""
        return {"id": self.id, "first_name": self.name, "type": "private"}

    def add(self, message: Message) -> None:
        """Put a new message into the chat; the oldest makes way."""
        self._messages[message.message_id] = message
        if len(self._messages) > KEPT:
            del self._messages[next(iter(self._messages))]
        self.changed(message)

    def changed(self, message: Message) -> None:
        """Tell everybody who looks that a message is new or another than before."""
        self.notify()
        self.telegram.message_changed(message)

    def notify(self) -> None:
        """Let those who wait look again."""
        self._watch.notify()

    def as_json(self) -> dict[str, Any]:
        """As the page's list shows the reader."""
        last = self.messages[-1].as_json() if self.messages else None
        return {
            "id": self.id,
            "name": self.name,
            "language": self.language,
            "blocked": self.blocked,
            "keyboard": self.keyboard,
            "last": last,
        }
