"""The pairing window: when strangers may start a ceremony, and what becomes of it (protocol §4).

Theory. A window is opened by somebody who stands at the device. Within it, one ceremony at a time;
every ending but success is a failure, and the third closes the window. Two different keys in one
window are the one thing an attacker on the link cannot hide, so both are refused and the window
closes (unless `FIRST_WINS` is chosen). Closing ends the live ceremony. The port may outlive the
closing by some seconds, so that the client of the last ceremony is told how it ended.

Invariants, held by every method: at most one live ceremony; REGISTERED only after the yes of the
device's user *and* of the client; no ceremony starts with the attempt budget used up, each start
is debited; no more than `window_failures` failures while open; never more than
`window_max_seconds` left. Lateness is looked at before anything else is done, so a timer that
fires late changes nothing.

How to drive it. After each call: persist `budget` if it changed, append `take_events()` to the
audit trail, tell the observers of the ceremonies in `take_ended()`, set the timer to
`next_deadline(now)`, and call `notified` when an ending has reached its client. All times are
monotonic seconds.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Self

from peer.errors import UsageError
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS, Limits
from peer.pairing.binding import Channel, receipt
from peer.pairing.budget import AttemptBudget
from peer.pairing.ceremony import TRANSITIONS, Act, Ceremony, Fields, OverlapRule, Stage, StartForm
from peer.pairing.compare import NAME as PLAIN_METHOD
from peer.pairing.errors import (
    Busy,
    LockedOut,
    Mismatch,
    NoSuchCeremony,
    NotOffered,
    NotOpen,
    Overlap,
    TooMany,
    UserRefused,
)
from peer.pairing.events import Event, EventKind
from peer.pairing.names import check_name
from peer.pairing.sides import DeviceSide, OfferedMethod, Terms
from peer.pairing.window_timer import CloseReason, Phase, WindowTimer

_END_EVENTS: Mapping[Act, EventKind] = {
    Act.REFUSE: EventKind.REFUSED,
    Act.MISMATCH: EventKind.MISMATCH,
    Act.ABORT: EventKind.ABORTED,
    Act.LATE: EventKind.EXPIRED,
    Act.STORE: EventKind.REGISTERED,
}
_OPEN_IT = "Open the window at the device, then start again."


class Window:
    """One opening of the pairing window; a new opening is a new object. Made by `open`."""

    def __init__(
        self,
        timer: WindowTimer,
        *,
        window_id: bytes,
        device: Fingerprint,
        role: str,
        roles: frozenset[str],
        unverified_role: str,
        methods: Mapping[str, OfferedMethod],
        overlap: OverlapRule,
        budget: AttemptBudget,
        limits: Limits,
    ) -> None:
        self.window_id = window_id
        self.device = device
        self.role = role
        self.methods = methods
        self.budget = budget
        self.failures = 0
        self._timer = timer
        self._roles = roles
        self._unverified_role = unverified_role
        self._overlap = overlap
        self._limits = limits
        self._ceremonies: dict[str, Ceremony] = {}
        self._proofs: dict[str, DeviceSide] = {}
        self._device_tag = b""  # of the ceremony that is being stored
        self._live: str | None = None
        self._unnotified: str | None = None  # the last ending, until its client knows it
        self._first_key: Fingerprint | None = None
        self._events: list[Event] = []
        self._ended: list[Ceremony] = []

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
        """Open a window for `seconds`, cut to `limits.window_max_seconds`.

        `role` is what a newly paired user gets; `roles` are those a client may ask for instead,
        none above `role`: the caller knows the ranks. Whoever pairs by a method that proves no key
        gets `unverified_role` instead. `methods` are those offered, the best first; `window_id` is
        16 random bytes, `device` our own fingerprint. Raises `UsageError` if there is no method.
        """
        if not methods:
            raise UsageError(
                "a pairing window needs a method", advice="Give one, for example compare."
            )
        window = cls(
            WindowTimer(now, seconds, limits),
            window_id=window_id,
            device=device,
            role=role,
            roles=frozenset(roles) | {role},
            unverified_role=unverified_role or role,
            methods={method.name: method for method in methods},
            overlap=OverlapRule(overlap),
            budget=budget if budget is not None else AttemptBudget(limits=limits),
            limits=limits,
        )
        window._note(EventKind.WINDOW_OPENED, role=role, seconds=window.seconds_left(now))
        return window

    # What others may ask at any time.

    @property
    def phase(self) -> Phase:
        """As of the last call that was given the time."""
        return self._timer.phase

    def seconds_left(self, now: float) -> float:
        """Until the window takes no new ceremony; 0 if it does not now."""
        return self._timer.seconds_left(now)

    def is_open(self, now: float) -> bool:
        """Whether a ceremony may start, other rules aside."""
        return self.seconds_left(now) > 0

    def needs_port(self, now: float) -> bool:
        """Whether the pairing port has to be there: open, or lingering for the last client."""
        self._advance(now)
        return self.phase is not Phase.CLOSED

    def next_deadline(self, now: float) -> float | None:
        """The monotonic time, after `now`, when `expire` is due; None if nothing is waited for."""
        self._advance(now)
        live = self._live_ceremony()
        match self.phase:
            case Phase.OPEN:
                if live is None or live.stage is Stage.COMMITTING:
                    return self._timer.closes_at
                return min(self._timer.closes_at, live.deadline)
            case Phase.LINGERING if live is None:
                return self._timer.lingers_until
            case Phase.LINGERING | Phase.CLOSED:  # a commit under way calls us when it is done
                return None

    def pending(self) -> Ceremony | None:
        """The live ceremony, for the device's user to see."""
        return self._live_ceremony()

    def find(self, ceremony_id: str, *, session_id: int) -> Ceremony:
        """The ceremony as it stands, for the session that started it alone.

        Raises `NoSuchCeremony` in all other cases, with the same words.
        """
        ceremony = self._ceremonies.get(ceremony_id)
        if ceremony is None or ceremony.session_id != session_id:
            raise NoSuchCeremony(
                "no such pairing ceremony on this connection",
                advice="Start pairing again from the beginning.",
            )
        return ceremony

    # The window itself.

    def replace_budget(self, budget: AttemptBudget) -> None:
        """Count attempts in another budget from now on."""
        self.budget = budget

    def extend(self, now: float, seconds: float) -> None:
        """Open it again: the longer of what is left and `seconds`, never their sum.

        Raises `NotOpen` if it has closed.
        """
        self._advance(now)
        self._require_open()
        self._timer.extend(now, seconds)

    def close(self, now: float) -> None:
        """Close it at the console. A live ceremony is refused, unless it is being stored."""
        self._advance(now)
        if not self._timer.is_open:
            return
        live = self._live_ceremony()
        if live is not None and live.stage is not Stage.COMMITTING:
            self._end(live, Act.REFUSE, "closed")
        self._close(now, CloseReason.CONSOLE)

    def expire(self, now: float) -> list[Ceremony]:
        """End what is late. The ceremonies that have ended since they were last asked for."""
        self._advance(now)
        return self.take_ended()

    def notified(self, ceremony_id: str) -> None:
        """The ending of this ceremony has reached its client: the port need not linger for it."""
        if ceremony_id != self._unnotified:
            return
        self._unnotified = None
        # After an overlap the second client's refusal is still on its way as well.
        if self._live is None and self._timer.closed_because is not CloseReason.OVERLAP:
            self._timer.end_linger()

    def take_events(self) -> list[Event]:
        """What happened since the last call, oldest first."""
        events, self._events = self._events, []
        return events

    def take_ended(self) -> list[Ceremony]:
        """Each ceremony that has ended, once, however it ended."""
        ended, self._ended = self._ended, []
        return ended

    # The ceremony.

    def start(
        self,
        now: float,
        *,
        fingerprint: Fingerprint,
        session_id: int,
        ekm: bytes,
        method: str,
        name: object,
        ceremony_id: str,
        role_asked: str = "",
        form: StartForm = StartForm.CONFIRMED,
        message: Fields = MappingProxyType({}),
    ) -> Ceremony:
        """A client starts a ceremony; one attempt is debited: persist `budget` before answering.

        `ekm` is the session's exporter value, `ceremony_id` random text that nobody guesses,
        `message` the body of the start, for the method. Raises `Malformed` (name, or a field of the
        method), `NotOpen`, `NotOffered`, `Overlap`, `Busy`, `LockedOut` or `TooMany`; none of them
        but `TooMany` and `Overlap` changes anything. A `Mismatch` is the end of a ceremony whose
        first message was wrong: it is debited, and it is a failure of the window.
        """
        self._advance(now)
        self._require_open()
        name = check_name(name, limit=self._limits.name_max)
        way, role = self._offered(method, form, role_asked)
        self._refuse_second_key(now, fingerprint)
        self._require_budget(now)
        channel = Channel(ekm, fingerprint, self.device, self.window_id)
        proof = way.make(Terms(channel, role, name, ceremony_id))
        answer, wrong = _begun(proof, message) if form is StartForm.CONFIRMED else ({}, None)
        self.give_up(now, fingerprint)
        ceremony = Ceremony(
            id=ceremony_id,
            fingerprint=fingerprint,
            session_id=session_id,
            window_id=self.window_id,
            method=method,
            form=form,
            name=name,
            role=role,
            started=now,
            deadline=now + self._patience(way.first),
            stage=way.first,
            verified=way.verified,
            answer=answer,
        )
        if form is StartForm.CONFIRMED:
            self._proofs[ceremony_id] = proof
        self._first_key = self._first_key or fingerprint
        self.budget = self.budget.debit(now)
        self._live = ceremony_id
        self._put(ceremony)
        self._note(EventKind.CEREMONY_STARTED, **_facts(ceremony), form=form.value)
        if wrong is not None:
            self._end_failed(now, ceremony, Act.MISMATCH, "mismatch")
            raise wrong
        return ceremony

    def give_up(self, now: float, fingerprint: Fingerprint) -> None:
        """A client that starts again gives up its live ceremony, and that is a failure.

        `start` does it as well; before it, a device can make ready what the next one is about.
        Raises `TooMany` if the window has closed over it.
        """
        self._advance(now)
        live = self._live_ceremony()
        if live is None or live.fingerprint != fingerprint or live.stage is Stage.COMMITTING:
            return
        self._end_failed(now, live, Act.LATE, "restarted")
        if not self._timer.is_open:
            raise TooMany("too many failed pairings: the window has closed", advice=_OPEN_IT)

    def exchange(
        self, ceremony_id: str, message: Fields, now: float, *, session_id: int
    ) -> Ceremony:
        """The client's second message, for methods with one; its `answer` goes back.

        From here on the device's user is asked. Raises like `complete`.
        """
        self._advance(now)
        ceremony, proof = self._require_turn(ceremony_id, Stage.EXCHANGE, session_id=session_id)
        with self._ends_if_wrong(now, ceremony):
            answer = proof.exchange_untrusted(message)
        asking = replace(
            self._moved(ceremony, Act.EXCHANGE),
            answer=answer,
            number=proof.number(),
            deadline=now + self._limits.person_seconds,
        )
        return self._put(asking)

    def decide(self, ceremony_id: str, *, accept: bool, now: float) -> Ceremony:
        """The device's user has answered. Raises `NoSuchCeremony` or `Busy` (answered already)."""
        self._advance(now)
        ceremony = self._require_live(ceremony_id)
        if not accept:
            return self._end_failed(now, ceremony, Act.REFUSE, "refused")
        act = Act.ACCEPT_PLAIN if ceremony.form is StartForm.PLAIN else Act.ACCEPT
        accepted = self._moved(ceremony, act)
        # The client's person was asked at the start; its program gets one step in any case.
        deadline = max(
            ceremony.started + self._limits.person_seconds, now + self._limits.step_seconds
        )
        return self._put(replace(accepted, deadline=deadline))

    def complete(
        self, ceremony_id: str, message: Fields, now: float, *, session_id: int
    ) -> Ceremony:
        """The client confirms. If that is right: commit, then call `registered`.

        Raises `Busy` if it is not the client's turn (the message is not looked at), `Malformed` for
        a field that is missing or of another type, `Mismatch` if the confirmation is wrong (the
        ceremony is over), `UserRefused` or `NoSuchCeremony` if it was over before.
        """
        self._advance(now)
        ceremony, proof = self._require_turn(ceremony_id, Stage.WAITING, session_id=session_id)
        with self._ends_if_wrong(now, ceremony):
            proof.check_untrusted(message)
        self._device_tag = proof.device_tag()
        return self._put(self._moved(ceremony, Act.PROVE))

    def receipt(self, ceremony_id: str) -> bytes:
        """The receipt to store with the user of a confirmed ceremony; empty if the method needs
        none (`OfferedMethod.keeps_receipt`). Raises `NoSuchCeremony` or `Busy`.
        """
        ceremony = self._moved(self._require_live(ceremony_id), Act.STORE)
        return receipt(self._device_tag) if self.methods[ceremony.method].keeps_receipt else b""

    def registered(self, ceremony_id: str, *, user: str, now: float) -> Ceremony:
        """The device has committed this user with the ceremony's role: success, window closed.

        The result alone carries the device's tag, so no client can have it before the commit.
        Raises `NoSuchCeremony` or `Busy` if not both sides have said yes.
        """
        ceremony = self._moved(self._require_live(ceremony_id), Act.STORE)
        self.budget = self.budget.refund()
        done = replace(ceremony, user=user, device_tag=self._device_tag)
        ended = self._finish(done, Act.STORE)
        if self._timer.is_open:
            self._close(now, CloseReason.SUCCESS)
        else:  # it closed during the commit: linger for this client all the same
            self._timer.linger(now)
        return ended

    def abort(
        self, ceremony_id: str, now: float, *, session_id: int | None = None, reason: str = "client"
    ) -> Ceremony:
        """The client gives up (with its session's id), or the device cannot store (without).

        Raises `NoSuchCeremony`, or `Busy` if a client wants to abort while the device commits.
        """
        self._advance(now)
        if session_id is not None:
            self.find(ceremony_id, session_id=session_id)
        ceremony = self._require_live(ceremony_id)
        if session_id is not None and ceremony.stage is Stage.COMMITTING:
            raise Busy(
                "the pairing is being stored", advice="Request GET /iam/me to learn the result."
            )
        return self._end_failed(now, ceremony, Act.ABORT, reason)

    def session_ended(self, session_id: int, now: float) -> None:
        """The session is gone: nobody can finish its ceremony, unless it is being stored."""
        self._advance(now)
        live = self._live_ceremony()
        if live and live.session_id == session_id and live.stage is not Stage.COMMITTING:
            self._end_failed(now, live, Act.ABORT, "session-ended")
            self.notified(live.id)  # there is nobody left to tell

    # Rules, one each.

    def _require_open(self) -> None:
        if not self._timer.is_open:
            raise NotOpen("the pairing window is closed", advice=_OPEN_IT)

    def _require_turn(
        self, ceremony_id: str, stage: Stage, *, session_id: int
    ) -> tuple[Ceremony, DeviceSide]:
        ceremony = self._require_live(self.find(ceremony_id, session_id=session_id).id)
        proof = self._proofs.get(ceremony_id)
        if ceremony.stage is not stage or proof is None:
            raise Busy(
                "it is not the client's turn",
                advice="Wait until the device's user has accepted (GET with Observe).",
            )
        return ceremony, proof

    @contextmanager
    def _ends_if_wrong(self, now: float, ceremony: Ceremony) -> Iterator[None]:
        """What the method finds wrong is the end of its ceremony: there is no second try."""
        try:
            yield
        except Mismatch:
            self._end_failed(now, ceremony, Act.MISMATCH, "mismatch")
            raise

    def _patience(self, stage: Stage) -> float:
        """How long this stage may take: a person's time, or a program's."""
        limits = self._limits
        return limits.person_seconds if stage is Stage.ASKING else limits.step_seconds

    def _offered(self, method: str, form: StartForm, role_asked: str) -> tuple[OfferedMethod, str]:
        """The method, and the role of the ceremony. Raises `NotOffered`."""
        way = self.methods.get(method)
        if way is None or (form is StartForm.PLAIN and method != PLAIN_METHOD):
            raise NotOffered(
                "this pairing method is not offered",
                advice=f"Use one of: {', '.join(self.methods)}.",
            )
        given = self.role if way.verified else self._unverified_role
        role = role_asked or given
        if role not in (self._roles if way.verified else {given}):
            raise NotOffered(
                "this pairing window does not grant the requested role",
                advice=f"Request no role to get {given!r}. An owner can change it later.",
            )
        return way, role

    def _refuse_second_key(self, now: float, fingerprint: Fingerprint) -> None:
        """Raise `Overlap` or `Busy` if this is not the window's one key."""
        live = self._live_ceremony()
        if live is not None and live.stage is Stage.COMMITTING:
            raise Busy("another pairing is being stored", advice="Try again in a second.")
        first = self._first_key
        if self._overlap is OverlapRule.FIRST_WINS:
            if live is not None and live.fingerprint != fingerprint:
                raise Busy(
                    "another client is pairing now", advice="Try again when it has finished."
                )
        elif first is not None and first != fingerprint:
            if live is not None:
                self._end(live, Act.OVERLAP, "overlap")
            self._note(EventKind.OVERLAP, fingerprint=first.hex, other=fingerprint.hex)
            self._close(now, CloseReason.OVERLAP)
            raise Overlap(
                "two different clients tried to pair in one window, so both were refused",
                advice="Find out which client the other is, then open the window for one of them.",
            )

    def _require_budget(self, now: float) -> None:
        if not self.budget.may_start(now):
            wait = self.budget.seconds_blocked(now)
            raise LockedOut(
                f"too many failed pairings; the next attempt is possible in {wait:.0f} s",
                advice="Wait, or press the device's button for 5 s. Paired clients are unaffected.",
                retry_after=wait,
            )

    def _require_live(self, ceremony_id: str) -> Ceremony:
        ceremony = self._ceremonies.get(ceremony_id)
        if ceremony is not None and ceremony.is_live:
            return ceremony
        if ceremony is not None and ceremony.stage is Stage.REFUSED:
            raise UserRefused(
                "this pairing was refused", advice="Ask the user at the device, then start again."
            )
        raise NoSuchCeremony(
            "this pairing has ended", advice="Start pairing again from the beginning."
        )

    # Moving.

    def _advance(self, now: float) -> None:
        """Bring the window to `now`: end what is late, then close what is over."""
        if self._timer.is_open:
            self._end_late(now)
        if self._timer.is_open and now >= self._timer.closes_at:
            self._close(self._timer.closes_at, CloseReason.TIME)
        if self._live is None and now >= self._timer.lingers_until:
            self._timer.end_linger()

    def _end_late(self, now: float) -> None:
        """End the live ceremony if its time or the window's is up, whichever came first."""
        live = self._live_ceremony()
        if live is None or live.stage is Stage.COMMITTING:
            return
        closes_at = self._timer.closes_at
        if now >= closes_at and closes_at <= live.deadline:
            self._end(live, Act.LATE, "window-closed")
        elif now >= live.deadline:
            self._end_failed(live.deadline, live, Act.LATE, "too-late")

    def _moved(self, ceremony: Ceremony, act: Act) -> Ceremony:
        stage = TRANSITIONS.get((ceremony.stage, act))
        if stage is None:
            raise Busy(
                f"this pairing is in the stage {ceremony.stage.value!r}, "
                f"in which {act.value!r} is not possible",
                advice="Check its state and wait for the other side.",
            )
        return replace(ceremony, stage=stage)

    def _put(self, ceremony: Ceremony) -> Ceremony:
        self._ceremonies[ceremony.id] = ceremony
        return ceremony

    def _end(self, ceremony: Ceremony, act: Act, reason: str) -> Ceremony:
        """An ending other than success: counted as a failure of the window."""
        ended = replace(self._moved(ceremony, act), reason=reason)
        self.failures += 1
        return self._finish(ended, act)

    def _end_failed(self, now: float, ceremony: Ceremony, act: Act, reason: str) -> Ceremony:
        """The same, and the window closes if it was one failure too many."""
        ended = self._end(ceremony, act, reason)
        if self._timer.is_open and self.failures >= self._limits.window_failures:
            self._close(now, CloseReason.FAILURES)
        return ended

    def _finish(self, ceremony: Ceremony, act: Act) -> Ceremony:
        self._live = None
        self._unnotified = ceremony.id
        self._proofs.pop(ceremony.id, None)  # one use: its keys go with it
        self._device_tag = b""
        self._ended.append(ceremony)
        kind = _END_EVENTS.get(act)
        if kind is not None:  # an overlap has an event of its own, with both keys
            self._note(kind, **_facts(ceremony), reason=ceremony.reason)
        return self._put(ceremony)

    def _close(self, now: float, reason: CloseReason) -> None:
        self._note(EventKind.WINDOW_CLOSED, reason=reason.value, failures=self.failures)
        self._timer.close(now, reason)
        if reason in {CloseReason.TIME, CloseReason.CONSOLE} and not (
            self._unnotified or self._live
        ):
            self._timer.end_linger()

    # Small things.

    def _live_ceremony(self) -> Ceremony | None:
        return self._ceremonies[self._live] if self._live is not None else None

    def _note(self, kind: EventKind, **fields: str | float) -> None:
        self._events.append(Event(kind, {"window": self.window_id.hex(), **fields}))


def _begun(proof: DeviceSide, message: Fields) -> tuple[Fields, Mismatch | None]:
    """The method's answer to a start, or what is wrong with it: that costs an attempt as well."""
    try:
        return proof.begin_untrusted(message), None
    except Mismatch as wrong:
        return {}, wrong


def _facts(ceremony: Ceremony) -> dict[str, str | float]:
    """What every event of a ceremony says."""
    return {
        "ceremony": ceremony.id,
        "fingerprint": ceremony.fingerprint.hex,
        "method": ceremony.method,
        "name": ceremony.name,
        "role": ceremony.role,
    }
