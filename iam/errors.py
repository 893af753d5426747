"""The errors of iam.

    IamError
    ├── Malformed       an invalid value, such as a key that is not 64 hex digits
    ├── Denied          a change that exceeds the rights of its actor
    ├── NotFound        no such user, key, role or invite
    ├── Taken           NameTaken, KeyTaken: another user has it
    ├── InviteRefused   an invite that is unknown, expired, for another key, or no longer allowed
    ├── LastOwner       no owner would be left
    ├── LimitReached    no room for another user, key or invite
    ├── TooMany         more changes than the actor may make in this time
    ├── PolicyError     roles and policies that contradict themselves; PolicyFileError: in a file
    └── StoreError      the file on disk: StoreBusy, StoreCorrupt, StoreTooNew, StoreWriteFailed

`str(error)` is the cause, `advice` the next step, `reason` a slug that programs can compare.
No message contains a code, a token or a private key.
"""

from __future__ import annotations

from typing import ClassVar


class IamError(Exception):
    """Base class."""

    reason: ClassVar[str] = "internal"

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class Malformed(IamError):
    """The value is invalid."""

    reason = "malformed"


class Denied(IamError):
    """The actor may not make this change."""

    reason = "denied"


class NotFound(IamError):
    """There is no such user, key, role or invite."""

    reason = "not-found"


class Taken(IamError):
    """Another user has the name or the key."""

    reason = "taken"


class NameTaken(Taken):
    """The name belongs to another user."""


class KeyTaken(Taken):
    """The key belongs to another user, or to this one under another name."""


class InviteRefused(IamError):
    """The invite grants nothing to its holder."""

    reason = "invite"


class LastOwner(IamError):
    """The change would leave the device without an owner."""

    reason = "last-owner"


class LimitReached(IamError):
    """There is no room for another user, key or invite."""

    reason = "limit"


class TooMany(IamError):
    """Too many changes in this time; `seconds` is how long to wait before the next attempt."""

    reason = "too-many"

    def __init__(self, message: str, *, seconds: float, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.seconds = seconds


class PolicyError(IamError):
    """Roles and policies that contradict themselves, or an invalid part of them."""

    reason = "policy"


class PolicyFileError(PolicyError):
    """A file with an error: "FILE:LINE: what is wrong"."""

    def __init__(self, why: str, *, file: str, line: int, advice: str = "") -> None:
        super().__init__(f"{file}:{line}: {why}", advice=advice)
        self.file = file
        self.line = line


class StoreError(IamError):
    """The store cannot be used."""

    reason = "internal"


class StoreBusy(StoreError):
    """Another process uses the store; `pid` is None if it is unknown."""

    def __init__(self, message: str, *, pid: int | None, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.pid = pid


class StoreCorrupt(StoreError):
    """The file is not a complete store; it was not changed."""


class StoreTooNew(StoreError):
    """A later version wrote the file; it was not changed."""


class StoreWriteFailed(StoreError):
    """The disk failed (full, read-only, I/O error). Nothing was stored or changed in memory."""
