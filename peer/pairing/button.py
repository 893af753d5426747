"""The method `button`: the first client after a press of the device's button is paired.

The messages are those of `compare` under another name; no user compares anything. The method proves
no key: a man in the middle is not noticed. So a client uses it only if its user names it, and the
device grants the role for unverified keys (protocol §5).
"""

from peer.pairing.binding import Confirmation
from peer.pairing.ceremony import Fields
from peer.pairing.compare import derive_tags
from peer.pairing.methods import Method
from peer.pairing.one_shot import step
from peer.pairing.sides import ClientSide, DeviceSide, OfferedMethod, Step, Terms


def offer() -> OfferedMethod:
    """Offer this method: for windows that a press of the button opened."""
    return OfferedMethod(Method.BUTTON, ButtonDevice)


class ButtonDevice(DeviceSide):
    """The device's side."""

    method = Method.BUTTON

    def _derive_tags_untrusted(self, _message: Fields) -> Confirmation:
        return derive_tags(self._terms, self.method)


class ButtonClient(ClientSide):
    """The client's side."""

    method = Method.BUTTON

    @step(Step.STARTED)
    def started_untrusted(self, terms: Terms, _answer: Fields) -> Fields | None:
        """Derive the tags; there is no exchange."""
        self._tags = derive_tags(terms, self.method)
        return None
