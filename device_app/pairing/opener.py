"""The opener of a pairing window, and its rights: a window may grant no more.

A user who opens a window over the network is responsible for every client that pairs in it. The
rights of the opener are checked when the window opens,
whenever users or policies change, when a ceremony starts, and at the commit. The console may grant
every role.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from device_app.access.authority import Authority
from iam import changes
from iam.builtin import GUEST
from iam.model import Subject
from iam.store import Store

_MOST_UNVERIFIED = GUEST  # the highest role for a key that the method does not authenticate


@dataclass(frozen=True, slots=True)
class Opener:
    """A user who opened a window, with the attributes of the connection it was opened over."""

    subject: Subject
    attributes: Mapping[str, str]


class OpenerRights:
    """The rights of openers, by the policies and users of this moment."""

    def __init__(self, store: Store, authority: Authority) -> None:
        self._store = store
        self._authority = authority

    def check(self, opener: Opener | None, role: str) -> float | None:
        """Return when access granted by this opener ends, in device time; None if it does not end.

        Raises:
            Denied: the opener may not open a window for this role, or may not grant it.
            NotFound: the role or the opener does not exist.
        """
        if opener is None:
            return self._authority.check_opener(None, role)
        return self._authority.check_opener(opener.subject, role, opener.attributes)

    def default_role(self) -> str:
        """Return `owner` if the device never had one, else `guest`."""
        return changes.default_role(self._store.state, had_owner=self._store.had_owner)

    def roles_up_to(self, role: str) -> list[str]:
        """Return the roles that a client may request in a window of `role`."""
        rules = self._authority.rules
        return [one.id for one in rules.roles.values() if 0 < one.rank <= rules.rank(role)]

    def unverified_role(self, role: str) -> str:
        """Return the role that a window of `role` grants to a key it does not authenticate."""
        return min(role, _MOST_UNVERIFIED, key=self._authority.rules.rank)
