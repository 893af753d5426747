"""The events `remote-attached` and `remote-detached`, within a budget.

A broker can attach and detach the device as often as it likes, and the audit trail keeps a number
of events: without a budget, a broker could drive other events out of it.
"""

import logging
from collections.abc import Callable

from device_app.access.audit_log import AuditLog
from device_app.access.event_kind import EventKind
from device_app.limits import REMOTE_EVENT_BURST, REMOTE_EVENTS_PER_HOUR
from peer.remote.settings import Server
from peer.terminal.reasons import broker_reason_in_words
from peer.token_bucket import TokenBucket

_log = logging.getLogger("handfast.remote")


class BrokerEvents:
    """Logs and audits that a broker is attached, or is not any more, and logs failed attempts."""

    def __init__(self, audit: AuditLog, *, now: Callable[[], float]) -> None:
        self._audit = audit
        self._now = now
        self._omitted = 0
        self._logged: dict[str, str] = {}  # the last reason, by broker that is not attached
        self._budget = TokenBucket(
            per_second=REMOTE_EVENTS_PER_HOUR / 3600, burst=REMOTE_EVENT_BURST, now=now()
        )

    def attached(self, server: Server) -> None:
        """Note that the device can be reached by a broker."""
        self._logged.pop(server.url, None)
        _log.info("attached to %s: the device can be reached from other networks", server.url)
        self._append(EventKind.REMOTE_ATTACHED, server, "")

    def detached(self, server: Server, why: str) -> None:
        """Note that the connection with a broker was lost, with the reason slug."""
        self._logged[server.url] = why
        _log.warning("not attached to %s any more: %s", server.url, broker_reason_in_words(why))
        self._append(EventKind.REMOTE_DETACHED, server, why)

    def failed(self, server: Server, why: str) -> None:
        """Log that an attempt to attach failed, unless the last line says the same."""
        if self._logged.get(server.url) == why:
            return
        self._logged[server.url] = why
        _log.warning(
            "cannot attach to %s: %s. `handfast-device remote test` says what to do.",
            server.url,
            broker_reason_in_words(why),
        )

    def _append(self, kind: EventKind, server: Server, why: str) -> None:
        if self._budget.level(self._now()) < 1:
            self._omitted += 1
            return
        self._budget.take(1)
        omitted = f" (omitted before: {self._omitted})" if self._omitted else ""
        self._omitted = 0
        self._audit.append(self._audit.event(kind, result=why, detail=f"{server.url}{omitted}"))
