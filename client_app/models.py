"""Values of the client: paired devices, and what a device answers. Quick to import.

Times are whole seconds since 1970 by the device's clock, or None. Texts come from the device and
are escaped when they are printed. Fingerprints of users are 64 lower-case hex digits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from client_app.known_device import IMPORTED, KnownDevice
from peer.fingerprint import Fingerprint
from peer.terminal.exit_codes import ExitCode

__all__ = [
    "IMPORTED",
    "Check",
    "CheckResult",
    "Condition",
    "DiscoveredDevice",
    "Event",
    "Events",
    "Invitation",
    "Invite",
    "KnownDevice",
    "OwnKey",
    "Paired",
    "Permission",
    "Policy",
    "RemoteServer",
    "RemoteView",
    "ResourceLink",
    "Resources",
    "Role",
    "Statement",
    "User",
    "UserKey",
    "Whoami",
    "Window",
]


@dataclass(frozen=True, slots=True)
class Whoami:
    """This client as a device knows it.

    Attributes:
        user, role, key: names of the user, the role and this client's key.
        fingerprint: this client's fingerprint, 64 hex digits.
        path: how this client is connected, as the device sees it, for example `local`.
        actions: actions that are allowed now and from here.
        conditional: actions that depend on the time, the network or the request.
        until: end of the access in seconds since 1970, or None.
        now: the device's clock in seconds since 1970, or None if the device does not tell it.
        route: how this client is connected, as it knows itself: `lan`, `address`, `direct` or
            `relay`; empty if it was not asked over a session of `Device`.
        address: the address of the device, or of its relay, `HOST:PORT`; it can change on a path.
    """

    user: str
    role: str
    fingerprint: str
    key: str
    path: str
    actions: tuple[str, ...]
    until: int | None = None
    conditional: tuple[str, ...] = ()
    now: int | None = None
    route: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class ResourceLink:
    """A resource in the list of a device.

    Attributes:
        path: its path, for example `/board`.
        kinds: the resource types (`rt`).
        formats: numbers of the content formats (`ct`).
        observable: whether it can be observed.
        title: its title, or empty.
    """

    path: str
    kinds: tuple[str, ...] = ()
    formats: tuple[int, ...] = ()
    observable: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of a device that this client may see."""

    resources: tuple[ResourceLink, ...]


@dataclass(frozen=True, slots=True)
class OwnKey:
    """The key of this client: what others need to know of it."""

    fingerprint: Fingerprint
    id: str
    ni: str
    created: bool = False


@dataclass(frozen=True, slots=True)
class Paired:
    """The result of `Client.pair`.

    `is_new` is False if both sides were already paired. `method` is the pairing method. `until` is
    the end of the access in seconds since 1970, or None.
    """

    device: KnownDevice
    is_new: bool
    method: str = ""
    until: int | None = None


@dataclass(frozen=True, slots=True)
class DiscoveredDevice:
    """A device as announced on the LAN. `known_as` is the alias of a paired device with its ID.

    `added` and `gone` are the addresses that distinguish it from the same device before; both are
    empty when it appears or leaves, or if something else changed. `shared` is true if two devices
    announce its ID at once; the addresses are those of both.
    """

    id: str
    name: str
    addresses: tuple[str, ...]
    port: int
    pairing_port: int
    pairing_open: bool
    present: bool
    known_as: str
    added: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    shared: bool = False


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """A broker or a relay, without its password. `pinned`: its key is pinned, not its name."""

    url: str
    username: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class RemoteView:
    """The settings of this client for reaching a device from other networks, without secrets.

    Attributes:
        device: the alias of the device.
        stored: whether there are settings; if not, the fields of their content are empty.
        brokers, relays: the servers, the one to use first at the beginning.
        stun: STUN servers, `HOST:PORT` each.
        prefix: the beginning of the topics at the brokers.
        revision: the revision of the settings.
        outdated: whether the device has stated another revision since.
        fetched: when the settings were received, in seconds since 1970, or None.
        asked: when the device was last asked for them, or None.
        last_route: how the last session was opened: address, direct, relay; empty if unknown.
        address: the address at which the device answered last, or empty.
    """

    device: str
    stored: bool = False
    brokers: tuple[RemoteServer, ...] = ()
    relays: tuple[RemoteServer, ...] = ()
    stun: tuple[str, ...] = ()
    prefix: str = ""
    revision: int = 0
    outdated: bool = False
    fetched: int | None = None
    asked: int | None = None
    last_route: str = ""
    address: str = ""


class CheckResult(StrEnum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of `handfast doctor`. `exit_code` is not 0 if it failed."""

    name: str
    verdict: CheckResult
    said: str
    advice: str = ""
    exit_code: int = 0


@dataclass(frozen=True, slots=True)
class UserKey:
    """A key of a user.

    `method` is the pairing method, `verified` whether that method (or a user) verified the key;
    `last_seen` is accurate to an hour.
    """

    fingerprint: str
    name: str = ""
    method: str = ""
    verified: bool = False
    added: int = 0
    last_seen: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A user of the device. `not_before` is inclusive, `not_after` exclusive."""

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
    """A role and its policies. A user cannot change users of a higher rank."""

    id: str
    rank: int
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: it holds if the attribute matches one of the values."""

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
    """A named list of statements."""

    id: str
    statements: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class Invite:
    """An invite that can still be redeemed. Its ID is not a secret.

    `uses` is how often it can still be used, `inviter` the user who created it (empty: the device's
    console), `key` the only key that can redeem it (empty: any), `not_after` the end of the access
    that it grants.
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
    """A new invite with its token, the text to send. The token cannot be read again."""

    invite: Invite
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Window:
    """The pairing window. The other fields are empty while it is closed."""

    open: bool
    port: int = 0
    seconds_left: float = 0.0
    role: str = ""
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Permission:
    """Whether `action` is allowed now and from here.

    `missing` says what this client lacks, `reason` which statement decided for another user.
    `depends` lists attributes of the request on which the decision depends; the action is then not
    reported as allowed.
    """

    action: str
    allowed: bool
    missing: str = ""
    reason: str = ""
    depends: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """The exit code: 0 if the action is allowed, else 7."""
        return ExitCode.DONE if self.allowed else ExitCode.DENIED


@dataclass(frozen=True, slots=True)
class Event:
    """An event of the device. `previous` is the digest of the event before it.

    `fields` contains those that apply: actor, user, role, fingerprint, address, action, result and
    others. `lost` is the number of events directly before this one that are no longer stored.
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
    """Consecutive events, oldest first.

    `head` and `digest` are number and digest of the newest event of the device; a copy of them can
    later prove that no earlier event was changed.
    """

    head: int
    digest: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Services:
    """The names of the TCP services of a device that this client may use, sorted."""

    services: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenTunnel:
    """A local port whose connections go to a service of a device."""

    service: str
    host: str
    port: int
