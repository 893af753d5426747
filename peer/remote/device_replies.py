"""The messages of a device to the client of an attempt, sealed and ready to be published."""

from collections.abc import Callable, Sequence

from peer.fingerprint import Fingerprint
from peer.remote.device_attempts import Attempt
from peer.remote.effects import Publish
from peer.remote.limits import MAX_CHALLENGE_ADDRESSES
from peer.remote.messages import (
    Answer,
    Candidates,
    CarrierKind,
    CarrierOffer,
    Challenge,
    DeviceMessage,
    Refusal,
    RefusalReason,
    is_address,
)
from peer.remote.pair_keys import RandomBytes


class DeviceReplies:
    """Writes the messages. See `DeviceRendezvous` for the arguments."""

    def __init__(
        self,
        *,
        random_bytes: RandomBytes,
        revision: Callable[[Fingerprint], int],
        addresses: Callable[[], Sequence[str]],
    ) -> None:
        self._random_bytes = random_bytes
        self._revision = revision
        self._addresses = addresses

    def challenge(self, attempt: Attempt) -> Publish:
        """Return the challenge, with as many addresses as it can have."""
        addresses = [one for one in self._addresses() if is_address(one)]
        message = Challenge(
            attempt.client_nonce,
            attempt.device_nonce,
            self._revision(attempt.key),
            tuple(addresses[:MAX_CHALLENGE_ADDRESSES]),
        )
        return self._publish(attempt, message)

    def refusal(
        self, attempt: Attempt, reason: RefusalReason, seconds: int | None = None
    ) -> Publish:
        """Return a refusal."""
        return self._publish(attempt, Refusal(attempt.client_nonce, reason, seconds))

    def answer(self, attempt: Attempt, kind: CarrierKind, offer: CarrierOffer) -> Publish:
        """Return the answer with the first carrier that is gathered."""
        return self._publish(
            attempt, Answer(attempt.client_nonce, {kind: offer}, attempt.continued_id)
        )

    def candidates(self, attempt: Attempt, kind: CarrierKind, offer: CarrierOffer) -> Publish:
        """Return the message with the other carrier."""
        return self._publish(attempt, Candidates(attempt.client_nonce, {kind: offer}))

    def _publish(self, attempt: Attempt, message: DeviceMessage) -> Publish:
        topic = attempt.topic
        data = attempt.keys.seal_to_client(message, topic, self._random_bytes)
        return Publish(topic, data, attempt.broker)
