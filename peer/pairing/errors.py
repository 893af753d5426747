"""Errors of a pairing ceremony; `reason` is the slug that goes over the wire (protocol §7)."""

from typing import ClassVar

from peer.errors import PeerError


class CeremonyError(PeerError):
    """A pairing step was refused. `reason` is the slug that goes over the wire."""

    reason: ClassVar[str] = "refused"


class NotOpen(CeremonyError):
    """The window takes no new ceremony."""

    reason = "window-closed"


class TooMany(CeremonyError):
    """This start used up the window's last failure."""

    reason = "too-many"


class Busy(CeremonyError):
    """Another ceremony lives, or it is not this side's turn."""

    reason = "busy"


class Overlap(CeremonyError):
    """Two different keys in one window: both are refused."""

    reason = "overlap"


class NotOffered(CeremonyError):
    """This window does not offer that method or that role."""

    reason = "denied"


class LockedOut(CeremonyError):
    """Too many failures: no attempt for `retry_after` seconds."""

    reason = "locked-out"

    def __init__(self, message: str, *, advice: str = "", retry_after: float) -> None:
        super().__init__(message, advice=advice)
        self.retry_after = retry_after


class NoSuchCeremony(CeremonyError):
    """There is none with this id for this session, or it has ended."""

    reason = "not-found"


class Mismatch(CeremonyError):
    """A confirmation tag is wrong: the two sides do not mean the same thing."""

    reason = "wrong-code"


class UserRefused(CeremonyError):
    """The ceremony has ended with a no."""

    reason = "refused"


class Misuse(CeremonyError):
    """A one-shot object was asked out of turn: a fault on our own side."""

    reason = "internal"
