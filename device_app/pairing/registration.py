"""The last step of a ceremony: the client's key becomes a user of the device."""

from device_app.access.event_details import of_pairing
from device_app.access.whitelist import Whitelist
from device_app.pairing.opener import Opener, OpenerRights
from device_app.pairing.record import PairingRecord
from iam import changes
from iam.model import State, User
from peer.identity import Fingerprint
from peer.pairing.ceremony import Ceremony
from peer.pairing.window import Window


class Registration:
    """Checks and stores the users that pair, within the rights of the window's opener."""

    def __init__(self, whitelist: Whitelist, rights: OpenerRights, record: PairingRecord) -> None:
        self._whitelist = whitelist
        self._rights = rights
        self._record = record

    def existing(
        self, window: Window, fingerprint: Fingerprint, name: str, method: str
    ) -> User | None:
        """Return the user who has this key and this name, if the ceremony would change nothing.

        A key that was never authenticated can still become verified.
        """
        user = self._whitelist.state.user_of(fingerprint.hex)
        if user is None or user.name != name:
            return None
        offered = window.offered(method)
        would_verify = offered is not None and offered.method.spec.verifies_key
        return user if user.key(fingerprint.hex).verified or not would_verify else None

    def check(
        self,
        window: Window,
        opener: Opener | None,
        fingerprint: Fingerprint,
        name: str,
        method: str,
    ) -> None:
        """Dry run: reject now what the final commit would reject. Raises `IamError`."""
        self._state_with(window, opener, fingerprint, name, window.role, method)

    def commit(self, window: Window, opener: Opener | None, ceremony: Ceremony, now: float) -> None:
        """Store the user and the refund of the attempts in one transaction. Raises `IamError`."""
        whitelist, key = self._whitelist, ceremony.fingerprint.hex
        new = self._state_with(
            window,
            opener,
            ceremony.fingerprint,
            ceremony.name,
            ceremony.role,
            ceremony.method,
            verified=ceremony.method.spec.verifies_key,
            receipt=window.receipt(ceremony.id),
        )
        user = new.user(ceremony.name)
        event = whitelist.journal.event(
            "paired",
            actor=whitelist.name_of(opener.subject if opener is not None else None),
            user=user.name,
            role=user.role,
            fingerprint=key,
            method=ceremony.method,
            detail=of_pairing(whitelist.state.user_of(key), user, key),
        )
        self._record.commit_success(new, event, window.budget, ceremony.method, now)

    def _state_with(
        self,
        window: Window,
        opener: Opener | None,
        fingerprint: Fingerprint,
        name: str,
        role: str,
        method: str,
        *,
        verified: bool = True,
        receipt: bytes = b"",
    ) -> State:
        """Return the state with this user in it. Access ends no later than the opener's."""
        whitelist = self._whitelist
        return changes.pair_user(
            whitelist.state,
            opener.subject if opener is not None else None,
            fingerprint=fingerprint.hex,
            name=name,
            role=role,
            method=method,
            verified=verified,
            now=whitelist.now,
            rules=whitelist.rules,
            not_after=self._rights.check(opener, window.role),
            receipt=receipt,
        )
