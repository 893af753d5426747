"""The values of a ceremony: its stages and their table, its errors, its events.

    EXCHANGE ──▶ ASKING ──yes──▶ WAITING ──right tag──▶ COMMITTING ──stored──▶ REGISTERED
                   │ plain form: yes ───────────────────────▲
    from each      ├─ no, overlap, wrong tag ──▶ REFUSED
    of the first   ├─ client aborts, session lost ──▶ REVOKED
    three          └─ too late, started again, window closed ──▶ EXPIRED

A method begins where it has to: `sas` with an exchange before there is anything to compare,
`compare` with the question to the device's user, and those that ask nobody at WAITING.

On the wire ASKING is PENDING_USER_CONFIRMATION; EXCHANGE, WAITING and COMMITTING are
PENDING_CLIENT_COMPLETION (protocol §5). COMMITTING is between the client's proof and the end of the
device's transaction: both have said yes, and nothing but the store decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from types import MappingProxyType

from peer.identity import Fingerprint

Fields = Mapping[str, object]
"""The body of a message."""


@unique
class State(StrEnum):
    """What GET `/pair/{id}` shows (protocol §5)."""

    PENDING_USER_CONFIRMATION = "PENDING_USER_CONFIRMATION"
    PENDING_CLIENT_COMPLETION = "PENDING_CLIENT_COMPLETION"
    REGISTERED = "REGISTERED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    REFUSED = "REFUSED"


@unique
class Stage(StrEnum):
    """Where a ceremony is, as the device knows it."""

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
    """What can happen to a ceremony."""

    EXCHANGE = "exchange"  # the client's next message has come
    ACCEPT = "accept"  # the device's user says yes
    ACCEPT_PLAIN = "accept-plain"  # the same in the plain form: nobody else is waited for
    REFUSE = "refuse"  # the device's user says no
    PROVE = "prove"  # the client's tag is right
    MISMATCH = "mismatch"  # the client's tag is wrong
    STORE = "store"  # the device has committed
    ABORT = "abort"  # the client gives up, or the store failed
    LATE = "late"  # nobody came in time
    OVERLAP = "overlap"  # a second key turned up


@unique
class StartForm(StrEnum):
    """How the client takes part: with confirmation tags, or by one plain POST."""

    CONFIRMED = "confirmed"
    PLAIN = "plain"


@unique
class OverlapRule(StrEnum):
    """What a second, different key means for a window."""

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
        (Stage.WAITING, Act.REFUSE): Stage.REFUSED,  # a person may think again
        **{(Stage.WAITING, act): stage for act, stage in _ENDINGS.items()},
        (Stage.COMMITTING, Act.STORE): Stage.REGISTERED,
        (Stage.COMMITTING, Act.ABORT): Stage.REVOKED,
    }
)

SHOWN: Mapping[Stage, State] = MappingProxyType(
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceremony:
    """One pairing attempt as it stands; the window replaces it at every step.

    `role` is bound into the tags: exactly this role may be stored. `verified` is False if nobody's
    key is proved by the method. `number` is what both users compare, empty where that is not a
    number. `reason` says in one word how it ended. `started` and `deadline` are monotonic seconds.
    `answer` is what the method has to say to the client's last message; `device_tag` is empty until
    REGISTERED.
    """

    id: str
    fingerprint: Fingerprint
    session_id: int
    window_id: bytes
    method: str
    form: StartForm
    name: str
    role: str
    started: float
    deadline: float
    stage: Stage = Stage.ASKING
    verified: bool = True
    number: str = ""
    reason: str = ""
    user: str = ""
    answer: Fields = field(default_factory=dict, repr=False)
    device_tag: bytes = field(default=b"", repr=False)

    @property
    def state(self) -> State:
        """The state that clients see."""
        return SHOWN[self.stage]

    @property
    def is_live(self) -> bool:
        """Whether it still goes on."""
        return self.stage not in ENDED
