"""The daemon that runs on a store, wherever its control socket is: the lock file tells.

`$XDG_RUNTIME_DIR` and `$RUNTIME_DIRECTORY` decide where the socket is, and they can differ between
the daemon and a command: in a service, in another login, with sudo.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from device_app.errors import DaemonUnreachable
from iam import files, openfile

#: The note of a daemon that closes the store to open it again.
RESTARTING: Final = b"restarting"


@dataclass(frozen=True, slots=True)
class RunningDaemon:
    """A daemon, by what it wrote: its process and its control socket."""

    pid: int
    socket: Path


def daemon_of(store: Path) -> RunningDaemon | None:
    """Return the daemon that runs on a store, or None if no process holds it, or no daemon."""
    with suppress(OSError), files.acting_as_owner_of(store.parent):
        held = openfile.holder(store)
        if held and held.is_held and held.note.startswith(b"/") and b"\0" not in held.note:
            return RunningDaemon(held.pid, Path(os.fsdecode(held.note)))
    return None


def is_expected(store: Path) -> bool:
    """Return whether a daemon may answer soon: some process holds the store, or restarts."""
    with suppress(OSError), files.acting_as_owner_of(store.parent):
        if (found := openfile.holder(store)) is not None:
            return found.is_held or _is_restarting(found)
    return False


def is_between(store: Path) -> bool:
    """Return whether a daemon has closed the store, and is about to open it again."""
    with suppress(OSError), files.acting_as_owner_of(store.parent):
        if (found := openfile.holder(store)) is not None:
            return not found.is_held and _is_restarting(found)
    return False


def _is_restarting(found: openfile.Holder) -> bool:
    return found.note == RESTARTING and found.pid > 0 and _runs(found.pid)


def _runs(pid: int) -> bool:
    """Return whether there is a process; `/proc` may hide those of other users (proc(5))."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def unreachable(daemon: RunningDaemon) -> DaemonUnreachable:
    """Return the error for a daemon whose socket is gone."""
    return DaemonUnreachable(
        f"process {daemon.pid} runs this device, but its control socket {daemon.socket} is gone",
        advice="Something has removed that file or its folder. Restart the daemon.",
    )
