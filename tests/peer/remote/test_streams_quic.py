"""QUIC without I/O: who may begin a connection, and the end of a peer that breaks its bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.errors import Malformed
from peer.identity import Identity
from peer.remote.limits import DEFAULT_REMOTE_LIMITS
from peer.remote.streams_header import (
    StreamHeader,
    StreamOutcome,
    first_connection_id,
    has_connection_id,
)
from peer.remote.streams_quic import (
    Ended,
    PeerReset,
    Ready,
    Received,
    StreamConnection,
    StreamEvent,
)
from tests.kit.internals import ignore_stream_limit, ignore_windows, sendable_bytes

EXPORTER = bytes(range(32))
LIMITS = replace(DEFAULT_REMOTE_LIMITS, streams_per_session=4)
STEP_SECONDS = 0.001


class Two:
    """A client's and a device's connection, joined without a network. Time passes in steps."""

    def __init__(
        self,
        identity: Identity,
        *,
        client_exporter: bytes = EXPORTER,
        client_limits: object = LIMITS,
    ) -> None:
        self.now = 0.0
        der = identity.certificate.public_bytes(Encoding.DER)
        assert isinstance(client_limits, type(LIMITS))
        self.client = StreamConnection.client(
            der, client_exporter, 0, limits=client_limits, now=self.now
        )
        self.device = StreamConnection.server(identity, EXPORTER, 0, limits=LIMITS)
        self.of_client: list[StreamEvent] = []
        self.of_device: list[StreamEvent] = []
        self.to_device: list[bytes] = []

    def run(self, seconds: float = 1.0) -> None:
        """Deliver and fire timers until nothing happens for some time."""
        end = self.now + seconds
        while self.now < end:
            sent = self.client.take_datagrams(self.now)
            self.to_device += sent
            for data in sent:
                self.device.receive_untrusted(data, self.now)
            for data in self.device.take_datagrams(self.now):
                self.client.receive_untrusted(data, self.now)
            self.of_client += self.client.take_events()
            self.of_device += self.device.take_events()
            self.now += STEP_SECONDS
            for one in (self.client, self.device):
                if (at := one.timeout_at()) is not None and at <= self.now:
                    one.handle_timeout(self.now)

    def data_at_device(self) -> int:
        return sum(len(one.data) for one in self.of_device if isinstance(one, Received))


@pytest.fixture
def two(device: Identity) -> Two:
    made = Two(device)
    made.run()
    assert (made.of_client, made.of_device) == ([Ready()], [Ready()])
    return made


def test_a_token_belongs_to_one_session_and_one_tunnel() -> None:
    header = StreamHeader.create(EXPORTER, b"tunnel 1")
    assert StreamHeader.parse_untrusted(header.encode()) == header
    assert header.is_of_session(EXPORTER)
    assert not header.is_of_session(EXPORTER[::-1])
    assert not replace(header, tunnel_id=b"tunnel 2").is_of_session(EXPORTER)
    assert header.token.hex() not in repr(header)


@pytest.mark.parametrize("data", [b"", b"\x05", b"\xff"])
def test_an_unknown_outcome_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        StreamOutcome.parse_untrusted(data)


@pytest.mark.parametrize("length", [0, 39, 41])
def test_a_header_of_another_length_is_malformed(length: int) -> None:
    with pytest.raises(Malformed):
        StreamHeader.parse_untrusted(bytes(length))


def test_only_the_client_of_the_session_can_begin(device: Identity) -> None:
    """A host that forges the client's address does not know its first connection ID."""
    forged = Two(device, client_exporter=b"x" * 32)
    forged.run()
    assert forged.to_device
    assert (forged.of_device, forged.device.timeout_at()) == ([], None)


def test_each_connection_of_a_session_has_an_id_of_its_own(two: Two) -> None:
    first = two.to_device[0]
    assert has_connection_id(first, first_connection_id(EXPORTER, 0))
    assert not has_connection_id(first, first_connection_id(EXPORTER, 1))
    assert not has_connection_id(first[:6], first_connection_id(EXPORTER, 0))
    assert not has_connection_id(b"\xc0", b"")


def test_noise_at_the_place_of_the_peer_changes_nothing(two: Two) -> None:
    for data in (b"\x40", b"\x40" * 1200, b"\xc0" * 1200, two.to_device[0], b"\xc0"):
        assert not two.device.receive_untrusted(data, two.now)
    stream = two.client.open_stream()
    two.client.send(stream, b"hello")
    two.run(0.1)
    assert two.of_device[1:] == [Received(stream, b"hello", is_last=False)]


@given(
    edits=st.lists(st.tuples(st.integers(0, 1199), st.integers(0, 255)), min_size=1, max_size=20),
    length=st.integers(1, 1200),
)
@settings(max_examples=30)
def test_altered_packets_never_raise_and_never_prevent_the_handshake(
    device: Identity, edits: list[tuple[int, int]], length: int
) -> None:
    two = Two(device)
    for _ in range(4):
        for end, other in ((two.client, two.device), (two.device, two.client)):
            for data in end.take_datagrams(two.now):
                altered = bytearray(data)
                for at, value in edits:
                    altered[at % len(data)] ^= value
                if altered != data:
                    other.receive_untrusted(bytes(altered), two.now)
                other.receive_untrusted(bytes(altered[:length]), two.now)
                other.receive_untrusted(data, two.now)
    two.run()
    assert two.client.is_ready
    assert two.device.is_ready


def test_a_repeated_packet_is_no_sign_of_life(two: Two) -> None:
    stream = two.client.open_stream()
    two.client.send(stream, b"hello")
    (data,) = two.client.take_datagrams(two.now)
    assert two.device.receive_untrusted(data, two.now)
    assert not two.device.receive_untrusted(data, two.now)


def test_a_sender_waits_until_data_was_taken(two: Two) -> None:
    window = LIMITS.stream_window_bytes
    stream = two.client.open_stream()
    two.client.send(stream, b"x" * 3 * window)
    two.run()
    assert two.data_at_device() == window
    two.device.taken(stream, window)
    two.run()
    assert two.data_at_device() == 2 * window


def test_windows_do_not_grow_with_the_bytes_transferred(two: Two) -> None:
    """aioquic alone would let the peer send ahead as much as it has ever sent."""
    window = LIMITS.stream_window_bytes
    stream = two.client.open_stream()
    two.client.send(stream, b"x" * 6 * window)
    for _ in range(6):
        before = two.data_at_device()
        two.run(0.6)
        assert two.data_at_device() - before <= window
        two.device.taken(stream, two.data_at_device() - before)
    in_all = LIMITS.session_window_bytes + 4 * LIMITS.small_window_bytes
    assert sendable_bytes(two.client) <= in_all


def test_who_sends_beyond_the_window_is_closed(device: Identity) -> None:
    """A client that obeys no window: its own copy of the device's windows is raised by force."""
    two = Two(device)
    two.run()
    stream = two.client.open_stream()
    ignore_windows(two.client, stream)
    two.client.send(stream, b"x" * (LIMITS.stream_window_bytes + 100_000))
    two.run()
    assert two.data_at_device() <= LIMITS.stream_window_bytes
    assert two.device.is_ended
    assert [one for one in two.of_client if isinstance(one, Ended)]


def test_who_opens_too_many_streams_is_closed(device: Identity) -> None:
    two = Two(device)
    two.run()
    ignore_stream_limit(two.client)
    for _ in range(LIMITS.streams_per_session + 1):
        two.client.send(two.client.open_stream(), b"hello")
    two.run()
    assert two.device.is_ended


def test_streams_that_have_ended_make_room_for_others(two: Two) -> None:
    for _ in range(3 * LIMITS.streams_per_session):
        stream = two.client.open_stream()
        two.client.send(stream, b"hello", is_last=True)
        two.run(0.1)
        assert two.of_device[-1] == Received(stream, b"hello", is_last=True)
        two.device.send(stream, b"", is_last=True)
        two.run(0.1)
        two.device.forget(stream)
        two.client.forget(stream)


def test_a_reset_stream_does_not_use_up_the_window_of_the_session(two: Two) -> None:
    for _ in range(8):
        stream = two.client.open_stream()
        two.client.send(stream, b"x" * 900_000)
        two.run(0.3)
        two.device.reset(stream)
        two.run(0.1)
        assert PeerReset(stream) in two.of_client
        two.client.reset(stream)
        two.run(0.1)
        two.client.forget(stream)
    assert two.data_at_device() == 8 * 900_000


def test_a_silent_connection_ends(two: Two) -> None:
    two.now += LIMITS.streams_idle_seconds + 1
    two.device.handle_timeout(two.now)
    assert two.device.is_ended
    (event,) = two.device.take_events()
    assert isinstance(event, Ended)
    assert event.reason


def test_a_ping_keeps_a_silent_connection(two: Two) -> None:
    for _ in range(3):
        two.now += LIMITS.streams_idle_seconds / 2
        two.client.ping()
        two.run(0.1)
    assert not two.device.is_ended
