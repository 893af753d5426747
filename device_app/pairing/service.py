"""The pairing service: drives the window of `peer.pairing` with a clock, a port and a store.

`peer.pairing.Window` decides; this drives it, in one fixed order after each step (`_settle`): what
the step costs is durable first (attempts, events), then whoever watches is told, then the timer is
set. Steps never await, so no two of them interleave, and a user is committed before its answer
exists.

The port is open while the window is, and for a moment after, so that the last client hears how it
ended (`pairing_port`).

A window that was opened over the network has an opener, who answers for everybody that it lets in:
it gives no more than the opener may give, looked at when it opens, whenever users or policies
change, when a ceremony starts, and once more at the commit. Whoever opened or extended it last is
the opener; the console answers for itself. Such a window has attempts of its own, so that failures
in other windows do not block it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

from device_app.access.event_details import of_pairing
from device_app.access.whitelist import Whitelist
from device_app.pairing.events import PairingEvent, PairingEventKind, PairingEvents
from device_app.pairing.methods import LABEL_RECORD, BoardMethods, Hardware, StoredLabel
from device_app.pairing.opener import Opener
from device_app.pairing.port import PairingPort
from device_app.pairing.record import PairingRecord
from device_app.pairing.terms import PairingTerms
from iam import changes
from iam.builtin import GUEST
from iam.errors import Denied, IamError, NotFound, StoreWriteFailed
from iam.model import State, Subject, User
from peer.errors import Malformed, PeerError, UsageError
from peer.identity import Fingerprint, Identity
from peer.limits import Limits
from peer.net.admission import SessionPriority
from peer.net.coaps import PeerIdentity
from peer.net.onlink import Locality
from peer.net.udp import Net, UdpSocket
from peer.pairing.binding import WINDOW_ID_BYTES
from peer.pairing.budget import AttemptBudget
from peer.pairing.ceremony import Ceremony, Fields, Stage, StartForm
from peer.pairing.errors import CeremonyError, Mismatch, NotOpen
from peer.pairing.events import EventKind
from peer.pairing.methods import BUTTON, CODE
from peer.pairing.names import check_name
from peer.pairing.window import Window
from peer.pairing.window_timer import CloseReason

_log = logging.getLogger("handfast.pairing")
_UNVERIFIED = GUEST  # whoever pairs by a method that proves nobody's key is this at most
_ANSWER_SPARE_SECONDS = 30.0  # beside a person's time, before a silent session of the port goes


class PairingService:
    """Opens and closes the pairing window of a running device. Made inside a running loop."""

    def __init__(
        self,
        whitelist: Whitelist,
        identity: Identity,
        *,
        events: PairingEvents,
        terms: PairingTerms,
        hardware: Hardware,
        listen: Sequence[tuple[str, int]],
        locality: Locality,
        limits: Limits,
        ccm8: bool = False,
        net: Net = UdpSocket,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.events = events
        self.terms = terms
        self.limits = limits
        self.identity = identity
        self.window: Window | None = None
        self.trouble = ""  # why no window could be opened, until one can
        self.port = PairingPort(
            identity,
            listen=listen,
            locality=locality,
            limits=replace(
                limits,
                unpaired_idle_seconds=limits.person_seconds + _ANSWER_SPARE_SECONDS,
                request_body_bytes=limits.pairing_body_bytes,
            ),
            ccm8=ccm8,
            net=net,
            priority=self._priority,
            is_wanted=self._needs_port,
            on_gone=lambda: events.publish(PairingEvent(PairingEventKind.GONE)),
            on_session_end=self._session_ended,
        )
        self._whitelist = whitelist
        self._random_bytes = random_bytes
        self._loop = asyncio.get_running_loop()
        self.methods = BoardMethods(
            hardware,
            StoredLabel.restored(whitelist.store.attempts.get(LABEL_RECORD)),
            identity.fingerprint,
            random_bytes=random_bytes,
            limits=limits,
            counts_tries=lambda: self.window is None or self.window.budget.is_kept,
        )
        self._record = PairingRecord(whitelist, self.methods, self._loop.time(), limits=limits)
        self._latest: Ceremony | None = None
        self._role_by_default = False
        self._opener: Opener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unsubscribe = whitelist.store.subscribe(lambda _old, _new: self._users_changed())

    # -- what others may ask --------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether a ceremony may start."""
        return self.window is not None and self.window.is_open(self._loop.time())

    @property
    def seconds_left(self) -> float:
        """Until the window closes; 0 if it is closed."""
        return self.window.seconds_left(self._loop.time()) if self.window is not None else 0.0

    @property
    def opener(self) -> Subject | None:
        """Who answers for the window; None is the console."""
        return self._opener.subject if self._opener is not None else None

    def role_for(self, wished: str | None) -> str:
        """The role that a window opened now would give."""
        if self.is_open and self.window is not None:
            return wished or self.window.role
        return wished or self.terms.role or self._default_role()

    def _default_role(self) -> str:
        store = self._whitelist.store
        return changes.default_role(store.state, had_owner=store.had_owner)

    @property
    def budget(self) -> AttemptBudget:
        """The device's: failures since the last success. A window may have one of its own."""
        window = self.window
        return window.budget if window and window.budget.is_kept else self._record.budget

    def seconds_blocked(self) -> float:
        """How long no ceremony may start because too many have failed."""
        budget = self.window.budget if self.window and self.is_open else self.budget
        return budget.seconds_blocked(self._loop.time())

    def pending(self) -> Ceremony | None:
        """The ceremony that waits for the device's user."""
        live = self.window.pending() if self.window is not None else None
        return live if live is not None and live.stage is Stage.ASKING else None

    # -- the side of the console, and of those who may act for it from afar ----------------------

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
        """Open the window, or keep it open for longer: never the sum of both times. Where other
        methods are wished for, or there is one more than before, a new window takes its place.

        `clears_backoff` is for acts of a person at the console or the button; `pressed` says that
        it was the button, so that the method of that name can be offered. Raises `IamError` (no
        such role, or none that the opener may give), `UsageError`, or `PeerError` if the port
        cannot be had.
        """
        seconds = self.terms.seconds if seconds is None else seconds
        now = self._loop.time()
        self._check_opener(opener, self.role_for(role))
        if clears_backoff:
            self._clear_backoff()
        before = self.window if self.is_open else None
        if before is not None and (role or before.role) != before.role:
            raise UsageError(
                f"a window for the role {before.role!r} is open already",
                advice="Close it first: `handfast-device close`.",
            )
        if self._can_extend(methods, pressed=pressed, opener=opener):
            assert self.window is not None
            self.window.extend(now, seconds)
            if self.window.budget.is_kept != (opener is None):
                self.window.budget = self._budget_for(opener)
        else:
            pressed = pressed or self._is_pressed
            seconds = max(seconds, self.seconds_left)
            if before is not None and not self._role_by_default:
                role = before.role
            acting = opener.subject if opener is not None else None
            self._whitelist.spend_window(acting)
            self._close(self._whitelist.name_of(acting))
            self.window = self._new_window(
                now, seconds, role, methods, pressed=pressed, opener=opener
            )
        self._opener = opener
        try:
            await self.port.reconcile()
        except PeerError as error:
            self.window = None
            self.methods.renew(wanted=False)
            self.note_trouble(error)
            raise
        self.trouble = ""
        self._settle(acting=self._whitelist.name_of(self.opener))
        self.events.publish(PairingEvent(PairingEventKind.OPENED))

    def note_trouble(self, error: PeerError | IamError) -> None:
        """A window could not be opened: for `status`, `health` and the log, until one can."""
        before, self.trouble = self.trouble, f"the pairing window cannot open: {error}"
        if self.trouble != before:
            _log.error("%s. %s", self.trouble, error.advice)

    def close_window(self, *, actor: Subject | None = None) -> bool:
        """No new ceremony from now on, and the live one is refused. False if it was closed."""
        return self._close(self._whitelist.name_of(actor))

    def review(self) -> None:
        """Somebody's rights may have changed: close a window whose opener may not have it now."""
        window = self.window
        if window is None or not self.is_open or self._is_committing(window):
            return  # a commit under way has just been checked, or is this very change
        try:
            self._check_opener(self._opener, window.role)
        except (Denied, NotFound) as error:
            name = self._whitelist.name_of(self.opener)
            _log.warning("the pairing window closes: %s may not give %s now", name, window.role)
            self._close("")
            self._whitelist.note(
                "window-withdrawn", actor=name, role=window.role, result=str(error)
            )

    def decide(self, ceremony_id: str, *, accept: bool) -> Ceremony:
        """The device's user has answered, on whatever way. Raises `PeerError` or `IamError`."""
        with self._step() as window:
            ceremony = window.decide(ceremony_id, accept=accept, now=self._loop.time())
            if ceremony.stage is Stage.COMMITTING:  # the plain form waits for no client
                return self._store(ceremony)
        if accept:
            self.events.publish(PairingEvent(PairingEventKind.DECIDED, ceremony))
        return ceremony

    async def close(self) -> None:
        """The daemon ends: close window and port, wait for nobody."""
        self.close_window()
        self._unsubscribe()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.window = None
        await self.port.close()

    # -- the client's side ----------------------------------------------------------------------

    def start(
        self,
        peer: PeerIdentity,
        *,
        method: str,
        name: object,
        role: str,
        form: StartForm,
        message: Fields = MappingProxyType({}),
    ) -> Ceremony | User:
        """A client starts a ceremony; its attempt is durable before this returns.

        The result is the user instead, if the same key has the same name already; unless nobody has
        verified that key and this method would. Raises `Malformed`, `CeremonyError`, or `IamError`
        (taken, no room, the store fails).
        """
        window = self._require_window()
        if not self.is_open:
            self._settle()
            raise NotOpen("the pairing window is closed", advice="Open it at the device.")
        name = check_name(name, limit=self.limits.name_max)
        known = self._whitelist.state.user_of(peer.fingerprint.hex)
        if known is not None and known.name == name:
            offered = window.methods.get(method)
            is_news = offered is not None and offered.verified
            if known.key(peer.fingerprint.hex).verified or not is_news:
                return known
        # On paper first: who cannot be stored in the end is refused at the start.
        try:
            self._paired(window, peer.fingerprint, name, window.role, method)
        except Denied:
            self.review()
            raise
        try:
            # Before the next ceremony begins, for it gets another code.
            window.give_up(self._loop.time(), peer.fingerprint)
            self._settle()
            ceremony = self._latest = window.start(
                self._loop.time(),
                fingerprint=peer.fingerprint,
                session_id=peer.session_id,
                ekm=peer.exporter,
                method=method,
                name=name,
                ceremony_id=self._random_bytes(9).hex(),
                role_asked=role,
                form=form,
                message=message,
            )
        except Mismatch:  # a wrong first message: an attempt as well
            self._settle(must_store=True)
            raise
        except (CeremonyError, Malformed):
            self._settle()
            raise
        try:
            self._settle(must_store=True)
        except StoreWriteFailed:
            window.abort(ceremony.id, self._loop.time(), reason="store")
            self._settle()
            raise
        if ceremony.stage is Stage.ASKING:
            self.events.publish(PairingEvent(PairingEventKind.PENDING, ceremony))
        return ceremony

    def exchange(self, ceremony_id: str, message: Fields, peer: PeerIdentity) -> Ceremony:
        """The client's second message, in methods with one; then the device's user is asked.

        Raises `CeremonyError` or `Malformed`.
        """
        with self._step() as window:
            ceremony = window.exchange(
                ceremony_id, message, self._loop.time(), session_id=peer.session_id
            )
        self.events.publish(PairingEvent(PairingEventKind.PENDING, ceremony))
        return ceremony

    def find(self, ceremony_id: str, peer: PeerIdentity) -> Ceremony:
        """A ceremony, for the session that started it alone. Raises `NoSuchCeremony`."""
        return self._require_window().find(ceremony_id, session_id=peer.session_id)

    def complete(self, ceremony_id: str, message: Fields, peer: PeerIdentity) -> Ceremony:
        """The client confirms: check, commit, and only then the device's own tag.

        Raises `CeremonyError`, `Malformed` or `IamError`; nobody was paired then.
        """
        with self._step() as window:
            ceremony = window.complete(
                ceremony_id, message, self._loop.time(), session_id=peer.session_id
            )
            return self._store(ceremony)

    def abort(self, ceremony_id: str, peer: PeerIdentity) -> Ceremony:
        """The client gives up. Raises `CeremonyError`."""
        with self._step() as window:
            return window.abort(ceremony_id, self._loop.time(), session_id=peer.session_id)

    @contextmanager
    def _step(self) -> Iterator[Window]:
        """One step of the window. Its events are stored and told, and its timer is set, also if the
        step is refused: time may have ended something before that."""
        window = self._require_window()
        try:
            yield window
        finally:
            self._settle()

    # -- inside ---------------------------------------------------------------------------------

    def _require_window(self) -> Window:
        if self.window is None:
            raise NotOpen("the pairing window is closed", advice="Open it at the device.")
        return self.window

    @property
    def _is_pressed(self) -> bool:
        """Whether the open window is one of the button's."""
        return self.window is not None and self.is_open and BUTTON in self.window.methods

    def _budget_for(self, opener: Opener | None) -> AttemptBudget:
        """The attempts of a window: the device's, or its own if a user opened it from afar."""
        return self.budget if opener is None else AttemptBudget(limits=self.limits, is_kept=False)

    def _can_extend(self, methods: Sequence[str], *, pressed: bool, opener: Opener | None) -> bool:
        """Whether the open window offers what is wished for. Raises `UsageError` if it does not,
        and somebody is just pairing in it."""
        window = self.window
        if window is None or not self.is_open:
            return False
        wished = self.methods.offered(
            tuple(methods) or self.terms.methods,
            pressed=pressed or self._is_pressed,
            counts_tries=opener is None,
        )
        names = {method.name for method in wished}
        if names == window.methods.keys() or not (methods or names - window.methods.keys()):
            return True
        if window.pending() is None:
            return False
        if methods or pressed:
            raise UsageError(
                "somebody is pairing in a window with other methods",
                advice="Wait for the end of it, or close it: `handfast-device close`.",
            )
        return True

    def _new_window(
        self,
        now: float,
        seconds: float,
        role: str | None,
        methods: Sequence[str],
        *,
        pressed: bool,
        opener: Opener | None,
    ) -> Window:
        offered = self.methods.offered(
            tuple(methods) or self.terms.methods, pressed=pressed, counts_tries=opener is None
        )
        self._role_by_default = role is None and self.terms.role is None
        role = self.role_for(role)
        rules = self._whitelist.rules
        window = Window.open(
            now,
            seconds=seconds,
            role=role,
            roles=[one.id for one in rules.roles.values() if 0 < one.rank <= rules.rank(role)],
            unverified_role=min(role, _UNVERIFIED, key=rules.rank),
            methods=offered,
            window_id=self._random_bytes(WINDOW_ID_BYTES),
            device=self.identity.fingerprint,
            overlap=self.terms.overlap,
            budget=self._budget_for(opener),
            limits=self.limits,
        )
        self._latest = None
        self.methods.renew(wanted=CODE in window.methods)
        return window

    def _close(self, acting: str) -> bool:
        if self.window is None or not self.is_open:
            return False
        self.window.close(self._loop.time())
        self._settle(acting=acting)
        return True

    def _clear_backoff(self) -> None:
        if not self.budget.failures:
            return
        self._record.clear(self._loop.time())
        if self.window is not None and self.window.budget.is_kept:
            self.window.budget = self._record.budget

    def _check_opener(self, opener: Opener | None, role: str) -> float | None:
        """The end of what may be given. Raises `Denied` or `NotFound`."""
        if opener is None:
            return self._whitelist.check_opener(None, role)
        return self._whitelist.check_opener(opener.subject, role, opener.attributes)

    def _paired(
        self,
        window: Window,
        fingerprint: Fingerprint,
        name: str,
        role: str,
        method: str,
        *,
        verified: bool = True,
        receipt: bytes = b"",
    ) -> State:
        """The state with this user in it, by the power of the window's opener. Raises `IamError`.

        Who has access until Sunday opens windows for others until Sunday.
        """
        whitelist = self._whitelist
        return changes.pair_user(
            whitelist.state,
            self.opener,
            fingerprint=fingerprint.hex,
            name=name,
            role=role,
            method=method,
            verified=verified,
            now=whitelist.now,
            rules=whitelist.rules,
            not_after=self._check_opener(self._opener, window.role),
            receipt=receipt,
        )

    def _store(self, ceremony: Ceremony) -> Ceremony:
        """Both have said yes: commit the user and the refund in one transaction, then say so."""
        window, whitelist = self._require_window(), self._whitelist
        now = self._loop.time()
        try:
            new = self._paired(
                window,
                ceremony.fingerprint,
                ceremony.name,
                ceremony.role,
                ceremony.method,
                verified=ceremony.verified,
                receipt=window.receipt(ceremony.id),
            )
            key, user = ceremony.fingerprint.hex, new.user(ceremony.name)
            event = whitelist.journal.event(
                "paired",
                actor=whitelist.name_of(self.opener),
                user=user.name,
                role=user.role,
                fingerprint=key,
                method=ceremony.method,
                detail=of_pairing(whitelist.state.user_of(key), user, key),
            )
            refunded = window.budget.refund()
            self.methods.succeeded(ceremony.method)
            self._record.succeed(new, event, refunded, now)
        except IamError as error:
            window.abort(ceremony.id, now, reason=error.reason)
            self._settle()
            self.review()
            raise
        done = window.registered(ceremony.id, user=ceremony.name, now=now)
        self._latest = done
        self._settle()
        _log.info("paired %s as %s", ceremony.name, ceremony.role)
        return done

    def _settle(self, *, must_store: bool = False, acting: str = "") -> None:
        """After each step of the window. Raises `StoreWriteFailed` only if `must_store`. `acting`:
        who has opened or closed it by hand."""
        window = self.window
        if window is None:
            return
        now = self._loop.time()
        ended = window.expire(now)
        events = window.take_events()
        try:
            self._record.keep(window.budget, events, now, acting=acting)
        except StoreWriteFailed:
            if must_store:
                raise
        for ceremony in ended:
            if self._latest is not None and self._latest.id == ceremony.id:
                self._latest = ceremony
            self.events.publish(PairingEvent(PairingEventKind.ENDED, ceremony, ceremony.reason))
            self._change_code(ceremony)
        for event in events:
            if event.kind is EventKind.WINDOW_CLOSED:
                reason = str(event.fields.get("reason", ""))
                if reason in {CloseReason.OVERLAP, CloseReason.FAILURES}:
                    _log.warning("the pairing window has closed: %s", reason)
                self.methods.renew(wanted=False)
                self.events.publish(PairingEvent(PairingEventKind.CLOSED, reason=reason))
        self._arm(window, now)

    def _change_code(self, ended: Ceremony) -> None:
        """A shown code is for one ceremony, whatever became of it."""
        if ended.method == CODE and self.methods.shown_code and self.is_open:
            self.methods.renew(wanted=True)
            self.events.publish(PairingEvent(PairingEventKind.CODE))

    def _users_changed(self) -> None:
        """A window that would make an owner by default closes when somebody else became one, and
        any window when its opener has lost the power to give that role."""
        window = self.window
        if window is None or not self.is_open or self._is_committing(window):
            return  # a commit is the window's own success
        if self._role_by_default and self._default_role() != window.role:
            self.close_window()
        self.review()

    @staticmethod
    def _is_committing(window: Window) -> bool:
        live = window.pending()
        return live is not None and live.stage is Stage.COMMITTING

    # -- timers and the port --------------------------------------------------------------------

    def _arm(self, window: Window, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = window.next_deadline(now)
        if not window.needs_port(now):
            self.port.schedule_close()
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._settle()

    def _session_ended(self, session_id: int) -> None:
        """A client has gone: nobody can finish its ceremony, or need be told how it ended."""
        latest, window = self._latest, self.window
        if latest is None or window is None or latest.session_id != session_id:
            return
        if latest.is_live:
            window.session_ended(session_id, self._loop.time())
        else:
            window.notified(latest.id)
        self._latest = None
        self._settle()

    def _needs_port(self) -> bool:
        return self.window is not None and self.window.needs_port(self._loop.time())

    def _priority(self, fingerprint: Fingerprint) -> SessionPriority:
        """The priority on the pairing port: normal for the running ceremony, else low."""
        latest = self._latest
        talking = latest is not None and latest.fingerprint == fingerprint
        return SessionPriority.NORMAL if talking else SessionPriority.LOW
