"""The state of the running device, as `device_state` decides it, for commands that watch it."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NoReturn, cast

from device_app.access.clock import Clock
from device_app.console.control_messages import Tell
from device_app.console.device_state import (
    REFUSALS,
    Attempt,
    DeviceState,
    Ending,
    Facts,
    OpenWindow,
    WatchState,
    state_of,
)
from device_app.console.views import StateEvent, WatchView
from device_app.limits import WATCH_PROBLEMS_SECONDS
from device_app.pairing.events import PairingEvent, PairingEventKind
from device_app.pairing.service import PairingService
from iam.store import Store
from peer.pairing.ceremony import Stage
from peer.pairing.ceremony import State as CeremonyState
from peer.pairing.window_timer import CloseReason

_TIMED: Final = frozenset(
    {DeviceState.REFUSED, DeviceState.PAIRED, DeviceState.BLOCKED, DeviceState.OPEN}
)
"""States that end by themselves without an event, or before it."""
_TEXTS: Final = ("role", "code", "id", "name", "method", "fingerprint", "number", "reason")


class StateTracker:
    """Keeps the state of the device, and tells it to commands that watch. Create it in the loop.

    The state is reviewed after each event of pairing or of the audit trail, when its time is up,
    and, since nothing announces a problem, every `WATCH_PROBLEMS_SECONDS` while a command watches.

    A command gets the newest state. If it does not read, it misses those in between, and nothing is
    kept for it.
    """

    def __init__(
        self,
        service: PairingService,
        store: Store,
        clock: Clock,
        *,
        problems: Callable[[], Sequence[str]],
    ) -> None:
        self._service = service
        self._clock = clock
        self._problems = problems
        self._loop = asyncio.get_running_loop()
        self._ending: Ending | None = None
        self._changed: set[asyncio.Event] = set()  # one for each command that watches
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._state = self._current()
        self._since = clock.now()
        self._unsubscribe = (
            service.events.subscribe(self._on_pairing_event),
            store.on_events(lambda _seq: self._review_soon()),
        )
        self._review()  # a back-off that was stored may end by itself

    def close(self) -> None:
        """End the subscriptions and the timer."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()

    @property
    def watching(self) -> int:
        """The number of commands that watch."""
        return len(self._changed)

    async def follow(self, tell: Tell[StateEvent]) -> NoReturn:
        """Tell the state at once and after each change, until this is cancelled."""
        changed = asyncio.Event()
        self._changed.add(changed)
        shown: WatchState | None = None
        try:
            while True:
                changed.clear()
                self._review()
                if self._state != shown:
                    shown = self._state
                    await tell({"event": "state", "state": self.view()})
                    continue  # it may have changed again while the client did not read
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_PROBLEMS_SECONDS):
                        await changed.wait()
        finally:
            self._changed.discard(changed)

    def view(self) -> WatchView:
        """Return the state as `watch` shows it."""
        state = self._state
        view: WatchView = {
            "state": state.state.value,
            "pairing": state.pairing.value,
            "since": int(self._since),
            "device_id": self._service.device.device_id,
        }
        if state.ends_at is not None:
            view["seconds_left"] = round(max(0.0, state.ends_at - self._loop.time()), 1)
        if state.problems:
            view["problems"] = list(state.problems)
        if state.methods:
            view["methods"] = list(state.methods)
        texts = {field: text for field in _TEXTS if (text := getattr(state, field))}
        return cast(WatchView, view | texts)

    def _on_pairing_event(self, event: PairingEvent) -> None:
        """Note how an attempt has ended; an opened window ends what was before."""
        now, ceremony = self._loop.time(), event.ceremony
        if event.kind is PairingEventKind.OPENED:
            self._ending = None
        elif event.kind is PairingEventKind.ENDED and ceremony is not None:
            is_paired = ceremony.state is CeremonyState.REGISTERED
            if is_paired or ceremony.reason in REFUSALS:
                self._ending = Ending(
                    at=now,
                    reason="" if is_paired else ceremony.reason,
                    name=ceremony.user or ceremony.name,
                    role=ceremony.role,
                    method=ceremony.method.value,
                )
        elif event.kind is PairingEventKind.CLOSED and event.reason == CloseReason.OVERLAP:
            # It names neither client, since the device cannot tell which of the two is the owner's.
            self._ending = Ending(at=now, reason=event.reason)
        self._review_soon()

    def _review_soon(self) -> None:
        """Review the state when the step is over that is changing it."""
        if self._soon is None:
            self._soon = self._loop.call_soon(self._review)

    def _review(self) -> None:
        self._soon, state = None, self._current()
        if state.state is not self._state.state:
            self._since = self._clock.now()
        if state != self._state:
            self._state = state
            for changed in self._changed:
                changed.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if state.pairing in _TIMED and state.ends_at is not None:
            self._timer = self._loop.call_at(state.ends_at, self._review)

    def _current(self) -> WatchState:
        service = self._service
        facts = Facts(
            problems=tuple(self._problems()),
            attempt=self._attempt(),
            ending=self._ending,
            blocked_until=service.blocked_until,
            window=self._window(),
        )
        return state_of(facts, self._loop.time())

    def _attempt(self) -> Attempt | None:
        window = self._service.window
        live = window.pending() if window is not None else None
        if window is None or live is None:
            return None
        return Attempt(
            id=live.id,
            name=live.name,
            role=live.role,
            method=live.method.value,
            fingerprint=live.fingerprint.hex,
            ends_at=min(live.deadline, window.closes_at),
            is_asking=live.stage is Stage.ASKING,
            number=live.number,
        )

    def _window(self) -> OpenWindow | None:
        window = self._service.window
        if window is None or not self._service.is_open:
            return None
        return OpenWindow(
            closes_at=window.closes_at,
            role=window.role,
            methods=tuple(method.value for method in window.methods),
            code=self._service.methods.shown_code,
        )
