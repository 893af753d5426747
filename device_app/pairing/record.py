"""What the store remembers of pairing: failures since the last success, the label, and the events.

The window decides what an attempt costs; here it becomes durable, before anybody is answered.
"""

import logging
from collections.abc import Sequence

from device_app.access.whitelist import CONSOLE, Whitelist
from device_app.pairing.methods import LABEL_RECORD, BoardMethods, StoredLabel
from iam.audit import Event as AuditEvent
from iam.model import State
from peer.errors import Malformed
from peer.limits import Limits
from peer.pairing.budget import AttemptBudget
from peer.pairing.events import Event, EventKind

_log = logging.getLogger("handfast.pairing")
_RECORD = "pairing"  # our entry among the store's attempt counters
# Field of a window's event → field of the audit trail; the rest becomes `detail`.
_FIELDS = {
    "fingerprint": "fingerprint",
    "method": "method",
    "role": "role",
    "name": "user",
    "reason": "result",
}


def _budget(whitelist: Whitelist, now: float, limits: Limits) -> AttemptBudget:
    store = whitelist.store
    record = store.attempts.get(_RECORD)
    try:
        if store.attempts_lost or not isinstance(record, dict | None):
            raise Malformed("the record of pairing attempts is damaged")
        return AttemptBudget.restored(record, now, limits=limits)
    except Malformed as error:
        _log.error("%s: pairing waits until `handfast-device open` clears it", error)
        return AttemptBudget.unknown(now, limits=limits)


class PairingRecord:
    """The stored half of the service. `budget` is what was stored last; times are monotonic."""

    def __init__(
        self, whitelist: Whitelist, methods: BoardMethods, now: float, *, limits: Limits
    ) -> None:
        self._whitelist = whitelist
        self._methods = methods
        self.budget = _budget(whitelist, now, limits)

    def keep(
        self, budget: AttemptBudget, events: Sequence[Event], now: float, *, acting: str
    ) -> None:
        """Store what has changed, and the events; `acting` has opened or closed the window.

        Raises `StoreWriteFailed`.
        """
        whitelist, budget = self._whitelist, self._kept(budget)
        stored = whitelist.store.attempts.get(LABEL_RECORD, StoredLabel().record())
        is_news = budget != self.budget or stored != self._methods.label.record()
        if events or is_news:
            facts = [self._fact(event, acting) for event in events]
            attempts = self._attempts(budget, now) if is_news else None
            whitelist.commit(whitelist.state, *facts, attempts=attempts)
            self.budget = budget

    def succeed(self, new: State, event: AuditEvent, budget: AttemptBudget, now: float) -> None:
        """Store the new user and the refund in one transaction. Raises `IamError`."""
        budget = self._kept(budget)
        self._whitelist.commit(new, event, attempts=self._attempts(budget, now))
        self.budget = budget

    def clear(self, now: float) -> None:
        """Forget the failures. Raises `StoreWriteFailed`."""
        whitelist, refunded = self._whitelist, self.budget.refund()
        event = whitelist.journal.event("back-off-cleared", actor=CONSOLE)
        whitelist.commit(whitelist.state, event, attempts=self._attempts(refunded, now))
        self.budget = refunded

    def _kept(self, budget: AttemptBudget) -> AttemptBudget:
        """What is stored: a window's budget, or the old one if the window has one to itself."""
        return budget if budget.is_kept else self.budget

    def _attempts(self, budget: AttemptBudget, now: float) -> dict[str, object]:
        label = self._methods.label.record()
        return {**self._whitelist.store.attempts, _RECORD: budget.record(now), LABEL_RECORD: label}

    def _fact(self, event: Event, acting: str) -> AuditEvent:
        """A window's event in the words of the audit trail."""
        fields = dict(event.fields)
        known = {
            ours: str(fields.pop(theirs)) for theirs, ours in _FIELDS.items() if theirs in fields
        }
        detail = " ".join(f"{key}={value}" for key, value in sorted(fields.items()))
        if event.kind in {EventKind.WINDOW_OPENED, EventKind.WINDOW_CLOSED}:
            known["actor"] = acting
        return self._whitelist.journal.event(event.kind.value, detail=detail, **known)
