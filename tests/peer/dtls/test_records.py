"""DTLS records: sent ones are split and packed into datagrams, received ones parsed or rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.dtls import records
from peer.errors import Malformed


def record(kind: int, body: bytes, *, epoch: int = 0, version: bytes = b"\xfe\xfd") -> bytes:
    header = bytes([kind]) + version + epoch.to_bytes(2, "big") + bytes(6)
    return header + len(body).to_bytes(2, "big") + body


bodies = st.lists(st.binary(min_size=1, max_size=400), min_size=1, max_size=12)


@given(bodies, st.integers(min_value=413, max_value=1500))
def test_packing_keeps_records_intact_and_in_order(chunks: list[bytes], mtu: int) -> None:
    flight = [record(22, chunk) for chunk in chunks]
    datagrams = records.pack(records.split_flight(b"".join(flight)), mtu)
    assert all(len(datagram) <= mtu for datagram in datagrams)
    found = [one.data for datagram in datagrams for one in records.split_untrusted(datagram)]
    assert found == flight


@given(st.binary(max_size=200))
def test_any_datagram_is_parsed_as_complete_records_or_malformed(datagram: bytes) -> None:
    try:
        found = records.split_untrusted(datagram)
    except Malformed:
        return
    assert b"".join(one.data for one in found) == datagram


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x16",
        record(22, b"abc")[:-1],
        record(22, b"abc") + b"x",
        record(24, b"abc"),
        record(22, b"abc", version=b"\x03\x03"),
        record(22, b""),
        record(22, bytes((1 << 14) + 2049)),
    ],
    ids=[
        "empty",
        "a byte",
        "incomplete header",
        "trailing byte",
        "type",
        "version",
        "no body",
        "too long",
    ],
)
def test_a_datagram_of_incomplete_records_is_malformed(datagram: bytes) -> None:
    with pytest.raises(Malformed):
        records.split_untrusted(datagram)


def hello(random: bytes, *, fragment: int = 0, epoch: int = 0) -> bytes:
    body = b"\xfe\xfd" + random + b"\x00\x00"
    size = len(body).to_bytes(3, "big")
    head = b"\x01" + size + b"\x00\x00" + fragment.to_bytes(3, "big") + size
    return record(22, head + body, epoch=epoch)


def test_the_client_random_of_a_client_hello_is_found() -> None:
    random = bytes(range(32))
    assert records.client_random_untrusted(records.split_untrusted(hello(random))) == random


@pytest.mark.parametrize(
    "datagram",
    [
        hello(bytes(32), fragment=5),
        hello(bytes(32), epoch=1),
        record(23, bytes(100)),
        record(22, b"\x02" + bytes(100)),
        record(22, b"\x01"),
    ],
)
def test_other_records_have_no_client_random(datagram: bytes) -> None:
    assert records.client_random_untrusted(records.split_untrusted(datagram)) is None
