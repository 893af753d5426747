"""The section on remote reach of docs/protocol.md, and the messages against docs/handfast.cddl.

The example is computed twice: with handfast, and step by step with hmac and another AES (that of
pycryptodome).
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import TYPE_CHECKING, Any

import pytest
from Crypto.Cipher import AES

from peer import cbor
from peer.errors import Malformed
from peer.fingerprint import Fingerprint
from peer.remote import message_codec
from peer.remote.device_attempts import AttemptStage
from peer.remote.device_paths import PathStage
from peer.remote.effects import ClientStage
from peer.remote.flights import FlightOpener, FlightSealer, must_be_sealed
from peer.remote.limits import OFFER_REPEATS, PLAINTEXT_BYTES, REPLAY_WINDOW_FLIGHTS
from peer.remote.messages import NONCE_BYTES, RefusalReason
from peer.remote.pair_keys import PairKeys, client_topic, device_topic, pair_secret
from peer.remote.sealing import SEAL_NONCE_BYTES
from peer.secret import Secret

if TYPE_CHECKING:
    from tests.kit.documents import Cddl, ProtocolDocument

PREFIX = "hf1/alice"


@pytest.fixture
def example(protocol: ProtocolDocument) -> dict[str, str]:
    """The values of §10.7, and the client's fingerprint."""
    return {
        **protocol.vectors("remote"),
        "client hex": protocol.vectors("identity")["client hex"],
    }


def once(data: bytes) -> Any:
    """A random source that returns these bytes."""
    return lambda size: data if size == len(data) else b""


def test_handfast_computes_the_example(example: dict[str, str]) -> None:
    client = Fingerprint.parse(example["client hex"])
    master = Secret(bytes.fromhex(example["master"]))
    secret = pair_secret(master, int(example["generation"]), client)
    assert secret.reveal().hex() == example["secret"]
    keys = PairKeys(secret)
    assert keys.topic == example["topic"]
    to_device = device_topic(PREFIX, keys.topic)
    to_client = client_topic(PREFIX, bytes.fromhex(example["reply"]))
    assert (to_device, to_client) == (example["device topic"], example["client topic"])

    request: Any = message_codec.decode_untrusted(bytes.fromhex(example["request"]))
    random_bytes = once(bytes.fromhex(example["request nonce"]))
    sealed = keys.seal_to_device(request, to_device, random_bytes)
    assert sealed.hex() == example["sealed request"]
    assert keys.open_from_client_untrusted(sealed, to_device) == request

    challenge: Any = message_codec.decode_untrusted(bytes.fromhex(example["challenge"]))
    random_bytes = once(bytes.fromhex(example["challenge nonce"]))
    sealed = keys.seal_to_client(challenge, to_client, random_bytes)
    assert sealed.hex() == example["sealed challenge"]
    assert keys.open_from_device_untrusted(sealed, to_client) == challenge

    nonces = (bytes.fromhex(example[name]) for name in ("client nonce", "device nonce"))
    path_keys = keys.path_keys(*nonces)
    assert path_keys.to_device.reveal().hex() == example["path to device"]
    assert path_keys.to_client.reveal().hex() == example["path to client"]
    sealer, flight = FlightSealer(path_keys.to_device), bytes.fromhex(example["flight"])
    assert must_be_sealed(flight)
    for _ in range(int(example["counter"])):
        sealer.seal(b"")
    assert sealer.seal(flight).hex() == example["sealed flight"]
    opener = FlightOpener(path_keys.to_device)
    assert opener.open_untrusted(bytes.fromhex(example["sealed flight"])) == flight


def hkdf(key: bytes, info: bytes, length: int = 32, salt: bytes = b"") -> bytes:
    """RFC 5869 §2: extract, then expand by one block."""
    assert length <= 32
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]


def gcm(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """AES-GCM of another library: ciphertext and tag."""
    cipher = AES.new(key, AES.MODE_GCM, nonce=nonce, mac_len=16)
    cipher.update(associated)
    return b"".join(cipher.encrypt_and_digest(plaintext))


def base32(data: bytes) -> str:
    return base64.b32encode(data).decode().lower().rstrip("=")


def test_the_example_is_computed_independently(example: dict[str, str]) -> None:
    generation = int(example["generation"]).to_bytes(4, "big")
    client = bytes.fromhex(example["client hex"])
    master = bytes.fromhex(example["master"])
    secret = hkdf(master, b"handfast/1 rv pair" + generation + client)
    assert secret.hex() == example["secret"]
    assert base32(hkdf(secret, b"handfast/1 rv topic", 16)) == example["topic"]
    assert f"{PREFIX}/d/{example['topic']}" == example["device topic"]
    assert f"{PREFIX}/c/{base32(bytes.fromhex(example['reply']))}" == example["client topic"]

    for name, label, topic in (
        ("request", b"C>D", "device topic"),
        ("challenge", b"D>C", "client topic"),
    ):
        key = hkdf(secret, b"handfast/1 rv " + label)
        assert key.hex() == example["to device" if name == "request" else "to client"]
        message = bytes.fromhex(example[name])
        plaintext = (len(message).to_bytes(2, "big") + message).ljust(128, b"\0")
        nonce = bytes.fromhex(example[f"{name} nonce"])
        sealed = nonce + gcm(key, nonce, plaintext, b"handfast/1 rv\0" + example[topic].encode())
        assert sealed.hex() == example[f"sealed {name}"]
        assert len(sealed) == 156

    salt = bytes.fromhex(example["client nonce"] + example["device nonce"])
    path_keys = hkdf(secret, b"handfast/1 rv path", salt=salt)
    assert path_keys.hex() == example["path to device"] + example["path to client"]
    counter = int(example["counter"]).to_bytes(8, "big")
    flight = bytes.fromhex(example["flight"])
    sealed = b"\x80" + counter + gcm(path_keys[:16], bytes(4) + counter, flight, b"")
    assert sealed.hex() == example["sealed flight"]


def test_the_messages_of_the_text_contain_the_values_of_the_example(
    protocol: ProtocolDocument, example: dict[str, str]
) -> None:
    bodies = {rule: data for rule, _, data in protocol.messages() if rule.startswith("remote-")}
    assert bodies["remote-connect-request"].hex() == example["request"]
    assert bodies["remote-challenge"].hex() == example["challenge"]
    for data in bodies.values():
        message: Any = message_codec.decode_untrusted(data)
        assert message.client_nonce.hex() == example["client nonce"]


def test_the_documented_stages_refusals_and_numbers_equal_those_of_the_code(
    protocol: ProtocolDocument, cddl: Cddl
) -> None:
    words = " ".join(protocol.text.partition("## 10 Remote reach")[2].split())
    attempt = ", then ".join(stage.name for stage in AttemptStage)
    assert f"An attempt is {attempt}. A path is OPENING, then LIVE, then BROKEN" in words
    outside = {ClientStage.NEW, ClientStage.ENDED}
    client = [stage.name for stage in ClientStage if stage not in outside]
    assert f"An attempt is {', then '.join(client)}." in words
    assert {stage.name for stage in PathStage} == {"OPENING", "LIVE", "BROKEN"}
    refusals = [row[0].strip("`") for row in protocol.table("refusals")]
    assert refusals == list(RefusalReason)
    assert re.findall(r'"([a-z-]+)"', cddl.definition("remote-refusal")) == refusals
    *sizes, last = PLAINTEXT_BYTES
    assert f"{', '.join(map(str, sizes))} and {last} bytes" in words
    sealed = [size + SEAL_NONCE_BYTES + 16 for size in PLAINTEXT_BYTES]
    assert f"{', '.join(map(str, sealed[:-1]))} or {sealed[-1]} bytes" in words
    assert OFFER_REPEATS == 4
    assert "four times at most" in words
    assert f"the last {REPLAY_WINDOW_FLIGHTS} or that is further behind" in words
    assert NONCE_BYTES == 16


CANDIDATE = "1 1 udp 2130706431 192.0.2.7 54321 typ host"
CARRIER = ["abcd", "p" * 22, [CANDIDATE]]
A, B, C = b"a" * 16, b"b" * 16, b"c" * 16
GOOD: dict[str, dict[int, Any]] = {
    "remote-connect-request": {0: 1, 1: A, 2: B},
    "remote-challenge": {0: 2, 1: A, 3: C, 6: 1, 7: ["192.0.2.7:5684"]},
    "remote-offer": {0: 3, 1: A, 2: B, 3: C, 4: {1: CARRIER, 2: CARRIER}, 5: A},
    "remote-answer": {0: 4, 1: A, 4: {1: CARRIER}, 5: A},
    "remote-candidates": {0: 5, 1: A, 2: B, 4: {2: CARRIER}},
    "remote-refusal": {0: 6, 1: A, 8: "busy", 9: 86400},
}
VALUES: tuple[object, ...] = (
    None,
    True,
    0,
    7,
    -1,
    2**32,
    A,
    A + b"x",
    "",
    "busy",
    "tired",
    [],
    {},
    [1],
    {3: CARRIER},
)
OTHER_CARRIERS: tuple[object, ...] = (
    {1: CARRIER, 2: CARRIER, 3: CARRIER},
    {1: ["abc", *CARRIER[1:]]},
    {1: ["abc:", *CARRIER[1:]]},
    {1: ["abcd", "p" * 21, [CANDIDATE]]},
    {1: ["abcd", "p" * 65, [CANDIDATE]]},
    {1: ["abcd", "p" * 22, []]},
    {1: ["abcd", "p" * 22, [CANDIDATE] * 13]},
    {1: ["abcd", "p" * 22, ["x" * 161]]},
    {1: ["abcd", "p" * 22]},
)


@pytest.mark.parametrize("rule", GOOD)
def test_code_and_schema_agree_about_every_changed_message(cddl: Cddl, rule: str) -> None:
    good = GOOD[rule]
    cddl.validate(rule, cbor.encode(good))
    message_codec.decode_untrusted(cbor.encode(good))
    changed: list[dict[int, Any]] = [
        *({**good, key: value} for key in range(1, 11) for value in VALUES),
        *({key: one for key, one in good.items() if key != left_out} for left_out in good),
        *({**good, 4: carriers} for carriers in OTHER_CARRIERS if 4 in good),
        {**good, 0: 7},
    ]
    accepted = 0
    for value in changed:
        data = cbor.encode(value)
        try:
            message_codec.decode_untrusted(data)
        except Malformed:
            is_accepted = False
        else:
            is_accepted = True
        assert cddl.fits("remote-message", data) is is_accepted, value
        accepted += is_accepted
    assert 0 < accepted < len(changed) / 2
