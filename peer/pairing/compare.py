"""The method `compare`: each side shows the other's full fingerprint, and both users accept.

People authenticate the keys; the tags then prove that both yeses were about the same session,
keys, window and role (protocol §5). kc = HKDF-SHA256(ikm = EKM, salt = B, info = "handfast/1
compare confirm"), client tag = HMAC(kc, "C"), device tag = HMAC(kc, "D"). The client confirms
first, and the device answers after its commit.

Both objects are one-shot: a step out of turn raises `Misuse`. The plain form has no tags and uses
none of this. The method `button` has the same tags under its own name, and nothing to look at.
"""

from enum import Enum, auto

from peer.pairing.binding import Channel, Confirmation, confirmation, tags_equal
from peer.pairing.errors import Mismatch, Misuse

NAME = "compare"


class _Turn(Enum):
    FIRST = auto()
    SECOND = auto()
    OVER = auto()


def _confirmation(channel: Channel, role: str, method: str) -> Confirmation:
    return confirmation(channel.ekm, channel.binding(method=method, role=role), method)


class CompareDevice:
    """The device's half: check the client's tag once, then give ours once."""

    def __init__(self, channel: Channel, role: str, *, method: str = NAME) -> None:
        self._tags = _confirmation(channel, role, method)
        self._turn = _Turn.FIRST

    def check_untrusted(self, tag: bytes) -> None:
        """Raise `Mismatch` unless this is the client's tag. There is no second try."""
        if self._turn is not _Turn.FIRST:
            raise Misuse(
                "the tag of this ceremony was already checked", advice="Start a new ceremony."
            )
        self._turn = _Turn.OVER
        if not tags_equal(self._tags.client_tag, tag):
            raise Mismatch(
                "the client's confirmation is wrong",
                advice="Start again and compare all digits of both fingerprints.",
            )
        self._turn = _Turn.SECOND

    def device_tag(self) -> bytes:
        """Our tag, for the answer after the commit."""
        if self._turn is not _Turn.SECOND:
            raise Misuse(
                "the device's tag is not available yet", advice="Check the client's tag first."
            )
        self._turn = _Turn.OVER
        return self._tags.device_tag


class CompareClient:
    """The client's half: `accept` when its user says yes, then `verify_untrusted` the answer."""

    def __init__(self, channel: Channel, role: str, *, method: str = NAME) -> None:
        self._tags = _confirmation(channel, role, method)
        self._turn = _Turn.FIRST

    def accept(self) -> bytes:
        """This side's user says yes: the tag to send."""
        if self._turn is not _Turn.FIRST:
            raise Misuse("the client's tag was already returned", advice="Start a new ceremony.")
        self._turn = _Turn.SECOND
        return self._tags.client_tag

    def verify_untrusted(self, tag: object) -> None:
        """Raise `Mismatch` unless this is the device's tag: only then may the client store it."""
        if self._turn is not _Turn.SECOND:
            raise Misuse("the device's tag is not expected yet", advice="Accept first.")
        self._turn = _Turn.OVER
        if not isinstance(tag, bytes) or not tags_equal(self._tags.device_tag, tag):
            raise Mismatch(
                "the device's confirmation is wrong; nothing was stored here",
                advice="Start again and compare all digits of both fingerprints.",
            )
