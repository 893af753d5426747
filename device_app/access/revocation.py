"""Ends the sessions of users whose rights have changed, on both ports.

A thousand sessions take a tenth of a second to end, so those of the regular port are ended in steps
between which other clients are served. A session that waits for its end gains nothing: each request
and each notification is decided by the rights in force.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from device_app.access.authority import Authority
from iam.model import State, changed_keys, differing
from peer.identity import Fingerprint

_log = logging.getLogger("handfast.app")


Which = Callable[[Fingerprint], bool]


class Sessions(Protocol):
    """The sessions of the regular port."""

    def ending_sessions(self, which: Which) -> Iterator[int]:
        """Return an iterator that ends the sessions of some keys, and yields how many each time."""


class PairingSessions(Protocol):
    """The sessions of the pairing port."""

    def end_sessions(self, which: Which) -> int:
        """End the sessions of some keys, and return how many."""


class RemoteClients(Protocol):
    """The keys that can reach the device by a remote path."""

    def review(self, keys: Iterable[str]) -> None:
        """Follow a change of the rights of these keys, in this turn."""

    def review_all(self) -> None:
        """Follow a change of the rights of any key, in this turn."""


class Revocation:
    """Ends sessions that were established under other rights.

    Args:
        authority: knows the role of each key.
        regular: the sessions of the regular port.
        pairing: the sessions of the pairing port, where no rights are needed but a user who has
            just been removed must not finish a ceremony. They are few, and end at once.
        review_window: closes the pairing window if its opener has lost the right to it.
        remote: the device stops to listen for a key together with the key's right.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        regular: Sessions,
        pairing: PairingSessions,
        review_window: Callable[[], None],
        remote: RemoteClients,
    ) -> None:
        self._authority = authority
        self._regular = regular
        self._pairing = pairing
        self._review_window = review_window
        self._remote = remote
        self._loop = asyncio.get_running_loop()

    def on_change(self, old: State, new: State) -> None:
        """End the sessions of users that a change of the store concerns."""
        self._remote.review(
            {
                key.fingerprint
                for pair in differing(old, new)
                for user in pair
                if user
                for key in user.keys
            }
        )
        self._schedule(changed_keys(old, new))

    def on_expiry(self, keys: frozenset[str]) -> None:
        """End the sessions of keys whose access has ended."""
        self._remote.review(keys)
        self._schedule(keys)
        self._review_window()

    def on_begin(self, keys: frozenset[str]) -> None:
        """Let keys whose access has begun reach the device."""
        self._remote.review(keys)

    def on_new_policies(self, roles: frozenset[str]) -> None:
        """End the sessions of users whose role has other rights now."""
        self._review_window()
        self._remote.review_all()
        steps = self._regular.ending_sessions(
            lambda key: self._authority.subject(key.hex).role in roles
        )
        self._continue(steps, 0, f"the rights of {', '.join(roles)} have changed")

    def _schedule(self, keys: frozenset[str]) -> None:
        """End the sessions from the next turn of the loop on.

        A user who changes their own rights still gets the answer.
        """
        if keys:
            self._loop.call_soon(self._end, keys)

    def _end(self, keys: frozenset[str]) -> None:
        ended = self._pairing.end_sessions(lambda key: key.hex in keys)
        steps = self._regular.ending_sessions(lambda key: key.hex in keys)
        self._continue(steps, ended, "rights have changed")

    def _continue(self, steps: Iterator[int], ended: int, why: str) -> None:
        """Take one step, and the next one after the other tasks of the loop."""
        step = next(steps, None)
        if step is not None:
            self._loop.call_soon(self._continue, steps, ended + step, why)
        elif ended:
            _log.info("%s: ended %d sessions", why, ended)
