"""A ceremony: its stages, the table of their transitions, and its values.

    EXCHANGE ──▶ ASKING ──yes──▶ WAITING ──right tag──▶ COMMITTING ──stored──▶ REGISTERED
                   │ plain form: yes ───────────────────────▲
    from each      ├─ no, overlap, wrong tag ──▶ REFUSED
    of the first   ├─ client aborts, session lost ──▶ REVOKED
    three          └─ too late, started again, window closed ──▶ EXPIRED

The first stage depends on the method (`first_stage`). On the wire, ASKING is
PENDING_USER_CONFIRMATION; EXCHANGE, WAITING and COMMITTING are PENDING_CLIENT_COMPLETION (protocol
§5). COMMITTING lasts from the client's proof to the end of the device's transaction: both sides
have agreed, and only the store can still fail.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Self

from peer.identity import Fingerprint
from peer.pairing.errors import Busy
from peer.pairing.methods import Method

Fields = Mapping[str, object]
"""The fields of a message."""


@unique
class EndReason(StrEnum):
    """How a ceremony ended. One that could not be stored ends with the reason of the store."""

    MISMATCH = "mismatch"
    REFUSED = "refused"
    CLIENT = "client"
    SESSION_ENDED = "session-ended"
    TOO_LATE = "too-late"
    RESTARTED = "restarted"
    OVERLAP = "overlap"
    WINDOW_CLOSED = "window-closed"  # its time was up
    CLOSED = "closed"
    STORE = "store"  # the attempt could not be counted durably


@unique
class State(StrEnum):
    """The state that GET `/pair/{id}` returns (protocol §5)."""

    PENDING_USER_CONFIRMATION = "PENDING_USER_CONFIRMATION"
    PENDING_CLIENT_COMPLETION = "PENDING_CLIENT_COMPLETION"
    REGISTERED = "REGISTERED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    REFUSED = "REFUSED"


@unique
class Stage(StrEnum):
    """The stage of a ceremony on the device."""

    EXCHANGE = "exchange"
    ASKING = "asking"
    WAITING = "waiting"
    COMMITTING = "committing"
    REGISTERED = "registered"
    EXPIRED = "expired"
    REVOKED = "revoked"
    REFUSED = "refused"


@unique
class Act(StrEnum):
    """An event that moves a ceremony to another stage."""

    EXCHANGE = "exchange"  # the client's second message
    ACCEPT = "accept"  # the device's user accepts
    ACCEPT_PLAIN = "accept-plain"  # the same in the plain form, which ends here
    REFUSE = "refuse"  # the device's user refuses
    PROVE = "prove"  # the client's tag is right
    MISMATCH = "mismatch"  # the client's tag is wrong
    STORE = "store"  # the device has committed
    ABORT = "abort"  # the client gives up, or the store failed
    LATE = "late"  # the time of the stage is up
    OVERLAP = "overlap"  # a second key starts a ceremony


@unique
class StartForm(StrEnum):
    """How a client starts: with confirmation tags, or in the plain form (one POST, no body)."""

    CONFIRMED = "confirmed"
    PLAIN = "plain"


@unique
class OverlapRule(StrEnum):
    """How a window treats a second, different key."""

    REFUSE = "refuse"
    FIRST_WINS = "first-wins"


_ENDINGS = {Act.ABORT: Stage.REVOKED, Act.LATE: Stage.EXPIRED, Act.OVERLAP: Stage.REFUSED}

TRANSITIONS: Mapping[tuple[Stage, Act], Stage] = MappingProxyType(
    {
        (Stage.EXCHANGE, Act.EXCHANGE): Stage.ASKING,
        (Stage.EXCHANGE, Act.MISMATCH): Stage.REFUSED,
        (Stage.EXCHANGE, Act.REFUSE): Stage.REFUSED,
        **{(Stage.EXCHANGE, act): stage for act, stage in _ENDINGS.items()},
        (Stage.ASKING, Act.ACCEPT): Stage.WAITING,
        (Stage.ASKING, Act.ACCEPT_PLAIN): Stage.COMMITTING,
        (Stage.ASKING, Act.REFUSE): Stage.REFUSED,
        **{(Stage.ASKING, act): stage for act, stage in _ENDINGS.items()},
        (Stage.WAITING, Act.PROVE): Stage.COMMITTING,
        (Stage.WAITING, Act.MISMATCH): Stage.REFUSED,
        (Stage.WAITING, Act.REFUSE): Stage.REFUSED,  # the user may change their mind
        **{(Stage.WAITING, act): stage for act, stage in _ENDINGS.items()},
        (Stage.COMMITTING, Act.STORE): Stage.REGISTERED,
        (Stage.COMMITTING, Act.ABORT): Stage.REVOKED,
    }
)

STATE_OF: Mapping[Stage, State] = MappingProxyType(
    {
        Stage.EXCHANGE: State.PENDING_CLIENT_COMPLETION,
        Stage.ASKING: State.PENDING_USER_CONFIRMATION,
        Stage.WAITING: State.PENDING_CLIENT_COMPLETION,
        Stage.COMMITTING: State.PENDING_CLIENT_COMPLETION,
        Stage.REGISTERED: State.REGISTERED,
        Stage.EXPIRED: State.EXPIRED,
        Stage.REVOKED: State.REVOKED,
        Stage.REFUSED: State.REFUSED,
    }
)

ENDED = frozenset({Stage.REGISTERED, Stage.EXPIRED, Stage.REVOKED, Stage.REFUSED})


def first_stage(method: Method) -> Stage:
    """Return the stage in which a ceremony of this method begins."""
    spec = method.spec
    if spec.has_exchange:
        return Stage.EXCHANGE
    return Stage.ASKING if spec.users_compare else Stage.WAITING


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """One pairing attempt; the window replaces it at every step.

    Attributes:
        role: the role that is bound into the tags; exactly this role may be stored.
        started: when it started, and
        deadline: when its stage must be over, in monotonic seconds.
        number: what both users compare; empty unless it is a number.
        reason: how it ended: an `EndReason`, or the slug of an error.
        user: the name under which the device stored the client.
        answer: the method's fields of the answer to the client's last message.
        device_tag: the device's tag; empty until REGISTERED.
    """

    id: str
    fingerprint: Fingerprint
    session_id: int
    window_id: bytes
    method: Method
    form: StartForm
    name: str
    role: str
    started: float
    deadline: float
    stage: Stage
    number: str = ""
    reason: str = ""
    user: str = ""
    answer: Fields = field(default_factory=dict, repr=False)
    device_tag: bytes = field(default=b"", repr=False)

    @property
    def state(self) -> State:
        """The state that the client sees."""
        return STATE_OF[self.stage]

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.stage not in ENDED

    @property
    def is_committing(self) -> bool:
        """Whether the device is storing the client."""
        return self.stage is Stage.COMMITTING

    def after(self, act: Act) -> Self:
        """Return the ceremony after this act. Raises `Busy` if its stage does not allow the act."""
        stage = TRANSITIONS.get((self.stage, act))
        if stage is None:
            raise Busy(
                f"this pairing is in the stage {self.stage.value!r}, "
                f"in which {act.value!r} is not possible",
                advice="Check its state and wait for the other side.",
            )
        return replace(self, stage=stage)
