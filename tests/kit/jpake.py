"""Both sides of J-PAKE with seeded randomness, and the computations of an attacker."""

from __future__ import annotations

import random
from collections.abc import Callable

from peer.identity import Fingerprint
from peer.pairing import p256
from peer.pairing.binding import Channel
from peer.pairing.code import CodeClient, CodeDevice
from peer.pairing.sides import Session, Terms, bytes_field
from peer.pairing.typed import TypedCode

EKM, WINDOW, ROLE = b"\xe0" * 32, b"\x04" * 16, "guest"
CLIENT, DEVICE, MALLORY = (Fingerprint(bytes([one]) * 32) for one in (0xC, 0xD, 0xE))
CODE = b"0417"
INFINITY = b"\4" + bytes(64)


def seeded_bytes(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


class Client(CodeClient):
    """The client's side, with one call per message."""

    def __init__(
        self, session: Session, code: TypedCode, random_bytes: Callable[[int], bytes]
    ) -> None:
        super().__init__(session, code, random_bytes)
        self.session = session

    def round_one(self) -> bytes:
        return bytes_field(self.begin(), "round_one")


class Board(CodeDevice):
    """The device's side, with one call per message."""

    def answer(self, round_one: bytes) -> bytes:
        return bytes_field(self.begin_untrusted({"round_one": round_one}), "rounds")

    def check(self, round_two: bytes, tag: bytes) -> None:
        self.check_untrusted({"round_two": round_two, "confirm": tag})


def victim(
    ekm: bytes = EKM, device: Fingerprint = DEVICE, secret: bytes = CODE, *, seed: int = 1
) -> Client:
    """A client whose user typed the right code."""
    return Client(Session(ekm, CLIENT, device), TypedCode(secret.decode()), seeded_bytes(seed))


def board(ekm: bytes = EKM, client: Fingerprint = CLIENT, *, seed: int = 2) -> Board:
    """A device that shows the code."""
    return Board(
        Terms(Channel(ekm, client, DEVICE, WINDOW), ROLE, "anna", "c1"),
        secret=lambda **_kind: CODE,
        random_bytes=seeded_bytes(seed),
        on_attempt=lambda **_kind: None,
    )


def read(client: Client, both: bytes) -> tuple[bytes, bytes]:
    """The client's round two and tag, as answer to these rounds."""
    channel = Channel(client.session.ekm, CLIENT, client.session.device, WINDOW)
    client.started_untrusted(Terms(channel, ROLE, "anna", "c1"), {"rounds": both})
    message = client.confirm()
    return bytes_field(message, "round_two"), bytes_field(message, "confirm")


G = p256.base()
