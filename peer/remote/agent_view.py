"""The settings and the state of a remote agent. Plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique

from peer.fingerprint import Fingerprint
from peer.net.address import Address
from peer.net.session_route import SessionRoute
from peer.remote.settings import Server


@unique
class LinkState(StrEnum):
    """The state of the connection with a broker."""

    OFF = "off"
    CONNECTING = "connecting"
    ATTACHED = "attached"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """The part of the remote settings that an agent needs; see `RemoteSettings`."""

    prefix: str
    brokers: tuple[Server, ...]
    stun: tuple[str, ...] = ()
    turn: tuple[Server, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """The results of a probe: the public address of this machine, and whether UDP gets out.

    None means that it is not known.
    """

    public_address: Address | None = None
    has_udp: bool | None = None


@dataclass(frozen=True, slots=True)
class BrokerView:
    """The connection with one broker. `why` is the reason why it is not attached, or empty."""

    url: str
    state: LinkState
    since_seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class PathView:
    """A path: its client, the route and address of its carrier, and its age."""

    key: Fingerprint
    route: SessionRoute
    address: Address
    is_live: bool
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentView:
    """The state of an agent. `brokers` is empty while it is off.

    `state`, `since_seconds`, `broker` and `why` are those of the broker in the best state.
    """

    state: LinkState
    since_seconds: float
    broker: str
    why: str
    network: NetworkFacts
    brokers: tuple[BrokerView, ...]
    paths: tuple[PathView, ...]
    counters: Mapping[str, int] = field(default_factory=dict)
