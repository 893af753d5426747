"""Notifications to the service manager (sd_notify(3))."""

import contextlib
import socket
from collections.abc import Mapping


def notify(state: str, environ: Mapping[str, str]) -> bool:
    """Send a state such as `READY=1` to the socket that `$NOTIFY_SOCKET` names.

    Returns:
        False if the variable is not set or no one listens on the socket.
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    if path.startswith("@"):  # an abstract socket
        path = "\0" + path[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(state.encode(), path)
        return True
    return False
