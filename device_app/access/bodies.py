"""Users and keys in words: what others ask for (CBOR and JSON alike), and what they get to see.

The same shapes go over `/iam/users` and over the control socket. Whatever comes in is a stranger's:
a name, a fingerprint or a time of the wrong kind is `Malformed`, and unknown fields are refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Any

from iam.changes import KEEP, Keep
from iam.model import Key, User
from peer.errors import Malformed
from peer.identity import Fingerprint
from peer.pairing.names import check_name

_LATEST = 253_402_300_799  # the last second of the year 9999, as far as dates are written
_KEY_NAME_MAX = 64
_NOBODY_SEEN: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPatch:
    """New values for some fields of a user. None leaves a text as it is, `KEEP` a time; a time of
    None removes the limit."""

    name: str | None = None
    role: str | None = None
    display_name: str | None = None
    not_before: float | Keep | None = KEEP
    not_after: float | Keep | None = KEEP


def user_view(user: User, seen: Mapping[str, float] = _NOBODY_SEEN) -> dict[str, Any]:
    """A user as `/iam/users` and `users list` show it; `seen`: when each key was last in use."""
    view: dict[str, Any] = {
        "name": user.name,
        "role": user.role,
        "created": int(user.created),
        "keys": [key_view(key, seen.get(key.fingerprint)) for key in user.keys],
    }
    if times := [key["last_seen"] for key in view["keys"] if "last_seen" in key]:
        view["last_seen"] = max(times)
    if user.display_name:
        view["display"] = user.display_name
    for field in ("not_before", "not_after"):
        value = getattr(user, field)
        if value is not None:
            view[field] = int(value)
    return view


def key_view(key: Key, seen: float | None = None) -> dict[str, Any]:
    """A key of a user."""
    view: dict[str, Any] = {
        "fingerprint": key.fingerprint,
        "name": key.name,
        "method": key.method,
        "verified": key.verified,
        "added": int(key.added),
    }
    if seen is not None:
        view["last_seen"] = int(seen)
    return view


def user_wished_untrusted(wish: Mapping[str, object], now: float) -> User:
    """A new user: name and role are due, the rest may be left out."""
    refuse_unknown(wish, {"name", "role", "display", "keys", "not_before", "not_after"})
    keys = wish.get("keys", [])
    if not isinstance(keys, list):
        raise wrong("keys", "a list")
    return User(
        name=check_name(wish.get("name")),
        role=text(wish, "role"),
        keys=tuple(_key_untrusted(key, now) for key in keys),
        display_name=_label(wish, "display"),
        not_before=time(wish, "not_before"),
        not_after=time(wish, "not_after"),
        created=now,
    )


def user_patch_untrusted(body: Mapping[str, object]) -> UserPatch:
    """The fields that a request changes; null clears a time and the display name."""
    refuse_unknown(body, {"name", "role", "display", "not_before", "not_after"})
    return UserPatch(
        name=check_name(body["name"]) if "name" in body else None,
        role=text(body, "role") if "role" in body else None,
        display_name=_label(body, "display") if "display" in body else None,
        not_before=time(body, "not_before") if "not_before" in body else KEEP,
        not_after=time(body, "not_after") if "not_after" in body else KEEP,
    )


def key_wished_untrusted(fingerprint: object, name: object, now: float) -> Key:
    """One key, by its fingerprint in any spelling. Whoever gives it vouches for it."""
    label = _label({"name": name}, "name")
    return Key(fingerprint_untrusted(fingerprint), label, "given", verified=True, added=now)


def fingerprint_untrusted(text: object) -> str:
    """The canonical form of a fingerprint: 64 lower-case hex digits."""
    if not isinstance(text, str):
        raise wrong("fingerprint", "text of 64 hex digits")
    return Fingerprint.parse(text).hex


def _key_untrusted(value: object, now: float) -> Key:
    if isinstance(value, str):
        return key_wished_untrusted(value, "", now)
    if not isinstance(value, Mapping):
        raise wrong("keys", "a list of {fingerprint, name}")
    refuse_unknown(value, {"fingerprint", "name"})
    return key_wished_untrusted(value.get("fingerprint"), value.get("name", ""), now)


def refuse_unknown(wish: Mapping[str, object], known: set[str]) -> None:
    """Raise `Malformed` for a field that is not known."""
    for field in wish:
        if field not in known:
            raise Malformed(
                f"there is no field {str(field)[:40]!r} here",
                advice=f"Known fields: {', '.join(sorted(known))}.",
            )


def text(wish: Mapping[str, object], field: str) -> str:
    """A field that has to be text and not empty. Raises `Malformed`."""
    value = wish.get(field)
    if not isinstance(value, str) or not value:
        raise wrong(field, "text")
    return value


def _label(wish: Mapping[str, object], field: str) -> str:
    """A free text for people: short, and nothing in it that a terminal would obey. Null is none."""
    value = wish.get(field)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _KEY_NAME_MAX or not _is_shown(value):
        raise wrong(field, f"printable text of at most {_KEY_NAME_MAX} characters")
    return value


def _is_shown(text: str) -> bool:
    return text.isprintable()  # false for controls, bidirectional marks and private use


def time(wish: Mapping[str, object], field: str) -> float | None:
    """A field that may be a moment, in seconds since 1970. Raises `Malformed`."""
    value = wish.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(field, "seconds since 1970")
    if abs(value) > _LATEST or not isfinite(value):  # an integer may be beyond any float
        raise wrong(field, "seconds since 1970")
    return float(value)


def wrong(field: str, due: str) -> Malformed:
    """The error for a field that is missing or of the wrong kind."""
    return Malformed(f"{field} is missing or is not {due}", advice=f"Give {field} as {due}.")
