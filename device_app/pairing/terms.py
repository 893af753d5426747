"""What a window is like, who answers for it, and what watchers of the door are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique

from iam.model import Subject
from peer.limits import DEFAULT_LIMITS
from peer.pairing.ceremony import Ceremony, OverlapRule


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingTerms:
    """What windows are like unless their opener says otherwise; from the configuration.

    `role` None: owner for the first pairing, then guest. `methods`: none named are all that the
    board can do. `seconds` is how long a window is open.
    """

    role: str | None = None
    methods: tuple[str, ...] = ()
    seconds: float = DEFAULT_LIMITS.window_seconds
    overlap: OverlapRule = OverlapRule.REFUSE


@unique
class PairingEventKind(StrEnum):
    """What watchers of the door are told."""

    OPENED = "opened"
    PENDING = "pending"  # a ceremony waits for the device's user
    CODE = "code"  # another code is shown
    DECIDED = "decided"  # the device's user has said yes; the client is next
    ENDED = "ended"
    CLOSED = "closed"  # no new ceremony
    GONE = "gone"  # and the port is closed as well


@dataclass(frozen=True, slots=True)
class PairingEvent:
    """One thing that happened at the door."""

    kind: PairingEventKind
    ceremony: Ceremony | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Opener:
    """Who opened a window over the network, and how they came (attributes of iam)."""

    subject: Subject
    attributes: Mapping[str, str]
