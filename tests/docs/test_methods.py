"""The examples of the methods in docs/protocol.md are computed with handfast and independently.

The independent computation uses only hashlib, hmac and the `ecdsa` package.
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
    from tests.kit.documents import ProtocolDocument

CURVE, ORDER, G = ecdsa.NIST256p.curve, ecdsa.NIST256p.order, ecdsa.NIST256p.generator


class Example:
    """The session of the examples, and the values of one method."""

    def __init__(self, protocol: ProtocolDocument, method: str) -> None:
        keys, compare = protocol.vectors("identity"), protocol.vectors("compare")
        self.method = method
        self.values = protocol.vectors(method)
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
        """The confirmation tags: HKDF with one block (RFC 5869), then HMAC (RFC 2104)."""
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


def test_handfast_computes_the_sas_example(protocol: ProtocolDocument) -> None:
    example = Example(protocol, "sas")
    terms = Terms(example.channel, "guest", "anna", "5f0c3a9e1b7d248866")
    device = sas.SasDevice(terms, random_bytes=lambda _: example["device nonce"])
    client = sas.SasClient(lambda _: example["client nonce"])
    answer = device.begin_untrusted(client.begin())
    assert answer == {"commit": example["commit"]}
    nonce = client.started_untrusted(terms, answer)
    assert nonce == {"nonce": example["client nonce"]}
    answer = device.exchange_untrusted(nonce)
    assert answer == {"nonce": example["device nonce"]}
    client.exchanged_untrusted(answer)
    assert sas.grouped(client.number) == sas.grouped(device.number) == example.values["number"]
    message = client.confirm()
    assert message == {"confirm": example["client tag"]}
    device.check_untrusted(message)
    client.verify_untrusted({"confirm": example["device tag"]})
    assert device.device_tag() == example["device tag"]


def test_the_sas_example_is_computed_independently(protocol: ProtocolDocument) -> None:
    example = Example(protocol, "sas")
    assert example["commit"] == hashed(b"handfast/1 commit", example.b, example["device nonce"])
    extracted = hmac.digest(example.b, example["client nonce"] + example["device nonce"], "sha256")
    drawn = hmac.digest(extracted, b"handfast/1 sas\x01", "sha256")[:8]
    digits = f"{int.from_bytes(drawn, 'big') % 10**6:06}"
    assert example.values["number"] == f"{digits[:3]} {digits[3:]}"
    messages = (
        {"method": "sas", "name": "anna"},
        {
            "id": "5f0c3a9e1b7d248866",
            "window": example.window,
            "role": "guest",
            "commit": example["commit"],
        },
        {"nonce": example["client nonce"]},
        {"nonce": example["device nonce"]},
    )
    encoded = [cbor2.dumps(one, canonical=True) for one in messages]
    t = hashed(b"handfast/1 sas", *encoded)
    assert example["t"] == t
    assert example.tags(t, t) == (example["client tag"], example["device tag"])


# --------------------------------------------------------------------------------------------- code


def test_handfast_computes_the_code_example(protocol: ProtocolDocument) -> None:
    example = Example(protocol, "code")
    typed = TypedCode.parse_untrusted(example.values["code"])
    terms = Terms(example.channel, "guest", "anna", "5f0c3a9e1b7d248866")
    client = code.CodeClient(
        Session(example.ekm, example.client, example.device),
        typed,
        draws(0x11, 0x12, 0x13, 0x14, 0x15),
    )
    device = code.CodeDevice(
        terms,
        secret=lambda **_kind: typed.secret(example.device),
        random_bytes=draws(0x21, 0x22, 0x23, 0x24, 0x25),
        on_attempt=lambda **_kind: None,
    )
    assert client.begin() == {"round_one": example["round one"]}
    answer = device.begin_untrusted({"round_one": example["round one"]})
    assert answer == {"rounds": example["rounds"]}
    assert client.started_untrusted(terms, answer) is None
    message = client.confirm()
    assert message == {"round_two": example["round two"], "confirm": example["client tag"]}
    device.check_untrusted(message)
    assert device.device_tag() == example["device tag"]
    assert binding.receipt(example["device tag"]) == example["receipt"]
    client.verify_receipt_untrusted(example["receipt"])
    printed = TypedCode.parse_untrusted(example.values["printed code"])
    assert printed.secret(example.device) == example["its secret"]


def point(data: bytes) -> ecdsa.ellipticcurve.PointJacobi:
    assert data[0] == 4
    return ecdsa.ellipticcurve.PointJacobi.from_bytes(CURVE, data)


def plain(one: ecdsa.ellipticcurve.PointJacobi) -> bytes:
    return bytes(one.to_bytes("uncompressed"))


def item(
    generator: ecdsa.ellipticcurve.PointJacobi, x: int, v: int, name: bytes, ekm: bytes
) -> bytes:
    """X = x·G and its Schnorr proof."""
    made, nonce = generator * x, generator * v
    h = hashed(plain(generator), plain(nonce), plain(made), name, ekm)
    r = (v - x * (int.from_bytes(h, "big") % ORDER)) % ORDER
    return b"".join(
        (b"\x41", plain(made), b"\x41", plain(nonce), b"\x20", int(r).to_bytes(32, "big"))
    )


def test_the_code_example_is_computed_independently(protocol: ProtocolDocument) -> None:
    example = Example(protocol, "code")
    x = {
        n: int.from_bytes(bytes([n]) * 32, "big") for n in (*range(0x11, 0x16), *range(0x21, 0x26))
    }
    s = int.from_bytes(example.values["code"].replace("-", "").encode(), "big") % ORDER
    ours, theirs = b"C" + example.client.digest, b"D" + example.device.digest
    one = item(G, x[0x11], x[0x12], ours, example.ekm) + item(
        G, x[0x13], x[0x14], ours, example.ekm
    )
    assert example["round one"] == one
    x1, x2, x3, x4 = (G * x[n] for n in (0x11, 0x13, 0x21, 0x23))
    client_base, device_base = x1 + x3 + x4, x1 + x2 + x3
    device_one = item(G, x[0x21], x[0x22], theirs, example.ekm)
    device_one += item(G, x[0x23], x[0x24], theirs, example.ekm)
    device_two = item(device_base, x[0x23] * s % ORDER, x[0x25], theirs, example.ekm)
    assert example["rounds"] == device_one + b"\x03\x00\x17" + device_two
    client_two = item(client_base, x[0x13] * s % ORDER, x[0x15], ours, example.ekm)
    assert example["round two"] == client_two
    # Both sides compute the same K.
    k = plain((device_base * (x[0x23] * s) + x4 * (-x[0x13] * s % ORDER)) * x[0x13])
    assert k == plain((client_base * (x[0x13] * s) + x2 * (-x[0x23] * s % ORDER)) * x[0x23])
    assert example["k"] == k
    key = hashed(k, b"JPAKE_KC")
    first, second = [plain(x1), plain(x2)], [plain(x3), plain(x4)]

    def tag(*items: bytes) -> bytes:
        return hmac.digest(key, b"".join(map(lp, (b"KC_1_U", *items, example.b))), "sha256")

    assert example["client tag"] == tag(ours, theirs, *first, *second)
    assert example["device tag"] == tag(theirs, ours, *second, *first)
    assert example["receipt"] == hashed(b"handfast/1 receipt", example["device tag"])


def test_the_printed_code_example_is_computed_independently(protocol: ProtocolDocument) -> None:
    example = Example(protocol, "code")
    symbols = example.values["printed code"].replace("-", "")
    number = 0
    for symbol in symbols[:8]:
        number = number * 32 + CROCKFORD.index(symbol)
    check = number % 1021
    assert symbols[8:] == CROCKFORD[check // 32] + CROCKFORD[check % 32]
    salt = lp(b"handfast/1 code") + lp(example.device.digest)
    stretched = scrypt(symbols.encode(), salt=salt, n=2**15, r=8, p=1, dklen=48, maxmem=64 * 2**20)
    assert example["its secret"] == stretched


# -------------------------------------------------------------------------------------------- label


def test_handfast_computes_the_label_example(protocol: ProtocolDocument) -> None:
    example = Example(protocol, "label")
    printed = Label(example.device, example["token"])
    assert (printed.text, printed.verifier) == (example.values["text"], example["verifier"])
    assert Label.parse_untrusted(example.values["text"]) == printed
    terms = Terms(example.channel, "guest", "anna", "5f0c3a9e1b7d248866")
    device = label.LabelDevice(terms, verifier=printed.verifier)
    client = label.LabelClient(Session(example.ekm, example.client, example.device), printed)
    device.begin_untrusted(client.begin())
    assert client.started_untrusted(terms, {}) is None
    message = client.confirm()
    assert message == {"token": example["token"], "confirm": example["client tag"]}
    device.check_untrusted(message)
    assert device.device_tag() == example["device tag"]


def base32(data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    return "".join(CROCKFORD[int(bits[at : at + 5], 2)] for at in range(0, len(bits), 5))


def test_the_label_example_is_computed_independently(protocol: ProtocolDocument) -> None:
    example = Example(protocol, "label")
    device_id = base32(example.device.digest)[:8]
    text = f"HANDFAST:1:{device_id}:{base32(example.device.digest)}:{base32(example['token'])}"
    assert example.values["text"][:-1] == text
    values = CROCKFORD + ":U%+/"
    total = 1  # the kind of the text
    for symbol in example.values["text"].removeprefix("HANDFAST:1:"):
        total = (2 * total + values.index(symbol)) % 37
    assert total == 1
    assert example["verifier"] == hashed(
        b"handfast/1 label token", example.device.digest, example["token"]
    )
    t = hashed(b"handfast/1 label", example.b, example["token"])
    assert example.tags(t, t) == (example["client tag"], example["device tag"])


@pytest.mark.parametrize("method", Method)
def test_every_method_is_in_the_table_of_methods(protocol: ProtocolDocument, method: str) -> None:
    assert f"| `{method}` |" in protocol.text
