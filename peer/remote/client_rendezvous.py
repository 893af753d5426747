"""One attempt of a client to agree on a path with its device (protocol §10.5). It has no I/O.

    NEW ──▶ REQUESTING ──challenge──▶ GATHERING ──a carrier──▶ OFFERED ──answer──▶ CHECKING
                 └──────────── refused, given up, finished ──▶ ENDED ◀───────────────┘

The driver subscribes `reply_topic`, calls `start`, and gathers both carriers at the same time; a
challenge and the carriers may come in any order. Requests and offers are repeated, since the broker
may lose a message; an offer also once after the answer, if a carrier of the device is still missing
then. A message of the device may arrive before the one that it follows: candidates that come before
the answer are kept for it.
"""

from collections.abc import Mapping
from enum import StrEnum, unique
from types import MappingProxyType
from typing import assert_never

from peer.errors import Malformed
from peer.remote.effects import (
    AddRemote,
    Challenged,
    ClientEffect,
    ClientStage,
    GaveUp,
    PathAgreed,
    Publish,
    Refused,
)
from peer.remote.limits import DEFAULT_REMOTE_LIMITS, RemoteLimits
from peer.remote.messages import (
    NONCE_BYTES,
    Answer,
    Candidates,
    CarrierKind,
    CarrierOffer,
    Carriers,
    Challenge,
    ClientMessage,
    ConnectRequest,
    DeviceMessage,
    Offer,
    Refusal,
)
from peer.remote.pair_keys import PairKeys, RandomBytes, client_topic, device_topic


@unique
class ClientAct(StrEnum):
    """An event that moves an attempt to another stage."""

    START = "start"
    CHALLENGE = "challenge"
    OFFER = "offer"
    ANSWER = "answer"
    END = "end"  # refused, given up or finished


TRANSITIONS: Mapping[tuple[ClientStage, ClientAct], ClientStage] = MappingProxyType(
    {
        (ClientStage.NEW, ClientAct.START): ClientStage.REQUESTING,
        (ClientStage.REQUESTING, ClientAct.CHALLENGE): ClientStage.GATHERING,
        (ClientStage.GATHERING, ClientAct.OFFER): ClientStage.OFFERED,
        (ClientStage.OFFERED, ClientAct.ANSWER): ClientStage.CHECKING,
        **{(stage, ClientAct.END): ClientStage.ENDED for stage in ClientStage},
    }
)
_BEFORE_ANSWER = frozenset({ClientStage.REQUESTING, ClientStage.GATHERING, ClientStage.OFFERED})


class ClientRendezvous:
    """The client's side of one attempt at one broker.

    Attributes:
        stage: the stage of the attempt.
        reply_topic: the topic to subscribe before `start`; no other attempt has it.
        dropped: messages that were not from the device, or did not belong to this attempt.

    Args:
        keys: the keys of the pair.
        prefix: the prefix of the topics, from the remote settings.
        limits: the bounds.
        random_bytes: returns that many random bytes.
        path_id: the path that shall continue with new carriers; None for a new path.
    """

    def __init__(
        self,
        keys: PairKeys,
        *,
        prefix: str,
        random_bytes: RandomBytes,
        limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
        path_id: bytes | None = None,
    ) -> None:
        self.stage = ClientStage.NEW
        self.dropped = 0
        self._keys = keys
        self._limits = limits
        self._random_bytes = random_bytes
        self._path_id = path_id
        self._nonce = random_bytes(NONCE_BYTES)
        self._reply = random_bytes(NONCE_BYTES)
        self._device_topic = device_topic(prefix, keys.topic)
        self.reply_topic = client_topic(prefix, self._reply)
        self._device_nonce = b""
        self._agreed_id = b""
        self._local: dict[CarrierKind, CarrierOffer | None] = {}  # None: could not be gathered
        self._remote: dict[CarrierKind, CarrierOffer] = {}
        self._deadline = float("inf")
        self._repeats: list[float] = []

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended: it has no further effects."""
        return self.stage is ClientStage.ENDED

    def start(self, now: float) -> list[ClientEffect]:
        """Send the connect request. The reply topic is subscribed already."""
        self._move(ClientAct.START)
        limits = self._limits
        self._wait(now, limits.connect_request_seconds, limits.connect_request_again_seconds)
        return [self._request()]

    def receive_untrusted(self, data: bytes, now: float) -> list[ClientEffect]:
        """Take a message that arrived on the reply topic. Anything unexpected is dropped."""
        if self.stage in {ClientStage.NEW, ClientStage.ENDED}:
            return []
        try:
            message = self._keys.open_from_device_untrusted(data, self.reply_topic)
            self._check_attempt(message)
        except Malformed:
            self.dropped += 1
            return []
        match message:
            case Challenge():
                return self._challenged(message, now)
            case Answer():
                return self._answered(message, now)
            case Candidates():
                return self._add_remote(message.carriers)
            case Refusal():
                return self._refused(message)
            case _:
                assert_never(message)

    def gathered(
        self, kind: CarrierKind, offer: CarrierOffer | None, now: float
    ) -> list[ClientEffect]:
        """Take a carrier of this client; None if it could not be gathered. Once for each kind."""
        if self.is_over or kind in self._local:
            return []
        self._local[kind] = offer
        if len(self._local) == len(CarrierKind) and not self._own_carriers():
            return self._give_up(ClientStage.GATHERING)
        if offer is None:
            return []
        if self.stage is ClientStage.GATHERING:
            return self._first_offer(now)
        if self.stage in {ClientStage.OFFERED, ClientStage.CHECKING}:
            return [self._publish(Candidates(self._nonce, {kind: offer}, self._reply))]
        return []

    def finish(self) -> None:
        """End the attempt: a session is established, or the caller does not need it any more."""
        self._move(ClientAct.END)

    def handle_timeout(self, now: float) -> list[ClientEffect]:
        """Repeat what was not answered, or give up. Call it at `next_timeout`."""
        if self.is_over:
            return []
        if now >= self._deadline:
            return self._give_up(self.stage)
        due = [moment for moment in self._repeats if moment <= now]
        if not due:
            return []
        self._repeats = self._repeats[len(due) :]
        if self.stage is ClientStage.REQUESTING:
            return [self._request()]
        return [self._offer()]

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` has something to do, in monotonic seconds."""
        if self.stage in {ClientStage.NEW, ClientStage.ENDED}:
            return None
        return min([self._deadline, *self._repeats])

    def _check_attempt(self, message: DeviceMessage) -> None:
        """Raise `Malformed` for a message that belongs to another attempt or another path."""
        path_id = message.path_id if isinstance(message, Answer) else None
        if message.client_nonce != self._nonce or path_id not in {None, self._path_id}:
            raise Malformed("the message belongs to another attempt", advice="Ignore it.")

    # -- the device's messages --------------------------------------------------------------------

    def _challenged(self, message: Challenge, now: float) -> list[ClientEffect]:
        if self.stage is not ClientStage.REQUESTING:
            return []  # a repeated challenge
        self._move(ClientAct.CHALLENGE)
        self._device_nonce = message.device_nonce
        self._wait(now, self._limits.challenge_seconds)
        effects: list[ClientEffect] = [Challenged(message.revision, message.addresses)]
        return effects + self._first_offer(now) if self._own_carriers() else effects

    def _answered(self, message: Answer, now: float) -> list[ClientEffect]:
        if self.stage is not ClientStage.OFFERED:
            return self._add_remote(message.carriers)  # repeated, perhaps with another carrier
        early, self._remote = self._remote, {}
        self._move(ClientAct.ANSWER)
        self._wait(now, self._limits.check_seconds)
        self._repeats = [now + self._limits.offer_again_seconds]  # if a carrier is missing then
        is_new = message.path_id is None
        self._agreed_id = message.path_id or self._nonce
        keys = self._keys.path_keys(self._nonce, self._device_nonce) if is_new else None
        agreed = PathAgreed(self._agreed_id, keys, is_new)
        return [agreed, *self._add_remote({**early, **message.carriers})]

    def _add_remote(self, carriers: Carriers) -> list[ClientEffect]:
        """Note the device's carriers, and pass on the new ones if a path is agreed."""
        if self.stage not in {ClientStage.OFFERED, ClientStage.CHECKING}:
            return []
        new = {kind: offer for kind, offer in carriers.items() if kind not in self._remote}
        self._remote.update(new)
        if self.stage is ClientStage.OFFERED:
            return []
        if len(self._remote) == len(CarrierKind):
            self._repeats = []
        return [AddRemote(self._agreed_id, kind, offer) for kind, offer in new.items()]

    def _refused(self, message: Refusal) -> list[ClientEffect]:
        if self.stage not in _BEFORE_ANSWER:
            return []
        self._move(ClientAct.END)
        return [Refused(message.reason, message.seconds)]

    # -- this client's messages -------------------------------------------------------------------

    def _request(self) -> Publish:
        return self._publish(ConnectRequest(self._nonce, self._reply))

    def _first_offer(self, now: float) -> list[ClientEffect]:
        self._move(ClientAct.OFFER)
        self._wait(now, self._limits.offer_seconds, self._limits.offer_again_seconds)
        return [self._offer()]

    def _offer(self) -> Publish:
        """Return the offer with all carriers gathered so far: a repeat may have one more."""
        carriers = self._own_carriers()
        return self._publish(
            Offer(self._nonce, self._reply, self._device_nonce, carriers, self._path_id)
        )

    def _own_carriers(self) -> Carriers:
        return {kind: offer for kind, offer in self._local.items() if offer is not None}

    def _publish(self, message: ClientMessage) -> Publish:
        topic = self._device_topic
        return Publish(topic, self._keys.seal_to_device(message, topic, self._random_bytes))

    def _give_up(self, step: ClientStage) -> list[ClientEffect]:
        self._move(ClientAct.END)
        return [GaveUp(step)]

    def _wait(self, now: float, seconds: float, again: float | None = None) -> None:
        """Wait for the device for so long; repeat the last message after `again` and twice that."""
        self._deadline = now + seconds
        self._repeats = [now + again, now + 2 * again] if again is not None else []

    def _move(self, act: ClientAct) -> None:
        """Go to the next stage. Raises `KeyError` for an act that the stage does not allow."""
        self.stage = TRANSITIONS[self.stage, act]
