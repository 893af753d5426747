"""Invites: from a wish to a token, and from a token to a user (protocol §6).

An invite is a record on this device; its token is the device's signed statement that there is such
a record, with everything a new client needs to come here: fingerprint and addresses. The token is
shown once, to whoever made the invite, and kept nowhere. What counts at the end is the record: when
it is gone, used up or over, the token is worth nothing.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from device_app.access import bodies
from device_app.access.access_control import AccessControl
from device_app.access.clock import Clock
from device_app.access.registry import Registry
from iam.errors import InviteRefused, NotFound
from iam.limits import DEFAULT_IAM_LIMITS, IamLimits
from iam.model import Invite, Subject, User
from iam.store import Store
from peer.errors import Malformed, PeerError, UsageError
from peer.identity import Fingerprint, Identity
from peer.net.coaps import PeerIdentity
from peer.pairing.invite import InviteToken, verify_untrusted
from peer.pairing.names import check_name

MOST_ADDRESSES = 6  # in a token, which has to fit a QR code
DEFAULT_ROLE = "guest"
_FIELDS = {"name", "role", "seconds", "uses", "key", "not_after"}


def invite_wished_untrusted(
    wish: Mapping[str, object], now: float, limits: IamLimits = DEFAULT_IAM_LIMITS
) -> Invite:
    """A new invite with an id of its own: a name is due, the rest may be left out."""
    bodies.refuse_unknown(wish, _FIELDS)
    seconds = _number(wish, "seconds", limits.invite_seconds, limits.invite_max_seconds)
    uses = _number(wish, "uses", 1, limits.invite_uses)
    if uses < 1 or uses != int(uses):
        raise bodies.wrong("uses", f"a whole number from 1 to {limits.invite_uses}")
    return Invite(
        id=secrets.token_hex(16),
        name=check_name(wish.get("name")),
        role=bodies.text(wish, "role") if "role" in wish else DEFAULT_ROLE,
        expires=now + seconds,
        uses=int(uses),
        created=now,
        key=bodies.fingerprint_untrusted(wish["key"]) if "key" in wish else "",
        not_after=bodies.time(wish, "not_after"),
    )


def _number(wish: Mapping[str, object], field: str, default: float, most: float) -> float:
    value = wish.get(field, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise bodies.wrong(field, f"a number above 0 and at most {most:.0f}")
    return float(value)


def invite_view(invite: Invite) -> dict[str, Any]:
    """An invite as `/iam/invites` and `invites` show it; never with its token."""
    view: dict[str, Any] = {
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
    """Makes invites and takes them back in. `addresses` says where this device can be reached."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        registry: Registry,
        identity: Identity,
        *,
        addresses: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._store = store
        self._clock = clock
        self._registry = registry
        self._identity = identity
        self._addresses = addresses

    def create(self, actor: Subject | None, invite: Invite) -> dict[str, Any]:
        """A durable record, and the only showing of its token. Raises `IamError`."""
        self._token(invite)  # one that does not fit a token must not become a record
        made = self._registry.create_invite(actor, invite)
        return {**invite_view(made), "token": self._token(made)}

    def listed(self) -> list[dict[str, Any]]:
        """Every invite that can still be redeemed, the one that ends first at the top."""
        now = self._clock.now()
        standing = (one for one in self._store.state.invites.values() if now < one.expires)
        return [invite_view(one) for one in sorted(standing, key=lambda one: one.expires)]

    def find(self, invite_id: str) -> Invite:
        """An invite by its id. Raises `NotFound`."""
        return self._store.state.invite(invite_id)

    def named(self, beginning: str) -> Invite:
        """The one whose id begins like this, as a person types it. Raises `NotFound`."""
        ids = [one for one in self._store.state.invites if one.startswith(beginning.lower())]
        if len(ids) > 1 and beginning:
            raise NotFound(
                f"{len(ids)} invites begin with {beginning!r}", advice="Give more of the id."
            )
        return self.find(ids[0] if ids and beginning else beginning)

    def withdraw(self, actor: Subject | None, invite_id: str) -> None:
        """Its token is worth nothing from now on. Raises `IamError`."""
        self._registry.remove_invite(actor, invite_id)

    def redeem_untrusted(self, signed: bytes, peer: PeerIdentity) -> User:
        """The user that this key has become. Raises `Malformed` for a token that this device did
        not sign, whatever is the matter with it, and `IamError` for one that is worth nothing."""
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
                address=str(peer.address),
                interface=peer.interface,
            )
        except InviteRefused as error:
            if token.expires <= self._clock.now():  # its record may have gone by then
                raise InviteRefused("this invite is over", advice=error.advice) from error
            raise

    def _token(self, invite: Invite) -> str:
        token = InviteToken(
            device=self._identity.fingerprint,
            id=bytes.fromhex(invite.id),
            name=invite.name,
            role=invite.role,
            expires=int(invite.expires),
            issued=int(invite.created),
            addresses=tuple(self._addresses())[:MOST_ADDRESSES],
            key=Fingerprint.parse(invite.key) if invite.key else None,
        )
        try:
            return token.text(token.sign(self._identity))
        except UsageError as error:
            raise Malformed(str(error), advice=error.advice) from error


def invite_verbs(
    control: AccessControl, invitations: Callable[[], Invitations]
) -> dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """The console's verbs on invites; see `device_app.console.table`."""

    def create(args: Mapping[str, Any]) -> dict[str, Any]:
        invite = invite_wished_untrusted(
            args["wish"], control.clock.now(), control.authority.limits
        )
        return {"invite": invitations().create(None, invite)}

    def listed(_args: Mapping[str, Any]) -> dict[str, Any]:
        return {"invites": invitations().listed()}

    def withdraw(args: Mapping[str, Any]) -> dict[str, Any]:
        found = invitations().named(args["id"])
        invitations().withdraw(None, found.id)
        return {"withdrawn": found.id}

    return {"invite": create, "invites-list": listed, "invites-withdraw": withdraw}
