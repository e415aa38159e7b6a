"""A private server: its own folder, ports and password; it dies with the process that started it."""

import contextlib
import fcntl
import os
import secrets
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from ops.stack.leash import leashed
from ops.stack.processes import descendants


class ServerError(RuntimeError):
    """A private server cannot be started; the message says why, and where its log is."""


class Server(ABC):
    """Starts, stops and kills one server whose data, settings and log live in one folder, made when missing.

    The same folder can be started again and again: port, password and data stay. One server at a
    time uses a folder: it holds a lock there until its last process has ended. Raises ServerError when the server
    cannot be started.
    """

    title: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    stop_grace: ClassVar[float]  # seconds from the stop signal to SIGKILL
    death_signal: ClassVar[signal.Signals]  # sent by the kernel when we die

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, with user and password."""

    @property
    def log(self) -> Path:
        """Everything the server wrote, over all its runs."""
        return self.folder / "server.log"

    @property
    def pid(self) -> int | None:
        """The id of the running server's first process; None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, timeout: float = 60) -> None:
        """Start the server and wait until it serves, at most `timeout` seconds. Does nothing when it runs."""
        self.launch()
        self.wait_until_ready(timeout)

    def launch(self) -> None:
        """Start the server and do not wait. The server ends with the calling thread (see `leashed`)."""
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self._lock()
        try:
            self._prepare()
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    leashed(self._command(), death=self.death_signal, identity=self._identity()),
                    cwd=self._home(),
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for us; we stop the server when its clients are gone
                    pass_fds=[lock],  # the server holds the lock from here on
                )
        finally:
            os.close(lock)

    def wait_until_ready(self, timeout: float = 60) -> None:
        """Wait until the launched server serves, at most `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if self._process is None or self._process.poll() is not None:
                code = self._process.returncode if self._process else None
                raise ServerError(
                    f"{self.title} ended with exit code {code} while starting.{self._last_words()}"
                )
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"{self.title} did not serve within {timeout:g} s.{self._last_words()}")
            time.sleep(0.03)

    def stop(self) -> None:
        """Stop the server; kill it if that takes longer than its grace."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(self.stop_grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL to the server and all its children, as a crash would do it."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGSTOP)  # so that it starts no more children meanwhile
        for pid in (self._process.pid, *descendants(self._process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Write what the server needs in its folder; choose its ports."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program, to be run in the foreground."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether clients are served."""

    def _identity(self) -> Sequence[str]:
        return ()

    def _home(self) -> Path:
        return self.folder

    def _environment(self) -> Mapping[str, str]:
        # Not our environment: it may hold secrets, and settings for another server.
        return {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

    def _password(self, user: str = "") -> str:
        """A password in the folder, which only its owner can read; the first call makes it.

        Without ``user`` it is the administrator's.
        """
        file = self.folder / (f"{user}-password" if user else "password")
        if not file.exists():
            new = file.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_text(secrets.token_urlsafe(24))
            new.rename(file)
        return file.read_text()

    def _lock(self, timeout: float = 15) -> int:
        """Take the folder's lock; it is free when the last process of an earlier run has ended."""
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    os.close(lock)
                    raise ServerError(f"{self.title} already runs in {self.folder}: stop it first.") from None
                time.sleep(0.05)
            else:
                return lock

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-15:] if self.log.exists() else []
        return "\n".join([f" The end of its log, {self.log}:", *lines])
