"""Interface tables and datagrams for tests of the on-link rules."""

from ipaddress import ip_address, ip_interface, ip_network

from peer.net.datagram import Datagram
from peer.net.interfaces import (
    Interface,
    InterfaceAddress,
    InterfaceTable,
)
from peer.net.locality_verdict import LocalityVerdict, LocalMode
from peer.net.onlink import Locality

# ----------------------------------------------------------------------------- tables by hand


def on(*texts: str) -> tuple[InterfaceAddress, ...]:
    """Ordinary addresses, given as "192.0.2.1/24"."""
    return tuple(InterfaceAddress(ip_interface(t).ip, ip_interface(t).network) for t in texts)


def to_peer(own: str, far: str) -> tuple[InterfaceAddress, ...]:
    return (InterfaceAddress(ip_address(own), ip_network(far)),)


LO = Interface(index=1, name="lo", is_loopback=True, addresses=on("127.0.0.1/8", "::1/128"))
ETH = Interface(
    index=2,
    name="eth0",
    is_hardware=True,
    addresses=on("192.0.2.1/24", "2001:db8::1/64", "fe80::1/64"),
)
WLAN = Interface(
    index=3, name="wlan0", is_hardware=True, addresses=on("198.51.100.1/24", "fe80::3/64")
)
BARE = Interface(index=4, name="eth1", is_hardware=True)
ALONE = Interface(
    index=5, name="eth2", is_hardware=True, addresses=on("203.0.113.5/32", "2001:db8:5::5/128")
)
PEERED = Interface(
    index=6, name="eth3", is_hardware=True, addresses=to_peer("10.0.0.1", "10.0.0.2/32")
)
TUNNEL = Interface(
    index=7,
    name="tun0",
    kind="tun",
    is_point_to_point=True,
    resolves_neighbours=False,
    addresses=to_peer("10.9.0.1", "10.9.0.2/32"),
)
PAIR = Interface(index=8, name="eth4", is_hardware=True, addresses=on("10.8.0.0/31"))
TABLE = InterfaceTable.of((LO, ETH, WLAN, BARE, ALONE, PEERED, TUNNEL, PAIR))


def judge(
    datagram: Datagram,
    *,
    table: InterfaceTable = TABLE,
    mode: LocalMode = LocalMode.STRICT,
    allow_loopback: bool = False,
    interfaces: frozenset[str] = frozenset(),
) -> LocalityVerdict:
    locality = Locality(
        mode=mode,
        allow_loopback=allow_loopback,
        interfaces=interfaces,
        table=lambda: table,
        now=lambda: 0.0,
    )
    return locality.judge(datagram)
