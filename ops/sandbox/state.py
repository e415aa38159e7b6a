"""The state file, which keeps readers and chats for the next process."""

import asyncio
import base64
import contextlib
import os
from pathlib import Path
from typing import Any

import orjson

from ops.sandbox.events import Events
from ops.sandbox.telegram.calls import Upload
from ops.sandbox.telegram.messages import Message
from ops.sandbox.telegram.world import World

_INTERVAL = 1.0  # seconds between two writings at least
_WEBHOOK = ("url", "secret_token", "max_connections")


class State:
    """Writes the state after changes, and restores it at the start."""

    def __init__(self, path: Path, world: World, events: Events) -> None:
        self._path = path
        self._world = world
        self._events = events
        self._written = events.touched
        self._task: asyncio.Task[None] | None = None
        if path.exists():
            self._read()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._keep_writing())

    async def stop(self) -> None:
        """Write for the last time."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._write(self._collect())

    async def _keep_writing(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL)
            if self._written != self._events.touched:
                self._written = self._events.touched
                await asyncio.to_thread(self._write, self._collect())

    def _write(self, state: dict[str, Any]) -> None:
        # Renamed into place, so that a crash leaves the old state or the new one.
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(self._path.name + ".new")
        with draft.open("wb") as file:
            file.write(orjson.dumps(state))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)

    def _read(self) -> None:
        try:
            self._restore(orjson.loads(self._path.read_bytes()))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # Another version wrote it, or it is damaged. An empty sandbox is better than none.
            aside = self._path.with_name(self._path.name + ".unreadable")
            self._path.replace(aside)
            self._world.readers.clear()
            print(
                f"The state file is unreadable ({error!r}). It is kept as {aside}; the sandbox starts empty."
            )

    def _collect(self) -> dict[str, Any]:
        world = self._world
        return {
            "next_update_id": world.updates.next_id,
            "next_message_id": world.next_message_id,
            "allowed_updates": world.updates.allowed,
            "pending": list(world.updates.pending.values()),
            "webhook": [getattr(world.webhook, name) for name in _WEBHOOK],
            "commands": [[*key, commands] for key, commands in world.commands.items()],
            "profile": [[*key, text] for key, text in world.profile.items()],
            "deleted": sorted(world.deleted),
            "files": [
                [file_id, file.name, file.kind, base64.b64encode(file.data).decode()]
                for file_id, file in world.files.items()
            ],
            "readers": [
                {**reader.as_json(), "messages": [message.as_json() for message in reader.messages]}
                for reader in world.readers.values()
            ],
        }

    def _restore(self, kept: dict[str, Any]) -> None:
        world = self._world
        for described in kept["readers"]:
            reader = world.reader(described["id"], name=described["name"], language=described["language"])
            reader.blocked, reader.keyboard = described["blocked"], described["keyboard"]
            for message in described["messages"]:
                reader.add(Message.from_json(message))
        world.commands = {(scope, language): commands for scope, language, commands in kept["commands"]}
        world.profile = {(name, language): text for name, language, text in kept["profile"]}
        world.deleted = set(kept.get("deleted", ()))
        for file_id, name, kind, data in kept.get("files", ()):
            world.files[file_id] = Upload(name, kind, base64.b64decode(data))
        for update in kept["pending"]:
            world.updates.add_raw(update)
        world.updates.next_id = kept["next_update_id"]
        world.updates.allowed = kept["allowed_updates"]
        world.next_message_id = kept["next_message_id"]
        world.webhook.url, world.webhook.secret_token, world.webhook.max_connections = kept["webhook"]
