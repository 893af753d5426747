"""A device and its clients around the sans-I/O rendezvous, with a broker that a test controls."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from peer.fingerprint import Fingerprint
from peer.remote.client_rendezvous import ClientRendezvous
from peer.remote.device_rendezvous import DeviceRendezvous
from peer.remote.effects import (
    AddRemote,
    EndPath,
    OpenPath,
    PathAgreed,
    Publish,
    RenewPath,
)
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, RemoteLimits
from peer.remote.messages import CarrierKind, CarrierOffer, RefusalReason
from peer.remote.pair_keys import PairKeys, device_topic, pair_secret
from peer.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from peer.remote.effects import ClientEffect, DeviceEffect

PREFIX = "hf1/alice"
MASTER = Secret(bytes(range(32)))


def carrier(name: str, kind: CarrierKind) -> CarrierOffer:
    """A carrier of one side, which a test recognizes by its user name fragment."""
    number = sum(name.encode()) % 200 + kind
    candidate = f"{kind} 1 udp 2130706431 192.0.2.{number} {40000 + kind} typ host"
    return CarrierOffer(f"{name}{int(kind)}", "p" * 22, (candidate,))


def key_of(number: int) -> Fingerprint:
    """The fingerprint of a client's key."""
    return Fingerprint(number.to_bytes(32, "big"))


@cache
def keys_of(client: Fingerprint) -> PairKeys:
    """The keys of a client and the device."""
    return PairKeys(pair_secret(MASTER, 0, client))


@dataclass
class SimulatedDevice:
    """A device whose driver does what the rendezvous asks for, when the test says so.

    Attributes:
        clients: the keys that may connect.
        boot: the number of the device's start; another one has other random bytes.
        refused: reasons for which keys are refused, by key.
        opened: every `OpenPath` so far, `renewed` every `RenewPath`, `ended` every ended path.
        remote: the remote carriers that the driver knows, by path and kind.
        published: every message of the device.
    """

    limits: RemoteLimits = DEFAULT_REMOTE_LIMITS
    clients: Sequence[Fingerprint] = (key_of(1),)
    boot: int = 0
    addresses: tuple[str, ...] = ("192.0.2.7:5684",)
    refused: dict[Fingerprint, RefusalReason] = field(default_factory=dict)
    opened: list[OpenPath] = field(default_factory=list)
    renewed: list[RenewPath] = field(default_factory=list)
    ended: list[bytes] = field(default_factory=list)
    remote: dict[tuple[bytes, CarrierKind], CarrierOffer] = field(default_factory=dict)
    published: list[Publish] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pairs = {keys_of(client).topic: (client, keys_of(client)) for client in self.clients}
        self.rendezvous = DeviceRendezvous(
            prefix=PREFIX,
            limits=self.limits,
            random_bytes=random.Random(f"device {self.boot}").randbytes,
            find=self.pairs.get,
            refuse=self.refused.get,
            revision=lambda _key: 7,
            addresses=lambda: self.addresses,
        )

    def keys(self, client: Fingerprint) -> PairKeys:
        """The keys of a client."""
        return keys_of(client)

    def act(self, effects: Iterable[DeviceEffect]) -> list[Publish]:
        """Do what the rendezvous asks for; returns what it publishes."""
        sent = []
        for effect in effects:
            match effect:
                case Publish():
                    sent.append(effect)
                case OpenPath(path_id=path_id, remote=remote):
                    self.opened.append(effect)
                    self.remote |= {(path_id, kind): one for kind, one in remote.items()}
                case RenewPath(path_id, remote):
                    self.renewed.append(effect)
                    self.remote |= {(path_id, kind): one for kind, one in remote.items()}
                case AddRemote(path_id, kind, offer):
                    self.remote[path_id, kind] = offer
                case EndPath(path_id):
                    self.ended.append(path_id)
        self.published += sent
        return sent

    def receive(self, message: Publish, now: float = 0.0) -> list[Publish]:
        """Deliver a message of a client; returns the device's messages."""
        return self.act(self.rendezvous.receive_untrusted(message.topic, message.data, now))

    def gather(self, path_id: bytes, *kinds: CarrierKind, now: float = 0.0) -> list[Publish]:
        """Report gathered carriers; returns the device's messages."""
        sent = []
        for kind in kinds:
            offer = carrier("device", kind)
            sent += self.act(self.rendezvous.gathered(path_id, kind, offer, now))
        return sent


@dataclass
class SimulatedClient:
    """A client's attempt, and all that it learned."""

    rendezvous: ClientRendezvous
    effects: list[ClientEffect] = field(default_factory=list)

    def act(self, effects: Iterable[ClientEffect]) -> list[Publish]:
        """Note effects; returns what the client publishes."""
        sent = []
        for effect in effects:
            self.effects.append(effect)
            if isinstance(effect, Publish):
                sent.append(effect)
        return sent

    def start(self, now: float = 0.0) -> Publish:
        """Begin the attempt; returns its connect request."""
        [request] = self.act(self.rendezvous.start(now))
        return request

    def receive(self, message: Publish, now: float = 0.0) -> list[Publish]:
        """Deliver a message of the device, if it is for this client."""
        if message.topic != self.rendezvous.reply_topic:
            return []
        return self.act(self.rendezvous.receive_untrusted(message.data, now))

    def gather(self, *kinds: CarrierKind, now: float = 0.0) -> list[Publish]:
        """Report gathered carriers."""
        sent = []
        for kind in kinds:
            sent += self.act(self.rendezvous.gathered(kind, carrier("client", kind), now))
        return sent

    @property
    def agreed(self) -> list[PathAgreed]:
        """The paths on which both sides agreed."""
        return [one for one in self.effects if isinstance(one, PathAgreed)]

    @property
    def remote(self) -> dict[CarrierKind, CarrierOffer]:
        """The device's carriers that the client knows."""
        return {one.kind: one.offer for one in self.effects if isinstance(one, AddRemote)}


def client_of(
    device: SimulatedDevice,
    client: Fingerprint | None = None,
    *,
    seed: int = 0,
    path_id: bytes | None = None,
) -> SimulatedClient:
    """A new attempt of a client of a device."""
    return SimulatedClient(
        ClientRendezvous(
            device.keys(client or device.clients[0]),
            prefix=PREFIX,
            limits=device.limits,
            random_bytes=random.Random(f"client {seed}").randbytes,
            path_id=path_id,
        )
    )


def new_attempt(**options: Any) -> tuple[SimulatedDevice, SimulatedClient]:
    """A device with such options, and an attempt of its first client."""
    device = SimulatedDevice(**options)
    return device, client_of(device)


def challenge_of(device: SimulatedDevice, client: SimulatedClient, now: float = 0.0) -> Publish:
    """Begin an attempt; returns the device's challenge, which the client has not received yet."""
    [challenge] = device.receive(client.start(now), now)
    return challenge


def offer_of(
    device: SimulatedDevice, client: SimulatedClient, *kinds: CarrierKind, now: float = 0.0
) -> Publish:
    """Begin an attempt; returns the client's offer, which the device has not received yet."""
    challenge = challenge_of(device, client, now)
    client.gather(*kinds, now=now)
    [offer] = client.receive(challenge, now)
    return offer


def connect(
    device: SimulatedDevice,
    client: SimulatedClient,
    *,
    now: float = 0.0,
    kinds: Sequence[CarrierKind] = tuple(CarrierKind),
) -> bytes:
    """Bring an attempt to an agreed path, with nothing lost; returns the path's ID."""
    queue = [client.start(now), *client.gather(*kinds, now=now)]
    while queue:
        message = queue.pop(0)
        queue += client.receive(message, now)
        if message.topic == client.rendezvous.reply_topic:
            continue
        opened, renewed = len(device.opened), len(device.renewed)
        queue += device.receive(message, now)
        ids = [one.path_id for one in device.opened[opened:]]
        ids += [one.path_id for one in device.renewed[renewed:]]
        for path_id in ids:
            queue += device.gather(path_id, *kinds, now=now)
    return client.agreed[-1].path_id


def forged(message: Publish, at: int = -1) -> Publish:
    """The message with one changed byte."""
    data = bytearray(message.data)
    data[at] ^= 1
    return replace(message, data=bytes(data))


def topic_of(device: SimulatedDevice, client: Fingerprint) -> str:
    """The topic on which a device listens for a client."""
    return device_topic(PREFIX, device.keys(client).topic)
