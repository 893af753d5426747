"""Ends the sessions of users when their access ends (docs/protocol.md, section 2.4)."""

import asyncio
from collections.abc import Callable

from device_app.access.clock import Clock
from device_app.limits import EXPIRY_CHECK_SECONDS
from iam.model import User
from iam.store import Store


class Expiry:
    """Waits for the next begin or end of a user's access. Costs nothing for users without either.

    Create it inside a running event loop. `end_sessions` is called with the fingerprints of keys
    whose access has ended.
    """

    def __init__(
        self, store: Store, clock: Clock, end_sessions: Callable[[frozenset[str]], None]
    ) -> None:
        self._store = store
        self._clock = clock
        self._end_sessions = end_sessions
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._active = self._active_keys()
        self._unsubscribe = store.subscribe(lambda _old, _new: self.check())
        self._arm()

    def check(self) -> None:
        """End the sessions of keys that had access at the last check and have none now."""
        active = self._active_keys()
        inactive, self._active = self._active - active, active
        ended = frozenset(key for key in inactive if not self._has_access(key))
        if ended:
            self._end_sessions(ended)
        self._arm()

    def close(self) -> None:
        """Stop checking."""
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _active_keys(self) -> frozenset[str]:
        """The keys of users with a limited access period, which includes now."""
        now = self._clock.now()
        return frozenset(
            key.fingerprint
            for user in self._store.state.limited_users()
            if _is_active(user, now)
            for key in user.keys
        )

    def _has_access(self, fingerprint: str) -> bool:
        """Whether a key still has access, for example because its user has no limit any more."""
        user = self._store.state.user_of(fingerprint)
        return user is not None and _is_active(user, self._clock.now())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._clock.now()
        change = self._store.state.next_access_change(now)
        if change is not None:  # the clock may be set before then
            self._timer = self._loop.call_later(min(change - now, EXPIRY_CHECK_SECONDS), self.check)


def _is_active(user: User, now: float) -> bool:
    return user.start <= now < user.end
