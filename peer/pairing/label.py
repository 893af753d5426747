"""The method `label`: the client scans the label on the device (protocol §5).

    HANDFAST:1:<device id>:<fingerprint>:<token><check symbol>

The fingerprint is all 32 bytes in Crockford base32, 52 symbols. The device ID is its first eight
symbols, for people to find and as a second check on the rest. The token is 16 random bytes, 26
symbols. These 100 symbols fit a QR code of version 5-M, which holds 122.

The printed fingerprint authenticates the device to the client; the token authenticates the client,
which must have seen the device. So the client compares the fingerprint first, and only then sends
the token, inside DTLS and to that key alone. A token is worth no more than a look at the label:
everyone who can see the label can pair while a window is open.

    1. C→D the token and the client's tag      2. D checks both, commits, and answers with its tag

T = H(lp("handfast/1 label") lp(B) lp(token)) is the salt and the transcript of the tags, so a tag
also names the token that was meant.

A device does not store the token: `Label.verifier` is a hash of it and of the device's fingerprint.
The token has 128 random bits, so the hash need not be slow.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Self

from peer.errors import Malformed
from peer.identity import FINGERPRINT_BYTES, Fingerprint
from peer.pairing.armour import LABEL, armour_fields, base32, base32_untrusted, fields_untrusted
from peer.pairing.binding import Confirmation, lp, tags_equal
from peer.pairing.ceremony import Fields
from peer.pairing.errors import Mismatch
from peer.pairing.methods import Method
from peer.pairing.one_shot import step
from peer.pairing.sides import (
    ClientSide,
    DeviceSide,
    OfferedMethod,
    Session,
    Step,
    Terms,
    bytes_field,
)

TOKEN_BYTES = 16

_WRONG_LABEL = "Scan the label that is on the device now. Earlier labels are no longer valid."


@dataclass(frozen=True, slots=True)
class Label:
    """The label of a device. The `repr` does not show the token.

    Raises `Malformed` for a token that is not 16 bytes.
    """

    device: Fingerprint
    token: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.token) != TOKEN_BYTES:
            raise Malformed("the label's token has the wrong length", advice=_WRONG_LABEL)

    @property
    def text(self) -> str:
        """The text of the QR code. It contains the token."""
        return armour_fields(
            LABEL, self.device.device_id, base32(self.device.digest), base32(self.token)
        )

    @property
    def verifier(self) -> bytes:
        """The value that a device stores to recognise the token, which it does not reveal."""
        return token_verifier(self.device, self.token)

    @classmethod
    def parse_untrusted(cls, text: object) -> Self:
        """Parse a text that was scanned or typed. Raises `Malformed`, and nothing else."""
        device_id, printed, token = fields_untrusted(text, kind=LABEL, count=3)
        digest = base32_untrusted(printed)
        if len(digest) != FINGERPRINT_BYTES or Fingerprint(digest).device_id != device_id:
            raise Malformed(
                "the label's device ID and fingerprint do not match",
                advice="Scan it again. If the error persists, pair by another method.",
            )
        return cls(Fingerprint(digest), base32_untrusted(token))


def token_verifier(device: Fingerprint, token: bytes) -> bytes:
    """Return H(lp("handfast/1 label token") lp(fpD) lp(token)), 32 bytes."""
    return sha256(b"".join(map(lp, (b"handfast/1 label token", device.digest, token)))).digest()


def offer(verifier: Callable[[], bytes]) -> OfferedMethod:
    """Offer this method; `verifier` returns that of the device's current label."""
    return OfferedMethod(Method.LABEL, lambda terms: LabelDevice(terms, verifier=verifier()))


class LabelDevice(DeviceSide):
    """The device's side. `verifier` is that of the device's label."""

    method = Method.LABEL

    def __init__(self, terms: Terms, *, verifier: bytes) -> None:
        super().__init__(terms)
        self._verifier = verifier

    def _derive_tags_untrusted(self, message: Fields) -> Confirmation:
        token = bytes_field(message, "token")
        if not tags_equal(self._verifier, token_verifier(self._terms.channel.device, token)):
            raise Mismatch("this is not the token of the device's label", advice=_WRONG_LABEL)
        return _derive_tags(self._terms, token)


class LabelClient(ClientSide):
    """The client's side; scanning the label was its user's consent.

    Raises `Mismatch` at once if the session is not with the device of the label: the token then
    never leaves this object.
    """

    method = Method.LABEL

    def __init__(self, session: Session, label: Label) -> None:
        super().__init__()
        if session.device != label.device:
            raise Mismatch(
                f"this is not the device of the label: the label says {label.device}, "
                f"the device has {session.device}",
                advice="If it is the right device, do not continue: this may be a "
                "man-in-the-middle attack.",
            )
        self._label = label

    @step(Step.STARTED)
    def started_untrusted(self, terms: Terms, _answer: Fields) -> Fields | None:
        """Derive the tags; there is no exchange."""
        self._tags = _derive_tags(terms, self._label.token)
        return None

    def _proof(self) -> Fields:
        return {"token": self._label.token}


def _derive_tags(terms: Terms, token: bytes) -> Confirmation:
    t = sha256(
        b"".join(map(lp, (b"handfast/1 label", terms.binding(Method.LABEL), token)))
    ).digest()
    return Confirmation.derive(terms.channel.ekm, t, Method.LABEL, transcript=t)
