"""The method `sas`: both sides show the same six digits, and both users say so (protocol §5).

Somebody in the middle holds two sessions, and two numbers result: one per session, for each is made
of that session's B. He wants them equal. Six digits would not stop him if he could try values until
they fit, as he could offline in a second; so nobody learns the other's random value before being
bound to his own:

    1. C→D  start                     2. D→C  c = H(lp("handfast/1 commit") lp(B) lp(nD))
    3. C→D  nC, drawn after c came    4. D→C  nD; the client recomputes c
    number = int(HKDF-SHA256(ikm = nC‖nD, salt = B, info = "handfast/1 sas", 8 bytes)) mod 10^6
    5. both users say yes             6. C→D  client tag; the device commits    7. D→C  device tag

Towards the client he has to commit before he sees nC; towards the device he has to give his nC
before he sees nD. In any order of the two, the last value that enters is honest, random and unknown
to him: one chance in 10^6 per run, and a miss is seen by two people. nC = nD is refused by both, so
that nothing can be reflected. The number itself is never sent.

The tags prove that both yeses are about this exchange. They are made with T in both places:

    T = H(lp("handfast/1 sas") lp(m1) lp(m2) lp(m3) lp(m4)), each m a map in deterministic CBOR:
        m1 = {"method": "sas", "name": the user's name in NFC}
        m2 = {"id": the ceremony's id, "window": window id, "role": the role bound, "commit": c}
        m3 = {"nonce": nC}
        m4 = {"nonce": nD}

m1 to m4 hold what the messages 1 to 4 mean to the method; other fields of theirs (a state, the role
that was asked for) are not bound here: the role that counts is in m2 and in B.

Random bytes come in as arguments. Both objects are one-shot, and draw a fresh nonce each: a step
out of turn raises `Misuse`, and after a `Mismatch` there is no second try.
"""

from collections.abc import Callable
from enum import Enum, auto
from hashlib import sha256
from typing import ClassVar

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from peer import cbor
from peer.pairing.binding import Channel, Confirmation, lp, tags_equal
from peer.pairing.errors import Mismatch, Misuse
from peer.pairing.names import check_name

NAME = "sas"
NONCE_BYTES = 32
DIGITS = 6

_INFO = b"handfast/1 sas"
_NUMBER_BYTES = 8
_ATTACK = "This may be a man-in-the-middle attack. Start again on a network that you trust."


def commitment(b: bytes, device_nonce: bytes) -> bytes:
    """c: binds the device to its nonce in this session, and tells nothing about it."""
    return sha256(b"".join(map(lp, (b"handfast/1 commit", b, device_nonce)))).digest()


def number(b: bytes, client_nonce: bytes, device_nonce: bytes, *, digits: int = DIGITS) -> str:
    """What both sides show, with leading zeros. Even to a part in 10^13 (2^64 over 10^6)."""
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
    """T, as the essay above has it."""
    messages = (
        {"method": NAME, "name": name},
        {"id": ceremony_id, "window": window_id, "role": role, "commit": commit},
        {"nonce": client_nonce},
        {"nonce": device_nonce},
    )
    items = (_INFO, *map(cbor.encode, messages))
    return sha256(b"".join(map(lp, items))).digest()


def grouped(digits: str) -> str:
    """The number for people: `123 456`."""
    half = len(digits) // 2
    return f"{digits[:half]} {digits[half:]}" if len(digits) == DIGITS else digits


class _Turn(Enum):
    COMMIT = auto()
    NONCE = auto()
    OPEN = auto()
    TAG = auto()
    ANSWER = auto()
    OVER = auto()


class _Side:
    """What both halves share: the turn, and what results once both nonces are known."""

    name: ClassVar[str] = NAME

    def __init__(
        self,
        channel: Channel,
        role: str,
        *,
        ceremony_id: str,
        user: str,
        random_bytes: Callable[[int], bytes],
        digits: int = DIGITS,
    ) -> None:
        self._channel = channel
        self._role = role
        self._ceremony_id = ceremony_id
        self._user = check_name(user)
        self._random_bytes = random_bytes
        self._digits = digits
        self._b = channel.binding(method=NAME, role=role)
        self._nonce = b""  # ours, once drawn
        self._commit = b""  # the device's c
        self._number: str | None = None
        self._tags: Confirmation | None = None
        self._turn = _Turn.COMMIT

    @property
    def number(self) -> str:
        """What this side shows (`grouped` for people); `Misuse` until both nonces are known."""
        if self._number is None:
            raise Misuse("there is no number yet", advice="Exchange the nonces first.")
        return self._number

    def _step(self, due: _Turn) -> None:
        """It is this step's turn, and from here on nobody's: a step that succeeds says whose."""
        if self._turn is not due:
            raise Misuse(
                "a step of this ceremony was repeated or out of order",
                advice="Start a new ceremony.",
            )
        self._turn = _Turn.OVER

    def _drawn(self) -> bytes:
        nonce = self._random_bytes(NONCE_BYTES)
        if len(nonce) != NONCE_BYTES:
            raise Misuse(
                "the random source returned a nonce of the wrong length",
                advice="Use another random source.",
            )
        return nonce

    def _settle(self, client_nonce: bytes, device_nonce: bytes) -> None:
        self._number = number(self._b, client_nonce, device_nonce, digits=self._digits)
        t = transcript(
            name=self._user,
            ceremony_id=self._ceremony_id,
            window_id=self._channel.window_id,
            role=self._role,
            commit=self._commit,
            client_nonce=client_nonce,
            device_nonce=device_nonce,
        )
        self._tags = Confirmation.derived(self._channel.ekm, t, NAME, transcript=t)

    def _confirmation(self) -> Confirmation:
        if self._tags is None:
            raise Misuse("there are no tags yet", advice="Exchange the nonces first.")
        return self._tags


class SasDevice(_Side):
    """The device's half: `commit`, `reveal_untrusted`, and after its user's yes `check_untrusted`
    and `device_tag`."""

    def commit(self) -> bytes:
        """Draw nD, and give c for message 2."""
        self._step(_Turn.COMMIT)
        self._nonce = self._drawn()
        self._commit = commitment(self._b, self._nonce)
        self._turn = _Turn.NONCE
        return self._commit

    def reveal_untrusted(self, client_nonce: object) -> bytes:
        """Take nC, and give nD for message 4. Raises `Mismatch` for no nonce, or our own."""
        self._step(_Turn.NONCE)
        theirs = _nonce_untrusted(client_nonce, ours=self._nonce)
        self._settle(theirs, self._nonce)
        self._turn = _Turn.TAG
        return self._nonce

    def check_untrusted(self, tag: object) -> None:
        """Raise `Mismatch` unless this is the client's tag. There is no second try."""
        self._step(_Turn.TAG)
        if not isinstance(tag, bytes) or not tags_equal(self._confirmation().client_tag, tag):
            raise Mismatch("the client's confirmation is wrong", advice=_ATTACK)
        self._turn = _Turn.ANSWER

    def device_tag(self) -> bytes:
        """Our tag, for the answer after the commit."""
        self._step(_Turn.ANSWER)
        return self._confirmation().device_tag


class SasClient(_Side):
    """The client's half: `answer_untrusted`, `open_untrusted`, and after its user's yes `accept`
    and `verify_untrusted`."""

    def answer_untrusted(self, commit: object) -> bytes:
        """Take c, and only now draw nC, for message 3. Raises `Mismatch` for what is no c."""
        self._step(_Turn.COMMIT)
        if not isinstance(commit, bytes) or len(commit) != sha256().digest_size:
            raise Mismatch("the device sent no commitment", advice=_ATTACK)
        self._commit = commit
        self._nonce = self._drawn()
        self._turn = _Turn.OPEN
        return self._nonce

    def open_untrusted(self, device_nonce: object) -> None:
        """Take nD. Raises `Mismatch` unless it is what c promised: that is an attack."""
        self._step(_Turn.OPEN)
        theirs = _nonce_untrusted(device_nonce, ours=self._nonce)
        if not bytes_eq(commitment(self._b, theirs), self._commit):
            raise Mismatch("the device's nonce does not match its commitment", advice=_ATTACK)
        self._settle(self._nonce, theirs)
        self._turn = _Turn.TAG

    def accept(self) -> bytes:
        """This side's user says yes: the tag to send."""
        self._step(_Turn.TAG)
        self._turn = _Turn.ANSWER
        return self._confirmation().client_tag

    def verify_untrusted(self, tag: object) -> None:
        """Raise `Mismatch` unless this is the device's tag: only then may the client store it."""
        self._step(_Turn.ANSWER)
        if not isinstance(tag, bytes) or not tags_equal(self._confirmation().device_tag, tag):
            raise Mismatch(
                "the device's confirmation is wrong; nothing was stored here", advice=_ATTACK
            )


def _nonce_untrusted(nonce: object, *, ours: bytes) -> bytes:
    """The other side's nonce. One equal to ours is a reflection."""
    if not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
        raise Mismatch("the other side sent no nonce", advice=_ATTACK)
    if bytes_eq(nonce, ours):
        raise Mismatch("the other side returned this side's own nonce", advice=_ATTACK)
    return nonce
