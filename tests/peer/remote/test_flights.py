"""Sealed flights, and what a path may carry in the clear."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.remote.flights import (
    FLIGHT_OVERHEAD_BYTES,
    FlightOpener,
    FlightSealer,
    is_sealed,
    must_be_sealed,
)
from peer.secret import Secret

KEY, OTHER_KEY = Secret(bytes(16)), Secret(bytes(15) + b"x")


def record(epoch: int, content_type: int = 22, body: bytes = b"body") -> bytes:
    """A DTLS 1.2 record."""
    header = bytes([content_type]) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + bytes(6)
    return header + len(body).to_bytes(2, "big") + body


HELLO = record(0)
DATA = record(1, content_type=23)


def test_a_flight_is_opened_by_the_other_side_once() -> None:
    sealer, opener = FlightSealer(KEY), FlightOpener(KEY)
    sealed = sealer.seal(HELLO)
    assert is_sealed(sealed)
    assert not is_sealed(HELLO)
    assert len(sealed) == len(HELLO) + FLIGHT_OVERHEAD_BYTES
    assert HELLO not in sealed
    assert opener.open_untrusted(sealed) == HELLO
    assert opener.open_untrusted(sealed) is None


def test_the_same_flight_is_sealed_differently_each_time() -> None:
    sealer = FlightSealer(KEY)
    assert len({sealer.seal(HELLO) for _ in range(100)}) == 100


def test_a_flight_of_another_key_or_the_other_direction_is_dropped() -> None:
    sealed = FlightSealer(KEY).seal(HELLO)
    assert FlightOpener(OTHER_KEY).open_untrusted(sealed) is None


def test_an_altered_flight_is_dropped_and_does_not_block_the_genuine_one() -> None:
    sealed = FlightSealer(KEY).seal(HELLO)
    opener = FlightOpener(KEY)
    for at in range(len(sealed)):
        altered = bytearray(sealed)
        altered[at] ^= 1
        assert opener.open_untrusted(bytes(altered)) is None
    for length in range(len(sealed)):
        assert opener.open_untrusted(sealed[:length]) is None
    assert opener.open_untrusted(sealed) == HELLO


def test_flights_may_arrive_in_any_order_within_the_window() -> None:
    sealer = FlightSealer(KEY)
    sealed = [sealer.seal(bytes([number])) for number in range(64)]
    order = list(range(64))
    Random(1).shuffle(order)
    opener = FlightOpener(KEY)
    for number in order:
        assert opener.open_untrusted(sealed[number]) == bytes([number])
    for one in sealed:
        assert opener.open_untrusted(one) is None


def test_a_flight_behind_the_window_is_dropped() -> None:
    sealer = FlightSealer(KEY)
    sealed = [sealer.seal(bytes([number])) for number in range(200)]
    opener = FlightOpener(KEY)
    assert opener.open_untrusted(sealed[70]) == b"F"
    assert opener.open_untrusted(sealed[6]) is None  # 64 behind
    assert opener.open_untrusted(sealed[7]) == b"\x07"
    assert opener.open_untrusted(sealed[199]) == b"\xc7"
    assert opener.open_untrusted(sealed[70]) is None
    assert opener.open_untrusted(sealed[136]) == b"\x88"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HELLO,
        record(0, content_type=20),  # ChangeCipherSpec
        record(0, content_type=21),  # an alert
        record(0, content_type=23),
        HELLO + DATA,
        DATA + HELLO,  # the first record hides the second
        DATA + b"\x16",  # not well formed
        DATA[:-1],
        DATA + b"x",
        b"\x3f" + DATA[1:],  # an unknown type of record
        b"\xc0" + bytes(30),  # QUIC with a long header
        b"\xff" + bytes(30),
        b"\x80" + bytes(30),  # a sealed flight is opened, not carried in the clear
        b"\xbf" + bytes(30),
        b"\0" + bytes(30),  # STUN
        b"\x13" + bytes(30),
    ],
    ids=repr,
)
def test_what_shows_who_talks_is_never_carried_in_the_clear(data: bytes) -> None:
    assert must_be_sealed(data)


@pytest.mark.parametrize(
    "data",
    [DATA, record(1), DATA + record(2, content_type=21), b"\x40" + bytes(30), b"\x7f"],
    ids=repr,
)
def test_what_is_encrypted_already_is_carried_as_it_is(data: bytes) -> None:
    assert not must_be_sealed(data)


@given(st.binary(max_size=80))
def test_no_bytes_of_a_stranger_are_opened(data: bytes) -> None:
    opener = FlightOpener(KEY)
    assert opener.open_untrusted(data) is None
    assert opener.open_untrusted(b"\x80" + data) is None
    must_be_sealed(data)
