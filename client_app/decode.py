"""What a device answers about its users, rules, invites, window and events, read field by field.

Each `*_untrusted` function takes the payload of an answer. It gives the value, or raises
`Malformed` and nothing else. Fields that this version does not know are passed over: the device may
be newer.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from typing import Final, TypeVar

from client_app.models import (
    Condition,
    Event,
    Events,
    Invitation,
    Invite,
    Permission,
    Policy,
    Role,
    Statement,
    User,
    UserKey,
    Window,
)
from peer import cbor
from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.limits import DEFAULT_LIMITS

T = TypeVar("T")

_FARTHEST: Final = 253_402_300_799  # seconds: the last one of the year 9999, either way from 1970
_HIGHEST: Final = 2**63 - 1  # the highest number that the device's store has
_FIELD: Final = re.compile(r"[a-z][a-z_]{0,31}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_INVITE_ID: Final = re.compile(r"[0-9a-f]{32}")
_TOKEN: Final = re.compile(r"HANDFAST:I\*[A-Z0-9*$%+./:-]{1,4000}")
_CHAIN: Final = frozenset({"seq", "kind", "wall", "digest", "previous"})
_NOT_A_FIELD: Final = _CHAIN | {"lost", "schema"}  # an event's words must not speak for the trail


class Fields:
    """A map of the device's; each field is of the kind that is asked for, or `Malformed`."""

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"the device's response: {what} is not a map")
        self.all: dict[object, object] = value
        self._what = what

    def text(self, name: str, default: str | None = None) -> str:
        """Text; `default` if it is absent or null, unless that is None."""
        value = self.all.get(name)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def matching(self, name: str, form: re.Pattern[str]) -> str:
        """Text of a form."""
        value = self.text(name)
        if not form.fullmatch(value):
            raise self.wrong(name, "in the expected format")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.all.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str, lowest: int = 0, highest: int = _HIGHEST) -> int:
        """A whole number within bounds."""
        value = self.all.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number")
        if not lowest <= value <= highest:
            raise self.wrong(name, "in the valid range")
        return value

    def real(self, name: str) -> float:
        """A finite number that can be a time."""
        value = self.all.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number")
        if not math.isfinite(value) or abs(value) > _FARTHEST:
            raise self.wrong(name, "in the valid range")
        return float(value)

    def moment(self, name: str) -> int:
        """Seconds since 1970."""
        return int(self.real(name))

    def end(self, name: str) -> int | None:
        """Seconds since 1970; None if it is absent or null."""
        return None if self.all.get(name) is None else self.moment(name)

    def words(self, name: str) -> tuple[str, ...]:
        """A list of texts, which may be empty."""
        value = self.all.get(name)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(name, "a list of strings")
        return tuple(value)

    def each(self, name: str, read: Callable[[object], T]) -> tuple[T, ...]:
        """A list of what `read` reads."""
        return _each(self.all.get(name), name, read)

    def wrong(self, name: str, due: str) -> Malformed:
        """The error for a field. Never with the value: it may be a secret, or long."""
        return Malformed(f"the device's response: {name} of {self._what} is not {due}")


def _each(value: object, what: str, read: Callable[[object], T]) -> tuple[T, ...]:
    if not isinstance(value, list):
        raise Malformed(f"the device's response: {what} is not a list")
    return tuple(read(one) for one in value)


def _body(payload: bytes) -> object:
    return cbor.decode_untrusted(payload, size=DEFAULT_LIMITS.answer_body_bytes)


# -- users and rules ------------------------------------------------------------------------------


def users_untrusted(payload: bytes) -> tuple[User, ...]:
    """The answer of GET `/iam/users`."""
    return _each(_body(payload), "the list of users", _user)


def user_untrusted(payload: bytes) -> User:
    """One user: GET, POST, PATCH or PUT below `/iam/users`."""
    return _user(_body(payload))


def _user(value: object) -> User:
    fields = Fields(value, "a user")
    return User(
        name=fields.text("name"),
        role=fields.text("role"),
        created=fields.moment("created"),
        keys=fields.each("keys", _key),
        display=fields.text("display", ""),
        not_before=fields.end("not_before"),
        not_after=fields.end("not_after"),
        last_seen=fields.end("last_seen"),
    )


def _key(value: object) -> UserKey:
    fields = Fields(value, "a key")
    return UserKey(
        fingerprint=Fingerprint.parse(fields.text("fingerprint")).hex,
        name=fields.text("name", ""),
        method=fields.text("method", ""),
        verified=fields.flag("verified"),
        added=fields.moment("added"),
        last_seen=fields.end("last_seen"),
    )


def roles_untrusted(payload: bytes) -> tuple[Role, ...]:
    """The answer of GET `/iam/roles`."""
    return _each(_body(payload), "the list of roles", _role)


def _role(value: object) -> Role:
    fields = Fields(value, "a role")
    return Role(fields.text("id"), fields.whole("rank"), fields.words("policies"))


def policies_untrusted(payload: bytes) -> tuple[Policy, ...]:
    """The answer of GET `/iam/policies`."""
    return _each(_body(payload), "the list of policies", _policy)


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
    """The answer of GET `/iam/check`."""
    fields = Fields(_body(payload), "the decision")
    return Permission(
        action=fields.text("action"),
        allowed=fields.flag("allowed"),
        missing=fields.text("missing", ""),
        reason=fields.text("reason", ""),
        depends=fields.words("depends") if "depends" in fields.all else (),
    )


# -- invites and the window -----------------------------------------------------------------------


def invites_untrusted(payload: bytes) -> tuple[Invite, ...]:
    """The answer of GET `/iam/invites`."""
    return _each(_body(payload), "the list of invites", _invite)


def invitation_untrusted(payload: bytes) -> Invitation:
    """The answer of POST `/iam/invites`."""
    body = _body(payload)
    return Invitation(_invite(body), Fields(body, "an invite").matching("token", _TOKEN))


def _invite(value: object) -> Invite:
    fields = Fields(value, "an invite")
    key = fields.text("key", "")
    return Invite(
        id=fields.matching("id", _INVITE_ID),
        name=fields.text("name"),
        role=fields.text("role"),
        uses=fields.whole("uses"),
        created=fields.moment("created"),
        expires=fields.moment("expires"),
        inviter=fields.text("inviter", ""),
        key=Fingerprint.parse(key).hex if key else "",
        not_after=fields.end("not_after"),
    )


def window_untrusted(payload: bytes) -> Window:
    """The answer of GET or POST `/iam/window`."""
    fields = Fields(_body(payload), "the window")
    if not fields.flag("open"):
        return Window(open=False)
    return Window(
        open=True,
        port=fields.whole("port", 1, 65535),
        seconds_left=fields.real("seconds_left"),
        role=fields.text("role"),
        methods=fields.words("methods"),
    )


# -- events ---------------------------------------------------------------------------------------


def events_untrusted(payload: bytes) -> Events:
    """The answer of GET `/events`: a piece without holes, whose links hold."""
    fields = Fields(_body(payload), "the trail")
    found = fields.each("events", _event)
    for before, after in itertools.pairwise(found):
        check_link(before.seq, before.digest, after)
    head, digest = fields.whole("head"), fields.matching("digest", _DIGEST)
    if found and (found[-1].seq > head or (found[-1].seq == head and found[-1].digest != digest)):
        raise broken(found[-1].seq, "does not match the newest event that the device reports")
    return Events(head, digest, found)


def check_link(seq: int, digest: str, after: Event) -> None:
    """Raise `Malformed` unless `after` follows the event of that number and digest."""
    if after.seq != seq + 1:
        raise broken(after.seq, f"follows event {seq}")
    if after.previous != digest:
        raise broken(after.seq, "does not contain the digest of the event before it")


def broken(seq: int, why: str) -> Malformed:
    """The error for a trail that contradicts itself."""
    return Malformed(
        f"the device's events are not a valid chain: event {seq} {why}",
        advice="Run `handfast-device events --verify` on the device to locate the damage.",
    )


def _event(value: object) -> Event:
    fields = Fields(value, "an event")
    more: dict[str, str | int | float] = {}
    for name, item in fields.all.items():
        if name in _CHAIN:
            continue
        if not isinstance(name, str) or not _FIELD.fullmatch(name) or name in _NOT_A_FIELD:
            raise Malformed("the device's response: an event has a field with an invalid name")
        if not isinstance(item, str | int | float):
            raise fields.wrong(name, "text or a number")
        more[name] = item
    return Event(
        seq=fields.whole("seq", 1),
        kind=fields.text("kind"),
        wall=fields.real("wall"),
        digest=fields.matching("digest", _DIGEST),
        previous=fields.matching("previous", _DIGEST),
        fields=more,
    )
