"""Ends the sessions of users whose time is over, when it is over (behaviour 30)."""

import asyncio
from collections.abc import Callable

from device_app.whitelist import Whitelist

_LOOK_AGAIN_SECONDS = 60.0  # the wall clock may be set while we wait


class Expiry:
    """Watches the clock for the next user whose time begins or ends."""

    def __init__(
        self, whitelist: Whitelist, end_sessions: Callable[[frozenset[str]], None]
    ) -> None:
        self._whitelist = whitelist
        self._end_sessions = end_sessions
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._active = self._now_active()
        self._unsubscribe = whitelist.store.subscribe(lambda _old, _new: self.look())
        self._arm()

    def look(self) -> None:
        """End the sessions of keys that were good at the last look and are not now."""
        active = self._now_active()
        ended, self._active = self._active - active, active
        if ended:
            self._end_sessions(ended)
        self._arm()

    def stop(self) -> None:
        """Look no more."""
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _now_active(self) -> frozenset[str]:
        now = self._whitelist.now
        return frozenset(
            key.fingerprint
            for user in self._whitelist.state.users.values()
            if user.start <= now < user.end
            for key in user.keys
        )

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._whitelist.now
        turn = self._whitelist.state.next_turn(now)
        if turn is not None:
            self._timer = self._loop.call_later(min(turn - now, _LOOK_AGAIN_SECONDS), self.look)
