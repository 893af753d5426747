"""A paired client, or a stranger, that misuses the ICE of a device."""

import asyncio
import contextlib
import gc
import struct
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

import pytest
from aioice import Candidate, Connection, stun, turn
from aioice.ice import StunProtocol
from hypothesis import given
from hypothesis import strategies as st

from peer.net.tasks import cancel_all
from peer.remote.limits import DEFAULT_ICE_LIMITS, MAX_CANDIDATES
from peer.remote.messages import CarrierOffer
from peer.remote.relay import drop_malformed
from tests.kit.carriers import LOOPBACK, PROBE, CarrierEnd, closing, connect, exchange
from tests.kit.udp_middle import address_of
from tests.kit.waiting import until

PASSWORD = "p" * 22
UFRAG = "evil"


@dataclass
class Host(asyncio.DatagramProtocol):
    """A UDP socket that records what it receives."""

    received: list[bytes] = field(default_factory=list)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.socket = transport
        self.address = transport.get_extra_info("sockname")

    def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
        self.received.append(data)

    @property
    def checks(self) -> int:
        """How many different checks came."""
        return len({data[8:20] for data in self.received if data[:2] == b"\x00\x01"})

    @property
    def answers(self) -> int:
        return sum(data[:2] == b"\x01\x01" for data in self.received)


@contextlib.asynccontextmanager
async def hosts(number: int) -> AsyncIterator[list[Host]]:
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_datagram_endpoint(Host, local_addr=(LOOPBACK, 0)) for _ in range(number)
    ]
    try:
        yield [host for _, host in made]
    finally:
        for transport, _ in made:
            transport.close()


def check_of(offer: CarrierOffer, **attributes: object) -> bytes:
    """A connectivity check of the peer whose credentials the device accepts."""
    request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{offer.ufrag}:{UFRAG}"
    request.attributes.update({"PRIORITY": 1, "ICE-CONTROLLING": 7, **attributes})
    request.attributes = {name: one for name, one in request.attributes.items() if one != ""}
    request.add_message_integrity(offer.pwd.encode())
    return bytes(request)


def offer_of(*candidates: str) -> CarrierOffer:
    return CarrierOffer(UFRAG, PASSWORD, candidates)


@contextlib.asynccontextmanager
async def checking_device(remote: CarrierOffer) -> AsyncIterator[CarrierOffer]:
    """A device that connects to an offer; yields its own."""
    device = CarrierEnd.create(controlling=False)
    async with closing(device):
        offer = await device.carrier.gather()
        connecting = asyncio.ensure_future(device.carrier.connect(remote))
        await asyncio.sleep(0)
        yield offer
        await cancel_all([connecting])


async def test_checks_from_forged_sources_are_answered_but_few_are_checked_back() -> None:
    """A paired client that forges sources would make a device send to all of them."""
    async with (
        hosts(20) as victims,
        checking_device(offer_of(f"1 1 udp 1 {LOOPBACK} 9999 typ host")) as offer,
    ):
        for victim in victims:
            victim.socket.sendto(check_of(offer), address_of(offer))
        await until(lambda: all(victim.answers for victim in victims))
        await until(lambda: sum(bool(victim.checks) for victim in victims) >= 4)
        for _ in range(20):
            await asyncio.sleep(0.005)
        checked = sum(bool(victim.checks) for victim in victims)
    assert checked == DEFAULT_ICE_LIMITS.peer_reflexive == 4


async def test_an_offer_makes_a_device_check_a_bounded_number_of_addresses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Further candidates of the same connection add nothing above the bound."""
    monkeypatch.setattr(stun, "RETRY_RTO", 3600.0)
    device = CarrierEnd.create(controlling=False)
    async with hosts(40) as victims, closing(device):
        await device.carrier.gather()
        named = [
            f"1 1 udp {n} {LOOPBACK} {one.address[1]} typ host" for n, one in enumerate(victims, 1)
        ]
        connecting = asyncio.ensure_future(device.carrier.connect(offer_of(*named[:12])))
        await asyncio.sleep(0)
        for start in range(12, 40, 4):
            device.carrier.add_remote(offer_of(*named[start : start + 4]))
        bound = MAX_CANDIDATES + DEFAULT_ICE_LIMITS.peer_reflexive
        await until(lambda: sum(bool(one.checks) for one in victims) >= bound)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert sum(bool(one.checks) for one in victims) == bound
        assert all(len(one.received) <= 1 for one in victims)
        await cancel_all([connecting])


async def test_the_checks_of_one_candidate_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven packets of about 100 bytes, however often the same candidate is named."""
    monkeypatch.setattr(stun, "RETRY_RTO", 0.001)
    async with hosts(1) as victims:
        [victim] = victims
        line = f"1 1 udp 1 {LOOPBACK} {victim.address[1]} typ host"
        async with checking_device(offer_of(*(line.replace("1 1", f"{n} 1", 1) for n in range(9)))):
            await until(lambda: len(victim.received) >= 7)
            for _ in range(40):
                await asyncio.sleep(0.005)
        assert len(victim.received) == 7
        assert max(map(len, victim.received)) < 130


async def test_a_stranger_gets_no_answer() -> None:
    """The device is no reflector, and its ICE ports cannot be found by asking."""
    async with (
        hosts(2) as (stranger, peer),
        checking_device(offer_of(f"1 1 udp 1 {LOOPBACK} 9999 typ host")) as offer,
    ):
        target = address_of(offer)
        wrong = replace(offer, pwd="w" * 22)
        for data in (
            bytes(stun.Message(stun.Method.BINDING, stun.Class.REQUEST)),
            bytes(stun.Message(stun.Method.ALLOCATE, stun.Class.REQUEST)),
            check_of(wrong),
            check_of(replace(offer, ufrag="none")),
        ):
            stranger.socket.sendto(data, target)
        peer.socket.sendto(check_of(offer), target)
        await until(lambda: peer.answers)
        assert stranger.received == []


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\x24\x00\x02\x00\x00\x00\x00",  # PRIORITY of two bytes
        b"\x00\x09\x00\x00",  # ERROR-CODE without a code
        b"\x00\x20\x00\x01\x00\x00\x00\x00",  # XOR-MAPPED-ADDRESS without an address
        b"\x80\x28\x00\x01\x00\x00\x00\x00",  # FINGERPRINT of one byte
        b"\x80\x2a\x00\x02\x00\x00\x00\x00",  # ICE-CONTROLLING of two bytes
        b"\x00\x06\xff\xff",  # USERNAME beyond the end
    ],
    ids=lambda body: body.hex(),
)
async def test_a_malformed_message_of_a_stranger_is_dropped_without_a_trace(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """aioice raises errors of struct for some, and asyncio would log each with its traceback."""
    data = struct.pack("!HHI12s", 1, len(body), 0x2112A442, bytes(12)) + body
    client, device = CarrierEnd.create(controlling=True), CarrierEnd.create(controlling=False)
    async with closing(client, device), hosts(1) as (stranger,):
        offers = await connect(client, device)
        stranger.socket.sendto(data, address_of(offers[1]))
        stranger.socket.sendto(b"\x80after", address_of(offers[1]))
        assert await device.received.get() == b"\x80after"
        await exchange(client, device)
    assert [one for one in caplog.records if one.name == "asyncio"] == []


KNOWN_ATTRIBUTES = sorted(stun.ATTRIBUTES_BY_TYPE)
TYPES = st.sampled_from([0x0001, 0x0101, 0x0111, 0x0011, 0x0017, 0x0103, 0x0113, 0x3FFF])


@st.composite
def stun_messages(draw: st.DrawFn) -> bytes:
    """A STUN message of known attributes with any values, perhaps cut short."""
    body = b""
    for kind in draw(st.lists(st.sampled_from(KNOWN_ATTRIBUTES), max_size=5)):
        value = draw(st.binary(max_size=24))
        body += struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)
    body = body[: len(body) - draw(st.integers(0, 3))]
    return struct.pack("!HHI12s", draw(TYPES), len(body), 0x2112A442, bytes(12)) + body


class Sink(asyncio.DatagramTransport):
    """Takes every answer."""

    def sendto(self, data: object, addr: object = None) -> None:
        pass


@given(st.lists(stun_messages(), max_size=30))
def test_no_message_of_a_stranger_or_a_relay_raises_an_error(messages: list[bytes]) -> None:
    async def receive() -> None:
        server = (LOOPBACK, 3478)
        relay = turn.TurnClientUdpProtocol(server, "home", "password", 600, 240)
        protocol = StunProtocol(Connection(ice_controlling=False))
        protocol.local_candidate = Candidate("1", 1, "udp", 1, LOOPBACK, 5000, "host")
        protocol.transport = Sink()
        for receiver in (drop_malformed(protocol), drop_malformed(relay)):
            receiver.transactions[bytes(12)] = stun.Transaction(
                stun.Message(stun.Method.BINDING, stun.Class.REQUEST),
                server,
                receiver,
                integrity_key=b"key",
            )
            for message in messages:
                receiver.datagram_received(message, server)

    asyncio.run(receive())


@pytest.mark.parametrize("is_early", [True, False], ids=["before connect", "while it runs"])
async def test_a_check_without_a_priority_is_dropped(is_early: bool) -> None:
    """aioice raises KeyError, out of `connect` if the check came before."""
    remote = offer_of(f"1 1 udp 1 {LOOPBACK} 9999 typ host")
    device = CarrierEnd.create(controlling=False)
    async with hosts(1) as (peer,), closing(device):
        offer = await device.carrier.gather()
        if is_early:
            peer.socket.sendto(check_of(offer, PRIORITY=""), address_of(offer))
            await until(lambda: peer.answers)
        connecting = asyncio.ensure_future(device.carrier.connect(remote))
        await asyncio.sleep(0.01)
        peer.socket.sendto(check_of(offer, PRIORITY=""), address_of(offer))
        await until(lambda: peer.answers == 1 + is_early)
        assert peer.checks == 0
        assert not connecting.done()
        await cancel_all([connecting])


async def test_a_flood_of_datagrams_takes_no_memory() -> None:
    """aioice keeps them in a queue without a bound."""
    client, device = CarrierEnd.create(controlling=True), CarrierEnd.create(controlling=False)
    async with closing(client, device), hosts(1) as (stranger,):
        offers = await connect(client, device)
        target = address_of(offers[1])
        gc.collect()
        tracemalloc.start()
        try:
            for _ in range(100):
                for _ in range(20):
                    stranger.socket.sendto(PROBE + bytes(1000), target)
                for _ in range(20):
                    await device.received.get()
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert grown < 500_000  # of 2 MB
