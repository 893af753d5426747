"""Another host that announces this device: which packets are noticed, and which are not."""

import ipaddress
from collections.abc import Iterable

import pytest
from zeroconf._dns import DNSAddress, DNSPointer

from peer.limits import DUPLICATE_CHECK_SECONDS, DUPLICATE_OWN_ADDRESSES
from peer.net.duplicate_watch import DuplicateWatch
from peer.net.mdns import DNSRecord, Origin
from peer.net.service_records import AAAA, PTR, A

HOST = "handfast-7f3k2m1q.local."
OWN, ALSO_OWN, OLD = "192.168.1.50", "192.168.2.50", "192.168.1.40"
OTHER, OTHER_6 = "192.168.1.51", "fe80::51"


class Watch:
    """A watch with a clock; `noticed` has the addresses of other hosts."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.own = {OWN, ALSO_OWN, "fe80::50"}
        self.noticed: list[tuple[str, int]] = []
        self.watch = DuplicateWatch(
            HOST,
            own=lambda: map(ipaddress.ip_address, self.own),
            now=lambda: self.now,
            on_duplicate=lambda address, index: self.noticed.append((str(address), index)),
        )
        self.watch.note_own(map(ipaddress.ip_address, [OLD]))
        self.watch.note_own(map(ipaddress.ip_address, self.own))

    def hear(self, source: str, *addresses: str, name: str = HOST, ttl: int = 120) -> None:
        records = (record(name, address, ttl) for address in addresses)
        self.watch.heard_untrusted(records, Origin.of(source, 2))


def record(name: str, address: str, ttl: int) -> DNSRecord:
    packed = ipaddress.ip_address(address).packed
    return DNSAddress(name, A if len(packed) == 4 else AAAA, 1, ttl, packed)


@pytest.fixture
async def watch() -> Watch:
    return Watch()


@pytest.mark.parametrize(
    ("source", "addresses"),
    [
        (OTHER, [OTHER]),
        (OTHER, ["10.0.0.1", OTHER, "fe80::51"]),
        (OTHER_6, [OTHER, OTHER_6]),
        (f"{OTHER_6}%2", [OTHER_6]),
        (f"::ffff:{OTHER}", [OTHER]),
    ],
)
async def test_another_host_with_this_name_is_noticed(
    watch: Watch, source: str, addresses: Iterable[str]
) -> None:
    watch.hear(source, *addresses, name=HOST.upper())
    plain = source.partition("%")[0].removeprefix("::ffff:")
    assert watch.noticed == [(plain, 2)]


@pytest.mark.parametrize(
    ("source", "addresses"),
    [
        (OWN, [OWN]),  # this device
        (ALSO_OWN, [ALSO_OWN]),  # by another link
        (ALSO_OWN, [OWN]),
        ("fe80::50%3", ["fe80::50"]),
        (OTHER, [OWN, ALSO_OWN]),  # a reflector repeats this device
        (OTHER, [OLD]),  # or what this device announced before DHCP gave it another address
        (OLD, [OLD]),  # a packet of this device that arrives late
        (OTHER, ["192.168.1.52"]),  # a reflector repeats a copy: its own packets tell
        (OTHER, []),
        ("", [OTHER]),
    ],
)
async def test_packets_of_this_device_and_of_reflectors_are_not_noticed(
    watch: Watch, source: str, addresses: Iterable[str]
) -> None:
    watch.hear(source, *addresses)
    assert watch.noticed == []


async def test_other_records_are_not_noticed(watch: Watch) -> None:
    watch.hear(OTHER, OTHER, name="handfast-0000000a.local.")
    watch.hear(OTHER, OTHER, ttl=0)  # a goodbye
    pointer = DNSPointer(HOST, PTR, 1, 120, HOST)
    watch.watch.heard_untrusted([pointer], Origin.of(OTHER, 2))
    assert watch.noticed == []


async def test_an_address_that_was_added_just_now_is_an_own_one(watch: Watch) -> None:
    watch.own.add(OTHER)
    watch.hear(OTHER, OTHER)
    assert watch.noticed == []


async def test_a_flood_is_noticed_at_intervals_and_costs_bounded_memory(watch: Watch) -> None:
    for number in range(3 * DUPLICATE_OWN_ADDRESSES):
        address = str(ipaddress.ip_address(0x0A000000 + number))
        watch.hear(address, address)
    assert len(watch.noticed) == 1
    watch.now += DUPLICATE_CHECK_SECONDS
    watch.hear(OTHER, OTHER)
    assert watch.noticed[1:] == [(OTHER, 2)]
    watch.hear(OWN, OWN)
    assert len(watch.noticed) == 2
