"""The values that a state consists of: Key, User and Invite.

All are immutable, and the constructors reject invalid values. A key is identified by its
fingerprint, 64 hex digits in lower case; the caller normalises other spellings. Times are seconds
since 1970; nothing here reads a clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Final

from iam.errors import KeyTaken, Malformed, NotFound
from iam.limits import INVITE_USES_MAX, NAME_CHARACTERS_MAX

FINGERPRINT_DIGITS: Final = 64
FINGERPRINT: Final = re.compile(rf"[0-9a-f]{{{FINGERPRINT_DIGITS}}}")
INVITE_ID: Final = re.compile(r"[0-9a-f]{32}")
RECEIPT_BYTES: Final = 32  # SHA-256


def name_key(name: str) -> str:
    """Return what is equal for two names that differ only in case (Unicode 3.13, D145).

    No name is shown in this form; it only says which names a person could take for the same.
    """
    if name.isascii():
        return name.lower()
    import unicodedata  # noqa: PLC0415 - 1 MB, which ASCII does not need

    folded = unicodedata.normalize("NFD", name).casefold()
    return unicodedata.normalize("NFC", folded)


def _check_text(what: str, text: str) -> None:
    if text.isascii() and len(text) <= NAME_CHARACTERS_MAX:
        return
    if len(text) > NAME_CHARACTERS_MAX or any("\ud800" <= symbol <= "\udfff" for symbol in text):
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
        raise Malformed("an invite's ID must be 32 hex digits", advice="List the invites.")


@dataclass(frozen=True, slots=True)
class Key:
    """One public key of a user.

    Attributes:
        fingerprint: 64 lower-case hex digits.
        name: tells the keys of a user apart, such as "laptop".
        method: how it was paired.
        verified: False until fingerprints were compared or a method has proved the key.
        added: seconds since 1970.
        invite: the ID of the invite that it redeemed, so that a repeat is recognised.
        receipt: proves to the key's client that its pairing was stored, if the last answer was lost
            (protocol §5.8); empty if the method needs none.
    """

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
        if len(self.receipt) not in {0, RECEIPT_BYTES}:
            raise Malformed(f"a receipt has {RECEIPT_BYTES} bytes", advice="Leave it out.")


@dataclass(frozen=True, slots=True)
class User:
    """A person or a program: one role, and any number of keys, oldest first.

    Access begins at `not_before` (inclusive) and ends at `not_after` (exclusive); None is no bound.
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
        """When access begins; minus infinity without a bound."""
        return -inf if self.not_before is None else self.not_before

    @property
    def end(self) -> float:
        """When access ends; infinity without a bound."""
        return inf if self.not_after is None else self.not_after

    @property
    def is_limited(self) -> bool:
        """True if the user's access has a start or an end."""
        return self.not_before is not None or self.not_after is not None

    @property
    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of all keys."""
        return frozenset(key.fingerprint for key in self.keys)

    def key(self, fingerprint: str) -> Key:
        """Return the key with this fingerprint. Raises NotFound."""
        for key in self.keys:
            if key.fingerprint == fingerprint:
                return key
        raise NotFound(f"user {self.name!r} has no such key", advice="List the user's keys.")


@dataclass(frozen=True, slots=True)
class Invite:
    """The right to become a user, granted in advance; the redeeming client brings the key.

    Attributes:
        id: a random ID, not secret: the token that the device signed proves an invite.
        uses: how many are left.
        used: how many were consumed.
        inviter: the name of a user, or empty for a person at the device.
        key: the only key that may redeem it, or empty.
        expires: the end of the invite (exclusive).
        not_after: the end of the invited user's access.
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
                f"an invite can be used 1 to {INVITE_USES_MAX} times",
                advice="Give a number in this range.",
            )
        if self.key:
            _check_fingerprint(self.key)

    @property
    def is_shared(self) -> bool:
        """True if it is for several users, whose names get a number."""
        return self.uses + self.used > 1

    @property
    def end(self) -> float:
        """When the access of a user who redeems it ends."""
        return inf if self.not_after is None else self.not_after
