"""The method `sas`: both sides show the same six digits, and both users compare them (protocol §5).

SAS stands for "short authentication string". A man in the middle has two sessions, and each has a
number of its own, because each number depends on its session's B. The attack succeeds if the
numbers are equal. With six digits, values that make them equal could be found offline and within a
second. A commitment prevents that: each side is bound to its random value before it learns the
other's.

    1. C→D  start                     2. D→C  c = H(lp("handfast/1 commit") lp(B) lp(nD))
    3. C→D  nC, drawn after c came    4. D→C  nD; the client recomputes c
    number = int(HKDF-SHA256(ikm = nC‖nD, salt = B, info = "handfast/1 sas", 8 bytes)) mod 10^6
    5. both users accept              6. C→D  client tag; the device commits    7. D→C  device tag

Towards the client, the attacker must commit before nC is known; towards the device, nC must be sent
before nD is known. Whichever session ends last, the last value that enters its number is honest,
random and unknown to the attacker: the chance is 10^-6 per run, and two users see a failure. Both
sides refuse nC = nD, so nothing can be reflected. The number itself is never sent.

The tags prove that both users accepted this exchange. T is both their salt and their transcript:

    T = H(lp("handfast/1 sas") lp(m1) lp(m2) lp(m3) lp(m4)), each m a map in deterministic CBOR:
        m1 = {"method": "sas", "name": the user's name in NFC}
        m2 = {"id": the ceremony's id, "window": window id, "role": the role bound, "commit": c}
        m3 = {"nonce": nC}
        m4 = {"nonce": nD}

m1 to m4 hold what the messages 1 to 4 mean to the method. Other fields of these messages (a state,
the role that the client requested) are not bound here: the role that counts is in m2 and in B.
"""

from dataclasses import replace
from hashlib import sha256

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peer import cbor
from peer.pairing.binding import Confirmation, lp
from peer.pairing.ceremony import Fields
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.methods import Method
from peer.pairing.names import check_name
from peer.pairing.one_shot import step
from peer.pairing.sides import (
    ClientSide,
    DeviceSide,
    OfferedMethod,
    RandomBytes,
    Step,
    Terms,
    bytes_field,
)

NONCE_BYTES = 32
DIGITS = 6

_INFO = b"handfast/1 sas"
_NUMBER_BYTES = 8
_ATTACK = "This may be a man-in-the-middle attack. Start again on a network that you trust."


def commitment(b: bytes, device_nonce: bytes) -> bytes:
    """Return c, which binds the device to its nonce in this session without revealing it."""
    return sha256(b"".join(map(lp, (b"handfast/1 commit", b, device_nonce)))).digest()


def number(b: bytes, client_nonce: bytes, device_nonce: bytes, *, digits: int = DIGITS) -> str:
    """Return what both sides show, with leading zeros.

    All numbers are equally likely up to one part in 10^13 (2^64 over 10^6).
    """
    kdf = HKDF(algorithm=SHA256(), length=_NUMBER_BYTES, salt=b, info=_INFO)
    drawn = int.from_bytes(kdf.derive(client_nonce + device_nonce), "big")
    return f"{drawn % 10**digits:0{digits}}"


def transcript(
    *,
    name: str,
    ceremony_id: str,
    window_id: bytes,
    role: str,
    commit: bytes,
    client_nonce: bytes,
    device_nonce: bytes,
) -> bytes:
    """Return T, as the docstring of this module defines it."""
    messages = (
        {"method": Method.SAS.value, "name": name},
        {"id": ceremony_id, "window": window_id, "role": role, "commit": commit},
        {"nonce": client_nonce},
        {"nonce": device_nonce},
    )
    items = (_INFO, *map(cbor.encode, messages))
    return sha256(b"".join(map(lp, items))).digest()


def grouped(digits: str) -> str:
    """Return the number as users read it: `123 456`."""
    half = len(digits) // 2
    return f"{digits[:half]} {digits[half:]}" if len(digits) == DIGITS else digits


def offer(random_bytes: RandomBytes) -> OfferedMethod:
    """Offer this method; each ceremony draws a nonce of its own."""
    return OfferedMethod(Method.SAS, lambda terms: SasDevice(terms, random_bytes=random_bytes))


class SasDevice(DeviceSide):
    """The device's side. `digits` is the length of the number."""

    method = Method.SAS
    retry_advice = _ATTACK

    def __init__(self, terms: Terms, *, random_bytes: RandomBytes, digits: int = DIGITS) -> None:
        super().__init__(_with_checked_name(terms))
        self._random_bytes = random_bytes
        self._digits = digits
        self._binding = terms.binding(self.method)
        self._commitment = b""
        self._nonce = b""
        self._number = ""
        self._agreed_tags: Confirmation | None = None

    @step(Step.START)
    def begin_untrusted(self, _message: Fields) -> Fields:
        """Draw nD; return c."""
        self._nonce = _draw_nonce(self._random_bytes)
        self._commitment = commitment(self._binding, self._nonce)
        return {"commit": self._commitment}

    @step(Step.EXCHANGE)
    def exchange_untrusted(self, message: Fields) -> Fields:
        """Take nC; return nD."""
        theirs = _nonce_untrusted(bytes_field(message, "nonce"), ours=self._nonce)
        self._number = number(self._binding, theirs, self._nonce, digits=self._digits)
        self._agreed_tags = _derive_tags(self._terms, self._commitment, theirs, self._nonce)
        return {"nonce": self._nonce}

    @property
    def number(self) -> str:
        """The number that this side shows. Raises `Misuse` before the exchange."""
        return _existing(self._number)

    def _derive_tags_untrusted(self, _message: Fields) -> Confirmation:
        assert self._agreed_tags is not None
        return self._agreed_tags


class SasClient(ClientSide):
    """The client's side. `digits` is the length of the number."""

    method = Method.SAS
    retry_advice = _ATTACK

    def __init__(self, random_bytes: RandomBytes, *, digits: int = DIGITS) -> None:
        super().__init__()
        self._random_bytes = random_bytes
        self._digits = digits
        self._terms: Terms | None = None
        self._binding = b""
        self._commitment = b""
        self._nonce = b""
        self._number = ""

    @step(Step.STARTED)
    def started_untrusted(self, terms: Terms, answer: Fields) -> Fields | None:
        """Take c, and only then draw nC; return it."""
        commit = answer.get("commit")
        if not isinstance(commit, bytes) or len(commit) != sha256().digest_size:
            raise self._mismatch("the device sent no commitment")
        self._terms = _with_checked_name(terms)
        self._binding, self._commitment = terms.binding(self.method), commit
        self._nonce = _draw_nonce(self._random_bytes)
        return {"nonce": self._nonce}

    @step(Step.EXCHANGE)
    def exchanged_untrusted(self, answer: Fields) -> None:
        """Take nD. A nonce that does not match its commitment is an attack."""
        assert self._terms is not None
        theirs = _nonce_untrusted(answer.get("nonce"), ours=self._nonce)
        if not self._is_committed(theirs):
            raise self._mismatch("the device's nonce does not match its commitment")
        self._number = number(self._binding, self._nonce, theirs, digits=self._digits)
        self._tags = _derive_tags(self._terms, self._commitment, self._nonce, theirs)

    @property
    def number(self) -> str:
        """The number that this side shows. Raises `Misuse` before the exchange."""
        return _existing(self._number)

    def _is_committed(self, device_nonce: bytes) -> bool:
        return bytes_eq(commitment(self._binding, device_nonce), self._commitment)


def _with_checked_name(terms: Terms) -> Terms:
    """Return the terms with the user's name in NFC. Raises `Malformed`."""
    return replace(terms, user=check_name(terms.user))


def _draw_nonce(random_bytes: RandomBytes) -> bytes:
    nonce = random_bytes(NONCE_BYTES)
    if len(nonce) != NONCE_BYTES:
        raise Misuse(
            "the random source returned a nonce of the wrong length",
            advice="Use another random source.",
        )
    return nonce


def _nonce_untrusted(nonce: object, *, ours: bytes) -> bytes:
    """Return the other side's nonce. A nonce equal to `ours` is a reflection."""
    if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
        raise Mismatch("the other side sent no nonce", advice=_ATTACK)
    if bytes_eq(nonce, ours):
        raise Mismatch("the other side returned this side's own nonce", advice=_ATTACK)
    return nonce


def _derive_tags(
    terms: Terms, commit: bytes, client_nonce: bytes, device_nonce: bytes
) -> Confirmation:
    t = transcript(
        name=terms.user,
        ceremony_id=terms.ceremony_id,
        window_id=terms.channel.window_id,
        role=terms.role,
        commit=commit,
        client_nonce=client_nonce,
        device_nonce=device_nonce,
    )
    return Confirmation.derive(terms.channel.ekm, t, Method.SAS, transcript=t)


def _existing(number: str) -> str:
    if not number:
        raise Misuse("there is no number yet", advice="Exchange the nonces first.")
    return number
