"""The part of pairing that survives a restart: failed attempts, the label, and the audit events.

The window decides what an attempt costs; this makes the cost durable before anyone is answered.
"""

import logging
from collections.abc import Sequence

from device_app.access.access_control import AccessControl
from device_app.access.audit_log import CONSOLE
from device_app.access.event_kind import EventKind
from device_app.access.registry import PairingChange
from device_app.pairing.methods import BoardMethods
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from iam.audit import Event as AuditEvent
from iam.store import Store
from peer.errors import Malformed
from peer.limits import Limits
from peer.pairing.budget import AttemptBudget
from peer.pairing.events import Event
from peer.pairing.events import EventKind as WindowEventKind
from peer.pairing.methods import Method

_log = logging.getLogger("handfast.pairing")
BUDGET_RECORD = "pairing"  # the name of the budget among the store's attempt records


class PairingRecord:
    """Stores the attempt budget, the label and the events of windows. Times are monotonic seconds.

    `budget` is the device's budget as it was stored last.
    """

    def __init__(
        self, control: AccessControl, methods: BoardMethods, now: float, *, limits: Limits
    ) -> None:
        self._store = control.store
        self._writer = control.writer
        self._audit = control.audit
        self._methods = methods
        self._stored_events: Sequence[Event] = ()  # with the last success
        self.budget = _restored_budget(control.store, now, limits)

    def keep(
        self, budget: AttemptBudget, events: Sequence[Event], now: float, *, actor: str
    ) -> None:
        """Store what changed, with the events of the window.

        Args:
            budget: the budget of the window; one that belongs to the window alone is not stored.
            events: what happened in the window since the last call. Those that `commit_success` has
                stored are not stored again.
            now: the time of the call.
            actor: who opened or closed the window by hand, for the events of that.

        Raises:
            StoreWriteFailed: nothing was stored.
        """
        budget = self._stored(budget)
        is_changed = self._is_changed(budget)
        events = [event for event in events if event not in self._stored_events]
        if events or is_changed:
            audited = [self._audit_event(event, actor) for event in events]
            attempts = self._attempts(budget, now) if is_changed else None
            self._writer.commit(self._store.state, *audited, attempts=attempts)
            self.budget = budget

    def is_behind(self, budget: AttemptBudget) -> bool:
        """Return whether an attempt was counted that is not stored."""
        return self._is_changed(self._stored(budget))

    def commit_success(
        self,
        change: PairingChange,
        budget: AttemptBudget,
        events: Sequence[Event],
        method: Method,
        now: float,
    ) -> None:
        """Store the user, the refund and the window's events of that in one transaction.

        Raises `IamError`.
        """
        self._methods.succeeded(method)
        refunded = self._stored(budget.refund())
        attempts = self._attempts(refunded, now)
        audited = [self._audit_event(event, actor="") for event in events]
        self._writer.commit(change.state, change.event, *audited, attempts=attempts)
        self._stored_events = events
        self.budget = refunded

    def clear(self, now: float) -> None:
        """Forget the failures. Raises `StoreWriteFailed`."""
        refunded = self.budget.refund()
        event = self._audit.event(EventKind.BACK_OFF_CLEARED, actor=CONSOLE)
        self._writer.commit(self._store.state, event, attempts=self._attempts(refunded, now))
        self.budget = refunded

    def _stored(self, budget: AttemptBudget) -> AttemptBudget:
        return budget if budget.is_kept else self.budget

    def _is_changed(self, budget: AttemptBudget) -> bool:
        stored = self._store.attempts.get(LABEL_RECORD, StoredLabel().record())
        return budget != self.budget or stored != self._methods.label.record()

    def _attempts(self, budget: AttemptBudget, now: float) -> dict[str, object]:
        label = self._methods.label.record()
        return {**self._store.attempts, BUDGET_RECORD: budget.record(now), LABEL_RECORD: label}

    def _audit_event(self, event: Event, actor: str) -> AuditEvent:
        """A window's event as one of the audit trail; a field that has no place there is detail."""
        fields = {name: str(value) for name, value in event.fields.items()}
        by_hand = event.kind in {WindowEventKind.WINDOW_OPENED, WindowEventKind.WINDOW_CLOSED}
        return self._audit.event(
            EventKind(event.kind.value),
            actor=actor if by_hand else "",
            user=fields.pop("name", ""),
            role=fields.pop("role", ""),
            fingerprint=fields.pop("fingerprint", ""),
            method=fields.pop("method", ""),
            result=fields.pop("reason", ""),
            detail=" ".join(f"{name}={value}" for name, value in sorted(fields.items())),
        )


def _restored_budget(store: Store, now: float, limits: Limits) -> AttemptBudget:
    """Return the stored budget; for a damaged record, the longest back-off."""
    record = store.attempts.get(BUDGET_RECORD)
    try:
        if store.attempts_lost or not isinstance(record, dict | None):
            raise Malformed("the record of pairing attempts is damaged")
        return AttemptBudget.restored(record, now, limits=limits)
    except Malformed as error:
        _log.error("%s; pairing is blocked until `handfast-device open` clears it", error)
        return AttemptBudget.unknown(now, limits=limits)
