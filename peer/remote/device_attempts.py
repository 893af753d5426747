"""Attempts of clients to connect, as the device remembers them (protocol §10.4).

    CHALLENGED ──fresh offer──▶ GATHERING ──first carrier──▶ ANSWERED
         └─ too late ─────────────┴─ refused, no carrier ─────┴──▶ forgotten

An attempt in CHALLENGED costs memory only: nothing was gathered and no host was contacted. Their
number is bounded; the later stages belong to a path each, and paths are bounded as well.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from types import MappingProxyType

from peer.fingerprint import Fingerprint
from peer.remote.effects import Publish
from peer.remote.limits import OFFER_REPEATS
from peer.remote.messages import CarrierKind, CarrierOffer
from peer.remote.pair_keys import PairKeys


@unique
class AttemptStage(StrEnum):
    """The stage of an attempt."""

    CHALLENGED = "challenged"
    GATHERING = "gathering"
    ANSWERED = "answered"


@unique
class AttemptAct(StrEnum):
    """An event that moves an attempt to another stage."""

    OFFER = "offer"  # an offer with the nonce of the challenge
    ANSWER = "answer"  # the first carrier is gathered


ATTEMPT_TRANSITIONS: Mapping[tuple[AttemptStage, AttemptAct], AttemptStage] = MappingProxyType(
    {
        (AttemptStage.CHALLENGED, AttemptAct.OFFER): AttemptStage.GATHERING,
        (AttemptStage.GATHERING, AttemptAct.ANSWER): AttemptStage.ANSWERED,
    }
)


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt of a client.

    Attributes:
        client_nonce: identifies it, together with the key.
        device_nonce: what a fresh offer has to contain.
        reply_topic: the client's, of the connect request; the whole topic is `topic`.
        broker: the number of the broker over which it came.
        deadline: when its stage is over, in monotonic seconds.
        repeats_left: repeated requests and offers that are still answered.
        remote: the client's carriers.
        gathered: what the device has gathered; None for a carrier that it could not gather.
        sent: the answer and what followed it, for a repeated offer.
        continued_id: the path that it gives new carriers; None if it opens one.
        path_id: the path to which it belongs; empty in CHALLENGED.
    """

    key: Fingerprint
    keys: PairKeys = field(repr=False)
    client_nonce: bytes
    device_nonce: bytes
    reply_topic: bytes
    topic: str
    broker: int
    deadline: float
    stage: AttemptStage = AttemptStage.CHALLENGED
    repeats_left: int = OFFER_REPEATS
    remote: dict[CarrierKind, CarrierOffer] = field(default_factory=dict)
    gathered: dict[CarrierKind, CarrierOffer | None] = field(default_factory=dict)
    sent: list[Publish] = field(default_factory=list)
    continued_id: bytes | None = None
    path_id: bytes = b""

    def move(self, act: AttemptAct, deadline: float) -> None:
        """Go to the next stage. Raises `KeyError` for an act that the stage does not allow."""
        self.stage = ATTEMPT_TRANSITIONS[self.stage, act]
        self.deadline = deadline

    def may_repeat(self) -> bool:
        """Count a repeated message, and return whether it is answered."""
        self.repeats_left -= 1
        return self.repeats_left >= 0

    def add_remote(
        self, carriers: Mapping[CarrierKind, CarrierOffer]
    ) -> dict[CarrierKind, CarrierOffer]:
        """Note carriers of the client, and return those that are new."""
        new = {kind: offer for kind, offer in carriers.items() if kind not in self.remote}
        self.remote.update(new)
        return new


class AttemptTable:
    """The attempts by key and client nonce; those in CHALLENGED are at most `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._all: dict[tuple[Fingerprint, bytes], Attempt] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Attempt]:
        return iter(list(self._all.values()))

    def find(self, key: Fingerprint, client_nonce: bytes) -> Attempt | None:
        """Return the attempt of a key with this nonce."""
        return self._all.get((key, client_nonce))

    def add(self, attempt: Attempt) -> None:
        """Add an attempt in CHALLENGED.

        In a full table it replaces the oldest one of the key that has most of them, so one key
        cannot displace the attempts of others.
        """
        challenged = [one for one in self._all.values() if one.stage is AttemptStage.CHALLENGED]
        if len(challenged) >= self._most:
            counts = Counter(one.key for one in challenged)
            most = max(counts.values())
            self.remove(next(one for one in challenged if counts[one.key] == most))
        self._all[attempt.key, attempt.client_nonce] = attempt

    def remove(self, attempt: Attempt) -> None:
        """Forget an attempt."""
        self._all.pop((attempt.key, attempt.client_nonce), None)

    def gathering(self) -> int:
        """Return for how many attempts the device gathers candidates."""
        return sum(one.stage is AttemptStage.GATHERING for one in self._all.values())
