"""The steps of ceremonies: what clients send and what the device's user answers.

A step that counts an attempt fails if the count cannot be stored, and a user is committed before
the answer exists (`window_driver` settles every step).
"""

import logging
from collections.abc import Callable
from types import MappingProxyType

from device_app.pairing.events import PairingEvent, PairingEventKind, PairingEvents
from device_app.pairing.registration import Registration
from device_app.pairing.window_driver import WindowDriver
from iam.errors import Denied, IamError, StoreWriteFailed
from iam.model import User
from peer.identity import Fingerprint
from peer.limits import Limits
from peer.net.remote import PeerIdentity
from peer.pairing.ceremony import Ceremony, EndReason, Fields, Stage, StartForm
from peer.pairing.errors import NotOpen
from peer.pairing.names import check_name
from peer.pairing.window import Window

_log = logging.getLogger("handfast.pairing")
_CEREMONY_ID_BYTES = 9


class Ceremonies:
    """The ceremonies of the current window.

    `review` closes the window if its opener has lost the right to open it.
    """

    def __init__(
        self,
        driver: WindowDriver,
        registration: Registration,
        events: PairingEvents,
        *,
        limits: Limits,
        random_bytes: Callable[[int], bytes],
        review: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._registration = registration
        self._events = events
        self._limits = limits
        self._random_bytes = random_bytes
        self._review = review

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
        """Start a ceremony for a client; its attempt is stored before this returns.

        Returns the user instead if this would change nothing (docs/protocol.md §5.6).

        Raises:
            Malformed: the name, or a field of the method, is not valid.
            CeremonyError: the window does not admit this ceremony.
            IamError: the user could not be stored in the end, or the attempt cannot be stored now.
        """
        ceremony: Ceremony | None = None
        try:
            with self._driver.step(must_store=True) as window:
                if self._driver.open_window is None:
                    raise NotOpen("the pairing window is closed", advice="Open it at the device.")
                name = check_name(name, limit=self._limits.name_max)
                user = self._registration.existing(window, peer.fingerprint, name, method)
                if user is not None:
                    return user
                role = self._registration.role_for(name, role)
                self._check(window, peer.fingerprint, name, role, method)
                # The client's last ceremony ends first, because the next one gets another code.
                window.give_up(self._driver.now, peer.fingerprint)
                self._driver.settle()
                ceremony = window.start(
                    self._driver.now,
                    fingerprint=peer.fingerprint,
                    session_id=peer.session_id,
                    ekm=peer.exporter,
                    method=method,
                    name=name,
                    ceremony_id=self._random_bytes(_CEREMONY_ID_BYTES).hex(),
                    role_asked=role,
                    form=form,
                    message=message,
                )
                self._driver.watch_session(ceremony)
        except StoreWriteFailed:
            if ceremony is not None:
                with self._driver.step() as window:
                    window.abort(ceremony.id, self._driver.now, reason=EndReason.STORE)
            raise
        if ceremony.stage is Stage.ASKING:
            self._events.publish(PairingEvent(PairingEventKind.PENDING, ceremony))
        return ceremony

    def exchange(self, ceremony_id: str, message: Fields, peer: PeerIdentity) -> Ceremony:
        """Take the client's second message; then the device's user is asked.

        Raises `CeremonyError` or `Malformed`.
        """
        with self._driver.step() as window:
            ceremony = window.exchange(
                ceremony_id, message, self._driver.now, session_id=peer.session_id
            )
        self._events.publish(PairingEvent(PairingEventKind.PENDING, ceremony))
        return ceremony

    def decide(self, ceremony_id: str, *, accept: bool) -> Ceremony:
        """Take the answer of the device's user. Raises `PeerError` or `IamError`."""
        with self._driver.step() as window:
            ceremony = window.decide(ceremony_id, accept=accept, now=self._driver.now)
            if ceremony.stage is Stage.COMMITTING:  # the plain form waits for no client
                return self._commit(window, ceremony)
        if accept:
            self._events.publish(PairingEvent(PairingEventKind.DECIDED, ceremony))
        return ceremony

    def complete(self, ceremony_id: str, message: Fields, peer: PeerIdentity) -> Ceremony:
        """Check the client's confirmation and commit the user; only then is there a device tag.

        Raises `CeremonyError`, `Malformed` or `IamError`; no user was stored then.
        """
        with self._driver.step() as window:
            ceremony = window.complete(
                ceremony_id, message, self._driver.now, session_id=peer.session_id
            )
            return self._commit(window, ceremony)

    def abort(self, ceremony_id: str, peer: PeerIdentity) -> Ceremony:
        """End the ceremony for its client. Raises `CeremonyError`."""
        with self._driver.step() as window:
            return window.abort(ceremony_id, self._driver.now, session_id=peer.session_id)

    def find(self, ceremony_id: str, peer: PeerIdentity) -> Ceremony:
        """Return a ceremony to the session that started it. Raises `CeremonyError`."""
        return self._driver.require_window().find(ceremony_id, session_id=peer.session_id)

    def pending(self) -> Ceremony | None:
        """Return the ceremony that waits for the device's user."""
        window = self._driver.window
        live = window.pending() if window is not None else None
        return live if live is not None and live.stage is Stage.ASKING else None

    def _check(
        self, window: Window, fingerprint: Fingerprint, name: str, role: str, method: str
    ) -> None:
        """Reject now what the commit would reject."""
        try:
            self._registration.check(window, self._driver.opener, fingerprint, name, role, method)
        except Denied:
            self._review()
            raise

    def _commit(self, window: Window, ceremony: Ceremony) -> Ceremony:
        """Both users have accepted: commit the user, then report the success."""
        try:
            user = self._registration.commit(
                window, self._driver.opener, ceremony, self._driver.now
            )
        except IamError as error:
            window.abort(ceremony.id, self._driver.now, reason=error.reason)
            self._review()
            raise
        done = window.registered(ceremony.id, user=user.name, now=self._driver.now)
        _log.info("paired %s as %s", user.name, ceremony.role)
        return done
