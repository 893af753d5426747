"""The method `label`: the client scans what is printed on the device (protocol §5).

    HANDFAST:1*<device id>*<fingerprint>*<token><check symbol>

The fingerprint is all 32 bytes in Crockford base32, 52 symbols; the device id is its first eight,
there for people to find and a second check on the rest. The token is 16 random bytes, 26 symbols.
100 symbols in all fit a QR code of version 5-M, which holds 122.

The printed fingerprint authenticates the device, and the token the client: whoever has it has seen
the device. So the client compares the fingerprint first, and only then shows the token, inside of
DTLS, to that key alone. The token is never worth more than one look at the label: who may be near
it decides who can pair while a window is open.

    1. C→D the token and the client's tag      2. D checks both, commits, and answers with its tag

T = H(lp("handfast/1 label") lp(B) lp(token)) is the salt and the transcript of the tags, so a tag
also says which token was meant.

A device need not keep the token: `Label.verifier` is a hash of it and of the device's fingerprint,
and 128 random bits need no slow one. Both objects are one-shot: a step out of turn is `Misuse`.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha256
from typing import ClassVar, Self

from peer.errors import Malformed
from peer.identity import FINGERPRINT_BYTES, Fingerprint
from peer.pairing.armour import LABEL, armoured, base32, base32_untrusted, fields_untrusted
from peer.pairing.binding import Channel, Confirmation, lp, tags_equal
from peer.pairing.errors import Mismatch, Misuse

NAME = "label"
TOKEN_BYTES = 16

_WRONG_LABEL = "Scan the label that is on the device now. Earlier labels are no longer valid."


@dataclass(frozen=True, slots=True)
class Label:
    """What is printed on a device. The `repr` does not show the token.

    Raises `Malformed` for a token that is not 16 bytes.
    """

    device: Fingerprint
    token: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.token) != TOKEN_BYTES:
            raise Malformed("the label's token has the wrong length", advice=_WRONG_LABEL)

    @property
    def text(self) -> str:
        """What the QR code says; it holds the token."""
        return armoured(
            LABEL, self.device.device_id, base32(self.device.digest), base32(self.token)
        )

    @property
    def verifier(self) -> bytes:
        """What a device has to keep to recognise the token, and from which nobody gets it."""
        return token_verifier(self.device, self.token)

    @classmethod
    def parse_untrusted(cls, text: object) -> Self:
        """Read what was scanned or typed. Raises `Malformed`, and nothing else."""
        device_id, printed, token = fields_untrusted(text, kind=LABEL, count=3)
        digest = base32_untrusted(printed)
        if len(digest) != FINGERPRINT_BYTES or Fingerprint(digest).device_id != device_id:
            raise Malformed(
                "the label's device ID and fingerprint do not match",
                advice="Scan it again. If the error persists, pair by another method.",
            )
        return cls(Fingerprint(digest), base32_untrusted(token))


def token_verifier(device: Fingerprint, token: bytes) -> bytes:
    """H(lp("handfast/1 label token") lp(fpD) lp(token)), 32 bytes."""
    return sha256(b"".join(map(lp, (b"handfast/1 label token", device.digest, token)))).digest()


def _confirmation(channel: Channel, role: str, token: bytes) -> Confirmation:
    b = channel.binding(method=NAME, role=role)
    t = sha256(b"".join(map(lp, (b"handfast/1 label", b, token)))).digest()
    return Confirmation.derived(channel.ekm, t, NAME, transcript=t)


class _Turn(Enum):
    TOKEN = auto()
    TAG = auto()
    ANSWER = auto()
    OVER = auto()


class LabelDevice:
    """The device's half: check the token once, then the client's tag once, then give ours once."""

    name: ClassVar[str] = NAME

    def __init__(self, channel: Channel, role: str, *, verifier: bytes) -> None:
        self._channel = channel
        self._role = role
        self._verifier = verifier
        self._tags: Confirmation | None = None
        self._turn = _Turn.TOKEN

    def check_token_untrusted(self, token: object) -> None:
        """Raise `Mismatch` unless this is the label's token. There is no second try."""
        self._step(_Turn.TOKEN, _Turn.OVER, "the label's token was already checked")
        given = token if isinstance(token, bytes) else b""
        if not tags_equal(self._verifier, token_verifier(self._channel.device, given)):
            raise Mismatch("this is not the token of the device's label", advice=_WRONG_LABEL)
        self._tags = _confirmation(self._channel, self._role, given)
        self._turn = _Turn.TAG

    def check_untrusted(self, tag: object) -> None:
        """Raise `Mismatch` unless this is the client's tag. There is no second try."""
        self._step(_Turn.TAG, _Turn.OVER, "the client's tag is not expected now")
        assert self._tags is not None
        if not isinstance(tag, bytes) or not tags_equal(self._tags.client_tag, tag):
            raise Mismatch("the client's confirmation is wrong", advice="Start again.")
        self._turn = _Turn.ANSWER

    def device_tag(self) -> bytes:
        """Our tag, for the answer after the commit."""
        self._step(_Turn.ANSWER, _Turn.OVER, "the device's tag is not available now")
        assert self._tags is not None
        return self._tags.device_tag

    def _step(self, due: _Turn, after: _Turn, words: str) -> None:
        if self._turn is not due:
            raise Misuse(words, advice="Take each step once and in order.")
        self._turn = after


class LabelClient:
    """The client's half: `reveal` token and tag to the device of the label, then verify its answer.

    Raises `Mismatch` at once if the peer's key is not the one on the label: there is then no way to
    get the token out of this object.
    """

    name: ClassVar[str] = NAME

    def __init__(self, channel: Channel, role: str, label: Label) -> None:
        if channel.device != label.device:
            raise Mismatch(
                f"this is not the device of the label: the label says {label.device}, "
                f"the device has {channel.device}",
                advice="If it is the right device, do not continue: this may be a "
                "man-in-the-middle attack.",
            )
        self._token = label.token
        self._tags = _confirmation(channel, role, label.token)
        self._turn = _Turn.TOKEN

    def reveal(self) -> tuple[bytes, bytes]:
        """Token and tag, to send together. Scanning was this user's yes."""
        if self._turn is not _Turn.TOKEN:
            raise Misuse("the token was already returned", advice="Start a new ceremony.")
        self._turn = _Turn.ANSWER
        return self._token, self._tags.client_tag

    def verify_untrusted(self, tag: object) -> None:
        """Raise `Mismatch` unless this is the device's tag: only then may the client store it."""
        if self._turn is not _Turn.ANSWER:
            raise Misuse("the device's tag is not expected yet", advice="Reveal the token first.")
        self._turn = _Turn.OVER
        if not isinstance(tag, bytes) or not tags_equal(self._tags.device_tag, tag):
            raise Mismatch(
                "the device's confirmation is wrong; nothing was stored here",
                advice="Start again.",
            )
