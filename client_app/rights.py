"""Users, roles, invites, windows and events, as a device tells of them. Plain values.

Moments are whole seconds since 1970 by the device's clock, None where there is none. Texts are the
device's own words: they are escaped where they are shown. Fingerprints are 64 lower-case hex
digits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class UserKey:
    """One key of a user. `method` is how it came to be known; `verified` whether anybody checked
    it; `last_seen` is true within an hour."""

    fingerprint: str
    name: str = ""
    method: str = ""
    verified: bool = False
    added: int = 0
    last_seen: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """Somebody the device knows. `not_before` is inclusive, `not_after` exclusive."""

    name: str
    role: str
    created: int = 0
    keys: tuple[UserKey, ...] = ()
    display: str = ""
    not_before: int | None = None
    not_after: int | None = None
    last_seen: int | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """A role and its policies; nobody touches a user of a higher rank."""

    id: str
    rank: int
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator, one attribute, and values of which one has to fit."""

    operator: str
    attribute: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """`effect` is Allow or Deny; it applies if all conditions hold."""

    effect: str
    actions: tuple[str, ...]
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """Some statements under one name."""

    id: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite that stands open. Its id is no secret and redeems nothing.

    `uses` are those left, `inviter` is a user (empty: the device's console), `key` the only key
    that may redeem it (empty: any), `not_after` the end of the access that it gives.
    """

    id: str
    name: str
    role: str
    uses: int
    created: int
    expires: int
    inviter: str = ""
    key: str = ""
    not_after: int | None = None


@dataclass(frozen=True, slots=True)
class Invitation:
    """A new invite with its token: the text that lets somebody in. It is told once."""

    invite: Invite
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Window:
    """The pairing window; all but `open` is empty while it is closed."""

    open: bool
    port: int = 0
    seconds_left: float = 0.0
    role: str = ""
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether `action` is allowed now, from here. `missing` says what oneself lacks, `reason` which
    statement decided about another user. `depends`: attributes that only the request itself tells;
    where it depends on those, it is not allowed for sure."""

    action: str
    allowed: bool
    missing: str = ""
    reason: str = ""
    depends: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What it means to a shell: 7 if it is denied, or not allowed for sure."""
        return 0 if self.allowed else 7


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the device's trail, chained to the one before it by `previous`.

    `fields` are those that apply: actor, user, role, fingerprint, address, action, result and so
    on. `lost` counts the events right before this one that the device no longer has.
    """

    seq: int
    kind: str
    wall: float
    digest: str
    previous: str
    fields: Mapping[str, str | int | float]
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Events:
    """A piece of the trail, oldest first. `head` and `digest` are of the newest event there is:
    whoever notes them elsewhere can tell later that nothing before was changed."""

    head: int
    digest: str
    events: tuple[Event, ...]
