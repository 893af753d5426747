"""Drives the open window: makes each step durable, tells subscribers, and keeps the timer.

Every call that can change the window is a step. A step ends in the same order, also if it is
refused: its cost and its events are stored, subscribers are told, the timer is set. No step awaits,
so steps never interleave.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from device_app.pairing.events import PairingEvent, PairingEventKind, PairingEvents
from device_app.pairing.methods import BoardMethods
from device_app.pairing.opener import Opener
from device_app.pairing.record import PairingRecord
from iam.errors import StoreWriteFailed
from peer.identity import Fingerprint
from peer.net.admission import SessionPriority
from peer.pairing.ceremony import Ceremony, Stage
from peer.pairing.errors import NotOpen
from peer.pairing.events import Event, EventKind
from peer.pairing.methods import Method
from peer.pairing.window import Window
from peer.pairing.window_timer import CloseReason
from peer.terminal.reasons import reason_in_words

_log = logging.getLogger("handfast.pairing")


class WindowDriver:
    """Holds the current window, open or not. Create it inside a running event loop.

    `on_port_unneeded` is called whenever the window does not need the pairing port.
    """

    def __init__(
        self,
        record: PairingRecord,
        methods: BoardMethods,
        events: PairingEvents,
        *,
        on_port_unneeded: Callable[[], None],
    ) -> None:
        self.window: Window | None = None
        self.opener: Opener | None = None  # of the window; None is the console
        self._record = record
        self._methods = methods
        self._events = events
        self._on_port_unneeded = on_port_unneeded
        self._loop = asyncio.get_running_loop()
        self._latest: Ceremony | None = None  # the last one started, until its session ends
        self._timer: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._loop.time()

    @property
    def open_window(self) -> Window | None:
        """The window, if a ceremony may start in it."""
        window = self.window
        return window if window is not None and window.is_open(self.now) else None

    @property
    def is_committing(self) -> bool:
        """Whether the user of a ceremony is being stored."""
        live = self.window.pending() if self.window is not None else None
        return live is not None and live.stage is Stage.COMMITTING

    def replace(self, window: Window | None) -> None:
        """Drive this window from now on; show a code if it offers one."""
        self.window = window
        self._latest = None
        self._methods.renew(wanted=window is not None and Method.CODE in window.methods)

    def set_opener(self, opener: Opener | None) -> None:
        """Make this user responsible for the window."""
        self.opener = opener

    def watch_session(self, ceremony: Ceremony) -> None:
        """Keep the session of this ceremony, and end the ceremony with it."""
        self._latest = ceremony

    def stop(self) -> None:
        """Drop the window and its timer."""
        self._cancel_timer()
        self.window = None

    def require_window(self) -> Window:
        """Return the window. Raises `NotOpen` if none was opened since the start."""
        if self.window is None:
            raise NotOpen("the pairing window is closed", advice="Open it at the device.")
        return self.window

    @contextmanager
    def step(self, *, must_store: bool = False, actor: str = "") -> Iterator[Window]:
        """Run one step of the window, and settle it however it ends.

        Args:
            must_store: raise `StoreWriteFailed` if an attempt was counted and cannot be stored.
            actor: who opens or closes the window by hand, for the audit trail.

        Raises:
            NotOpen: no window was ever opened.
        """
        window = self.require_window()
        try:
            yield window
        finally:
            self.settle(must_store=must_store, actor=actor)

    def settle(self, *, must_store: bool = False, actor: str = "") -> None:
        """Store, tell and schedule whatever has happened in the window; see `step`."""
        window = self.window
        if window is None:
            return
        now = self.now
        ended, events = window.expire(now), window.take_events()
        failure: StoreWriteFailed | None = None
        try:
            self._record.keep(window.budget, events, now, actor=actor)
        except StoreWriteFailed as error:
            if must_store and self._record.is_behind(window.budget):
                failure = error
        self._publish(ended, events)
        self._schedule(window, now)
        if failure is not None:
            raise failure

    def _publish(self, ended: list[Ceremony], events: list[Event]) -> None:
        for ceremony in ended:
            if self._latest is not None and self._latest.id == ceremony.id:
                self._latest = ceremony
            self._events.publish(PairingEvent(PairingEventKind.ENDED, ceremony, ceremony.reason))
            if ceremony.method is Method.CODE and self._methods.shown_code and self.open_window:
                self._methods.renew(wanted=True)  # a shown code is good for one ceremony
                self._events.publish(PairingEvent(PairingEventKind.CODE))
        for event in events:
            if event.kind is EventKind.WINDOW_CLOSED:
                reason = str(event.fields.get("reason", ""))
                if reason in {CloseReason.OVERLAP, CloseReason.FAILURES}:
                    _log.warning("the pairing window has closed: %s", reason_in_words(reason))
                self._methods.renew(wanted=False)
                self._events.publish(PairingEvent(PairingEventKind.CLOSED, reason=reason))

    def _schedule(self, window: Window, now: float) -> None:
        self._cancel_timer()
        deadline = window.next_deadline(now)
        if not window.needs_port(now):
            self._on_port_unneeded()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self.settle)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # For the pairing port (`port.PortUser`).

    def needs_port(self) -> bool:
        """Return whether the window is open, or the client of its last ceremony is still told."""
        return self.window is not None and self.window.needs_port(self.now)

    def priority(self, fingerprint: Fingerprint) -> SessionPriority:
        """Return normal priority for the key of the last ceremony, and low for all others."""
        latest = self._latest
        is_pairing = latest is not None and latest.fingerprint == fingerprint
        return SessionPriority.NORMAL if is_pairing else SessionPriority.LOW

    def session_ended(self, session_id: int) -> None:
        """End the ceremony of this session, or note that its client need not be told any more."""
        latest = self._latest
        if self.window is None or latest is None or latest.session_id != session_id:
            return
        with self.step() as window:
            if latest.is_live:
                window.session_ended(session_id, self.now)
            else:
                window.notified(latest.id)
            self._latest = None
