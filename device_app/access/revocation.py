"""Ends the sessions of users whose rights have changed, on both ports."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from device_app.access.authority import Authority
from iam.model import State, changed_keys
from peer.identity import Fingerprint

_log = logging.getLogger("handfast.app")


class Sessions(Protocol):
    """The sessions of one port."""

    def end_sessions(self, which: Callable[[Fingerprint], bool]) -> int:
        """End the sessions of some keys, and return how many."""


class Revocation:
    """Ends sessions that were established under other rights.

    Args:
        authority: knows the role of each key.
        regular: the sessions of the regular port.
        pairing: the sessions of the pairing port, where no rights are needed but a user who has
            just been removed must not finish a ceremony.
        review_window: closes the pairing window if its opener has lost the right to it.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        regular: Sessions,
        pairing: Sessions,
        review_window: Callable[[], None],
    ) -> None:
        self._authority = authority
        self._regular = regular
        self._ports: Sequence[Sessions] = (regular, pairing)
        self._review_window = review_window
        self._loop = asyncio.get_running_loop()

    def on_change(self, old: State, new: State) -> None:
        """End the sessions of users that a change of the store concerns."""
        self._schedule(changed_keys(old, new))

    def on_expiry(self, keys: frozenset[str]) -> None:
        """End the sessions of keys whose access has ended."""
        self._schedule(keys)
        self._review_window()

    def on_new_policies(self, roles: frozenset[str]) -> None:
        """End the sessions of users whose role has other rights now."""
        self._review_window()
        ended = self._regular.end_sessions(
            lambda key: self._authority.subject(key.hex).role in roles
        )
        _log.info("the rights of %s have changed: ended %d sessions", ", ".join(roles), ended)

    def _schedule(self, keys: frozenset[str]) -> None:
        """End the sessions in the next turn of the loop.

        A user who changes their own rights still gets the answer.
        """
        if keys:
            self._loop.call_soon(self._end, keys)

    def _end(self, keys: frozenset[str]) -> None:
        ended = sum(port.end_sessions(lambda key: key.hex in keys) for port in self._ports)
        if ended:
            _log.info("rights have changed: ended %d sessions", ended)
