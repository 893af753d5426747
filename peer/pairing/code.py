"""The method `code`: the device shows or bears a code, the client's user types it (protocol §5).

    C→D  client round one                   D→C  server round one ‖ server round two
    C→D  client round two, client tag       D→C  device tag, after the commit

J-PAKE in its profile `handfast` (jpake.py), both fingerprints as its ids and the EKM as its
context. The tags are those of RFC 8236 §5, the second method, every item with its length, and B:

    k'          H(lp(K) ‖ lp("JPAKE_KC")), K with its 65 bytes
    client tag  HMAC(k', lp("KC_1_U") lp("C"‖fpC) lp("D"‖fpD) lp(X1) lp(X2) lp(X3) lp(X4) lp(B))
    device tag  HMAC(k', lp("KC_1_U") lp("D"‖fpD) lp("C"‖fpC) lp(X3) lp(X4) lp(X1) lp(X2) lp(B))

The client confirms first: whoever calls a device gets an answer in which there is nothing to try
codes on, and must have the right one before the device says anything that depends on it. J-PAKE
itself never tells that a code is wrong; both sides come as far as the tag and do the same work.
Every refusal of the other side's bytes is the same `Mismatch` in the same words; what it really
was is its cause, for a log. That a message did not even parse or prove shows in time, to those
who made it so.

Objects are one-shot, like all methods'. The client learns window and role with the first answer,
so it needs them no earlier than there.
"""

from __future__ import annotations

import hmac
from contextlib import contextmanager
from enum import Enum, auto
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from peer.pairing.binding import Channel, Confirmation, lp, receipt, tags_equal
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.jpake import (
    CLIENT,
    ROUND_ONE_BYTES,
    SERVER,
    EcJpake,
    Fault,
    JpakeError,
    identities,
    stretched,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from peer.identity import Fingerprint

NAME = "code"
_SALT = b"handfast/1 code"


class _Turn(Enum):
    FIRST = auto()
    SECOND = auto()
    THIRD = auto()
    FOURTH = auto()
    OVER = auto()


def shown_secret(code: str) -> bytes:
    """The secret of a code for one use: its digits in ASCII, nothing between them."""
    return code.encode("ascii")


def printed_secret(code: str, device: Fingerprint) -> bytes:
    """The secret of a code that stays: stretched, with the device's own fingerprint as the salt.

    The client knows that salt from the session, before the device has said a word. `code` is the
    symbols in upper case, nothing between them.
    """
    return stretched(code.encode("ascii"), lp(_SALT) + lp(device.digest))


class CodeDevice:
    """The device's half: answer round one, check the client once, then give our tag once.

    `secret` is the code's, `entropy` gives random bytes. Raises `JpakeError` if the library of the
    curve is missing.
    """

    name: ClassVar[str] = NAME

    def __init__(
        self, channel: Channel, role: str, secret: bytes, *, entropy: Callable[[int], bytes]
    ) -> None:
        self._channel, self._role = channel, role
        self._exchange = _exchange(
            SERVER, secret, channel.ekm, channel.client, channel.device, entropy
        )
        self._turn = _Turn.FIRST
        self._tag = b""

    def answer_untrusted(self, round_one: object) -> bytes:
        """Both our rounds for the client's first one. Raises `Mismatch`."""
        _require(self._turn is _Turn.FIRST, "round one was already answered")
        self._turn = _Turn.OVER
        with _refusals():
            self._exchange.read_round_one(round_one)
            answer = self._exchange.write_round_one() + self._exchange.write_round_two()
        self._turn = _Turn.SECOND
        return answer

    def check_untrusted(self, round_two: object, tag: object) -> None:
        """Raise `Mismatch` unless the client knew the code. There is no second try."""
        _require(self._turn is _Turn.SECOND, "the client's tag is not expected now")
        self._turn = _Turn.OVER
        with _refusals():
            self._exchange.read_round_two(round_two)
        tags = _tags(self._exchange, self._channel, self._role)
        _compare(tags.client_tag, tag)
        self._tag, self._turn = tags.device_tag, _Turn.THIRD

    def device_tag(self) -> bytes:
        """Our tag, for the answer after the commit."""
        _require(self._turn is _Turn.THIRD, "the device's tag is not available now")
        self._turn = _Turn.OVER
        return self._tag


class CodeClient:
    """The client's half: `round_one`, read the device's answer, `finish`, then check its tag.

    `ekm`, `client` and `device` are those of the session; `secret` is the code's, `entropy` gives
    random bytes. Raises `JpakeError` if the library of the curve is missing.
    """

    name: ClassVar[str] = NAME

    def __init__(
        self,
        ekm: bytes,
        client: Fingerprint,
        device: Fingerprint,
        secret: bytes,
        *,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._session = (ekm, client, device)
        self._exchange = _exchange(CLIENT, secret, ekm, client, device, entropy)
        self._turn = _Turn.FIRST
        self._tags: Confirmation | None = None

    def round_one(self) -> bytes:
        """The first message, 330 bytes."""
        _require(self._turn is _Turn.FIRST, "round one was already returned")
        self._turn = _Turn.SECOND
        with _refusals():
            return self._exchange.write_round_one()

    def read_device_untrusted(self, both_rounds: object, *, window_id: bytes, role: str) -> None:
        """The device's answer, with the window (16 bytes) and the role it named.

        Raises `Mismatch`.
        """
        _require(self._turn is _Turn.SECOND, "the device's answer is not expected now")
        self._turn = _Turn.OVER
        channel = Channel(*self._session, window_id)
        if not isinstance(both_rounds, bytes):
            raise _wrong()
        with _refusals():
            self._exchange.read_round_one(both_rounds[:ROUND_ONE_BYTES])
            self._exchange.read_round_two(both_rounds[ROUND_ONE_BYTES:])
        self._tags = _tags(self._exchange, channel, role)
        self._turn = _Turn.THIRD

    def finish(self) -> tuple[bytes, bytes]:
        """Round two and our tag, to send together."""
        _require(self._turn is _Turn.THIRD, "round two is not expected now")
        assert self._tags is not None
        self._turn = _Turn.FOURTH
        with _refusals():
            return self._exchange.write_round_two(), self._tags.client_tag

    def verify_untrusted(self, tag: object) -> None:
        """Raise `Mismatch` unless this is the device's tag: only then may the client store it."""
        _require(self._turn is _Turn.FOURTH, "the device's tag is not expected now")
        assert self._tags is not None
        self._turn = _Turn.OVER
        _compare(self._tags.device_tag, tag)

    def verify_receipt_untrusted(self, offered: object) -> None:
        """The same if the tag was lost: raise `Mismatch` unless this is the receipt of it."""
        _require(self._turn is _Turn.FOURTH, "the device's receipt is not expected now")
        assert self._tags is not None
        self._turn = _Turn.OVER
        _compare(receipt(self._tags.device_tag), offered)


def _exchange(
    role: str,
    secret: bytes,
    ekm: bytes,
    client: Fingerprint,
    device: Fingerprint,
    entropy: Callable[[int], bytes],
) -> EcJpake:
    return EcJpake(
        role,
        secret,
        profile="handfast",
        context=ekm,
        client=client.digest,
        device=device.digest,
        entropy=entropy,
    )


def _tags(exchange: EcJpake, channel: Channel, role: str) -> Confirmation:
    key = sha256(lp(exchange.shared_point()) + lp(b"JPAKE_KC")).digest()
    bound = channel.binding(method=NAME, role=role)
    names = identities(channel.client.digest, channel.device.digest)

    def tag(own: str, other: str) -> bytes:
        points = (*exchange.public_points(own), *exchange.public_points(other))
        items = (b"KC_1_U", names[own], names[other], *points, bound)
        return hmac.digest(key, b"".join(map(lp, items)), "sha256")

    return Confirmation(tag(CLIENT, SERVER), tag(SERVER, CLIENT))


def _compare(expected: bytes, offered: object) -> None:
    if not isinstance(offered, bytes) or not tags_equal(expected, offered):
        raise _wrong()


@contextmanager
def _refusals() -> Iterator[None]:
    """Whatever is wrong with the other side's bytes is one and the same refusal; ours is ours."""
    try:
        yield
    except JpakeError as error:
        if error.fault in (Fault.MISUSE, Fault.UNAVAILABLE):
            raise Misuse(str(error), advice=error.advice) from error
        raise _wrong() from error


def _wrong() -> Mismatch:
    return Mismatch(
        "the code is wrong, or this is a man-in-the-middle attack; nothing was stored",
        advice="Start again with the new code that the device shows.",
    )


def _require(is_due: bool, why: str) -> None:
    if not is_due:
        raise Misuse(why, advice="Start a new ceremony.")
