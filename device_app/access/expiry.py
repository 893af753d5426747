"""End the sessions of users at the moment their access ends (protocol §2.4)."""

import asyncio
from collections.abc import Callable

from device_app.access.clock import Clock
from iam.model import User
from iam.store import Store

_LOOK_AGAIN_SECONDS = 60.0  # the clock may be set while we wait


class Expiry:
    """Watches the device's time for the next user whose time begins or ends. Only users with a
    limit cost anything."""

    def __init__(
        self, store: Store, clock: Clock, end_sessions: Callable[[frozenset[str]], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._end_sessions = end_sessions
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._active = self._now_active()
        self._unsubscribe = store.subscribe(lambda _old, _new: self.look())
        self._arm()

    def look(self) -> None:
        """End the sessions of keys that were good at the last look and are not now."""
        active = self._now_active()
        gone, self._active = self._active - active, active
        ended = frozenset(key for key in gone if not self._is_good(key))
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
        """The keys of limited users whose time is now."""
        now = self._clock.now()
        return frozenset(
            key.fingerprint
            for user in self._store.state.limited_users()
            if _is_now(user, now)
            for key in user.keys
        )

    def _is_good(self, fingerprint: str) -> bool:
        """A key may leave the limited ones because its user has no limit any more."""
        user = self._store.state.user_of(fingerprint)
        return user is not None and _is_now(user, self._clock.now())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.now()
        turn = self._store.state.next_access_change(now)
        if turn is not None:
            self._timer = self._loop.call_later(min(turn - now, _LOOK_AGAIN_SECONDS), self.look)


def _is_now(user: User, now: float) -> bool:
    return user.start <= now < user.end
