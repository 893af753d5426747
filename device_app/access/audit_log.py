"""The audit trail: what happened on the device, appended within the budgets of those who cause it.

An event is an `iam.audit.Event`; `AuditLog.event` is the one place that makes them. A change
commits its event together with itself (`access.registry`, `pairing.record`); `append` is for what
changes nothing.
"""

import logging
from dataclasses import replace

from device_app.access.clock import SystemClocks
from device_app.access.event_budget import EventBudgets
from device_app.access.event_kind import EventKind
from device_app.access.operators import current_operator, detail_by
from device_app.access.store_writer import StoreWriter
from device_app.limits import WINDOW_EVENTS
from iam.audit import Event
from iam.builtin import OWNER
from iam.errors import StoreWriteFailed
from iam.limits import IamLimits
from iam.model import Subject
from iam.store import Store

_log = logging.getLogger("handfast.audit")
CONSOLE = "@console"  # the actor of what is done at the device; no user can have this name


class AuditLog:
    """Makes events and appends them. Budgets are measured by the clock that cannot be set."""

    def __init__(
        self, store: Store, writer: StoreWriter, clocks: SystemClocks, *, limits: IamLimits
    ) -> None:
        self._store = store
        self._writer = writer
        self._clocks = clocks
        self._budgets = EventBudgets(limits)

    def event(
        self,
        kind: EventKind,
        *,
        actor: str = "",
        user: str = "",
        role: str = "",
        fingerprint: str = "",
        address: str = "",
        interface: str = "",
        hop_limit: int | None = None,
        method: str = "",
        action: str = "",
        result: str = "",
        detail: str = "",
    ) -> Event:
        """An event of now, not yet written.

        It must not hold a secret: it takes fingerprints, never a key, a token or a code. The detail
        of an event of the console, or of no actor, begins with the operator if there is one.
        """
        if actor in {CONSOLE, ""} and (operator := current_operator()) is not None:
            detail = detail_by(operator, detail)
        return Event(
            kind=kind.value,
            boot=self._clocks.boot_id,
            monotonic=self._clocks.monotonic(),
            wall=self._clocks.wall(),
            actor=actor,
            user=user,
            role=role,
            fingerprint=fingerprint,
            address=address,
            interface=interface,
            hop_limit=hop_limit,
            method=method,
            action=action,
            result=result,
            detail=detail,
        )

    def append(self, event: Event) -> None:
        """Write an event. If the disk does not take it, the log says so, and nothing is raised."""
        try:
            self._writer.commit(self._store.state, event)
        except StoreWriteFailed:
            _log.warning("the event %r could not be stored", event.kind)

    def append_refusal(self, event: Event) -> None:
        """Write that a request was refused, as far as the budget of its source allows.

        The source is the user who has the key now, or the network of the address if no user has it.
        """
        user = self._store.state.user_of(event.fingerprint)
        self._append_within_budget(event, user.name if user is not None else "")

    def append_denial(
        self,
        subject: Subject,
        action: str,
        reason: str,
        *,
        address: str = "",
        interface: str = "",
    ) -> None:
        """Write that a subject was denied an action, within the same budgets.

        `reason` is the statement of the policies that decided; address and interface are those that
        the request came from.
        """
        name = subject.user.name if subject.user is not None else ""
        denial = self.event(
            EventKind.DENIED,
            user=name,
            role=subject.role,
            fingerprint=subject.fingerprint,
            address=address,
            interface=interface,
            action=action,
            result=reason,
        )
        self._append_within_budget(denial, name)

    def _append_within_budget(self, event: Event, user: str) -> None:
        what = event.action or event.kind
        now = self._clocks.monotonic()
        omitted = self._budgets.admit_refusal(event.kind, user, event.address, what, now)
        if omitted is None:
            return
        event = replace(event, detail=f"{event.detail} {omitted}".strip())
        _log.info("%s: %s", event.kind, event.detail or event.result)
        self.append(event)

    def actor_name(self, actor: Subject | None) -> str:
        """The name of an actor in events; None is a person at the device.

        It is the name that the key's user has now: another user may have the old one.
        """
        if actor is None:
            return CONSOLE
        user = self._store.state.user_of(actor.fingerprint) or actor.user
        return user.name if user is not None else ""

    def spend(self, actor: Subject | None, count: int) -> None:
        """Take the events of a change from its actor's budget; None has no bound.

        Raises:
            TooMany: the change must not be made.
        """
        if actor is not None:
            now = self._clocks.monotonic()
            self._budgets.spend(self.actor_name(actor), count, now, is_owner=actor.role == OWNER)

    def spend_window(self, actor: Subject | None) -> None:
        """`spend` for opening a pairing window."""
        self.spend(actor, WINDOW_EVENTS)

    def rename_source(self, old: str, new: str) -> None:
        """Let a user's budget follow the user's new name."""
        self._budgets.rename(old, new)
