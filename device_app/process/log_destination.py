"""The destination of this process's log: systemd's journal, a file, a terminal or a program.

The daemon writes to standard error and leaves the rest to what has started it. A person who is sent
"to the log" has to know where that is.
"""

import logging
import os
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypedDict

#: The socket of journald.
SYSTEMD_JOURNAL: Final = Path("/run/systemd/journal/socket")
CGROUP: Final = Path("/proc/self/cgroup")
_USER_MANAGER: Final = "user@"
_SERVICE: Final = ".service"


class LogView(TypedDict):
    """The place of the log. `kind` is `journal`, `file`, `terminal`, `nowhere` or `program`.

    `name` is the unit of systemd, the path of the file or the terminal, or empty. `user` is true
    for a unit of a user's own service manager.
    """

    kind: str
    name: str
    user: bool


def log_destination(environ: Mapping[str, str], *, descriptor: int = 2) -> LogView:
    """Return where standard error goes."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return {"kind": "nowhere", "name": "", "user": False}
    # systemd.exec(5): device and inode of the stream that it has connected to the journal.
    if environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}":
        unit, is_user = _unit()
        return {"kind": "journal", "name": unit, "user": is_user}
    name = _name_of(descriptor)
    if stat.S_ISREG(found.st_mode):
        return {"kind": "file", "name": name, "user": False}
    if os.isatty(descriptor):
        return {"kind": "terminal", "name": name, "user": False}
    if found.st_rdev == Path(os.devnull).stat().st_rdev and stat.S_ISCHR(found.st_mode):
        return {"kind": "nowhere", "name": "", "user": False}
    return {"kind": "program", "name": "", "user": False}


def with_priority(text: str, level: int) -> str:
    """Return lines for systemd's journal, each with the priority of a level of `logging`.

    See sd-daemon(3). The journal reads one priority at the begin of each line.
    """
    return "\n".join(f"<{_priority(level)}>{line}" for line in text.split("\n"))


def _priority(level: int) -> int:
    """Return the priority of syslog(3)."""
    if level >= logging.ERROR:
        return 3
    if level >= logging.WARNING:
        return 4
    return 6 if level >= logging.INFO else 7


def own_log() -> LogView:
    """Return where this process writes its log."""
    return log_destination(os.environ, descriptor=_standard_error())


def _standard_error() -> int:
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced
        return 2


def _name_of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""


def _unit() -> tuple[str, bool]:
    """Return the unit of systemd that this process belongs to, and whether it is a user's."""
    try:
        groups = CGROUP.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return "", False
    for line in groups:
        parts = line.rpartition(":")[2].split("/")
        units = [part for part in parts if part.endswith(_SERVICE)]
        if units:
            is_user = len(units) > 1 and units[0].startswith(_USER_MANAGER)
            return units[-1], is_user
    return "", False
