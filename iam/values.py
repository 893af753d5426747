"""The values that state is made of: Key, User and Invite.

All are frozen; a wrong one cannot be built. A key is known by its fingerprint, 64 lower-case hex
digits; other spellings are normalised before they come here. Times are wall-clock seconds since
1970 and never read here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Final

from iam.errors import KeyTaken, Malformed, NotFound
from iam.limits import INVITE_USES_MAX, NAME_CHARACTERS_MAX

FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")
INVITE_ID: Final = re.compile(r"[0-9a-f]{32}")
_RECEIPT_BYTES: Final = 32  # SHA-256


def _check_text(what: str, text: str) -> None:
    surrogate = not text.isascii() and any("\ud800" <= symbol <= "\udfff" for symbol in text)
    if len(text) > NAME_CHARACTERS_MAX or surrogate:
        raise Malformed(
            f"{what} is not a text of at most {NAME_CHARACTERS_MAX} characters",
            advice="Shorten it.",
        )


def _check_time(value: float | None, what: str) -> None:
    if value is not None and not isfinite(value):
        raise Malformed(f"{what} is not a point in time", advice="Give seconds since 1970.")


def _check_fingerprint(text: str) -> None:
    if not FINGERPRINT.fullmatch(text):
        raise Malformed(
            "a key's fingerprint must be 64 hex digits",
            advice="Copy the whole fingerprint from the client.",
        )


def _check_invite_id(text: str) -> None:
    if not INVITE_ID.fullmatch(text):
        raise Malformed("an invite's id must be 32 hex digits", advice="List the invites.")


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of a user. `name` tells a user's keys apart ("laptop"); `method` is how it was
    paired; `verified` is False while nobody has compared fingerprints; `invite` is the id of the
    invite it came by, so that redeeming that again is known for a repeat. `receipt` proves to
    the key's own client that its pairing was stored, if the last answer was lost (protocol §5.8);
    empty if the method of its pairing needs none."""

    fingerprint: str
    name: str = ""
    method: str = ""
    verified: bool = True
    added: float = 0.0
    invite: str = ""
    receipt: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        _check_fingerprint(self.fingerprint)
        if self.invite:
            _check_invite_id(self.invite)
        _check_text("name", self.name)
        _check_text("method", self.method)
        _check_time(self.added, "added")
        if len(self.receipt) not in {0, _RECEIPT_BYTES}:
            raise Malformed(f"a receipt has {_RECEIPT_BYTES} bytes", advice="Leave it out.")


@dataclass(frozen=True, slots=True)
class User:
    """A person or a script: one role, any number of keys (kept oldest first).

    `not_before` (inclusive) and `not_after` (exclusive) bound when the user is one; None is no
    bound.
    """

    name: str
    role: str
    keys: tuple[Key, ...] = ()
    display_name: str = ""
    not_before: float | None = None
    not_after: float | None = None
    created: float = 0.0

    def __post_init__(self) -> None:
        if not self.name or not self.role:
            raise Malformed("a user needs a name and a role", advice="Give both.")
        _check_text("name", self.name)
        _check_text("role", self.role)
        _check_text("display_name", self.display_name)
        _check_time(self.not_before, "not_before")
        _check_time(self.not_after, "not_after")
        _check_time(self.created, "created")
        if self.start >= self.end:
            raise Malformed("the user's time ends before it begins", advice="Give a later end.")
        if len(self.keys) < 2:
            return
        if len({key.fingerprint for key in self.keys}) != len(self.keys):
            raise KeyTaken(f"user {self.name!r} has one key twice", advice="Name each key once.")
        by_age = sorted(self.keys, key=lambda key: (key.added, key.fingerprint))
        object.__setattr__(self, "keys", tuple(by_age))

    @property
    def start(self) -> float:
        return -inf if self.not_before is None else self.not_before

    @property
    def end(self) -> float:
        return inf if self.not_after is None else self.not_after

    @property
    def is_limited(self) -> bool:
        """Is there a time when this user is none?"""
        return self.not_before is not None or self.not_after is not None

    @property
    def fingerprints(self) -> frozenset[str]:
        return frozenset(key.fingerprint for key in self.keys)

    def key(self, fingerprint: str) -> Key:
        for key in self.keys:
            if key.fingerprint == fingerprint:
                return key
        raise NotFound(f"user {self.name!r} has no such key", advice="List the user's keys.")


@dataclass(frozen=True, slots=True)
class Invite:
    """Leave to become a user, given away beforehand; whoever redeems it brings the key.

    `id` is drawn by chance and is no secret: what proves an invite is the token that the device
    signed. `uses` are left, `used` are gone. `inviter` is the name of a user, "" for whoever stands
    at the board. Only `key` may redeem it, if that is given. `expires` (exclusive) is the end of
    the invite, `not_after` the end of the invited user's access.
    """

    id: str
    name: str
    role: str
    expires: float
    uses: int = 1
    created: float = 0.0
    inviter: str = ""
    key: str = ""
    not_after: float | None = None
    used: int = 0

    def __post_init__(self) -> None:
        _check_invite_id(self.id)
        if not self.name or not self.role:
            raise Malformed("an invite needs a name and a role", advice="Give both.")
        _check_text("name", self.name)
        _check_text("role", self.role)
        _check_text("inviter", self.inviter)
        _check_time(self.expires, "expires")
        _check_time(self.created, "created")
        _check_time(self.not_after, "not_after")
        if self.used < 0 or not 1 <= self.uses <= INVITE_USES_MAX - self.used:
            raise Malformed(
                f"an invite can be used 1 to {INVITE_USES_MAX} times", advice="Give such a number."
            )
        if self.key:
            _check_fingerprint(self.key)

    @property
    def is_shared(self) -> bool:
        """Is it for several users, whose names are told apart by a number?"""
        return self.uses + self.used > 1

    @property
    def end(self) -> float:
        """When the access of whoever redeems it ends."""
        return inf if self.not_after is None else self.not_after
