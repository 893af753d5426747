"""Strict decoding of what a device returns about itself and about its users.

Each function takes the payload of a response and raises only `Malformed`. Unknown fields are
ignored, since the device may be newer than this client.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from client_app.decode_fields import Fields, each_untrusted
from client_app.limits import RESPONSE_BODY_BYTES
from client_app.models import (
    Condition,
    Invitation,
    Invite,
    Permission,
    Policy,
    Role,
    Statement,
    User,
    UserKey,
    Whoami,
    Window,
)
from peer import cbor
from peer.identity import Fingerprint

_INVITE_ID: Final = re.compile(r"[0-9a-f]{32}")
_TOKEN: Final = re.compile(r"HANDFAST:I[:*][A-Z0-9*$%+./:-]{1,4000}")


@dataclass(frozen=True, slots=True)
class Me:
    """The response of GET `/iam/me`. `receipt` is that of the pairing (protocol §5.8), if any."""

    whoami: Whoami
    receipt: object = field(repr=False)


def body_untrusted(payload: bytes) -> object:
    """Decode a CBOR payload; an empty one is an empty map. Raises only `Malformed`."""
    return cbor.decode_untrusted(payload, size=RESPONSE_BODY_BYTES) if payload else {}


# -- this client ----------------------------------------------------------------------------------


def me_untrusted(payload: bytes) -> Me:
    """GET `/iam/me`."""
    fields = Fields(cbor.decode_untrusted(payload), "the response")
    whoami = Whoami(
        user=fields.text("user", ""),
        role=fields.text("role", ""),
        fingerprint=fields.text("fingerprint", ""),
        key=fields.text("key", ""),
        path=fields.text("path", ""),
        actions=_optional_words(fields, "actions"),
        until=fields.optional_time("until"),
        conditional=_optional_words(fields, "conditional"),
        now=fields.optional_time("now"),
    )
    return Me(whoami, fields.all.get("receipt"))


def _optional_words(fields: Fields, name: str) -> tuple[str, ...]:
    return fields.words(name) if name in fields.all else ()


# -- users and rules ------------------------------------------------------------------------------


def users_untrusted(payload: bytes) -> tuple[User, ...]:
    """GET `/iam/users`."""
    return each_untrusted(body_untrusted(payload), "the list of users", _user)


def user_untrusted(payload: bytes) -> User:
    """GET, POST, PATCH or PUT of one user below `/iam/users`."""
    return _user(body_untrusted(payload))


def _user(value: object) -> User:
    fields = Fields(value, "a user")
    return User(
        name=fields.text("name"),
        role=fields.text("role"),
        created=fields.time("created"),
        keys=fields.each("keys", _key),
        display=fields.text("display", ""),
        not_before=fields.optional_time("not_before"),
        not_after=fields.optional_time("not_after"),
        last_seen=fields.optional_time("last_seen"),
    )


def _key(value: object) -> UserKey:
    fields = Fields(value, "a key")
    return UserKey(
        fingerprint=Fingerprint.parse(fields.text("fingerprint")).hex,
        name=fields.text("name", ""),
        method=fields.text("method", ""),
        verified=fields.flag("verified"),
        added=fields.time("added"),
        last_seen=fields.optional_time("last_seen"),
    )


def roles_untrusted(payload: bytes) -> tuple[Role, ...]:
    """GET `/iam/roles`."""
    return each_untrusted(body_untrusted(payload), "the list of roles", _role)


def _role(value: object) -> Role:
    fields = Fields(value, "a role")
    return Role(fields.text("id"), fields.whole("rank"), fields.words("policies"))


def policies_untrusted(payload: bytes) -> tuple[Policy, ...]:
    """GET `/iam/policies`."""
    return each_untrusted(body_untrusted(payload), "the list of policies", _policy)


def _policy(value: object) -> Policy:
    fields = Fields(value, "a policy")
    return Policy(fields.text("id"), fields.each("statements", _statement))


def _statement(value: object) -> Statement:
    fields = Fields(value, "a statement")
    conditions = fields.each("conditions", _condition) if "conditions" in fields.all else ()
    return Statement(fields.text("effect"), fields.words("actions"), conditions)


def _condition(value: object) -> Condition:
    fields = Fields(value, "a condition")
    return Condition(fields.text("operator"), fields.text("attribute"), fields.words("values"))


def permission_untrusted(payload: bytes) -> Permission:
    """GET `/iam/check`."""
    fields = Fields(body_untrusted(payload), "the decision")
    return Permission(
        action=fields.text("action"),
        allowed=fields.flag("allowed"),
        missing=fields.text("missing", ""),
        reason=fields.text("reason", ""),
        depends=_optional_words(fields, "depends"),
    )


# -- invites and the window -----------------------------------------------------------------------


def invites_untrusted(payload: bytes) -> tuple[Invite, ...]:
    """GET `/iam/invites`."""
    return each_untrusted(body_untrusted(payload), "the list of invites", _invite)


def invitation_untrusted(payload: bytes) -> Invitation:
    """POST `/iam/invites`."""
    body = body_untrusted(payload)
    return Invitation(_invite(body), Fields(body, "an invite").matching("token", _TOKEN))


def _invite(value: object) -> Invite:
    fields = Fields(value, "an invite")
    key = fields.text("key", "")
    return Invite(
        id=fields.matching("id", _INVITE_ID),
        name=fields.text("name"),
        role=fields.text("role"),
        uses=fields.whole("uses"),
        created=fields.time("created"),
        expires=fields.time("expires"),
        inviter=fields.text("inviter", ""),
        key=Fingerprint.parse(key).hex if key else "",
        not_after=fields.optional_time("not_after"),
    )


def window_untrusted(payload: bytes) -> Window:
    """GET or POST `/iam/window`."""
    fields = Fields(body_untrusted(payload), "the window")
    if not fields.flag("open"):
        return Window(open=False)
    return Window(
        open=True,
        port=fields.whole("port", 1, 65535),
        seconds_left=fields.real("seconds_left"),
        role=fields.text("role"),
        methods=fields.words("methods"),
    )
