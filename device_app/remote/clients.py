"""The client keys that can reach the device by a remote path.

They are the keys whose user has the right Remote:Connect, as far as that can be known before there
is a path. The table follows each change of users and policies in the turn in which it happens, so
that the device stops to listen for a key together with the right.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from device_app.access.authority import CONNECT, Authority
from device_app.access.clock import Clock
from iam.attributes import CLOCK, IS_LOCAL, PATH
from iam.store import Store
from peer.fingerprint import Fingerprint
from peer.net.session_route import SessionRoute
from peer.remote.pair_keys import PairKeys

_ROUTES: Final = (SessionRoute.DIRECT, SessionRoute.RELAY)
#: The attributes that are open before there is a path. It has no interface, so that is absent.
_UNKNOWN: Final = frozenset({"Connection:Address"})


class RemoteClients:
    """The keys that may connect, each with its pair keys.

    Args:
        store: the users.
        authority: decides by the policies in force.
        clock: the device's time.
        keys_of: derives the pair keys of a client key.
        on_change: called with the new table when it has changed.
        on_lost: called with the keys that may connect no more.
    """

    def __init__(
        self,
        store: Store,
        authority: Authority,
        clock: Clock,
        *,
        keys_of: Callable[[Fingerprint], PairKeys],
        on_change: Callable[[Mapping[Fingerprint, PairKeys]], None],
        on_lost: Callable[[Iterable[Fingerprint]], None],
    ) -> None:
        self._store = store
        self._authority = authority
        self._clock = clock
        self._keys_of = keys_of
        self._on_change = on_change
        self._on_lost = on_lost
        self._table: dict[Fingerprint, PairKeys] = {}

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._table)

    def review(self, keys: Iterable[str]) -> None:
        """Look at the rights of these keys again."""
        found: list[Fingerprint] = []
        lost: list[Fingerprint] = []
        for key in keys:
            fingerprint = Fingerprint.parse(key)
            may, has = self.may_listen_for(key), fingerprint in self._table
            if may and not has:
                found.append(fingerprint)
            elif has and not may:
                lost.append(fingerprint)
        if not found and not lost:
            return
        self._table.update((one, self._keys_of(one)) for one in found)
        for one in lost:
            del self._table[one]
        self._on_change(self._table)
        if lost:
            self._on_lost(lost)

    def review_all(self) -> None:
        """Look at the rights of all keys again."""
        known = {one.hex for one in self._table}
        self.review(known | set(self._store.state.user_name_by_key))

    def derive_again(self) -> None:
        """Derive the pair keys of all keys again, after the master key has changed."""
        self._table = {one: self._keys_of(one) for one in self._table}
        self._on_change(self._table)

    def may_listen_for(self, key: str) -> bool:
        """Whether a key can have the right to connect, now or later in its access."""
        return self._is_conceivable(key, {}, unknown=_UNKNOWN | {CLOCK})

    def may_connect_now(self, key: str) -> bool:
        """Whether a key can have the right to connect now."""
        return self._is_conceivable(key, self._clock.attributes(), unknown=_UNKNOWN)

    def _is_conceivable(
        self, key: str, attributes: Mapping[str, str], *, unknown: frozenset[str]
    ) -> bool:
        subject = self._authority.subject(key)
        return subject.user is not None and any(
            self._authority.access.conceivable(
                subject,
                CONNECT,
                {**attributes, IS_LOCAL: "false", PATH: route.value},
                unknown=unknown,
            ).allowed
            for route in _ROUTES
        )
