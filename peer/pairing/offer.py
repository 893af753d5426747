"""The offer of a pairing window: its methods and its roles."""

from collections.abc import Mapping
from dataclasses import dataclass

from peer.pairing.ceremony import StartForm
from peer.pairing.errors import NotOffered
from peer.pairing.methods import Method
from peer.pairing.sides import OfferedMethod


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowOffer:
    """The methods and roles of one window.

    Attributes:
        methods: the methods, in order of preference.
        role: the role of a newly paired user.
        roles: the roles that a client may request instead.
        unverified_role: the role of a user who pairs by a method that verifies no key.
    """

    methods: Mapping[Method, OfferedMethod]
    role: str
    roles: frozenset[str]
    unverified_role: str

    def find(self, name: str) -> OfferedMethod | None:
        """Return the method of this name, if it is offered."""
        method = Method.named(name)
        return None if method is None else self.methods.get(method)

    def choose(self, name: str, form: StartForm, role_asked: str) -> tuple[OfferedMethod, str]:
        """Return the method and the role of a new ceremony.

        `role_asked` is the role that the client requests; empty for the default. Raises
        `NotOffered`.
        """
        offered = self.find(name)
        if offered is None or (form is StartForm.PLAIN and offered.method is not Method.COMPARE):
            raise NotOffered(
                "this pairing method is not offered",
                advice=f"Use one of: {', '.join(self.methods)}.",
            )
        is_verified = offered.method.spec.verifies_key
        default = self.role if is_verified else self.unverified_role
        role = role_asked or default
        if role not in (self.roles | {self.role} if is_verified else {default}):
            raise NotOffered(
                "this pairing window does not grant the requested role",
                advice=f"Request no role to get {default!r}. An owner can change it later.",
            )
        return offered, role
