"""Ends the sessions of users when their access ends (docs/protocol.md, section 2.4)."""

import asyncio
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from math import inf

from device_app.access.clock import Clock
from device_app.limits import EXPIRY_CHECK_SECONDS, EXPIRY_TURNS_SPARE
from iam.model import State, User, differing
from iam.store import Store


class Expiry:
    """Waits for the next begin or end of a user's access. Costs nothing for users without either.

    The begins and ends that are ahead are in a heap, so a change and a check look only at the users
    whom they concern. Those that a change has replaced stay there until they are due, or until they
    are the greater part.

    Create it inside a running event loop. `end_sessions` is called with the fingerprints of keys
    whose access has ended, and `on_begin` with those whose access has begun.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        end_sessions: Callable[[frozenset[str]], None],
        *,
        on_begin: Callable[[frozenset[str]], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._end_sessions = end_sessions
        self._on_begin = on_begin
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._checked_at = clock.now()
        self._turns: list[tuple[float, str]] = []
        self._collect()
        self._unsubscribe = store.subscribe(self._on_change)
        self._arm()

    @property
    def waiting(self) -> int:
        """The number of begins and ends in memory."""
        return len(self._turns)

    def check(self) -> None:
        """End the sessions of keys whose access has ended since the last check."""
        now, before = self._clock.now(), self._checked_at
        self._checked_at = now
        if now < before:  # the clock was set back, so a begin may be ahead again
            self._collect()
            self._end(name for name, _ in self._store.state.access_periods())
        else:
            self._end(self._due(now))
        self._arm()

    def close(self) -> None:
        """Stop checking."""
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_change(self, old: State, new: State) -> None:
        lost: set[str] = set()
        for before, after in differing(old, new):
            if after is not None and after.is_limited:
                self._add(after.name, after.start, after.end)
            if before is not None and before.is_limited:
                lost |= {key for key in before.fingerprints if not self._has_access(key)}
        if len(self._turns) > 4 * new.limited_count + EXPIRY_TURNS_SPARE:
            self._collect()
        if lost:
            self._end_sessions(frozenset(lost))
        self.check()

    def _collect(self) -> None:
        """Replace the heap by the begins and ends of all users that are ahead."""
        self._turns = [
            (turn, name)
            for name, period in self._store.state.access_periods()
            for turn in period
            if self._checked_at < turn < inf
        ]
        heapify(self._turns)

    def _add(self, name: str, *period: float) -> None:
        now = self._clock.now()
        for turn in period:
            if now < turn < inf:
                heappush(self._turns, (turn, name))

    def _due(self, now: float) -> set[str]:
        names: set[str] = set()
        while self._turns and self._turns[0][0] <= now:
            names.add(heappop(self._turns)[1])
        return names

    def _end(self, names: Iterable[str]) -> None:
        """End the sessions of those of these users who have no access now."""
        users = [user for name in names if (user := self._store.state.users.get(name)) is not None]
        begun, ended = (
            frozenset(
                key.fingerprint
                for user in users
                if _is_active(user, self._checked_at) is is_active
                for key in user.keys
            )
            for is_active in (True, False)
        )
        if ended:
            self._end_sessions(ended)
        if begun:
            self._on_begin(begun)

    def _has_access(self, fingerprint: str) -> bool:
        user = self._store.state.user_of(fingerprint)
        return user is not None and _is_active(user, self._clock.now())

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._turns:  # the clock may be set before then
            seconds = self._turns[0][0] - self._clock.now()
            self._timer = self._loop.call_later(min(seconds, EXPIRY_CHECK_SECONDS), self.check)


def _is_active(user: User, now: float) -> bool:
    return user.start <= now < user.end
