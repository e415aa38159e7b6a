"""Faults: failures that a person or a test orders."""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(slots=True, eq=False)
class Fault:
    """One kind of failure for some calls.

    Attributes:
        where: The calls it meets, for example `{"method": "sendmessage", "chat_id": 7}`; empty for all.
        times: How often at most; None until it is removed.
        details: Options of the kind, for example `retry_after` in seconds.
    """

    id: int
    kind: str
    where: dict[str, Any]
    times: int | None
    details: dict[str, Any]
    used: int = 0
    lifted: asyncio.Event = field(default_factory=asyncio.Event)

    def concerns(self, facts: dict[str, Any]) -> bool:
        """Whether it meets a call with these facts."""
        return all(facts.get(name) == value for name, value in self.where.items())

    async def hang(self, stopping: asyncio.Event) -> None:
        """Wait until the fault is removed, the client leaves, or the sandbox stops."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self.lifted, stopping)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def as_json(self) -> dict[str, Any]:
        """As the control API shows it."""
        shown = {name: getattr(self, name) for name in ("id", "kind", "times", "used")}
        return {**shown, **self.where, **self.details}


class Faults(ABC):
    """The faults in force, the oldest first; at most one of them meets a call.

    Attributes:
        met: How many calls a fault has met.
    """

    KINDS: ClassVar[tuple[str, ...]]

    def __init__(self, changed: Callable[[], None]) -> None:
        self.met = 0
        self._changed = changed
        self._ids = itertools.count(1)
        self._faults: list[Fault] = []

    def __iter__(self) -> Iterator[Fault]:
        return iter(tuple(self._faults))

    def __len__(self) -> int:
        return len(self._faults)

    @abstractmethod
    def add(self, kind: str) -> Fault:
        """Let calls fail."""

    def put(self, kind: str, where: dict[str, Any], times: int | None, details: dict[str, Any]) -> Fault:
        """Bring a fault into force; None in `where` and `details` is left out.

        Raises:
            ValueError: The kind is unknown, or `times` is not positive.
        """
        if kind not in self.KINDS:
            raise ValueError(f"no such fault: {kind!r}; there are {', '.join(self.KINDS)}")
        if times is not None and times < 1:
            raise ValueError(f"times must be positive, or None for 'until removed', not {times}")
        where = {name: value for name, value in where.items() if value is not None}
        details = {name: value for name, value in details.items() if value is not None}
        fault = Fault(next(self._ids), kind, where, times, details)
        self._faults.append(fault)
        self._changed()
        return fault

    def take(self, facts: dict[str, Any]) -> Fault | None:
        """The fault that meets this call, one use of it spent."""
        for fault in self._faults:
            if fault.concerns(facts):
                fault.used += 1
                self.met += 1
                if fault.times is not None and fault.used >= fault.times:
                    # Spent, but not lifted: its calls go on hanging.
                    self._faults.remove(fault)
                self._changed()
                return fault
        return None

    def remove(self, fault_id: int) -> bool:
        """Take a fault out of force and end the calls that hang by it."""
        for fault in self._faults:
            if fault.id == fault_id:
                self._faults.remove(fault)
                fault.lifted.set()
                self._changed()
                return True
        return False

    def clear(self) -> None:
        """Take all faults out of force."""
        for fault in tuple(self._faults):
            self.remove(fault.id)

    def as_json(self) -> dict[str, Any]:
        """As the control API shows them."""
        return {"faults": [fault.as_json() for fault in self], "kinds": self.KINDS, "met": self.met}


class TelegramFaults(Faults):
    """Failures of Telegram.

    `429`, `403`, `400`, `500` answer so and do nothing; `hang` never answers; `timeout_after_doing` carries out the
    call and never answers; `disconnect` closes the connection and does nothing, `disconnect_after_doing` closes it
    after carrying out the call; `garbage` answers 200 with text that is not JSON.
    """

    ERRORS = ("429", "403", "400", "500")
    KINDS = (*ERRORS, "hang", "timeout_after_doing", "disconnect", "disconnect_after_doing", "garbage")

    def add(
        self,
        kind: str,
        *,
        method: str | None = None,
        chat_id: int | None = None,
        times: int | None = None,
        retry_after: int | None = None,
        description: str | None = None,
    ) -> Fault:
        """Let calls fail, of one method or for one chat if given, so many times or until the fault is removed.

        ``retry_after`` is in seconds, 1 by default. ``description`` replaces the usual words of 400, 403 and 500.
        """
        where = {"method": method.lower() if method else None, "chat_id": chat_id}
        return self.put(kind, where, times, {"retry_after": retry_after, "description": description})


class ModelFaults(Faults):
    """Failures of the model.

    Errors: `500`, `503`, `429`, `401`, `400`, `404`; `hang` never answers, `disconnect` closes the
    connection, `garbage` answers with text that is not JSON. Bad texts: `empty`, `refusal`, `english` (the wrong
    language), `too_long`, `short`, `html`, `same` (one text for all), `alike` (the last text of another sign or
    another day with a few words exchanged), `cut` (ended by the limit of tokens).
    """

    ERRORS = ("500", "503", "429", "401", "400", "404")
    TEXTS = ("empty", "refusal", "english", "too_long", "short", "html", "same", "alike", "cut")
    KINDS = (*ERRORS, "hang", "disconnect", "garbage", *TEXTS)

    def add(
        self,
        kind: str,
        *,
        sign: str | None = None,
        day: str | None = None,
        times: int | None = None,
        retry_after: int | None = None,
    ) -> Fault:
        """Let calls fail, for one sign or one day (ISO) if given, so many times or until the fault is removed.

        ``retry_after``: seconds in the `Retry-After` header of a 429 or 503; None sends no such header.
        """
        where = {"sign": sign.lower() if sign else None, "day": day}
        return self.put(kind, where, times, {"retry_after": retry_after})
