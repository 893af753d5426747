"""Notifications to the service manager that has started this process (sd_notify(3))."""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

from device_app.limits import NOTIFY_SECONDS, NOTIFY_STATUS_CHARACTERS
from peer.terminal.text import on_one_line

_MICROSECONDS: Final = 1_000_000


class ServiceManager:
    """The service manager, which is told what the daemon does; does nothing where there is none.

    A value that is sent is one line, so that text from a file or from a peer adds no assignment.
    A manager that does not read delays the daemon by `NOTIFY_SECONDS` at a change of its state, and
    never while it serves: other messages are lost then.

    Args:
        environ: the variables of the process.
        process: the ID of the process.
        monotonic: the clock of `MONOTONIC_USEC`, in seconds.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        process: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = environ.get("NOTIFY_SOCKET", "")
        self._process = os.getpid() if process is None else process
        self._monotonic = monotonic
        self._watchdog_seconds = _watchdog_seconds(environ, self._process)
        self._reloads = 0
        self._is_stopping = False
        self._summary = self._trouble = ""

    @property
    def watchdog_seconds(self) -> float:
        """The time after which a daemon that has not called `alive` is killed; 0 if it never is."""
        return self._watchdog_seconds

    def starting(self, step: str, *, seconds: float = 0.0) -> None:
        """Say which step of the start begins, and how many seconds it may take, if it may be long.

        The manager adds these seconds only if the start would end after its own limit.
        """
        fields = {"STATUS": f"{step} …"}
        if seconds:
            fields["EXTEND_TIMEOUT_USEC"] = str(round(seconds * _MICROSECONDS))
        self._send(**fields)

    def ready(self, summary: str) -> None:
        """Say that the start, or a restart of the device in this process, has ended."""
        self._reloads, self._trouble, self._summary = 0, "", summary
        self._send(READY="1", MAINPID=str(self._process), STATUS=self._status)

    def alive(self, summary: str) -> None:
        """Say that the device serves, and what it does. Call it every half `watchdog_seconds`."""
        self._summary = summary
        self._send(WATCHDOG="1", STATUS=self._status)

    def changed(self, summary: str) -> None:
        """Say what the device does now, if that is something else."""
        if summary != self._summary:
            self._summary = summary
            self._send(STATUS=self._status)

    def failing(self, trouble: str) -> None:
        """Say why `alive` is not called."""
        self._send(STATUS=trouble)

    def reloading(self) -> None:
        """Say that a reload begins; `reloaded` or `ready` ends it."""
        self._reloads += 1
        now = round(self._monotonic() * _MICROSECONDS)
        self._send(RELOADING="1", MONOTONIC_USEC=str(now))

    def reloaded(self, trouble: str = "") -> None:
        """Say that a reload has ended, unless another one continues.

        Args:
            trouble: why it has failed, or empty; shown until the next one succeeds.
        """
        self._trouble = trouble
        self._reloads = max(self._reloads - 1, 0)
        if not self._reloads and not self._is_stopping:
            self._send(READY="1", STATUS=self._status)

    def stopping(self) -> None:
        """Say that the daemon ends."""
        self._is_stopping = True
        self._send(STOPPING="1", STATUS="ending the sessions …")

    @property
    def _status(self) -> str:
        return "; ".join(filter(None, (self._trouble, self._summary)))

    def _send(self, **fields: str) -> None:
        path = self._socket
        if not path.startswith(("/", "@")):
            return
        if path.startswith("@"):  # an abstract socket
            path = "\0" + path[1:]
        is_state = not {"READY", "RELOADING", "STOPPING"}.isdisjoint(fields)
        values = {name: on_one_line(text) for name, text in fields.items()}
        lines = [f"{name}={text[:NOTIFY_STATUS_CHARACTERS]}" for name, text in values.items()]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.settimeout(NOTIFY_SECONDS if is_state else 0.0)
            out.sendto("\n".join(lines).encode(), path)


def _watchdog_seconds(environ: Mapping[str, str], process: int) -> float:
    """Return the time of sd_watchdog_enabled(3): `WATCHDOG_PID` may name another process."""
    time_text = environ.get("WATCHDOG_USEC", "")
    if environ.get("WATCHDOG_PID", str(process)) != str(process):
        return 0.0
    return int(time_text) / _MICROSECONDS if time_text.isascii() and time_text.isdigit() else 0.0


NO_MANAGER: Final = ServiceManager({})
"""For a device that no service manager has started."""
