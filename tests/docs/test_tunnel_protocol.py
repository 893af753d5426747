"""The example of docs/protocol.md §11, computed once by the code and once without it."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from peer.remote.streams_header import StreamHeader, StreamOutcome, first_connection_id

if TYPE_CHECKING:
    from tests.kit.documents import ProtocolDocument


def hkdf(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 without salt, up to one block (RFC 5869 §2)."""
    key = hmac.digest(bytes(hashlib.sha256().digest_size), secret, "sha256")
    return hmac.digest(key, info + b"\x01", "sha256")[:length]


def test_the_example_of_a_tunnel_can_be_recomputed(protocol: ProtocolDocument) -> None:
    values = {name: bytes.fromhex(text) for name, text in protocol.vectors("tunnel").items()}
    exporter, tunnel = values["EKM"], values["tunnel id"]
    assert values["token"] == StreamHeader.create(exporter, tunnel).token
    assert values["token"] == hkdf(exporter, b"handfast/1 tunnel" + tunnel, 32)
    for number, name in enumerate(("first id", "second id")):
        assert values[name] == first_connection_id(exporter, number)
        info = b"handfast/1 quic" + number.to_bytes(4, "big")
        assert values[name] == hkdf(exporter, info, 16)


def test_the_documented_outcomes_equal_those_of_the_code(protocol: ProtocolDocument) -> None:
    table = protocol.text.partition("| byte | meaning |")[2].partition("\n\n")[0]
    numbers = [int(line.split("|")[1]) for line in table.splitlines()[2:]]
    assert numbers == [*StreamOutcome]
