"""The lifecycle of a pairing window: opening, closing, and what ends its ceremonies.

`peer.pairing.window` describes the window as a whole.
"""

from collections.abc import Collection, Mapping
from typing import Self

from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS, Limits
from peer.pairing.budget import AttemptBudget
from peer.pairing.ceremony import Act, Ceremony, EndReason, OverlapRule
from peer.pairing.ceremony_table import CeremonyTable
from peer.pairing.errors import OPEN_THE_WINDOW, Busy, NotOpen, Overlap
from peer.pairing.events import Event, EventKind, EventList
from peer.pairing.methods import Method
from peer.pairing.offer import WindowOffer
from peer.pairing.sides import OfferedMethod
from peer.pairing.window_timer import CloseReason, Phase, WindowTimer


class WindowLifecycle:
    """The part of `Window` that depends on time alone."""

    def __init__(
        self,
        timer: WindowTimer,
        *,
        window_id: bytes,
        device: Fingerprint,
        offer: WindowOffer,
        overlap: OverlapRule,
        budget: AttemptBudget,
        limits: Limits,
    ) -> None:
        self.window_id = window_id
        self.device = device
        self.budget = budget
        self._timer = timer
        self._offer = offer
        self._overlap = overlap
        self._limits = limits
        self._events = EventList(window_id)
        self._ceremonies = CeremonyTable(self._events)

    @classmethod
    def open(
        cls,
        now: float,
        *,
        seconds: float,
        role: str,
        methods: Collection[OfferedMethod],
        window_id: bytes,
        device: Fingerprint,
        roles: Collection[str] = (),
        unverified_role: str = "",
        overlap: OverlapRule | str = OverlapRule.REFUSE,
        budget: AttemptBudget | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> Self:
        """Open a window.

        Args:
            now: the time.
            seconds: how long it stays open, `Limits.window_max_seconds` at most.
            role: the role of a newly paired user.
            methods: the methods offered, in order of preference.
            window_id: 16 random bytes.
            device: the device's own fingerprint.
            roles: the roles that a client may request instead; the caller ensures that none of
                them is above `role`.
            unverified_role: the role for methods that verify no key; defaults to `role`.
            overlap: what to do when a second key starts a ceremony.
            budget: the attempt budget; defaults to a fresh one.
            limits: the bounds.

        Raises:
            UsageError: no method is given, or `seconds` is not positive.
        """
        if not methods:
            raise UsageError(
                "a pairing window needs a method", advice="Give one, for example compare."
            )
        window = cls(
            WindowTimer(now, seconds, limits),
            window_id=window_id,
            device=device,
            offer=WindowOffer(
                methods={offered.method: offered for offered in methods},
                role=role,
                roles=frozenset(roles),
                unverified_role=unverified_role or role,
            ),
            overlap=OverlapRule(overlap),
            budget=budget if budget is not None else AttemptBudget(limits=limits),
            limits=limits,
        )
        # The sum of the clock and the time is not exact.
        seconds_left = round(window._timer.seconds_left(now), 3)
        window._events.add(EventKind.WINDOW_OPENED, role=role, seconds=seconds_left)
        return window

    # -- state ------------------------------------------------------------------------------------

    @property
    def role(self) -> str:
        """The role of a newly paired user."""
        return self._offer.role

    @property
    def methods(self) -> Mapping[Method, OfferedMethod]:
        """The methods offered, in order of preference."""
        return self._offer.methods

    @property
    def phase(self) -> Phase:
        """The phase as of the last call that was given the time."""
        return self._timer.phase

    @property
    def failures(self) -> int:
        """How many ceremonies ended other than with success."""
        return self._ceremonies.failures

    @property
    def closes_at(self) -> float:
        """The time at which the window closes unless it is extended; past if it has closed."""
        return self._timer.closes_at

    def seconds_left(self, now: float) -> float:
        """Return how long the window still takes new ceremonies; 0 if it does not."""
        return self._timer.seconds_left(now)

    @property
    def closed_because(self) -> CloseReason | None:
        """Why the window closed, as of the last call that was given the time; None while open."""
        return self._timer.closed_because

    def is_open(self, now: float) -> bool:
        """Return whether the window takes a new ceremony, other rules aside."""
        return self.seconds_left(now) > 0

    def needs_port(self, now: float) -> bool:
        """Return whether the pairing port must be open: for new ceremonies or the last client."""
        self._advance(now)
        return self.phase is not Phase.CLOSED

    def next_deadline(self, now: float) -> float | None:
        """Return the time, after `now`, when `expire` is due; None if nothing is waited for."""
        self._advance(now)
        live = self._ceremonies.live
        match self.phase:
            case Phase.OPEN:
                if live is None or live.is_committing:
                    return self._timer.closes_at
                return min(self._timer.closes_at, live.deadline)
            case Phase.LINGERING if live is None:
                return self._timer.lingers_until
            case Phase.LINGERING | Phase.CLOSED:  # a commit under way calls when it is done
                return None

    def pending(self) -> Ceremony | None:
        """Return the live ceremony."""
        return self._ceremonies.live

    # -- the window -------------------------------------------------------------------------------

    def replace_budget(self, budget: AttemptBudget) -> None:
        """Count attempts in another budget from now on."""
        self.budget = budget

    def extend(self, now: float, seconds: float) -> None:
        """Keep the window open until the later of its deadline and `seconds` from now.

        Raises `NotOpen` if it has closed.
        """
        self._advance(now)
        self._require_open()
        self._timer.extend(now, seconds)

    def close(self, now: float, reason: CloseReason = CloseReason.CONSOLE) -> None:
        """Close the window by hand, or because another one replaces it.

        The live ceremony is refused, unless it is being stored.
        """
        self._advance(now)
        if not self._timer.is_open:
            return
        live = self._ceremonies.live
        if live is not None and not live.is_committing:
            self._ceremonies.fail(live, Act.REFUSE, EndReason.CLOSED)
        self._close(now, reason)

    def expire(self, now: float) -> list[Ceremony]:
        """End what is late, and return the ceremonies that have ended since the last call."""
        self._advance(now)
        return self.take_ended()

    def notified(self, ceremony_id: str) -> None:
        """The client of this ceremony knows how it ended: the port need not linger for it."""
        if ceremony_id != self._ceremonies.unnotified:
            return
        self._ceremonies.unnotified = None
        # After an overlap, the refusal of the second client is still on its way as well.
        is_overlap = self._timer.closed_because is CloseReason.OVERLAP
        if self._ceremonies.live is None and not is_overlap:
            self._timer.end_linger()

    def take_events(self) -> list[Event]:
        """Return the events since the last call, oldest first."""
        return self._events.take()

    def take_ended(self) -> list[Ceremony]:
        """Return each ceremony that has ended since the last call."""
        return self._ceremonies.take_ended()

    # -- rules and endings ------------------------------------------------------------------------

    def _require_open(self) -> None:
        if not self._timer.is_open:
            raise NotOpen("the pairing window is closed", advice=OPEN_THE_WINDOW)

    def _refuse_second_key(self, now: float, fingerprint: Fingerprint) -> None:
        """Raise `Overlap` or `Busy` if another key uses this window."""
        live, first = self._ceremonies.live, self._ceremonies.first_key
        if live is not None and live.is_committing:
            raise Busy("another pairing is being stored", advice="Try again in a second.")
        match self._overlap:
            case OverlapRule.FIRST_WINS:
                if live is not None and live.fingerprint != fingerprint:
                    raise Busy(
                        "another client is pairing now", advice="Try again when it has finished."
                    )
            case OverlapRule.REFUSE:
                if first is None or first == fingerprint:
                    return
                if live is not None:
                    self._ceremonies.fail(live, Act.OVERLAP, EndReason.OVERLAP)
                self._events.add(EventKind.OVERLAP, fingerprint=first.hex, other=fingerprint.hex)
                self._close(now, CloseReason.OVERLAP)
                raise Overlap(
                    "two different clients tried to pair in one window, so both were refused",
                    advice="Find out which client the other is, then open the window for one of "
                    "them.",
                )

    def _advance(self, now: float) -> None:
        """Bring the window to `now`: end what is late, then close the window if its time is up."""
        if self._timer.is_open:
            self._end_late(now)
        if self._timer.is_open and now >= self._timer.closes_at:
            self._close(self._timer.closes_at, CloseReason.TIME)
        if self._ceremonies.live is None and now >= self._timer.lingers_until:
            self._timer.end_linger()

    def _end_late(self, now: float) -> None:
        """End the live ceremony if its time or the window's is up, whichever came first."""
        live = self._ceremonies.live
        if live is None or live.is_committing:
            return
        closes_at = self._timer.closes_at
        if now >= closes_at and closes_at <= live.deadline:
            self._ceremonies.fail(live, Act.LATE, EndReason.WINDOW_CLOSED)
        elif now >= live.deadline:
            self._fail(live.deadline, live, Act.LATE, EndReason.TOO_LATE)

    def _fail(self, now: float, ceremony: Ceremony, act: Act, reason: str) -> Ceremony:
        """End a ceremony with a failure, and close the window after too many of them."""
        ended = self._ceremonies.fail(ceremony, act, reason)
        if self._timer.is_open and self.failures >= self._limits.window_failures:
            self._close(now, CloseReason.FAILURES)
        return ended

    def _close(self, now: float, reason: CloseReason) -> None:
        self._events.add(
            EventKind.WINDOW_CLOSED, reason=reason.value, failures=self._ceremonies.failures
        )
        self._timer.close(now, reason)
        is_waited_for = self._ceremonies.unnotified is not None or self._ceremonies.live is not None
        by_hand = {CloseReason.CONSOLE, CloseReason.REPLACED}
        if reason in {CloseReason.TIME, *by_hand} and not is_waited_for:
            self._timer.end_linger()
