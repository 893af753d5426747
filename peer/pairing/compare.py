"""The method `compare`: each side shows the other's full fingerprint, and both users accept.

The users authenticate the keys; the tags then prove that both answers were about the same session,
keys, window and role (protocol §5):

    kc          HKDF-SHA256(ikm = EKM, salt = B, info = "handfast/1 compare confirm")
    client tag  HMAC(kc, "C")
    device tag  HMAC(kc, "D")

The plain form (RFC 7252 clients without handfast) has no tags and uses nothing of this.
"""

from peer.pairing.binding import Confirmation
from peer.pairing.ceremony import Fields
from peer.pairing.methods import Method
from peer.pairing.one_shot import step
from peer.pairing.sides import ClientSide, DeviceSide, OfferedMethod, Step, Terms

_ADVICE = "Start again and compare all digits of both fingerprints."


def offer() -> OfferedMethod:
    """Offer this method."""
    return OfferedMethod(Method.COMPARE, CompareDevice)


class CompareDevice(DeviceSide):
    """The device's side."""

    method = Method.COMPARE
    retry_advice = _ADVICE

    def _derive_tags_untrusted(self, _message: Fields) -> Confirmation:
        return derive_tags(self._terms, self.method)


class CompareClient(ClientSide):
    """The client's side."""

    method = Method.COMPARE
    retry_advice = _ADVICE

    @step(Step.STARTED)
    def started_untrusted(self, terms: Terms, _answer: Fields) -> Fields | None:
        """Derive the tags; there is no exchange."""
        self._tags = derive_tags(terms, self.method)
        return None


def derive_tags(terms: Terms, method: Method) -> Confirmation:
    """Return the tags of a method that confirms B itself."""
    return Confirmation.derive(terms.channel.ekm, terms.binding(method), method)
