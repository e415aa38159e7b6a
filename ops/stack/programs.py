"""Every Debian program that a target starts, and its package. A target installs what it lacks in one go."""

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

_APT = Path(__file__).with_name("apt.sh")


class ProgramsMissing(RuntimeError):
    """Programs are missing and could not be installed; the message says what to type."""


@dataclass(frozen=True, slots=True)
class Program:
    """A file, and the Debian package that brings it."""

    package: str
    path: Path


_LIBRARIES = Path(f"/usr/lib/{platform.machine()}-linux-gnu")

RABBITMQ = Program("rabbitmq-server", Path("/usr/lib/rabbitmq/bin/rabbitmq-server"))
CHROMIUM = Program("chromium", Path("/usr/bin/chromium"))
#: Needed by the Node.js that comes with Playwright.
LIBATOMIC = Program("libatomic1", _LIBRARIES / "libatomic.so.1")
PROMETHEUS = Program("prometheus", Path("/usr/bin/prometheus"))
PROMTOOL = Program("prometheus", Path("/usr/bin/promtool"))
#: Makes the certificates of the servers that tests pretend to be.
OPENSSL = Program("openssl", Path("/usr/bin/openssl"))
WRK = Program("wrk", Path("/usr/bin/wrk"))
#: A library that processes are started with: they then read their clock from a file.
FAKETIME = Program("libfaketime", _LIBRARIES / "faketime" / "libfaketime.so.1")
#: Cyrillic letters and the signs of the zodiac.
LETTERS = Program("fonts-dejavu-core", Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"))
EMOJI = Program("fonts-noto-color-emoji", Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))

# What each target of the Makefile starts.
UP = (RABBITMQ, FAKETIME)
SCREENSHOTS = (*UP, CHROMIUM, LIBATOMIC, LETTERS, EMOJI)
TEST = (*SCREENSHOTS, PROMETHEUS, PROMTOOL, OPENSSL)
BENCH = (RABBITMQ, WRK)


def ensure_installed(*programs: Program) -> None:
    """Install the packages of missing programs, or raise ProgramsMissing; their services are not started."""
    missing = {program.package: program.path for program in programs if not program.path.exists()}
    if not missing:
        return
    done = subprocess.run([_APT, *missing], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ProgramsMissing(done.stderr.strip())
    for package, path in missing.items():
        if not path.exists():
            raise ProgramsMissing(
                f"The package {package} is installed, but {path} is missing. Type this, then try again:\n"
                f"    sudo apt-get install -y --reinstall {package}"
            )
