"""Notices that this device's ID is announced from elsewhere: its SD card may have been copied.

Any host of the network can announce any ID. So this is a notice in the log, in `status` and in the
audit trail, at most one in an hour; it is never a reason to stop or to refuse anything.
"""

import logging
from collections.abc import Callable
from typing import TypedDict

from device_app.access.audit_log import AuditLog
from device_app.access.event_kind import EventKind
from device_app.limits import ELSEWHERE_ADDRESSES, ELSEWHERE_SECONDS
from peer.bounded_dict import BoundedDict

_log = logging.getLogger("handfast.app")
ADVICE = (
    "If the SD card of this device was copied, give one of both a new key: "
    "`handfast-device new-identity`. Any host can announce an ID, so this alone proves nothing"
)


class ElsewhereView(TypedDict):
    """A host that announces this device's ID, and the seconds since the last time."""

    address: str
    interface: str
    seconds_ago: float


class Elsewhere:
    """The hosts that announced this device's ID in the last hour. `monotonic` is in seconds."""

    def __init__(self, audit: AuditLog, *, monotonic: Callable[[], float]) -> None:
        self._audit = audit
        self._monotonic = monotonic
        self._heard: BoundedDict[str, tuple[float, str]] = BoundedDict(ELSEWHERE_ADDRESSES)
        self._next = 0.0

    def note(self, address: str, interface: str) -> None:
        """Note an announcement by another host."""
        now = self._monotonic()
        self._heard[address] = (now, interface)
        if now < self._next:
            return
        self._next = now + ELSEWHERE_SECONDS
        _log.warning("the ID of this device is also announced from %s. %s", address, ADVICE)
        self._audit.append(
            self._audit.event(EventKind.IDENTITY_ELSEWHERE, address=address, interface=interface)
        )

    def view(self) -> list[ElsewhereView]:
        """Return the hosts of the last hour, the newest first."""
        now = self._monotonic()
        return [
            {"address": address, "interface": interface, "seconds_ago": round(now - at, 1)}
            for address, (at, interface) in reversed(list(self._heard.items()))
            if now - at < ELSEWHERE_SECONDS
        ]
