"""The actions that the two state machines of the rendezvous ask their drivers to take."""

from dataclasses import dataclass, field
from enum import StrEnum, unique

from peer.fingerprint import Fingerprint
from peer.remote.messages import CarrierKind, CarrierOffer, Carriers, RefusalReason
from peer.remote.pair_keys import PathKeys


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a sealed message to a topic.

    Attributes:
        broker: the number of the broker, as it was given with the message that this one answers;
            0 on the client, which has one rendezvous for each broker.
    """

    topic: str
    data: bytes = field(repr=False)
    broker: int = 0


# -- of the device --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenPath:
    """Open a path: gather both carriers, and report each with `DeviceRendezvous.gathered`.

    Connect a carrier when it is gathered and its remote half is known, from `remote` or from a
    later `AddRemote`.

    Attributes:
        path_id: identifies the path until `EndPath`, or until `DeviceRendezvous.path_ended`.
        key: the client's key, which is the only one that may prove itself on the path.
        path_keys: the keys of the sealed flights.
        remote: the client's carriers that are known so far.
    """

    path_id: bytes
    key: Fingerprint
    path_keys: PathKeys
    remote: Carriers


@dataclass(frozen=True, slots=True)
class RenewPath:
    """Give a path new carriers: close those that are not connected yet, and gather both again.

    Its keys, its session and its streams continue. From now on, report only the new carriers. The
    old ones stay until a new one works.
    """

    path_id: bytes
    remote: Carriers


@dataclass(frozen=True, slots=True)
class AddRemote:
    """The other side's half of a carrier is known: connect it, or add it to the carrier."""

    path_id: bytes
    kind: CarrierKind
    offer: CarrierOffer


@dataclass(frozen=True, slots=True)
class EndPath:
    """End a path, with its session and its carriers. It is forgotten already."""

    path_id: bytes


DeviceEffect = Publish | OpenPath | RenewPath | AddRemote | EndPath


# -- of the client --------------------------------------------------------------------------------


@unique
class ClientStage(StrEnum):
    """The stages of an attempt of a client."""

    NEW = "new"  # nothing was sent
    REQUESTING = "requesting"  # no challenge yet: the device may not be attached
    GATHERING = "gathering"  # a challenge, and no candidates of this client
    OFFERED = "offered"  # no answer yet
    CHECKING = "checking"  # both sides know each other's candidates
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Challenged:
    """The device answered.

    Attributes:
        revision: the revision of its remote settings; another one than the client's means that the
            client should get them again.
        addresses: addresses to try besides, as "host:port".
    """

    revision: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PathAgreed:
    """Both sides have agreed on a path. An `AddRemote` for each known carrier follows.

    Attributes:
        path_keys: the keys of the sealed flights; None if the path continues, with its keys.
        is_new: whether it is a new path, which needs a new session.
    """

    path_id: bytes
    path_keys: PathKeys | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The device refused; the attempt has ended. `seconds`: when to try again, None if unknown."""

    reason: RefusalReason
    seconds: int | None


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The attempt has ended without a path. `step` is the stage that took too long or failed."""

    step: ClientStage


ClientEffect = Publish | Challenged | PathAgreed | AddRemote | Refused | GaveUp
