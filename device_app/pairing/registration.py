"""The last step of a ceremony: the client's key becomes a user of the device."""

from device_app.access.change_events import PairedKey
from device_app.access.registry import PairingChange, Registry
from device_app.pairing.opener import Opener, OpenerRights
from device_app.pairing.record import PairingRecord
from iam.model import User
from iam.store import Store
from peer.identity import Fingerprint
from peer.pairing.ceremony import Ceremony
from peer.pairing.window import Window


class Registration:
    """Checks and stores the users that pair, within the rights of the window's opener."""

    def __init__(
        self, store: Store, registry: Registry, rights: OpenerRights, record: PairingRecord
    ) -> None:
        self._store = store
        self._registry = registry
        self._rights = rights
        self._record = record

    def existing(
        self, window: Window, fingerprint: Fingerprint, name: str, method: str
    ) -> User | None:
        """Return the user who has this key and this name, if the ceremony would change nothing.

        A key that was never authenticated can still become verified.
        """
        user = self._store.state.user_of(fingerprint.hex)
        if user is None or self._store.state.find(name) != user:
            return None
        offered = window.offered(method)
        would_verify = offered is not None and offered.method.spec.verifies_key
        return user if user.key(fingerprint.hex).verified or not would_verify else None

    def role_for(self, name: str, role: str) -> str:
        """Return the role that a client asks for; by default that of a user without a key."""
        user = self._store.state.find(name)
        return user.role if not role and user is not None and not user.keys else role

    def check(
        self,
        window: Window,
        opener: Opener | None,
        fingerprint: Fingerprint,
        name: str,
        role: str,
        method: str,
    ) -> None:
        """Dry run: reject now what the final commit would reject. Raises `IamError`."""
        completes = self.role_for(name, "") == role != ""
        key = PairedKey(
            fingerprint=fingerprint.hex,
            name=name,
            role=role if completes else window.role,
            method=method,
        )
        self._plan(window, opener, key)

    def commit(self, window: Window, opener: Opener | None, ceremony: Ceremony, now: float) -> User:
        """Store user, refund of the attempts and events in one transaction. Raises `IamError`."""
        key = PairedKey(
            fingerprint=ceremony.fingerprint.hex,
            name=ceremony.name,
            role=ceremony.role,
            method=ceremony.method.value,
            verified=ceremony.method.spec.verifies_key,
            receipt=window.receipt(ceremony.id),
        )
        change = self._plan(window, opener, key)
        events = window.success_events(ceremony.id)
        self._record.commit_success(change, window.budget, events, ceremony.method, now)
        return change.user

    def _plan(self, window: Window, opener: Opener | None, key: PairedKey) -> PairingChange:
        """Plan the change of the store; access ends no later than that of the opener."""
        subject = opener.subject if opener is not None else None
        end = self._rights.check(opener, window.role)
        return self._registry.plan_pairing(subject, key, not_after=end)
