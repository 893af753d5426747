"""The watchdog of the service manager, fed by the event loop itself while the device serves.

There is no thread: it would feed the watchdog of a daemon whose event loop hangs. A full disk or a
wrong policy is no reason to stop, since a restart does not mend it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from device_app.limits import WATCHDOG_TURNS
from device_app.process.notify import ServiceManager

_log = logging.getLogger("handfast.watchdog")
_TROUBLE: Final = "the regular port is no longer read"


class Watchdog:
    """Calls `manager.alive` in time, as long as the device serves. Needs a running loop.

    Args:
        manager: the service manager; without its watchdog, nothing is sent.
        is_serving: whether the sockets of the regular port are open and read.
        summary: what the device does, in a few words.
    """

    def __init__(
        self,
        manager: ServiceManager,
        *,
        is_serving: Callable[[], bool],
        summary: Callable[[], str],
    ) -> None:
        self._manager = manager
        self._is_serving = is_serving
        self._summary = summary
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = False
        if manager.watchdog_seconds:
            self._turn()

    def _turn(self) -> None:
        pause = self._manager.watchdog_seconds / WATCHDOG_TURNS
        self._timer = self._loop.call_later(pause, self._turn)
        if self._is_serving():
            self._has_failed = False
            self._manager.alive(self._summary())
            return
        if not self._has_failed:
            _log.error("%s: the service manager is going to restart this daemon", _TROUBLE)
        self._has_failed = True
        self._manager.failing(f"{_TROUBLE}: waiting for the watchdog to restart this daemon")

    def close(self) -> None:
        """Stop. Safe to repeat."""
        if self._timer is not None:
            self._timer.cancel()
