"""Invites: from a request to a token, and from a token to a user (docs/protocol.md, section 6).

An invite is a record on this device. Its token is the device's signed statement that the record
exists, with what a new client needs to connect: the device's fingerprint and addresses. The token
is shown once, to the user who creates the invite, and is not stored. The record decides: when it is
removed, used up or expired, the token is not valid any more.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NotRequired, Self, TypedDict

from device_app.access.access_control import AccessControl
from device_app.access.change_events import RequestPath
from device_app.access.fields import (
    duration_field,
    fingerprint_untrusted,
    refuse_unknown,
    text_field,
    time_field,
    wrong_field,
)
from device_app.limits import INVITE_ADDRESSES_MAX
from iam.errors import InviteRefused
from iam.invites import names_of
from iam.limits import INVITE_USES_MAX
from iam.model import Invite, Subject, User
from peer.errors import Malformed, PeerError, UsageError
from peer.identity import Fingerprint, Identity
from peer.pairing.invite import InviteToken, verify_untrusted
from peer.pairing.names import check_name
from peer.pasted import compact

if TYPE_CHECKING:
    from peer.net.remote import PeerIdentity

DEFAULT_ROLE: Final = "guest"
_ID_BYTES: Final = 16
_HEX_DIGITS: Final = frozenset("0123456789abcdef")
_FIELDS: Final = frozenset({"name", "role", "seconds", "uses", "key", "not_after"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InviteRequest:
    """An invite to create.

    `seconds` is how long it is valid; None is the device's default. `key` is the fingerprint of the
    only key that may redeem it. `not_after` is the end of the access, in seconds since 1970.
    """

    name: str
    role: str = DEFAULT_ROLE
    seconds: float | None = None
    uses: int = 1
    key: str | None = None
    not_after: float | None = None

    @classmethod
    def parse_untrusted(cls, body: Mapping[str, object]) -> Self:
        """Decode a request; the name is required. Raises `Malformed`."""
        refuse_unknown(body, _FIELDS)
        uses = body.get("uses", 1)
        if isinstance(uses, float) and uses.is_integer():
            uses = int(uses)
        if type(uses) is not int or not 1 <= uses <= INVITE_USES_MAX:
            raise wrong_field("uses", f"a whole number from 1 to {INVITE_USES_MAX}")
        return cls(
            name=check_name(body.get("name")),
            role=text_field(body, "role") if "role" in body else DEFAULT_ROLE,
            seconds=duration_field(body, "seconds"),
            uses=uses,
            key=fingerprint_untrusted(body["key"]) if "key" in body else None,
            not_after=time_field(body, "not_after"),
        )

    def to_json(self) -> dict[str, object]:
        """The fields of the request that are given."""
        fields = {
            "name": self.name,
            "role": self.role,
            "seconds": self.seconds,
            "uses": self.uses,
            "key": self.key,
            "not_after": self.not_after,
        }
        return {name: value for name, value in fields.items() if value is not None}


class InviteView(TypedDict):
    """An invite as `/iam/invites` and `invites list` show it. Times are seconds since 1970."""

    id: str
    name: str
    role: str
    uses: int
    created: int
    expires: int
    inviter: str
    key: NotRequired[str]
    not_after: NotRequired[int]


class CreatedInviteView(InviteView):
    """A new invite with its token, which is not shown again."""

    token: str


def invite_view(invite: Invite) -> InviteView:
    """An invite without its token."""
    view: InviteView = {
        "id": invite.id,
        "name": invite.name,
        "role": invite.role,
        "uses": invite.uses,
        "created": int(invite.created),
        "expires": int(invite.expires),
        "inviter": invite.inviter,
    }
    if invite.key:
        view["key"] = invite.key
    if invite.not_after is not None:
        view["not_after"] = int(invite.not_after)
    return view


class Invitations:
    """Creates invites and redeems them.

    `addresses` returns where this device can be reached, for the tokens.
    """

    def __init__(
        self,
        control: AccessControl,
        identity: Identity,
        *,
        addresses: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._store = control.store
        self._clock = control.clock
        self._authority = control.authority
        self._registry = control.registry
        self._identity = identity
        self._addresses = addresses

    def new_invite(self, request: InviteRequest) -> Invite:
        """The invite that a request asks for, not stored, within the limits of the device.

        Raises:
            Malformed: it would be valid too long, have too many uses, or not fit a token.
        """
        limits, now = self._authority.limits, self._clock.now()
        seconds = limits.invite_seconds if request.seconds is None else request.seconds
        if not 0 < seconds <= limits.invite_max_seconds:
            most = f"{limits.invite_max_seconds:.0f}"
            raise wrong_field("seconds", f"a number above 0 and at most {most}")
        if not 1 <= request.uses <= limits.invite_uses:
            raise wrong_field("uses", f"a whole number from 1 to {limits.invite_uses}")
        invite = Invite(
            id=secrets.token_hex(_ID_BYTES),
            name=request.name,
            role=request.role,
            expires=now + seconds,
            uses=request.uses,
            created=now,
            key="" if request.key is None else fingerprint_untrusted(request.key),
            not_after=request.not_after,
        )
        self._token(invite)
        return invite

    def names_of(self, invite: Invite) -> tuple[str, ...]:
        """The names that the uses of a new invite give."""
        return names_of(self._store.state, invite)

    def create(self, actor: Subject | None, request: InviteRequest) -> CreatedInviteView:
        """Create an invite. Raises `IamError`, `Malformed`."""
        return self.add(actor, self.new_invite(request))

    def add(self, actor: Subject | None, invite: Invite) -> CreatedInviteView:
        """Store an invite that `new_invite` returned. Raises `IamError`."""
        stored = self._registry.create_invite(actor, invite)
        return {**invite_view(stored), "token": self._token(stored)}

    def listed(self) -> list[InviteView]:
        """Every invite that can still be redeemed, in the order of their ends."""
        now = self._clock.now()
        valid = (one for one in self._store.state.invites.values() if now < one.expires)
        return [invite_view(one) for one in sorted(valid, key=lambda one: one.expires)]

    def find(self, invite_id: str) -> Invite:
        """The invite with this ID. Raises `NotFound`."""
        return self._store.state.invite(invite_id)

    def named(self, beginning: str) -> Invite:
        """The one invite whose ID begins like this, as a person types it.

        Raises `NotFound`, and `Malformed` if it is not the beginning of one ID.
        """
        plain = compact(beginning).lower()
        if not plain or set(plain) - _HEX_DIGITS:
            raise Malformed(
                "the ID of an invite consists of hex digits", advice="List the invites to see it."
            )
        ids = [one for one in self._store.state.invites if plain and one.startswith(plain)]
        if len(ids) > 1:
            raise Malformed(
                f"{len(ids)} invites begin with {beginning!r}", advice="Give more of the ID."
            )
        return self.find(ids[0] if ids else beginning)

    def withdraw(self, actor: Subject | None, invite_id: str) -> None:
        """Remove an invite, which makes its token invalid. Raises `IamError`."""
        self._registry.remove_invite(actor, invite_id)

    def redeem_untrusted(self, signed: bytes, peer: "PeerIdentity") -> User:
        """Make the sender's key a user by a token.

        Raises:
            Malformed: this device did not sign the token; the message does not say what is wrong.
            IamError: the token is genuine, and the invite is not valid.
        """
        try:
            token = verify_untrusted(signed, self._identity)
        except PeerError as error:
            raise Malformed(
                "this is no invite of this device", advice="Ask for a new one, and copy all of it."
            ) from error
        try:
            return self._registry.redeem(
                token.id.hex(),
                fingerprint=peer.fingerprint.hex,
                path=RequestPath(str(peer.address), peer.interface),
            )
        except InviteRefused as error:
            if token.expires <= self._clock.now():  # the record may have been removed since
                raise InviteRefused("this invite has expired", advice=error.advice) from error
            raise

    def _token(self, invite: Invite) -> str:
        token = InviteToken(
            device=self._identity.fingerprint,
            id=bytes.fromhex(invite.id),
            name=invite.name,
            role=invite.role,
            expires=int(invite.expires),
            issued=int(invite.created),
            addresses=tuple(self._addresses())[:INVITE_ADDRESSES_MAX],
            key=Fingerprint.parse(invite.key) if invite.key else None,
        )
        try:
            return token.text(token.sign(self._identity))
        except UsageError as error:
            raise Malformed(str(error), advice=error.advice) from error
