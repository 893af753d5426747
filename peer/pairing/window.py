"""The pairing window: when unpaired clients may start a ceremony, and how it ends (protocol §4).

A user at the device opens a window. Within it, ceremonies run one at a time. Every ending other
than success is a failure, and the third failure closes the window. An attacker on the link cannot
hide that two different keys use one window, so by default both are refused and the window closes.
Closing ends the live ceremony. The port may stay open for some seconds longer, so that the client
of the last ceremony learns how it ended.

Invariants, for every method: at most one live ceremony; REGISTERED only after the consent of the
device's user (by the question, the code, the label or the button) and of the client; no ceremony
starts while the attempt budget is used up, and each start is debited; no more than
`Limits.window_failures` failures while open; never more than `Limits.window_max_seconds` left.
Every call first ends what is late, so a timer that fires late changes nothing.

After each call the caller persists `budget` if it changed, appends `take_events()` to the audit
log, notifies the observers of the ceremonies in `take_ended()`, and sets its timer to
`next_deadline(now)`. It calls `notified` when a client has learnt how its ceremony ended. A success
has its events before: `success_events` returns what `registered` is going to add, for the commit of
the user. All times are monotonic seconds.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

from peer.identity import Fingerprint
from peer.pairing.binding import Channel, receipt
from peer.pairing.ceremony import (
    Act,
    Ceremony,
    EndReason,
    Fields,
    Stage,
    StartForm,
    first_stage,
)
from peer.pairing.errors import OPEN_THE_WINDOW, Busy, Mismatch, TooMany
from peer.pairing.events import Event, EventKind, EventList
from peer.pairing.names import check_name
from peer.pairing.sides import DeviceSide, OfferedMethod, Terms
from peer.pairing.window_lifecycle import WindowLifecycle
from peer.pairing.window_timer import CloseReason


class Window(WindowLifecycle):
    """One opening of the pairing window. Create it with `open`."""

    def offered(self, method: str) -> OfferedMethod | None:
        """Return the method of this name, if the window offers it."""
        return self._offer.find(method)

    def find(self, ceremony_id: str, *, session_id: int) -> Ceremony:
        """Return a ceremony of this session.

        Raises `NoSuchCeremony` in all other cases, with the same text.
        """
        return self._ceremonies.find(ceremony_id, session_id=session_id)

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
        """Start a ceremony for a client, and debit one attempt; persist `budget` before answering.

        Args:
            now: the time.
            fingerprint: the client's key.
            session_id: the client's session.
            ekm: the exporter value of that session.
            method: the name of the method, as the client sent it.
            name: the user's name, as the client sent it.
            ceremony_id: a text that cannot be guessed.
            role_asked: the role that the client requests; empty for the window's role.
            form: with confirmation tags, or plain.
            message: all fields of the start, for the method.

        Raises:
            Malformed: the name or a field of the method does not parse.
            NotOpen, NotOffered, Busy, LockedOut: the start is refused, and nothing has changed.
            Overlap: a second key; both are refused, and the window has closed.
            TooMany: the window has closed because the client's previous ceremony failed.
            Mismatch: the first message was wrong; the ceremony is debited and counts as a failure.
        """
        self._advance(now)
        self._require_open()
        name = check_name(name, limit=self._limits.name_max)
        offered, role = self._offer.choose(method, form, role_asked)
        self._refuse_second_key(now, fingerprint)
        self.budget.require(now)
        channel = Channel(ekm, fingerprint, self.device, self.window_id)
        side: DeviceSide | None = None
        answer: Fields = {}
        mismatch: Mismatch | None = None
        if form is StartForm.CONFIRMED:
            side = offered.create_side(Terms(channel, role, name, ceremony_id))
            answer, mismatch = _begin(side, message)
        self.give_up(now, fingerprint)
        stage = first_stage(offered.method)
        ceremony = Ceremony(
            id=ceremony_id,
            fingerprint=fingerprint,
            session_id=session_id,
            window_id=self.window_id,
            method=offered.method,
            form=form,
            name=name,
            role=role,
            started=now,
            deadline=now + self._seconds_for(stage),
            stage=stage,
            answer=answer,
        )
        self.budget = self.budget.debit(now)
        self._ceremonies.add(ceremony, side)
        if mismatch is not None:
            self._fail(now, ceremony, Act.MISMATCH, EndReason.MISMATCH)
            raise self._with_window(mismatch)
        return ceremony

    def give_up(self, now: float, fingerprint: Fingerprint) -> None:
        """End the live ceremony of a client that starts again; that is a failure.

        `start` does this as well. A caller does it before, to prepare what the next ceremony needs.
        Raises `TooMany` if this failure has closed the window.
        """
        self._advance(now)
        live = self._ceremonies.live
        if live is None or live.fingerprint != fingerprint or live.is_committing:
            return
        self._fail(now, live, Act.LATE, EndReason.RESTARTED)
        if not self._timer.is_open:
            raise TooMany("too many failed pairings: the window has closed", advice=OPEN_THE_WINDOW)

    def exchange(
        self, ceremony_id: str, message: Fields, now: float, *, session_id: int
    ) -> Ceremony:
        """Take the client's second message, for methods with an exchange.

        The result's `answer` goes back; from here on the device's user is asked. Raises the errors
        of `complete`.
        """
        self._advance(now)
        ceremony, side = self._ceremonies.require_turn(
            ceremony_id, Stage.EXCHANGE, session_id=session_id
        )
        with self._mismatch_ends(now, ceremony):
            answer = side.exchange_untrusted(message)
        return self._ceremonies.put(
            replace(
                ceremony.after(Act.EXCHANGE),
                answer=answer,
                number=side.number,
                deadline=now + self._limits.person_seconds,
            )
        )

    def decide(self, ceremony_id: str, *, accept: bool, now: float) -> Ceremony:
        """Take the answer of the device's user.

        Raises `NoSuchCeremony` or `UserRefused` if the ceremony has ended, `Busy` if it does not
        wait for this answer.
        """
        self._advance(now)
        ceremony = self._ceremonies.require_live(ceremony_id)
        if not accept:
            return self._fail(now, ceremony, Act.REFUSE, EndReason.REFUSED)
        is_plain = ceremony.form is StartForm.PLAIN
        accepted = ceremony.after(Act.ACCEPT_PLAIN if is_plain else Act.ACCEPT)
        # The client's user has been asked since the start; its program gets one step at least.
        deadline = max(
            ceremony.started + self._limits.person_seconds, now + self._limits.step_seconds
        )
        return self._ceremonies.put(replace(accepted, deadline=deadline))

    def complete(
        self, ceremony_id: str, message: Fields, now: float, *, session_id: int
    ) -> Ceremony:
        """Take the client's confirmation. If it is right: commit, then call `registered`.

        Raises:
            Busy: it is not the client's turn; the message was not read.
            Malformed: a field is missing or has the wrong type; it may be sent again.
            Mismatch: the confirmation is wrong; the ceremony has ended.
            UserRefused, NoSuchCeremony: the ceremony had ended before.
        """
        self._advance(now)
        ceremony, side = self._ceremonies.require_turn(
            ceremony_id, Stage.WAITING, session_id=session_id
        )
        with self._mismatch_ends(now, ceremony):
            side.check_untrusted(message)
        return self._ceremonies.prove(ceremony, side)

    def receipt(self, ceremony_id: str) -> bytes:
        """Return the receipt to store with the user; empty if the method keeps none.

        Raises `NoSuchCeremony`, `UserRefused` or `Busy` if the ceremony is not being stored.
        """
        ceremony = self._ceremonies.require_live(ceremony_id).after(Act.STORE)
        return receipt(self._ceremonies.device_tag) if ceremony.method.spec.keeps_receipt else b""

    def success_events(self, ceremony_id: str) -> list[Event]:
        """Return the events that `registered` is going to add, to be stored with the user.

        Raises `NoSuchCeremony`, `UserRefused` or `Busy` if the ceremony is not being stored.
        """
        ceremony = self._ceremonies.require_live(ceremony_id).after(Act.STORE)
        events = EventList(self.window_id)
        events.add_of(ceremony, EventKind.REGISTERED, reason=ceremony.reason)
        if self._timer.is_open:
            events.add(
                EventKind.WINDOW_CLOSED,
                reason=CloseReason.SUCCESS.value,
                failures=self._ceremonies.failures,
            )
        return events.take()

    def registered(self, ceremony_id: str, *, user: str, now: float) -> Ceremony:
        """The device has stored this user with the ceremony's role: success, the window closes.

        Only the result carries the device's tag, so no client can have it before the commit.
        Raises `NoSuchCeremony`, `UserRefused` or `Busy` if the ceremony is not being stored.
        """
        done = self._ceremonies.register(ceremony_id, user)
        self.budget = self.budget.refund()
        if self._timer.is_open:
            self._close(now, CloseReason.SUCCESS)
        else:  # it closed during the commit: linger for this client as well
            self._timer.linger(now)
        return done

    def abort(
        self,
        ceremony_id: str,
        now: float,
        *,
        session_id: int | None = None,
        reason: str = EndReason.CLIENT,
    ) -> Ceremony:
        """End a ceremony: its client gives up (with `session_id`), or the device cannot store it.

        Raises `NoSuchCeremony` or `UserRefused` if it has ended, `Busy` if a client gives up while
        the device stores it.
        """
        self._advance(now)
        if session_id is not None:
            self.find(ceremony_id, session_id=session_id)
        ceremony = self._ceremonies.require_live(ceremony_id)
        if session_id is not None and ceremony.is_committing:
            raise Busy(
                "the pairing is being stored", advice="Request GET /iam/me to learn the result."
            )
        return self._fail(now, ceremony, Act.ABORT, reason)

    def session_ended(self, session_id: int, now: float) -> None:
        """End the ceremony of a session that has ended, unless it is being stored."""
        self._advance(now)
        live = self._ceremonies.live
        if live is not None and live.session_id == session_id and not live.is_committing:
            self._fail(now, live, Act.ABORT, EndReason.SESSION_ENDED)
            self.notified(live.id)  # no client is left to learn it

    def _seconds_for(self, stage: Stage) -> float:
        """Return how long a stage may last: the time of a person, or of a program."""
        limits = self._limits
        return limits.person_seconds if stage is Stage.ASKING else limits.step_seconds

    @contextmanager
    def _mismatch_ends(self, now: float, ceremony: Ceremony) -> Iterator[None]:
        """End the ceremony if its method finds a wrong value: there is no second try."""
        try:
            yield
        except Mismatch as wrong:
            self._fail(now, ceremony, Act.MISMATCH, EndReason.MISMATCH)
            raise self._with_window(wrong) from wrong

    def _with_window(self, wrong: Mismatch) -> Mismatch:
        """Return the error with the advice to open the window again if this failure closed it."""
        if self._timer.is_open:
            return wrong
        return Mismatch(
            str(wrong),
            advice=f"This was the last attempt: the pairing window has closed. {OPEN_THE_WINDOW}",
        )


def _begin(side: DeviceSide, message: Fields) -> tuple[Fields, Mismatch | None]:
    """Return the method's answer to a start, or what is wrong: that costs an attempt as well."""
    try:
        return side.begin_untrusted(message), None
    except Mismatch as wrong:
        return {}, wrong
