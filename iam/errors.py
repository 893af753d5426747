"""What can go wrong in iam.

    IamError
    ├── Malformed       a value that cannot be, such as a key that is not 64 hex digits
    ├── Denied          a change above what its actor may give or touch
    ├── NotFound        no such user, key, role or invite
    ├── Taken           NameTaken, KeyTaken: somebody else has it
    ├── InviteRefused   an invite that is unknown, over, for another key, or too much by now
    ├── LastOwner       nobody would be left to administer the device
    ├── LimitReached    no room for one more user, key or invite
    ├── TooMany         more changes than their actor may make in this time
    ├── PolicyError     roles and policies that contradict themselves; PolicyFileError: in a file
    └── StoreError      the file on disk: StoreBusy, StoreCorrupt, StoreTooNew, StoreWriteFailed

`str(error)` is the cause, `advice` the next step, `reason` a slug that programs may compare.
No message ever holds a code, a token or a private key.
"""

from __future__ import annotations

from typing import ClassVar


class IamError(Exception):
    """Root of the tree."""

    reason: ClassVar[str] = "internal"

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class Malformed(IamError):
    reason = "malformed"


class Denied(IamError):
    reason = "denied"


class NotFound(IamError):
    reason = "not-found"


class Taken(IamError):
    reason = "taken"


class NameTaken(Taken):
    """The name belongs to another user."""


class KeyTaken(Taken):
    """The key belongs to another user, or to this one under another name."""


class InviteRefused(IamError):
    """Whoever holds the invite gets nothing by it."""

    reason = "invite"


class LastOwner(IamError):
    reason = "last-owner"


class LimitReached(IamError):
    reason = "limit"


class TooMany(IamError):
    """`seconds` is how long to wait before the change may be tried again."""

    reason = "too-many"

    def __init__(self, message: str, *, seconds: float, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.seconds = seconds


class PolicyError(IamError):
    reason = "policy"


class PolicyFileError(PolicyError):
    """A file of roles and policies that is not taken: "FILE:LINE: what is wrong"."""

    def __init__(self, why: str, *, file: str, line: int, advice: str = "") -> None:
        super().__init__(f"{file}:{line}: {why}", advice=advice)
        self.file = file
        self.line = line


class StoreError(IamError):
    reason = "internal"


class StoreBusy(StoreError):
    """Another process holds the store; `pid` is None if it has not said who it is."""

    def __init__(self, message: str, *, pid: int | None, advice: str = "") -> None:
        super().__init__(message, advice=advice)
        self.pid = pid


class StoreCorrupt(StoreError):
    """The file is not a whole store of ours; it was not touched."""


class StoreTooNew(StoreError):
    """A later version of this software wrote the file; it was not touched."""


class StoreWriteFailed(StoreError):
    """Nothing was stored and nothing changed in memory (disk full, read-only, I/O error)."""
