"""The examples of the methods in docs/protocol.md, computed twice: by the code, and without it.

The second way uses hashlib, hmac and the `ecdsa` package alone.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import scrypt, sha256
from typing import TYPE_CHECKING

import cbor2
import ecdsa
import pytest

from peer.identity import CROCKFORD, Fingerprint
from peer.pairing import binding, code, label, sas
from peer.pairing.binding import Channel
from peer.pairing.label import Label
from peer.pairing.methods import Method
from peer.pairing.sides import Session, Terms
from peer.pairing.typed import TypedCode

if TYPE_CHECKING:
    from tests.kit.documents import Paper

CURVE, ORDER, G = ecdsa.NIST256p.curve, ecdsa.NIST256p.order, ecdsa.NIST256p.generator


class Said:
    """The example's session, and the values of one method."""

    def __init__(self, paper: Paper, method: str) -> None:
        keys, compare = paper.vectors("identity"), paper.vectors("compare")
        self.method = method
        self.values = paper.vectors(method)
        self.client = Fingerprint.parse(keys["client hex"])
        self.device = Fingerprint.parse(keys["device hex"])
        self.ekm, self.window = bytes.fromhex(compare["ekm"]), bytes.fromhex(compare["window"])
        self.channel = Channel(self.ekm, self.client, self.device, self.window)

    def __getitem__(self, name: str) -> bytes:
        return bytes.fromhex(self.values[name])

    @property
    def b(self) -> bytes:
        return hashed(
            b"handfast/1 bind",
            self.ekm,
            self.client.digest,
            self.device.digest,
            self.window,
            self.method.encode(),
            b"guest",
        )

    def tags(self, salt: bytes, transcript: bytes) -> tuple[bytes, bytes]:
        """RFC 5869 with one block, then RFC 2104."""
        extracted = hmac.digest(salt, self.ekm, "sha256")
        info = f"handfast/1 {self.method} confirm".encode()
        key = hmac.digest(extracted, info + b"\x01", "sha256")
        return tuple(hmac.digest(key, side + transcript, "sha256") for side in (b"C", b"D"))  # type: ignore[return-value]


def lp(item: bytes) -> bytes:
    return len(item).to_bytes(4, "big") + item


def hashed(*items: bytes) -> bytes:
    return sha256(b"".join(map(lp, items))).digest()


def draws(*values: int) -> Callable[[int], bytes]:
    left = iter(values)
    return lambda count: bytes([next(left)]) * count


# ---------------------------------------------------------------------------------------------- sas


def test_sas_by_the_code(paper: Paper) -> None:
    said = Said(paper, "sas")
    terms = Terms(said.channel, "guest", "anna", "5f0c3a9e1b7d248866")
    device = sas.SasDevice(terms, random_bytes=lambda _: said["device nonce"])
    client = sas.SasClient(lambda _: said["client nonce"])
    answer = device.begin_untrusted(client.begin())
    assert answer == {"commit": said["commit"]}
    nonce = client.started_untrusted(terms, answer)
    assert nonce == {"nonce": said["client nonce"]}
    answer = device.exchange_untrusted(nonce)
    assert answer == {"nonce": said["device nonce"]}
    client.exchanged_untrusted(answer)
    assert sas.grouped(client.number) == sas.grouped(device.number) == said.values["number"]
    message = client.confirm()
    assert message == {"confirm": said["client tag"]}
    device.check_untrusted(message)
    client.verify_untrusted({"confirm": said["device tag"]})
    assert device.device_tag() == said["device tag"]


def test_sas_by_another_way(paper: Paper) -> None:
    said = Said(paper, "sas")
    assert said["commit"] == hashed(b"handfast/1 commit", said.b, said["device nonce"])
    extracted = hmac.digest(said.b, said["client nonce"] + said["device nonce"], "sha256")
    drawn = hmac.digest(extracted, b"handfast/1 sas\x01", "sha256")[:8]
    digits = f"{int.from_bytes(drawn, 'big') % 10**6:06}"
    assert said.values["number"] == f"{digits[:3]} {digits[3:]}"
    messages = (
        {"method": "sas", "name": "anna"},
        {
            "id": "5f0c3a9e1b7d248866",
            "window": said.window,
            "role": "guest",
            "commit": said["commit"],
        },
        {"nonce": said["client nonce"]},
        {"nonce": said["device nonce"]},
    )
    encoded = [cbor2.dumps(one, canonical=True) for one in messages]
    t = hashed(b"handfast/1 sas", *encoded)
    assert said["t"] == t
    assert said.tags(t, t) == (said["client tag"], said["device tag"])


# --------------------------------------------------------------------------------------------- code


def test_code_by_the_code(paper: Paper) -> None:
    said = Said(paper, "code")
    typed = TypedCode.parse_untrusted(said.values["code"])
    terms = Terms(said.channel, "guest", "anna", "5f0c3a9e1b7d248866")
    client = code.CodeClient(
        Session(said.ekm, said.client, said.device), typed, draws(0x11, 0x12, 0x13, 0x14, 0x15)
    )
    device = code.CodeDevice(
        terms,
        secret=lambda **_kind: typed.secret(said.device),
        random_bytes=draws(0x21, 0x22, 0x23, 0x24, 0x25),
        on_attempt=lambda **_kind: None,
    )
    assert client.begin() == {"round_one": said["round one"]}
    answer = device.begin_untrusted({"round_one": said["round one"]})
    assert answer == {"rounds": said["rounds"]}
    assert client.started_untrusted(terms, answer) is None
    message = client.confirm()
    assert message == {"round_two": said["round two"], "confirm": said["client tag"]}
    device.check_untrusted(message)
    assert device.device_tag() == said["device tag"]
    assert binding.receipt(said["device tag"]) == said["receipt"]
    client.verify_receipt_untrusted(said["receipt"])
    printed = TypedCode.parse_untrusted(said.values["printed code"])
    assert printed.secret(said.device) == said["its secret"]


def point(data: bytes) -> ecdsa.ellipticcurve.PointJacobi:
    assert data[0] == 4
    return ecdsa.ellipticcurve.PointJacobi.from_bytes(CURVE, data)


def plain(one: ecdsa.ellipticcurve.PointJacobi) -> bytes:
    return bytes(one.to_bytes("uncompressed"))


def item(
    generator: ecdsa.ellipticcurve.PointJacobi, x: int, v: int, name: bytes, ekm: bytes
) -> bytes:
    """X = x·G with its proof."""
    made, nonce = generator * x, generator * v
    h = hashed(plain(generator), plain(nonce), plain(made), name, ekm)
    r = (v - x * (int.from_bytes(h, "big") % ORDER)) % ORDER
    return b"".join(
        (b"\x41", plain(made), b"\x41", plain(nonce), b"\x20", int(r).to_bytes(32, "big"))
    )


def test_code_by_another_way(paper: Paper) -> None:
    said = Said(paper, "code")
    x = {
        n: int.from_bytes(bytes([n]) * 32, "big") for n in (*range(0x11, 0x16), *range(0x21, 0x26))
    }
    s = int.from_bytes(said.values["code"].replace("-", "").encode(), "big") % ORDER
    ours, theirs = b"C" + said.client.digest, b"D" + said.device.digest
    one = item(G, x[0x11], x[0x12], ours, said.ekm) + item(G, x[0x13], x[0x14], ours, said.ekm)
    assert said["round one"] == one
    x1, x2, x3, x4 = (G * x[n] for n in (0x11, 0x13, 0x21, 0x23))
    client_base, device_base = x1 + x3 + x4, x1 + x2 + x3
    device_one = item(G, x[0x21], x[0x22], theirs, said.ekm)
    device_one += item(G, x[0x23], x[0x24], theirs, said.ekm)
    device_two = item(device_base, x[0x23] * s % ORDER, x[0x25], theirs, said.ekm)
    assert said["rounds"] == device_one + b"\x03\x00\x17" + device_two
    client_two = item(client_base, x[0x13] * s % ORDER, x[0x15], ours, said.ekm)
    assert said["round two"] == client_two
    # K is the same from both sides.
    k = plain((device_base * (x[0x23] * s) + x4 * (-x[0x13] * s % ORDER)) * x[0x13])
    assert k == plain((client_base * (x[0x13] * s) + x2 * (-x[0x23] * s % ORDER)) * x[0x23])
    assert said["k"] == k
    key = hashed(k, b"JPAKE_KC")
    first, second = [plain(x1), plain(x2)], [plain(x3), plain(x4)]

    def tag(*items: bytes) -> bytes:
        return hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *items, said.b))), "sha256")

    assert said["client tag"] == tag(ours, theirs, *first, *second)
    assert said["device tag"] == tag(theirs, ours, *second, *first)
    assert said["receipt"] == hashed(b"handfast/1 receipt", said["device tag"])


def test_the_printed_code_by_another_way(paper: Paper) -> None:
    said = Said(paper, "code")
    symbols = said.values["printed code"].replace("-", "")
    number = 0
    for symbol in symbols[:8]:
        number = number * 32 + CROCKFORD.index(symbol)
    check = number % 1021
    assert symbols[8:] == CROCKFORD[check // 32] + CROCKFORD[check % 32]
    salt = lp(b"handfast/1 code") + lp(said.device.digest)
    stretched = scrypt(symbols.encode(), salt=salt, n=2**15, r=8, p=1, dklen=48, maxmem=64 * 2**20)
    assert said["its secret"] == stretched


# -------------------------------------------------------------------------------------------- label


def test_label_by_the_code(paper: Paper) -> None:
    said = Said(paper, "label")
    printed = Label(said.device, said["token"])
    assert (printed.text, printed.verifier) == (said.values["text"], said["verifier"])
    assert Label.parse_untrusted(said.values["text"]) == printed
    terms = Terms(said.channel, "guest", "anna", "5f0c3a9e1b7d248866")
    device = label.LabelDevice(terms, verifier=printed.verifier)
    client = label.LabelClient(Session(said.ekm, said.client, said.device), printed)
    device.begin_untrusted(client.begin())
    assert client.started_untrusted(terms, {}) is None
    message = client.confirm()
    assert message == {"token": said["token"], "confirm": said["client tag"]}
    device.check_untrusted(message)
    assert device.device_tag() == said["device tag"]


def base32(data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(CROCKFORD[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def test_label_by_another_way(paper: Paper) -> None:
    said = Said(paper, "label")
    device_id = base32(said.device.digest)[:8]
    text = f"HANDFAST:1*{device_id}*{base32(said.device.digest)}*{base32(said['token'])}"
    assert said.values["text"][:-1] == text
    values = CROCKFORD + "*$%+/"
    total = 1  # the kind
    for symbol in said.values["text"].partition("*")[2]:
        total = (2 * total + values.index(symbol)) % 37
    assert total == 1
    assert said["verifier"] == hashed(b"handfast/1 label token", said.device.digest, said["token"])
    t = hashed(b"handfast/1 label", said.b, said["token"])
    assert said.tags(t, t) == (said["client tag"], said["device tag"])


@pytest.mark.parametrize("method", Method)
def test_every_method_is_described(paper: Paper, method: str) -> None:
    assert f"| `{method}` |" in paper.text
