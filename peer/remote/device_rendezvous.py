"""The device's side of the rendezvous (protocol §10.4). It has no I/O.

A connect request costs the device one message: the challenge. Only an offer that contains the nonce
of that challenge makes it gather candidates, so a broker that replays, delays or reorders messages
cannot make the device contact anyone. `device_attempts` and `device_paths` have the stages.

Every table that a client or a broker can make grow is bounded: attempts, paths, rates.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum, unique
from math import inf
from typing import assert_never

from cryptography.hazmat.primitives.constant_time import bytes_eq

from peer.errors import Malformed
from peer.fingerprint import Fingerprint
from peer.remote.connect_request_rate import ConnectRequestRate, RateResult
from peer.remote.device_attempts import Attempt, AttemptStage, AttemptTable
from peer.remote.device_path_lifecycle import PathLifecycle
from peer.remote.device_paths import PathAct, PathTable
from peer.remote.device_replies import DeviceReplies
from peer.remote.effects import AddRemote, DeviceEffect
from peer.remote.limits import (
    DEFAULT_REMOTE_LIMITS,
    OFFER_REPEATS,
    RETRY_SECONDS,
    RemoteLimits,
)
from peer.remote.messages import (
    NONCE_BYTES,
    Candidates,
    CarrierKind,
    CarrierOffer,
    ConnectRequest,
    Offer,
    RefusalReason,
)
from peer.remote.pair_keys import PairKeys, RandomBytes, client_topic, device_topic


@unique
class DropReason(StrEnum):
    """Why a message was dropped without an answer."""

    TOPIC = "topic"  # no client key has this topic
    MALFORMED = "malformed"  # not sealed by the client of this topic, or not a message
    STALE = "stale"  # a wrong nonce, or an attempt that is over or never was
    REPEATED = "repeated"  # more repeats than a client sends
    RATE = "rate"  # above the rate of the key or of all keys, and that was said already


class DeviceRendezvous:
    """Answers the clients of a device, and says which paths to open and to end.

    Attributes:
        dropped: how many messages were dropped, by `DropReason`.

    Args:
        prefix: the prefix of the topics.
        random_bytes: returns that many random bytes.
        find: returns the client key and its keys for the last level of a topic; None if no key that
            may connect has it.
        refuse: returns why a key may not open a path now; None if it may.
        revision: the revision of the remote settings of a key.
        addresses: the addresses at which clients may try to reach the device, as "host:port".
        limits: the bounds.
    """

    def __init__(
        self,
        *,
        prefix: str,
        random_bytes: RandomBytes,
        find: Callable[[str], tuple[Fingerprint, PairKeys] | None],
        refuse: Callable[[Fingerprint], RefusalReason | None],
        revision: Callable[[Fingerprint], int],
        addresses: Callable[[], Sequence[str]],
        limits: RemoteLimits = DEFAULT_REMOTE_LIMITS,
    ) -> None:
        self.dropped: Counter[DropReason] = Counter()
        self._prefix = prefix
        self._random_bytes = random_bytes
        self._find = find
        self._refuse = refuse
        self._replies = DeviceReplies(
            random_bytes=random_bytes, revision=revision, addresses=addresses
        )
        self._limits = limits
        self._rate = ConnectRequestRate(limits)
        self._attempts = AttemptTable(limits.remote_challenges)
        self._paths = PathTable(limits)
        self._lifecycle = PathLifecycle(self._attempts, self._paths, self._replies, limits)

    def receive_untrusted(
        self, topic: str, data: bytes, now: float, *, broker: int = 0
    ) -> list[DeviceEffect]:
        """Take a message that arrived on a topic; anything unexpected is dropped and counted.

        `broker` is the number of the broker over which it came. `Publish` effects have it again.
        """
        last_level = topic.rpartition("/")[2]
        found = self._find(last_level)
        if found is None or topic != device_topic(self._prefix, last_level):
            return self._drop(DropReason.TOPIC)
        key, keys = found
        try:
            message = keys.open_from_client_untrusted(data, topic)
        except Malformed:
            return self._drop(DropReason.MALFORMED)
        effects = self.handle_timeout(now)
        match message:
            case ConnectRequest():
                return effects + self._requested(key, keys, message, broker, now)
            case Offer():
                return effects + self._offered(key, message, now)
            case Candidates():
                return effects + self._more_candidates(key, message)
            case _:
                assert_never(message)

    def gathered(
        self, path_id: bytes, kind: CarrierKind, offer: CarrierOffer | None, now: float
    ) -> list[DeviceEffect]:
        """Take a carrier of this device for a path; None if it could not be gathered.

        The first one goes out in the answer, the other in a message of its own. If there is none,
        the client is told so, and a new path ends.
        """
        path = self._paths.find(path_id)
        return self._lifecycle.gathered(path, kind, offer, now) if path is not None else []

    def path_state(self, path_id: bytes, *, is_live: bool, now: float) -> list[DeviceEffect]:
        """Note that a carrier of a path works, or that none does any more."""
        path = self._paths.find(path_id)
        if path is not None:
            path.move(PathAct.WORKS if is_live else PathAct.LOST, now, self._limits)
        return self.handle_timeout(now)

    def path_ended(self, path_id: bytes, now: float) -> list[DeviceEffect]:
        """Note that a path has ended, for example because its session has."""
        path = self._paths.find(path_id)
        if path is not None:
            self._lifecycle.end(path)
        return self.handle_timeout(now)

    def end_client(self, key: Fingerprint, now: float) -> list[DeviceEffect]:
        """End all paths and attempts of a key that may not connect any more."""
        ended = [self._lifecycle.end(path) for path in self._paths.of_key(key)]
        for attempt in self._attempts:
            if attempt.key == key:
                self._attempts.remove(attempt)
        return [*ended, *self.handle_timeout(now)]

    def handle_timeout(self, now: float) -> list[DeviceEffect]:
        """End what is overdue. Call it at `next_timeout`."""
        effects: list[DeviceEffect] = []
        for attempt in self._attempts:
            if attempt.deadline <= now:
                effects += self._lifecycle.expire(attempt)
        for path in self._paths:
            if path.deadline <= now and path.attempt is None:  # else it may get new carriers yet
                effects.append(self._lifecycle.end(path))
        return effects

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` has something to do, in monotonic seconds."""
        deadlines = [one.deadline for one in self._attempts]
        deadlines += [one.deadline for one in self._paths if one.attempt is None]
        first = min(deadlines, default=inf)
        return first if first < inf else None

    def __len__(self) -> int:
        """Return how many attempts, paths and rates are remembered."""
        return len(self._attempts) + len(self._paths) + len(self._rate)

    # -- messages of clients ----------------------------------------------------------------------

    def _requested(
        self, key: Fingerprint, keys: PairKeys, message: ConnectRequest, broker: int, now: float
    ) -> list[DeviceEffect]:
        known = self._attempts.find(key, message.client_nonce)
        if known is not None:
            return self._requested_again(known, message)
        if self._paths.find(message.client_nonce) is not None:
            return self._drop(DropReason.STALE)
        admitted = self._rate.admit(key, now)
        if admitted is RateResult.IGNORE:
            return self._drop(DropReason.RATE)
        attempt = Attempt(
            key=key,
            keys=keys,
            client_nonce=message.client_nonce,
            device_nonce=self._random_bytes(NONCE_BYTES),
            reply_topic=message.reply_topic,
            topic=client_topic(self._prefix, message.reply_topic),
            broker=broker,
            deadline=now + self._limits.challenge_seconds,
        )
        if admitted is RateResult.REFUSE:
            seconds = self._rate.seconds_until(key, now)
            return [self._replies.refusal(attempt, RefusalReason.BUSY, seconds)]
        reason = self._refuse(key)
        if reason is not None:
            return [self._replies.refusal(attempt, reason)]
        self._attempts.add(attempt)
        return [self._replies.challenge(attempt)]

    def _requested_again(self, attempt: Attempt, message: ConnectRequest) -> list[DeviceEffect]:
        """Repeat the challenge, which the client has not received."""
        is_same = attempt.reply_topic == message.reply_topic
        if attempt.stage is not AttemptStage.CHALLENGED or not is_same:
            return self._drop(DropReason.STALE)
        if not attempt.may_repeat():
            return self._drop(DropReason.REPEATED)
        return [self._replies.challenge(attempt)]

    def _offered(self, key: Fingerprint, message: Offer, now: float) -> list[DeviceEffect]:
        attempt = self._attempts.find(key, message.client_nonce)
        if attempt is None or not _is_fresh(message, attempt):
            return self._drop(DropReason.STALE)
        if attempt.stage is not AttemptStage.CHALLENGED:
            return self._offered_again(attempt, message)
        if self._paths.find(attempt.client_nonce) is not None:
            self._attempts.remove(attempt)
            return self._drop(DropReason.STALE)  # another key has a path of this ID
        attempt.repeats_left = OFFER_REPEATS
        return self._first_offered(attempt, message, now)

    def _first_offered(self, attempt: Attempt, message: Offer, now: float) -> list[DeviceEffect]:
        """Open or renew a path, or refuse."""
        reason = self._refuse(attempt.key)
        if reason is not None:
            return self._lifecycle.turn_down(attempt, reason)
        if self._attempts.gathering() >= self._limits.gatherings:
            return self._lifecycle.turn_down(attempt, RefusalReason.BUSY, RETRY_SECONDS)
        path = self._paths.find(message.path_id)
        if path is not None and path.key == attempt.key:
            return self._lifecycle.renew(path, attempt, message, now)
        return self._lifecycle.open(attempt, message, now)

    def _offered_again(self, attempt: Attempt, message: Offer) -> list[DeviceEffect]:
        """Repeat the answer, and take a carrier that was gathered since the first offer."""
        if not attempt.may_repeat():
            return self._drop(DropReason.REPEATED)
        new = attempt.add_remote(message.carriers)
        return [*attempt.sent, *self._added(attempt, new)]

    def _more_candidates(self, key: Fingerprint, message: Candidates) -> list[DeviceEffect]:
        attempt = self._attempts.find(key, message.client_nonce)
        if attempt is None or attempt.reply_topic != message.reply_topic:
            return self._drop(DropReason.STALE)
        new = attempt.add_remote(message.carriers)
        if attempt.stage is AttemptStage.CHALLENGED:
            return []  # it overtook the offer, which has yet to prove that it is fresh
        return self._added(attempt, new)

    @staticmethod
    def _added(attempt: Attempt, carriers: dict[CarrierKind, CarrierOffer]) -> list[DeviceEffect]:
        return [AddRemote(attempt.path_id, kind, offer) for kind, offer in carriers.items()]

    def _drop(self, reason: DropReason) -> list[DeviceEffect]:
        self.dropped[reason] += 1
        return []


def _is_fresh(message: Offer, attempt: Attempt) -> bool:
    """Whether an offer contains the nonce of this attempt's challenge, and its reply topic."""
    return (
        bytes_eq(attempt.device_nonce, message.device_nonce)
        and attempt.reply_topic == message.reply_topic
    )
