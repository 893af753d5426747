"""Decisions of this device: `iam.access` on the store's state and the device's time.

It does not depend on the network and changes nothing. The running daemon uses it, and so does a
command that works on the store alone.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from device_app.access.clock import Clock
from device_app.limits import SUBJECTS_REMEMBERED
from iam import changes
from iam.access import Access
from iam.attributes import OF_DEVICE
from iam.changes import Rules
from iam.errors import Denied, InviteRefused
from iam.limits import IamLimits
from iam.model import Invite, Subject, User
from iam.policy import Decision, Explanation
from iam.store import Store

OPEN_WINDOW: Final = "Pairing:OpenWindow"
CREATE_INVITE: Final = "Iam:CreateInvite"
CONNECT: Final = "Remote:Connect"
_NO_ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType({})


class Authority:
    """The decisions of this device. `access` has the roles and policies in force."""

    def __init__(self, store: Store, clock: Clock, access: Access, *, limits: IamLimits) -> None:
        self._store = store
        self._clock = clock
        self.access = access
        self.rules = Rules(access.roles, limits)
        self._state = store.state
        # Subjects with access in `_state`, each with the start and end of the access.
        self._subjects: dict[str, tuple[float, float, Subject]] = {}

    @property
    def limits(self) -> IamLimits:
        """The limits in force."""
        return self.rules.limits

    def adopt(self, access: Access) -> None:
        """Put roles and policies into force."""
        self.access = access
        self.rules = Rules(access.roles, self.limits)

    def adopt_limits(self, limits: IamLimits) -> None:
        """Put limits of users, keys and invites into force. They remove nothing that exists."""
        self.rules = Rules(self.access.roles, limits)

    def subject(self, fingerprint: str, now: float | None = None) -> Subject:
        """The subject that this key is now. `now` is the clock's time, if it was read already.

        Each request asks for its subject several times, so subjects with access are remembered
        until the store has another state.
        """
        state = self._store.state
        if now is None:
            now = self._clock.now()
        if state is not self._state:
            self._state, self._subjects = state, {}
        known = self._subjects.get(fingerprint)
        if known is not None and known[0] <= now < known[1]:
            return known[2]
        subject = self.access.subject(state, fingerprint, now)
        if subject.user is not None:
            if len(self._subjects) >= SUBJECTS_REMEMBERED:
                self._subjects.clear()
            self._subjects[fingerprint] = subject.user.start, subject.user.end, subject
        return subject

    def subject_named(self, name: str) -> Subject:
        """The subject that a user is with the first of their keys.

        Raises:
            NotFound: there is no such user.
        """
        user = self._store.state.user(name)
        if user.keys:
            return self.subject(user.keys[0].fingerprint)
        return Subject("", user, user.role)

    def spelling_of(self, name: str) -> str:
        """The name of the user whom this name means. Raises `NotFound`."""
        return self._store.state.user(name).name

    def decide(
        self, subject: Subject, action: str, attributes: Mapping[str, str] = _NO_ATTRIBUTES
    ) -> Decision:
        """Whether the subject may perform the action."""
        return self.access.decide(subject, action, attributes)

    def conceivable(
        self, subject: Subject, action: str, attributes: Mapping[str, str] = _NO_ATTRIBUTES
    ) -> Decision:
        """Whether the subject may perform the action on any target, for a target not yet known."""
        return self.access.conceivable(subject, action, attributes)

    def explain(
        self, name: str, action: str, attributes: Mapping[str, str] = _NO_ATTRIBUTES
    ) -> Explanation:
        """Why a user may or may not perform the action now.

        Raises:
            NotFound: there is no such user.
        """
        subject = self.subject_named(name)
        return self.access.explain(subject, action, {**self._clock.attributes(), **attributes})

    def check_opener(
        self, opener: Subject | None, role: str, attributes: Mapping[str, str] = _NO_ATTRIBUTES
    ) -> float | None:
        """Check that the opener of a pairing window may still open one for this role.

        Args:
            opener: the subject as it was when the window opened; None for a person at the device.
            role: the role that the window gives.
            attributes: those of the connection over which the window was opened.

        Returns:
            The latest end of access that the opener can give, or None if it has no end.

        Raises:
            Denied: the opener may not, or no longer.
            NotFound: there is no such role.
        """
        if opener is None:
            changes.check_grant(self._store.state, None, role, rules=self.rules)
            return None
        subject = self.subject(opener.fingerprint)
        current = {**attributes, **self._clock.attributes(), "IAM:RoleId": role}
        decision = self.decide(subject, OPEN_WINDOW, current)
        if subject.user is None or opener.user is None or not decision.allowed:
            raise Denied(decision.missing or "You have no access.", advice="Ask an owner.")
        ends = [one.not_after for one in (subject.user, opener.user) if one.not_after is not None]
        end = min(ends, default=None)
        changes.check_grant(self._store.state, opener, role, not_after=end, rules=self.rules)
        return end

    def check_inviter(self, invite: Invite, invited: User) -> None:
        """Check that the maker of an invite may still invite this user.

        Decided by policy as far as the attributes are known now: the connection over which the
        invite was made is not considered again.

        Raises:
            InviteRefused: the maker may not.
        """
        if not invite.inviter:
            return
        about = {
            "IAM:RoleId": invited.role,
            "IAM:Username": invited.name,
            "IAM:Fingerprint": invited.keys[0].fingerprint,
            **self._clock.attributes(),
        }
        subjects = map(self.subject, self._store.state.user(invite.inviter).fingerprints)
        if not any(
            self.access.conceivable(one, CREATE_INVITE, about, unknown=OF_DEVICE).allowed
            for one in subjects
        ):
            raise InviteRefused(
                f"the user who invited you may not invite {invited.name!r} any more",
                advice="Ask for a new invite.",
            )
