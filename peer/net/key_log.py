"""`SSLKEYLOGFILE`: write the keys of all sessions to a file, so that tools can decrypt captures.

Wireshark and other tools read the file. A reader of the file can read the traffic of the process,
requests and secrets of pairings included, so it is private, and its use is logged as a warning.
"""

import errno
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from peer.dtls import key_log
from peer.files import open_own

VARIABLE: Final = "SSLKEYLOGFILE"
_PRIVATE: Final = 0o600
_log = logging.getLogger(__name__)
_started: set[str] = set()


def start(environ: Mapping[str, str]) -> bool:
    """Log the keys of all later sessions if the variable is set; return whether they are logged.

    The file is opened for appending and gets mode 0600. If it cannot be opened, or is not a regular
    file of this user, a warning says so, and no keys are logged.
    """
    name = environ.get(VARIABLE, "")
    if not name or name in _started:
        return bool(name)
    try:
        file = open_own(Path(name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.fchmod(file, _PRIVATE)
        if stat.S_IMODE(os.fstat(file).st_mode) & ~_PRIVATE:
            os.close(file)
            why = "its file system stores no permissions, so other users could read it"
            raise PermissionError(errno.EPERM, why, name)
    except OSError as error:
        _log.warning(
            "%s is set, but the keys of sessions are not logged: cannot write %s: %s",
            VARIABLE,
            name,
            error.strerror,
        )
        return False
    _started.add(name)
    _log.warning(
        "%s is set: the keys of all sessions are written to %s. With them, captured traffic can be "
        "read. Unset the variable and remove the file when you have finished debugging.",
        VARIABLE,
        name,
    )
    key_log.set_sink(_Writer(file, name).write)
    return True


class _Writer:
    """Appends lines to a file. The file stays open as long as the process."""

    def __init__(self, file: int, name: str) -> None:
        self._file = file
        self._name = name
        self._has_failed = False

    def write(self, line: bytes) -> None:
        """Append one line in one call, since several processes may share the file."""
        try:
            os.write(self._file, line + b"\n")
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                _log.warning("cannot write to %s: %s", self._name, error.strerror)
