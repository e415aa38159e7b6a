"""Telegram's world: the bot, its readers with their private chats, its calls and its updates."""

import itertools
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from ops.sandbox.events import Events
from ops.sandbox.faults import TelegramFaults
from ops.sandbox.telegram.calls import Call, Upload
from ops.sandbox.telegram.entities import commands
from ops.sandbox.telegram.limits import Limits
from ops.sandbox.telegram.messages import Message, Version
from ops.sandbox.telegram.updates import Updates
from ops.sandbox.telegram.webhook import Webhook
from ops.sandbox.watch import Watch

_MOST_CALLS = 20_000
_MOST_QUERIES = 10_000
_MOST_FILES = 200
_BEFORE_FIRST = 1000  # one less than the id of the first reader
KEPT = 200  # messages of a chat
_PATIENCE = 60.0  # seconds a test waits for the bot unless it says otherwise


class Reader:
    """A Telegram user and the private chat with the bot; the chat's id is the user's.

    Attributes:
        language: The `language_code` of the reader's app; empty where the app tells none.
        answers: The answers to pressed buttons (`answerCallbackQuery`), the latest last.
        action: The present chat action, for example "typing", and its end (Unix time).
        keyboard: The reply keyboard under the text field.
    """

    def __init__(self, world: "World", reader_id: int, name: str, language: str) -> None:
        self.world = world
        self.id = reader_id
        self.name = name
        self.language = language
        self.blocked = False
        self.answers: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self.action: tuple[str, float] | None = None
        self.keyboard: dict[str, Any] | None = None
        self._messages: dict[int, Message] = {}
        self.watch = Watch()

    # The reader sees

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

    # The reader does

    async def say(self, text: str) -> int:
        """Send a text; returns the update's id (0: the bot asked for no such updates)."""
        return await self.send(text=text)

    async def send(self, text: str = "", **content: Any) -> int:
        """Send anything, for example `send(location={"latitude": 55.7, "longitude": 37.6})`.

        Raises:
            RuntimeError: The reader has blocked the bot.
        """
        if self.blocked:
            raise RuntimeError(f"{self.name} has blocked the bot: unblock it first")
        version = Version(time.time(), text, commands(text), None)
        message = Message(
            self.world.new_message_id(), self.id, from_bot=False, versions=[version], content=content
        )
        self.add(message)
        return self.world.updates.add("message", message.as_api(self.chat, self.user))

    async def press(self, what: str, message: Message | None = None) -> int:
        """Press a button by its text or callback data, in the latest message that has it; returns the update's id.

        Raises:
            LookupError: There is no such button.
        """
        for candidate in [message] if message else reversed(self.received):
            button = candidate.find_button(what)
            if button and "callback_data" in button:
                query = self.world.new_callback_query(self)
                query["message"] = candidate.as_api(self.chat, self.world.bot)
                query["data"] = button["callback_data"]
                return self.world.updates.add("callback_query", query)
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
        self.world.reader_changed(self)
        member = {"user": self.world.bot, "status": "member"}
        kicked = {"user": self.world.bot, "status": "kicked", "until_date": 0}
        change = {"chat": self.chat, "from": self.user, "date": int(time.time())}
        change["old_chat_member"], change["new_chat_member"] = (
            (member, kicked) if blocked else (kicked, member)
        )
        return self.world.updates.add("my_chat_member", change)

    # Tests wait for

    async def wait_for(
        self, condition: Callable[[list[Message]], Any], within: float = _PATIENCE
    ) -> list[Message]:
        """Wait until the condition holds for the chat's messages; returns them.

        Raises:
            TimeoutError: It does not hold in time; the error shows the chat.
        """
        await self.watch.until(lambda: condition(self.messages), within, self.transcript)
        return self.messages

    async def wait_for_text(self, part: str, within: float = _PATIENCE) -> Message:
        """Wait for a message of the bot that contains these words; returns the latest."""
        found = await self.watch.until(
            lambda: [message for message in self.received if part in message.text], within, self.transcript
        )
        return found[-1]

    async def wait_for_answer(self, update_id: int, within: float = _PATIENCE) -> dict[str, Any]:
        """Wait for the answer to a press, by the id that `press` returned."""
        query_id = self.world.updates.recent[update_id]["callback_query"]["id"]
        found = await self.watch.until(
            lambda: [answer for answer in self.answers if answer["callback_query_id"] == query_id],
            within,
            self.transcript,
        )
        return found[0]

    def file(self, message: Message) -> Upload:
        """The file in a message of the bot."""
        return self.world.files[message.content["document"]["file_id"]]

    def transcript(self) -> str:
        """The chat as text, for the errors of failed tests."""
        lines = [f"the chat with {self.name} ({self.id}):"]
        for message in self.messages[-10:]:
            sender = "bot" if message.from_bot else self.name
            buttons = f" {message.buttons}" if message.buttons else ""
            lines.append(f"  {message.message_id} {sender}: {' → '.join(message.texts)!r}{buttons}")
        return "\n".join(lines)

    # For the emulator

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
        """Put a new message into the chat; drop the oldest beyond the limit."""
        self._messages[message.message_id] = message
        if len(self._messages) > KEPT:
            del self._messages[next(iter(self._messages))]
        self.changed(message)

    def changed(self, message: Message) -> None:
        """Tell the page and those who wait of a new or changed message."""
        self.watch.notify()
        self.world.message_changed(message)

    def as_json(self) -> dict[str, Any]:
        """As the page's list shows the reader."""
        last = self.messages[-1].as_json() if self.messages else None
        names = ("id", "name", "language", "blocked", "keyboard")
        return {**{name: getattr(self, name) for name in names}, "last": last}


class World:
    """Everything the emulator knows.

    Attributes:
        readers: By id.
        deleted: Ids of deleted readers; never given out again, since a bot may remember them.
        calls: The bot's calls, the latest last.
        faults: Faults in force.
        latency: Seconds before a method is carried out, by its name in lower case; "*" for all others.
        limits: Telegram's rate limits, off by default.
        files: What the bot has sent as documents, by the file's id.
        callback_lifetime: Seconds in which a pressed button can be answered.
    """

    def __init__(self, events: Events, token: str | None = None) -> None:
        self.bot: dict[str, Any] = {
            "id": int(token.split(":")[0]) if token else 1,
            "is_bot": True,
            "first_name": "Гороскоп",
            "username": "horoscope_sandbox_bot",
        }
        self.readers: dict[int, Reader] = {}
        self.deleted: set[int] = set()
        self.calls: deque[Call] = deque(maxlen=_MOST_CALLS)
        self.faults = TelegramFaults(lambda: self.publish("faults", {}))
        self.latency: dict[str, float] = {}
        self.limits = Limits()
        self.files: OrderedDict[str, Upload] = OrderedDict()
        self.commands: dict[tuple[str, str], list[dict[str, str]]] = {}
        self.profile: dict[tuple[str, str], str] = {}
        self.callback_lifetime = 60.0
        self.callback_queries: OrderedDict[str, tuple[int, float, bool]] = OrderedDict()
        self.watch = Watch()
        self.updates = Updates(self.watch)
        self.webhook = Webhook(self.updates)
        self.updates.post = self.webhook.post
        # Random, so that ids do not repeat those of an earlier sandbox.
        self.next_message_id = random.randrange(1_000, 1_000_000)
        self._query_ids = itertools.count(random.randrange(10**17, 10**18))
        self._call_numbers = itertools.count(1)
        self._events = events

    # Readers

    def reader(self, reader_id: int, *, name: str = "", language: str = "ru") -> Reader:
        """The reader with this id; created on first use."""
        if reader_id not in self.readers:
            reader = Reader(self, reader_id, name or f"Reader {reader_id}", language)
            self.readers[reader_id] = reader
            self.reader_changed(reader)
        return self.readers[reader_id]

    def add_reader(self, name: str = "", language: str = "ru") -> Reader:
        """A reader with a new id."""
        return self.reader(
            max([*self.readers, *self.deleted, _BEFORE_FIRST]) + 1, name=name, language=language
        )

    def delete_reader(self, reader: Reader) -> None:
        """Delete the reader's Telegram account and chat."""
        del self.readers[reader.id]
        self.deleted.add(reader.id)
        self.updates.drop_chat(reader.id)
        self._events.touch()
        self.publish("reload", {})

    def reset(self) -> None:
        """Delete all readers, faults, delays, limits, calls, files and pending updates."""
        self.faults.clear()
        self.latency.clear()
        self.limits.per_chat = self.limits.overall = None
        self.calls.clear()
        self.files.clear()
        for reader in tuple(self.readers.values()):
            self.delete_reader(reader)

    # For tests

    async def send_update(self, update: dict[str, Any]) -> int:
        """Deliver any update, however malformed; returns its id."""
        return self.updates.add_raw(update)

    async def repeat(self, update_id: int) -> None:
        """Deliver an update once more, as Telegram does when a confirmation was lost."""
        self.updates.repeat(update_id)

    def calls_of(self, method: str, chat_id: int | None = None) -> list[Call]:
        """The bot's calls of a method, for one chat or for all."""
        return [
            call
            for call in self.calls
            if call.method.lower() == method.lower() and chat_id in {None, call.chat_id}
        ]

    async def wait_for_calls(
        self, method: str, count: int = 1, chat_id: int | None = None, within: float = 60.0
    ) -> list[Call]:
        """Wait until a method was called so often, and answered or met by a fault; returns the calls."""

        def answered() -> list[Call]:
            calls = [call for call in self.calls_of(method, chat_id) if call.response or call.fault]
            return calls if len(calls) >= count else []

        return await self.watch.until(
            answered, within, lambda: f"calls: {[c.method for c in self.calls][-20:]}"
        )

    async def wait_for_polling(self, within: float = 60.0) -> None:
        """Wait until the bot waits in a long poll."""
        await self.watch.until(lambda: self.updates.waiting, within, lambda: "nobody polls")

    async def wait_until_delivered(self, within: float = 60.0) -> None:
        """Wait until the bot has taken every update."""
        pending = self.updates.pending
        await self.watch.until(lambda: not pending, within, lambda: f"pending: {list(pending.values())}")

    @property
    def online(self) -> bool:
        """Whether a bot polls, or its webhook accepted the latest update."""
        return self.updates.polled or bool(self.webhook.url and not self.webhook.failing)

    # For the methods

    def new_message_id(self) -> int:
        """The next message's id; ids grow over all chats of the bot."""
        self.next_message_id += 1
        return self.next_message_id

    def keep_file(self, file: Upload) -> str:
        """Keep a file that the bot sends; returns its id."""
        file_id = f"file-{next(self._query_ids)}"
        self.files[file_id] = file
        if len(self.files) > _MOST_FILES:
            self.files.popitem(last=False)
        return file_id

    def new_callback_query(self, reader: Reader) -> dict[str, Any]:
        """A callback query without its message and data; it can be answered for a while."""
        query_id = str(next(self._query_ids))
        self.callback_queries[query_id] = (reader.id, time.time() + self.callback_lifetime, False)
        if len(self.callback_queries) > _MOST_QUERIES:
            self.callback_queries.popitem(last=False)
        return {"id": query_id, "from": reader.user, "chat_instance": str(reader.id)}

    def profile_text(self, name: str, language: str) -> str:
        """A text of the bot's profile in a language, else in the default one."""
        default = {"name": self.bot["first_name"]}.get(name, "")
        return self.profile.get((name, language)) or self.profile.get((name, "")) or str(default)

    def record(self, method: str, parameters: dict[str, Any], via: str = "http") -> Call:
        """Put a new call on record and decide which fault meets it."""
        call = Call(next(self._call_numbers), time.time(), method, parameters, via)
        call.reader_id, *_ = self.callback_queries.get(
            str(parameters.get("callback_query_id")), (call.chat_id,)
        )
        call.met = self.faults.take({"method": method.lower(), "chat_id": call.chat_id})
        self.calls.append(call)
        self.call_changed(call)
        return call

    def call_changed(self, call: Call) -> None:
        """Tell the page and those who wait of a new call or an answer."""
        self.watch.notify()
        if self._events.watched:
            self.publish("call", call.as_json())

    # For the page

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell the page."""
        self._events.publish(kind, data)

    def message_changed(self, message: Message) -> None:
        """Tell the page of a new, edited or deleted message."""
        self._events.touch()
        if self._events.watched:
            self.publish("message", message.as_json())

    def reader_changed(self, reader: Reader) -> None:
        """Tell the page of a new or changed reader."""
        self._events.touch()
        self.publish("reader", reader.as_json())

    def profile_changed(self) -> None:
        """Tell the page of other commands or descriptions."""
        self._events.touch()
        self.publish("profile", {})
