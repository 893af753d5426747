"""The method `code`: the client's user types a code of the device (protocol §5).

    C→D  client round one                   D→C  server round one ‖ server round two
    C→D  client round two, client tag       D→C  device tag, after the commit

This is J-PAKE in its profile `handfast` (jpake.py): both fingerprints are its ids and the EKM is
its context. The tags are those of RFC 8236 §5, the second method, with lengths and B added:

    k'          H(lp(K) ‖ lp("JPAKE_KC")), K with its 65 bytes
    client tag  HMAC(k', lp("KC_1_U") lp("C"‖fpC) lp("D"‖fpD) lp(X1) lp(X2) lp(X3) lp(X4) lp(B))
    device tag  HMAC(k', lp("KC_1_U") lp("D"‖fpD) lp("C"‖fpC) lp(X3) lp(X4) lp(X1) lp(X2) lp(B))

The client confirms first. A device's first answer gives an attacker no material for an offline
dictionary attack, and the device sends nothing that depends on the code before the client has
proved that it knows the code. J-PAKE itself does not reveal that a code is wrong; both sides get as
far as the tag and do the same work. Every refusal of the other side's bytes is the same `Mismatch`
with the same text; its cause holds the real reason, for a log. Only the time of a refusal shows
that a message did not parse or that a proof failed, which its sender knows anyway.
"""

from __future__ import annotations

import hmac
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from peer.errors import Malformed
from peer.pairing.binding import Confirmation, lp
from peer.pairing.errors import Mismatch
from peer.pairing.jpake import CLIENT, ROUND_ONE_BYTES, SERVER, EcJpake, JpakeError, identities
from peer.pairing.methods import Method
from peer.pairing.one_shot import step
from peer.pairing.sides import ClientSide, DeviceSide, OfferedMethod, Session, Step, bytes_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peer.pairing.ceremony import Fields
    from peer.pairing.sides import RandomBytes, Terms
    from peer.pairing.typed import TypedCode


class Secret(Protocol):
    """Returns the secret of the device's current code."""

    def __call__(self, *, printed: bool) -> bytes:
        """Return the secret of the code on the label, or of the code on the screen.

        If there is no such code, return random bytes: a client cannot tell this from a wrong code.
        """


class OnAttempt(Protocol):
    """Counts an attempt at a code of the device."""

    def __call__(self, *, printed: bool) -> None:
        """Count an attempt at the code on the label, or at the code on the screen."""


def offer(secret: Secret, random_bytes: RandomBytes, on_attempt: OnAttempt) -> OfferedMethod:
    """Offer this method.

    `on_attempt` is called before the answer to the start, once the proofs of the client's round one
    hold: without them, the client cannot guess a code.
    """
    return OfferedMethod(
        Method.CODE,
        lambda terms: CodeDevice(
            terms, secret=secret, random_bytes=random_bytes, on_attempt=on_attempt
        ),
    )


class CodeDevice(DeviceSide):
    """The device's side. Its start raises `JpakeError` if the library of the curve is missing."""

    method = Method.CODE

    def __init__(
        self, terms: Terms, *, secret: Secret, random_bytes: RandomBytes, on_attempt: OnAttempt
    ) -> None:
        super().__init__(terms)
        self._secret = secret
        self._random_bytes = random_bytes
        self._on_try = on_attempt
        self._jpake: EcJpake | None = None

    @step(Step.START)
    def begin_untrusted(self, message: Fields) -> Fields:
        """Take the client's round one and `printed`; return both rounds of the device."""
        round_one, printed = bytes_field(message, "round_one"), message.get("printed", False)
        if not isinstance(printed, bool):
            raise Malformed("printed is neither true nor false", advice="Send true, or omit it.")
        channel = self._terms.channel
        session = Session(channel.ekm, channel.client, channel.device)
        self._jpake = _exchange(
            SERVER, self._secret(printed=printed), session, random_bytes=self._random_bytes
        )
        with _one_refusal():
            self._jpake.read_round_one(round_one)
            rounds = self._jpake.write_round_one() + self._jpake.write_round_two()
        self._on_try(printed=printed)
        return {"rounds": rounds}

    def _derive_tags_untrusted(self, message: Fields) -> Confirmation:
        assert self._jpake is not None
        round_two = bytes_field(message, "round_two")
        with _one_refusal():
            self._jpake.read_round_two(round_two)
        return _derive_tags(self._jpake, self._terms)

    def _mismatch(self, _what: str) -> Mismatch:
        return _refusal()


class CodeClient(ClientSide):
    """The client's side, with the code that its user typed.

    Raises `JpakeError` if the library of the curve is missing. A printed code costs a second here.
    """

    method = Method.CODE

    def __init__(self, session: Session, code: TypedCode, random_bytes: RandomBytes) -> None:
        super().__init__()
        self._is_printed = code.is_printed
        self._jpake = _exchange(
            CLIENT, code.secret(session.device), session, random_bytes=random_bytes
        )

    @step(Step.START)
    def begin(self) -> Fields:
        """Return round one, 330 bytes, and `printed` if the code is."""
        kind = {"printed": True} if self._is_printed else {}
        return {"round_one": self._jpake.write_round_one(), **kind}

    @step(Step.STARTED)
    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """Take both rounds of the device; there is no exchange."""
        rounds = answer.get("rounds")
        if not isinstance(rounds, bytes):
            raise _refusal()
        with _one_refusal():
            self._jpake.read_round_one(rounds[:ROUND_ONE_BYTES])
            self._jpake.read_round_two(rounds[ROUND_ONE_BYTES:])
        self._tags = _derive_tags(self._jpake, terms)
        return None

    def _proof(self) -> Fields:
        return {"round_two": self._jpake.write_round_two()}

    def _mismatch(self, _what: str) -> Mismatch:
        return _refusal()


def _exchange(role: str, secret: bytes, session: Session, *, random_bytes: RandomBytes) -> EcJpake:
    return EcJpake(
        role,
        secret,
        profile="handfast",
        context=session.ekm,
        client=session.client.digest,
        device=session.device.digest,
        random_bytes=random_bytes,
    )


def _derive_tags(exchange: EcJpake, terms: Terms) -> Confirmation:
    key = sha256(lp(exchange.shared_point()) + lp(b"JPAKE_KC")).digest()
    names = identities(terms.channel.client.digest, terms.channel.device.digest)
    bound = terms.binding(Method.CODE)

    def tag(own: str, other: str) -> bytes:
        points = (*exchange.public_points(own), *exchange.public_points(other))
        items = (b"KC_1_U", names[own], names[other], *points, bound)
        return hmac.digest(key, b"".join(map(lp, items)), "sha256")

    return Confirmation(tag(CLIENT, SERVER), tag(SERVER, CLIENT))


@contextmanager
def _one_refusal() -> Iterator[None]:
    """Turn every fault in the other side's bytes into one and the same refusal."""
    try:
        yield
    except JpakeError as error:
        raise _refusal() from error


def _refusal() -> Mismatch:
    return Mismatch(
        "the code is wrong, or this is a man-in-the-middle attack; nothing was stored",
        advice="While the window is open, start again with the new code that the device shows.",
    )
