"""The pairing service: opens and closes the pairing window, and takes the steps of ceremonies.

`peer.pairing.window` decides; this gives it a clock, a port and a store. A step that counts an
attempt fails if the count cannot be stored, and a user is committed before the answer exists.

The port is open while the window is, and for a moment after, so that the last client learns how
its ceremony ended (`port`). The user who opened or extended the window last is its opener
(`opener`). A window that was opened over the network counts its attempts separately, so that
failures in other windows do not block it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence

from device_app.access.access_control import AccessControl
from device_app.access.event_kind import EventKind
from device_app.pairing.ceremonies import Ceremonies
from device_app.pairing.events import PairingEvent, PairingEventKind, PairingEvents
from device_app.pairing.hardware import Hardware
from device_app.pairing.methods import BoardMethods
from device_app.pairing.opener import Opener, OpenerRights
from device_app.pairing.port import PairingPort, PortUser
from device_app.pairing.record import PairingRecord
from device_app.pairing.registration import Registration
from device_app.pairing.stored_label import LABEL_RECORD, StoredLabel
from device_app.pairing.terms import PairingTerms
from device_app.pairing.window_driver import WindowDriver
from device_app.pairing.window_factory import WindowFactory, WindowRequest, can_extend
from iam.errors import Denied, IamError, NotFound
from iam.model import Subject
from peer.errors import PeerError
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.pairing.budget import AttemptBudget
from peer.pairing.sides import OfferedMethod
from peer.pairing.window import Window
from peer.pairing.window_timer import CloseReason

_log = logging.getLogger("handfast.pairing")
_CEREMONY_ID_BYTES = 9

CreatePort = Callable[["PairingService", PortUser], PairingPort]


class PairingService:
    """The pairing window of a running device. Create it inside a running event loop.

    `create_port` gets this service, which answers the requests to the port, and what the port asks.
    """

    def __init__(
        self,
        control: AccessControl,
        device: Fingerprint,
        *,
        events: PairingEvents,
        terms: PairingTerms,
        hardware: Hardware,
        limits: Limits,
        create_port: CreatePort,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.device = device
        self.events = events
        self.limits = limits
        self.trouble = ""  # why the last window could not be opened
        self.methods = BoardMethods(
            hardware,
            StoredLabel.from_record(control.store.attempts.get(LABEL_RECORD)),
            device,
            random_bytes=random_bytes,
            limits=limits,
            counts_attempts=lambda: self.window is None or self.window.budget.is_kept,
        )
        for method, reason in self.methods.missing().items():
            _log.warning("the pairing method %s is not offered: %s", method, reason)
        self._terms = terms
        self._audit = control.audit
        now = asyncio.get_running_loop().time()
        self._rights = OpenerRights(control.store, control.authority)
        self._record = PairingRecord(control, self.methods, now, limits=limits)
        self._factory = WindowFactory(
            self._rights,
            self.methods,
            device,
            terms=terms,
            limits=limits,
            random_bytes=random_bytes,
        )
        self._driver = WindowDriver(
            self._record,
            self.methods,
            events,
            on_port_unneeded=self._schedule_port_close,
        )
        self.ceremonies = Ceremonies(
            self._driver,
            Registration(control.store, control.registry, self._rights, self._record),
            events,
            limits=limits,
            random_bytes=random_bytes,
            review=self.review,
        )
        self._has_default_role = False
        self.port = create_port(self, self._driver)
        self._unsubscribe = control.store.subscribe(lambda _old, _new: self._users_changed())

    # The window as it is now.

    @property
    def window(self) -> Window | None:
        """The window that was opened last, open or not."""
        return self._driver.window

    @property
    def is_open(self) -> bool:
        """Whether a ceremony may start."""
        return self._driver.open_window is not None

    @property
    def seconds_left(self) -> float:
        """Seconds until the window closes; 0 if it is closed."""
        return self.window.seconds_left(self._driver.now) if self.window is not None else 0.0

    @property
    def opener(self) -> Subject | None:
        """The user who opened the window over the network; None is the console."""
        return self._driver.opener.subject if self._driver.opener is not None else None

    @property
    def budget(self) -> AttemptBudget:
        """The device's attempts since the last success; a window may count its own."""
        window = self.window
        return window.budget if window and window.budget.is_kept else self._record.budget

    def role_for(self, requested: str | None) -> str:
        """Return the role that a window gives if it is opened now."""
        window = self._driver.open_window
        current = window.role if window is not None else self._terms.role
        return requested or current or self._rights.default_role()

    def seconds_blocked(self) -> float:
        """Return how long no ceremony may start because too many have failed."""
        return self._budget_in_force.seconds_blocked(self._driver.now)

    @property
    def blocked_until(self) -> float:
        """The time (of the event loop) until which no ceremony may start for that reason."""
        return self._budget_in_force.blocked_until

    @property
    def _budget_in_force(self) -> AttemptBudget:
        window = self._driver.open_window
        return window.budget if window is not None else self.budget

    # Opening and closing.

    async def open(
        self,
        *,
        seconds: float | None = None,
        role: str | None = None,
        methods: Sequence[str] = (),
        clears_backoff: bool = False,
        pressed: bool = False,
        opener: Opener | None = None,
    ) -> None:
        """Open the window, or extend it to the later of the two deadlines if it is open.

        A new window takes the place of one that does not offer the methods. `clears_backoff` is for
        a person at the console or the button; the other arguments are those of `WindowRequest`.

        Raises:
            UsageError: a window for another role is open, or a method cannot be offered.
            IamError: the role does not exist, or the opener may not grant it.
            PeerError: the pairing port cannot be bound.
        """
        seconds = self._terms.seconds if seconds is None else seconds
        request = WindowRequest(
            seconds=seconds, role=role, methods=tuple(methods), pressed=pressed, opener=opener
        )
        self._rights.check(opener, self.role_for(role))
        if clears_backoff:
            self._clear_backoff()
        before = self._driver.open_window
        offered = self._factory.offered(request, before)
        if before is not None and can_extend(before, request, offered):
            before.extend(self._driver.now, seconds)
            if before.budget.is_kept != (opener is None):
                before.replace_budget(self._budget_for(opener))
        else:
            self._replace_window(request, offered, before)
        self._driver.set_opener(opener)
        try:
            await self.port.reconcile()
        except PeerError as error:
            self._driver.replace(None)
            self.report_trouble(error)
            raise
        self.trouble = ""
        self._driver.settle(actor=self._audit.actor_name(self.opener))
        self.events.publish(PairingEvent(PairingEventKind.OPENED))

    def report_trouble(self, error: PeerError | IamError) -> None:
        """Keep the reason why no window could be opened, for `status`; log it when it changes."""
        before, self.trouble = self.trouble, f"the pairing window cannot open: {error}"
        if self.trouble != before:
            _log.error("%s. %s", self.trouble, error.advice)

    def close_window(
        self, *, actor: Subject | None = None, reason: CloseReason = CloseReason.CONSOLE
    ) -> bool:
        """Close the window and refuse the ceremony in it. Return False if it was closed."""
        return self._close(self._audit.actor_name(actor), reason)

    def review(self) -> None:
        """Close the window if its opener may not open it any more."""
        window = self._driver.open_window
        if window is None or self._driver.is_committing:
            return  # a commit has just been checked, or is the change that led here
        try:
            self._rights.check(self._driver.opener, window.role)
        except (Denied, NotFound) as error:
            name = self._audit.actor_name(self.opener)
            _log.warning("closing the pairing window: %s may not grant %s now", name, window.role)
            self._close("")
            event = self._audit.event(
                EventKind.WINDOW_WITHDRAWN, actor=name, role=window.role, result=str(error)
            )
            self._audit.append(event)

    async def close(self) -> None:
        """Close the window and the port, without waiting for a client."""
        self.close_window()
        self._unsubscribe()
        self._driver.stop()
        await self.port.close()

    def _replace_window(
        self, request: WindowRequest, offered: Sequence[OfferedMethod], before: Window | None
    ) -> None:
        """Open a new window; it lasts as long as the one before, and keeps a role given to that."""
        seconds, role = max(request.seconds, self.seconds_left), request.role
        if before is not None and not self._has_default_role:
            role = before.role
        acting = request.opener.subject if request.opener is not None else None
        self._audit.spend_window(acting)
        self._close(self._audit.actor_name(acting), CloseReason.REPLACED)
        self._has_default_role = role is None and self._terms.role is None
        window = self._factory.create(
            self._driver.now,
            seconds=seconds,
            role=self.role_for(role),
            methods=offered,
            budget=self._budget_for(request.opener),
        )
        self._driver.replace(window)

    def _close(self, actor: str, reason: CloseReason = CloseReason.CONSOLE) -> bool:
        if not self.is_open:
            return False
        with self._driver.step(actor=actor) as window:
            window.close(self._driver.now, reason)
        return True

    def _budget_for(self, opener: Opener | None) -> AttemptBudget:
        return self.budget if opener is None else AttemptBudget(limits=self.limits, is_kept=False)

    def _schedule_port_close(self) -> None:
        self.port.schedule_close()

    def _clear_backoff(self) -> None:
        if not self.budget.failures:
            return
        self._record.clear(self._driver.now)
        if self.window is not None and self.window.budget.is_kept:
            self.window.replace_budget(self._record.budget)

    def _users_changed(self) -> None:
        """Close a window that was for the first owner, or whose opener has lost rights."""
        window = self._driver.open_window
        if window is None or self._driver.is_committing:
            return  # a commit is the window's own success
        if self._has_default_role and self._rights.default_role() != window.role:
            self.close_window()
        self.review()
