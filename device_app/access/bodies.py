"""Users and keys in requests and answers: of `/iam/users` (CBOR) and of the console (JSON) alike.

A request is decoded once, into a frozen dataclass; a field that is unknown or wrong raises
`Malformed`. `to_json` is the inverse, for a command that sends the request to the daemon.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NotRequired, Self, TypedDict

from device_app.access.fields import (
    fingerprint_untrusted,
    label_field,
    refuse_unknown,
    text_field,
    time_field,
    wrong_field,
)
from iam.changes import KEEP, Keep
from iam.model import Key, User
from peer.pairing.names import check_name

_GIVEN: Final = "given"  # the method of a key that an administrator entered
_NO_TIMES: Final[Mapping[str, float]] = MappingProxyType({})
_PATCH_FIELDS: Final = frozenset({"name", "role", "display", "not_before", "not_after"})
_USER_FIELDS: Final = _PATCH_FIELDS | {"keys"}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A key to add, by its fingerprint in any spelling. The person who enters it vouches for it."""

    fingerprint: str
    name: str = ""

    @classmethod
    def parse_untrusted(cls, body: object) -> Self:
        """Decode a fingerprint, or a map with a fingerprint and a name."""
        if isinstance(body, str):
            return cls(fingerprint=fingerprint_untrusted(body))
        if not isinstance(body, Mapping):
            raise wrong_field("keys", "a list of {fingerprint, name}")
        refuse_unknown(body, {"fingerprint", "name"})
        return cls(
            fingerprint=fingerprint_untrusted(body.get("fingerprint")),
            name=label_field(body, "name"),
        )

    def to_json(self) -> dict[str, object]:
        """The fields of the request."""
        return {"fingerprint": self.fingerprint, "name": self.name}

    def key(self, now: float) -> Key:
        """The key, added now."""
        return new_key_untrusted(self.fingerprint, self.name, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRequest:
    """A user to add. Times are seconds since 1970; None is no limit."""

    name: str
    role: str
    keys: tuple[KeyRequest, ...] = ()
    display_name: str = ""
    not_before: float | None = None
    not_after: float | None = None

    @classmethod
    def parse_untrusted(cls, body: Mapping[str, object]) -> Self:
        """Decode a request; name and role are required."""
        refuse_unknown(body, _USER_FIELDS)
        keys = body.get("keys", [])
        if not isinstance(keys, list):
            raise wrong_field("keys", "a list")
        return cls(
            name=check_name(body.get("name")),
            role=text_field(body, "role"),
            keys=tuple(KeyRequest.parse_untrusted(key) for key in keys),
            display_name=label_field(body, "display"),
            not_before=time_field(body, "not_before"),
            not_after=time_field(body, "not_after"),
        )

    @classmethod
    def from_user(cls, user: User) -> Self:
        """The request that adds a copy of this user."""
        return cls(
            name=user.name,
            role=user.role,
            keys=tuple(KeyRequest(fingerprint=key.fingerprint, name=key.name) for key in user.keys),
            display_name=user.display_name,
            not_before=user.not_before,
            not_after=user.not_after,
        )

    def to_json(self) -> dict[str, object]:
        """The fields of the request that are given."""
        fields = {
            "name": self.name,
            "role": self.role,
            "display": self.display_name or None,
            "not_before": self.not_before,
            "not_after": self.not_after,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return given | {"keys": [key.to_json() for key in self.keys]}

    def user(self, now: float) -> User:
        """The user, created now."""
        return User(
            name=self.name,
            role=self.role,
            keys=tuple(key.key(now) for key in self.keys),
            display_name=self.display_name,
            not_before=self.not_before,
            not_after=self.not_after,
            created=now,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPatch:
    """New values for some fields of a user.

    None leaves a text as it is, `KEEP` a time; a time of None removes the limit.
    """

    name: str | None = None
    role: str | None = None
    display_name: str | None = None
    not_before: float | Keep | None = KEEP
    not_after: float | Keep | None = KEEP

    @classmethod
    def parse_untrusted(cls, body: Mapping[str, object]) -> Self:
        """Decode the fields to change; null clears a time and the display name."""
        refuse_unknown(body, _PATCH_FIELDS)
        return cls(
            name=check_name(body["name"]) if "name" in body else None,
            role=text_field(body, "role") if "role" in body else None,
            display_name=label_field(body, "display") if "display" in body else None,
            not_before=time_field(body, "not_before") if "not_before" in body else KEEP,
            not_after=time_field(body, "not_after") if "not_after" in body else KEEP,
        )

    def to_json(self) -> dict[str, object]:
        """The fields of the request: those that change."""
        texts = {"name": self.name, "role": self.role, "display": self.display_name}
        times = {"not_before": self.not_before, "not_after": self.not_after}
        given: dict[str, object] = {name: text for name, text in texts.items() if text is not None}
        return given | {name: time for name, time in times.items() if time is not KEEP}


class KeyView(TypedDict):
    """A key of a user. Times are seconds since 1970."""

    fingerprint: str
    name: str
    method: str
    verified: bool
    added: int
    last_seen: NotRequired[int]


class UserView(TypedDict):
    """A user as `/iam/users` and `users list` show it. Times are seconds since 1970."""

    name: str
    role: str
    created: int
    keys: list[KeyView]
    last_seen: NotRequired[int]
    display: NotRequired[str]
    not_before: NotRequired[int]
    not_after: NotRequired[int]


def user_view(user: User, seen: Mapping[str, float] = _NO_TIMES) -> UserView:
    """A user as others see it; `seen` has the time of the last use of each key."""
    view: UserView = {
        "name": user.name,
        "role": user.role,
        "created": int(user.created),
        "keys": [_key_view(key, seen.get(key.fingerprint)) for key in user.keys],
    }
    if times := [key["last_seen"] for key in view["keys"] if "last_seen" in key]:
        view["last_seen"] = max(times)
    if user.display_name:
        view["display"] = user.display_name
    if user.not_before is not None:
        view["not_before"] = int(user.not_before)
    if user.not_after is not None:
        view["not_after"] = int(user.not_after)
    return view


def _key_view(key: Key, seen: float | None) -> KeyView:
    view: KeyView = {
        "fingerprint": key.fingerprint,
        "name": key.name,
        "method": key.method,
        "verified": key.verified,
        "added": int(key.added),
    }
    if seen is not None:
        view["last_seen"] = int(seen)
    return view


def new_key_untrusted(fingerprint: object, name: object, now: float) -> Key:
    """A key that an administrator enters, by its fingerprint in any spelling, and vouches for."""
    label = label_field({"name": name}, "name")
    return Key(fingerprint_untrusted(fingerprint), label, _GIVEN, verified=True, added=now)
