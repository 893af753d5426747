"""The steps of a client that opens a path, which `doctor` shows."""

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class StepKind(StrEnum):
    """The steps, in the order in which they usually happen."""

    BROKER = "broker"  # connected with a broker, and listening there
    CHALLENGE = "challenge"  # the device has answered at the broker
    GATHERING = "gathering"  # this client has its half of a carrier
    ANSWER = "answer"  # the device has sent its half of a carrier
    CARRIER = "carrier"  # a carrier works
    SESSION = "session"  # the DTLS session over the path is established
    RENEWAL = "renewal"  # the path has new carriers


@dataclass(frozen=True, slots=True)
class RouteStep:
    """A step that succeeded or failed.

    Attributes:
        kind: the step.
        is_ok: whether it succeeded.
        subject: the URL of the broker, or `direct` or `relay`; else empty.
        seconds: the time since the client began.
        reason: why it failed, as a slug; empty if it succeeded.
    """

    kind: StepKind
    is_ok: bool
    subject: str
    seconds: float
    reason: str = ""
