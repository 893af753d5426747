"""The values of `status`, of the pairing verbs and of their events, as `--json` has them."""

from typing import NotRequired, TypedDict

from device_app.access.elsewhere import ElsewhereView
from device_app.access.policies import PolicyStatus
from device_app.process.log_destination import LogView
from device_app.remote.views import RemoteView


class IdentityView(TypedDict):
    """The name, ID and fingerprint of a device."""

    name: str
    id: str
    fingerprint: str


class UserSummary(TypedDict):
    """A user in `status`."""

    name: str
    role: str
    keys: int


class SessionView(TypedDict):
    """An established session; `path` is `lan`, `address`, `direct` or `relay`."""

    session: int
    on: str
    user: str | None
    fingerprint: str
    address: str
    interface: str
    local: bool
    path: str
    standing: str
    idle_seconds: float


class ClockView(TypedDict):
    """The device's time, in seconds since 1970."""

    now: int
    known: bool
    trouble: str


class RecoveryView(TypedDict):
    """A store that was not sound at a start, until a person has decided about it."""

    reason: str
    why: str
    left_out: int
    missing: int
    aside: bool


class StoreView(TypedDict):
    """The store; `trouble` is what is wrong with it now."""

    path: str
    trouble: str
    recovery: RecoveryView | None


class LabelState(TypedDict):
    """Whether there is a label, and whether its code is blocked."""

    made: bool
    dead: bool


class LocalView(TypedDict):
    """The definition of the local network."""

    mode: str
    allow_loopback: bool


class BoardView(TypedDict):
    """The parts of the board, by its configuration."""

    display: bool
    label: bool
    button: bool


class WindowView(TypedDict):
    """The pairing window. Without `seconds_left` and what follows it, the window is closed."""

    open: bool
    port: int | None
    seconds_left: NotRequired[float]
    role: NotRequired[str]
    methods: NotRequired[list[str]]
    not_offered: NotRequired[dict[str, str]]
    failures: NotRequired[int]
    blocked_seconds: NotRequired[int]
    trouble: NotRequired[str]
    code: NotRequired[str]
    device_id: NotRequired[str]
    fingerprint: NotRequired[str]


class CeremonyView(TypedDict):
    """A ceremony, with everything that the device's user compares."""

    id: str
    name: str
    fingerprint: str
    role: str
    method: str
    form: str
    state: str
    number: NotRequired[str]
    reason: NotRequired[str]
    address: NotRequired[str]
    interface: NotRequired[str]


class WindowEvent(TypedDict):
    """An event that a waiting `open` is told; `event` is `window` or a `PairingEventKind`."""

    event: str
    reason: NotRequired[str]
    window: NotRequired[WindowView]
    ceremony: NotRequired[CeremonyView]


class OpenAnswer(TypedDict, total=False):
    """`open`: the window; of a command that waits, how the window ended."""

    window: WindowView
    paired: CeremonyView | None
    closed: str
    refused: bool


class AnnouncementView(TypedDict):
    """Whether the device is to be announced by mDNS, and why it is not; empty if it is."""

    enabled: bool
    trouble: str


class TunnelsView(TypedDict):
    """The TCP services of the device by name, and why they cannot be reached."""

    services: list[str]
    trouble: str


class StatusAnswer(IdentityView):
    """`status`. Only a running daemon has what is not required.

    `users` has at most `STATUS_USERS_MAX` entries; `user_count` counts all users. `counters` (by
    port) and `events` (of the audit trail) are counts by kind since the daemon was started.
    """

    running: bool
    version: str
    users: list[UserSummary]
    user_count: int
    store: StoreView
    pid: NotRequired[int]
    uptime_seconds: NotRequired[float]
    port: NotRequired[int]
    pairing_port: NotRequired[int | None]
    addresses: NotRequired[list[str]]
    local: NotRequired[LocalView]
    announcement: NotRequired[AnnouncementView]
    window: NotRequired[WindowView]
    pending: NotRequired[list[CeremonyView]]
    failures: NotRequired[int]
    board: NotRequired[BoardView]
    label: NotRequired[LabelState]
    sessions: NotRequired[list[SessionView]]
    counters: NotRequired[dict[str, dict[str, int]]]
    events: NotRequired[dict[str, int]]
    policy: NotRequired[PolicyStatus]
    clock: NotRequired[ClockView]
    log: NotRequired[LogView]
    elsewhere: NotRequired[list[ElsewhereView]]
    remote: NotRequired[RemoteView]
    tunnels: NotRequired[TunnelsView]


class WatchView(TypedDict):
    """The state of the device, as `watch` shows it.

    `state` and `pairing` are values of `DeviceState`; `pairing` is the state without regard to
    problems. `since` is the device's time at which `state` began, and `seconds_left` the time until
    `pairing` ends by itself. `role` is what a client that pairs becomes; `id`, `name`, `method`,
    `fingerprint`, `number` and `reason` describe an attempt.
    """

    state: str
    pairing: str
    since: int
    device_id: NotRequired[str]
    seconds_left: NotRequired[float]
    problems: NotRequired[list[str]]
    role: NotRequired[str]
    methods: NotRequired[list[str]]
    code: NotRequired[str]
    id: NotRequired[str]
    name: NotRequired[str]
    method: NotRequired[str]
    fingerprint: NotRequired[str]
    number: NotRequired[str]
    reason: NotRequired[str]


class StateEvent(TypedDict):
    """An event that `watch` is sent; `event` is `state`."""

    event: str
    state: WatchView


class HealthAnswer(TypedDict):
    """`health`."""

    healthy: bool
    problems: list[str]
