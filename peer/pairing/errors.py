"""Errors of a pairing ceremony; `reason` is the slug that goes over the wire (protocol §7)."""

from typing import ClassVar

from peer.errors import PeerError

OPEN_THE_WINDOW = "Open the window at the device, then start again."
"""The advice of errors after which a new window is needed."""


class CeremonyError(PeerError):
    """A pairing step was refused. `reason` is the slug that goes over the wire."""

    reason: ClassVar[str] = "refused"


class NotOpen(CeremonyError):
    """The window takes no new ceremony."""

    reason = "window-closed"


class TooMany(CeremonyError):
    """The client's previous ceremony was the window's last permitted failure."""

    reason = "too-many"


class Busy(CeremonyError):
    """Another ceremony is live, or it is not this side's turn."""

    reason = "busy"


class Overlap(CeremonyError):
    """Two different keys used one window: both are refused."""

    reason = "overlap"


class NotOffered(CeremonyError):
    """The window does not offer this method or this role."""

    reason = "denied"


class LockedOut(CeremonyError):
    """Too many failures: no attempt is possible for `retry_after` seconds."""

    reason = "locked-out"

    def __init__(self, message: str, *, advice: str = "", retry_after: float) -> None:
        super().__init__(message, advice=advice)
        self.retry_after = retry_after


class NoSuchCeremony(CeremonyError):
    """This session has no ceremony with this id, or the ceremony has ended."""

    reason = "not-found"


class Mismatch(CeremonyError):
    """A value of the other side is wrong: the two sides do not mean the same ceremony."""

    reason = "wrong-code"


class UserRefused(CeremonyError):
    """The ceremony was refused."""

    reason = "refused"


class Misuse(CeremonyError):
    """A step of a one-shot object is out of order, or an argument is invalid: a fault here."""

    reason = "internal"
