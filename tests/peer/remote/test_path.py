"""A path over carriers: sealed flights, the choice of the carrier, and its end."""

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from peer.net.address import Address
from peer.net.datagram import Datagram
from peer.net.session_route import PATH_ADDRESS
from peer.remote.flights import FlightSealer
from peer.remote.limits import RemoteLimits
from peer.remote.messages import CarrierKind
from peer.remote.pair_keys import PathKeys
from peer.remote.path import Path
from peer.secret import Secret
from tests.kit.waiting import until

KEYS = PathKeys(Secret(b"d" * 16), Secret(b"c" * 16))
LIMITS = RemoteLimits(relay_linger_seconds=0.01)
NEVER = RemoteLimits(relay_linger_seconds=1000.0)
HELLO = b"\x16\xfe\xfd" + bytes(8) + b"\0\x01\x01"  # a DTLS record of epoch 0
RECORD = b"\x17\xfe\xfd\0\x01" + bytes(6) + b"\0\x01x"  # and one of epoch 1
SHORT, LONG = b"\x41quic", b"\xc1quic"  # QUIC with a short and a long header


class FakeCarrier:
    """A carrier that notes what it sends."""

    def __init__(self, kind: CarrierKind, host: str = "198.51.100.9") -> None:
        self.kind = kind
        self.remote_address = Address(host, 4000 + kind)
        self.sent: list[bytes] = []
        self.is_closed = False

    def send(self, data: bytes) -> bool:
        self.sent.append(data)
        return True

    async def close(self) -> None:
        self.is_closed = True


class Side:
    """One end of a path. `is_authentic` says what the layer above finds about each datagram."""

    def __init__(self, *, is_client: bool, limits: RemoteLimits = NEVER) -> None:
        self.counters: Counter[str] = Counter()
        self.received: list[bytes] = []
        self.changes = self.closed = 0
        self.is_authentic: Callable[[bytes], bool] = lambda _data: True
        self.path = Path(
            KEYS,
            is_client=is_client,
            limits=limits,
            counters=self.counters,
            on_change=self._changed,
        )
        self.path.open(on_datagram=self._received, on_closed=self._closed)

    def _changed(self) -> None:
        self.changes += 1

    def _closed(self) -> None:
        self.closed += 1

    def _received(self, datagram: Datagram) -> None:
        assert (datagram.source, datagram.destination, datagram.ifindex) == (PATH_ADDRESS, "", 0)
        self.received.append(datagram.data)
        if self.is_authentic(datagram.data):
            self.path.note_authentic()

    def add(self, kind: CarrierKind, attempt: int = 0) -> FakeCarrier:
        carrier = FakeCarrier(kind)
        self.path.add(carrier, attempt=attempt)
        return carrier

    def send(self, data: bytes) -> bool:
        return self.path.send(data, PATH_ADDRESS)


DIRECT, RELAY = CarrierKind.DIRECT, CarrierKind.RELAY


def sealed(data: bytes, key: Secret[bytes] = KEYS.to_device) -> bytes:
    return FlightSealer(key).seal(data)


# -- flights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [HELLO, LONG, RECORD + HELLO], ids=["dtls", "quic", "behind"])
async def test_flights_are_sealed_and_opened(data: bytes) -> None:
    client, device = Side(is_client=True), Side(is_client=False)
    there, here = client.add(DIRECT), device.add(DIRECT)
    assert client.send(data)
    (wire,) = there.sent
    assert wire[0] == 128
    assert data not in wire
    device.path.receive_untrusted(here, wire)
    assert device.received == [data]
    device.send(data)
    client.path.receive_untrusted(there, here.sent[0])
    assert client.received == [data]
    assert here.sent[0] != wire


@pytest.mark.parametrize("data", [RECORD, SHORT], ids=["dtls", "quic"])
async def test_other_datagrams_are_sent_as_they_are(data: bytes) -> None:
    client, device = Side(is_client=True), Side(is_client=False)
    there, here = client.add(DIRECT), device.add(DIRECT)
    client.send(data)
    assert there.sent == [data]
    device.path.receive_untrusted(here, data)
    assert device.received == [data]


@pytest.mark.parametrize("data", [HELLO, LONG, RECORD + HELLO, b"\0", b"\x90x", RECORD[:-1]])
async def test_a_flight_in_clear_is_dropped(data: bytes) -> None:
    """Without the pair secret, no one can even begin a handshake."""
    device = Side(is_client=False)
    device.path.receive_untrusted(device.add(DIRECT), data)
    assert (device.received, device.counters["flights-in-clear"]) == ([], 1)


def forged() -> list[bytes]:
    good = sealed(HELLO)
    return [
        sealed(HELLO, Secret(b"x" * 16)),  # of another key
        sealed(HELLO, KEYS.to_client),  # reflected: it was sent by the device
        good[:-1] + bytes([good[-1] ^ 1]),
        good[:1] + bytes([good[1] ^ 1]) + good[2:],  # another counter
        good[:9] + bytes([good[9] ^ 1]) + good[10:],
        good[:-1],
        good + b"x",
        b"\x80",
        sealed(b""),
    ]


@pytest.mark.parametrize("data", forged(), ids=range(9))
async def test_a_forged_flight_is_dropped_and_moves_nothing(data: bytes) -> None:
    device = Side(is_client=False)
    relay, direct = device.add(RELAY), device.add(DIRECT)
    device.path.receive_untrusted(relay, sealed(HELLO))
    device.path.receive_untrusted(direct, data)
    assert device.received == [HELLO]
    assert device.counters["flights-refused"] == 1
    device.send(RECORD)
    assert (relay.sent, direct.sent) == ([RECORD], [])


async def test_a_repeated_flight_is_dropped_and_moves_nothing() -> None:
    device = Side(is_client=False)
    relay, direct = device.add(RELAY), device.add(DIRECT)
    flight = sealed(HELLO)
    for carrier in (relay, direct):
        device.path.receive_untrusted(carrier, flight)
    assert (device.received, device.counters["flights-refused"]) == ([HELLO], 1)
    device.send(RECORD)
    assert (relay.sent, direct.sent) == ([RECORD], [])


async def test_no_flight_has_the_counter_of_another_one() -> None:
    """The counter is the nonce. It also continues over a change of carriers."""
    client = Side(is_client=True)
    first = client.add(RELAY)
    client.send(HELLO)
    second = client.add(DIRECT)
    client.send(HELLO)
    third = client.add(DIRECT, attempt=1)
    client.send(HELLO)
    sent = [first.sent[0], second.sent[0], third.sent[0]]
    assert [int.from_bytes(data[1:9], "big") for data in sent] == [0, 1, 2]


# -- the carrier that sends -----------------------------------------------------------------------


async def test_a_client_sends_directly_as_soon_as_that_works() -> None:
    client = Side(is_client=True)
    assert not client.send(RECORD)
    assert client.counters["path-without-carrier"] == 1
    relay = client.add(RELAY)
    client.send(RECORD)
    assert client.path.route == "relay"
    direct = client.add(DIRECT)
    client.send(RECORD)
    assert (relay.sent, direct.sent) == ([RECORD], [RECORD])
    assert client.path.route == "direct"
    assert client.path.remote_address == direct.remote_address


async def test_a_client_stays_direct_when_the_relay_works_later() -> None:
    client = Side(is_client=True)
    direct, relay = client.add(DIRECT), client.add(RELAY)
    client.send(RECORD)
    assert (direct.sent, relay.sent) == ([RECORD], [])


async def test_a_client_returns_to_its_relay_when_direct_is_lost() -> None:
    client = Side(is_client=True)
    relay, direct = client.add(RELAY), client.add(DIRECT)
    client.path.remove(direct)
    client.send(RECORD)
    assert relay.sent == [RECORD]
    assert (client.path.losses, client.path.is_live) == (1, True)
    await until(lambda: direct.is_closed)
    client.path.remove(relay)
    assert not client.path.is_live
    assert not client.path.is_closed, "new carriers may come"


async def test_a_device_sends_by_the_carrier_on_which_it_has_heard_the_client() -> None:
    device = Side(is_client=False)
    relay, direct = device.add(RELAY), device.add(DIRECT)
    device.path.receive_untrusted(relay, RECORD)
    device.send(RECORD)
    device.path.receive_untrusted(direct, RECORD)
    device.send(RECORD)
    device.path.receive_untrusted(relay, RECORD)
    device.send(RECORD)
    assert (len(relay.sent), len(direct.sent)) == (2, 1)


@pytest.mark.parametrize("data", [RECORD, SHORT], ids=["dtls", "quic"])
async def test_a_datagram_that_no_session_has_opened_moves_nothing(data: bytes) -> None:
    device = Side(is_client=False)
    relay, direct = device.add(RELAY), device.add(DIRECT)
    device.path.receive_untrusted(relay, RECORD)
    device.is_authentic = lambda _data: False
    device.path.receive_untrusted(direct, data)
    device.send(RECORD)
    assert (relay.sent, direct.sent) == ([RECORD], [])


async def test_a_relay_is_given_back_some_time_after_the_switch() -> None:
    client = Side(is_client=True, limits=LIMITS)
    relay, direct = client.add(RELAY), client.add(DIRECT)
    await until(lambda: relay.is_closed)
    assert not direct.is_closed
    assert client.path.losses == 0


async def test_a_direct_carrier_stays_beside_the_relay_in_use() -> None:
    """A device that has heard its client by the relay alone keeps the direct carrier."""
    device = Side(is_client=False, limits=LIMITS)
    relay, direct = device.add(RELAY), device.add(DIRECT)
    device.path.receive_untrusted(relay, RECORD)
    before = device.changes
    await until(lambda: device.changes > before)
    assert not relay.is_closed
    assert not direct.is_closed


# -- new carriers under the same path -------------------------------------------------------------


async def test_new_carriers_take_over_on_both_sides() -> None:
    client, device = Side(is_client=True, limits=LIMITS), Side(is_client=False, limits=LIMITS)
    old_there, old_here = client.add(DIRECT), device.add(DIRECT)
    device.path.receive_untrusted(old_here, RECORD)
    there, here = client.add(RELAY, attempt=1), device.add(RELAY, attempt=1)
    assert client.path.has_carrier_of(1)
    client.send(RECORD)
    device.send(RECORD)
    assert (there.sent, here.sent, old_here.sent) == ([RECORD], [], [RECORD])
    device.path.receive_untrusted(here, RECORD)
    device.send(RECORD)
    assert here.sent == [RECORD]
    await until(lambda: old_there.is_closed and old_here.is_closed)
    assert not here.is_closed


async def test_a_client_that_renews_again_and_again_leaves_few_carriers() -> None:
    device = Side(is_client=False)
    used = device.add(DIRECT)
    device.path.receive_untrusted(used, RECORD)
    made = [device.add(kind, attempt) for attempt in range(1, 20) for kind in CarrierKind]
    await until(lambda: sum(not one.is_closed for one in made) == 2)
    assert not used.is_closed


# -- the end --------------------------------------------------------------------------------------


async def test_a_path_that_ends_tells_its_session_first_and_closes_all_carriers() -> None:
    client = Side(is_client=True)
    relay, direct = client.add(RELAY), client.add(DIRECT)
    client.path.end()
    assert (client.closed, client.path.is_closed) == (1, True)
    await client.path.wait_closed()
    assert relay.is_closed
    assert direct.is_closed
    late = client.add(DIRECT, attempt=1)
    await until(lambda: late.is_closed)
    client.path.receive_untrusted(direct, RECORD)
    assert (client.received, client.send(RECORD)) == ([], False)


async def test_a_session_that_ends_closes_its_path_and_is_not_notified() -> None:
    client = Side(is_client=True)
    carrier = client.add(DIRECT)
    client.path.close()
    client.path.close()
    await client.path.wait_closed()
    assert (client.closed, carrier.is_closed, client.path.is_reading()) == (0, True, False)


async def test_a_session_on_a_path_that_has_ended_is_notified_at_once() -> None:
    path = Path(KEYS, is_client=True, limits=NEVER, counters=Counter(), on_change=lambda: None)
    path.end()
    notified = asyncio.Event()
    path.open(on_datagram=lambda _datagram: None, on_closed=notified.set)
    assert notified.is_set()
