"""Child processes that the kernel signals when we die, even by `kill -9`."""

import os
import signal
from collections.abc import Sequence

# The parent may die before the child has asked for the signal. The child then has another parent.
_UNLESS_ORPHANED = 'test "$PPID" = "$0" && exec "$@"'


def leashed(command: Sequence[str], *, death: signal.Signals, identity: Sequence[str] = ()) -> list[str]:
    """The command, wrapped so that it gets a signal when the thread that starts it ends.

    The kernel watches the thread, not the process (prctl(2), PR_SET_PDEATHSIG): start such a command
    from the main thread, or from another one that lives as long as the command should. `identity` holds options of
    setpriv(1): the user to run as, the capabilities to keep.
    """
    wrapper = ["setpriv", "--pdeathsig", death.name, *identity, "--"]
    return [*wrapper, "sh", "-c", _UNLESS_ORPHANED, str(os.getpid()), *command]
