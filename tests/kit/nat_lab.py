"""An internet of namespaces: a device and a client, each behind a router of its own.

        broker .10, relay .20 and .21
                  │
      ────────── core 203.0.113.0/24 ──────────
          │ .101                        │ .102
       router                         router         NAT, or none, or one that drops UDP
          │ 192.168.1.1                 │ 192.168.1.1
       device 192.168.1.2             client 192.168.1.3

Both LANs have the same addresses, as home networks often do. The client also has a cable to the
LAN of the device, to pair; it is unplugged when the client has moved away.
"""

import subprocess
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tests.kit.namespaces import Namespace, Namespaces
from tests.kit.waiting import TIMEOUT_SECONDS

BROKER: Final = "203.0.113.10"
RELAY: Final = "203.0.113.20"
SECOND_STUN: Final = "203.0.113.21"
CORE: Final = "203.0.113.1"
_VOID: Final = "203.0.113.254"  # takes what has no destination, as the internet does


class Nat(StrEnum):
    """How a router translates and filters what its LAN sends."""

    OPEN = "open"
    """The host has a public address, and nothing is filtered."""
    CONE = "cone"
    """One public port for all destinations; only a peer that was addressed can answer."""
    SYMMETRIC = "symmetric"
    """Another public port for each destination."""
    BLOCKED = "blocked"
    """No UDP at all."""


@dataclass(frozen=True)
class Site:
    """A host and its router."""

    host: Namespace
    router: Namespace
    number: int

    @property
    def public(self) -> str:
        """The public address of the router."""
        return f"203.0.113.{100 + self.number}"

    @property
    def open_address(self) -> str:
        """The address of the host while there is no NAT."""
        return f"198.51.100.{16 * self.number + 2}"

    @property
    def private(self) -> str:
        """The address of the host while there is NAT."""
        return f"192.168.1.{1 + self.number}"

    def use(self, nat: Nat, *, ipv6: bool = False) -> None:
        """Translate and filter in this way from now on, and give the host its addresses."""
        is_open = nat is Nat.OPEN
        net = f"198.51.100.{16 * self.number}/28"
        address, gateway = (
            (f"{self.open_address}/28", f"198.51.100.{16 * self.number + 1}")
            if is_open
            else (f"{self.private}/24", "192.168.1.1")
        )
        self.host.batch(
            [
                "addr flush dev eth0",
                f"addr add {address} dev eth0",
                f"route replace default via {gateway}",
                *(
                    (
                        f"addr add 2001:db8:{self.number}::2/64 dev eth0 nodad",
                        f"route replace default via 2001:db8:{self.number}::1",
                    )
                    if ipv6
                    else ()
                ),
            ]
        )
        self._load(_rules(nat, net))

    def _load(self, rules: str) -> None:
        subprocess.run(
            ["ip", "netns", "exec", self.router.name, "nft", "-f", "-"],
            input=rules,
            text=True,
            check=True,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
        )

    def cut(self) -> None:
        """Lose every packet of the site, as an unplugged router does."""
        self.router.ip("link", "set", "wan", "down")

    def mend(self) -> None:
        """Connect the site again."""
        self.router.batch(
            [
                "link set wan up",
                f"route replace default via {CORE}",
                "route replace default via 2001:db8:ffff::1",
            ]
        )


@dataclass(frozen=True)
class NatLab:
    """All namespaces of the laboratory."""

    core: Namespace
    device: Site
    client: Site

    def plug_in(self) -> None:
        """Connect the client to the LAN of the device, and to nothing else."""
        self.client.host.batch(
            [
                "link set eth0 down",
                "link set lan0 up",
                "route replace default via 192.168.1.1 dev lan0",
            ]
        )

    def move_away(self, nat: Nat = Nat.CONE, *, ipv6: bool = False) -> None:
        """Disconnect the client from the LAN of the device; its own router serves it."""
        self.client.host.batch(["link set lan0 down", "link set eth0 up"])
        self.client.use(nat, ipv6=ipv6)


def nat_lab(namespaces: Namespaces) -> NatLab:
    """Build the laboratory; both routers translate as `Nat.CONE`."""
    core = namespaces.add()
    core.batch(["link add br0 type bridge", "link set br0 up"])
    core.batch(
        [
            *(f"addr add {one}/24 dev br0" for one in (CORE, BROKER, RELAY, SECOND_STUN)),
            "addr add 2001:db8:ffff::1/64 dev br0 nodad",
            "addr add fe80::1/64 dev br0 nodad",  # without one, the kernel forwards nothing
            f"neigh replace {_VOID} lladdr 02:00:00:00:00:ff dev br0 nud permanent",
            f"route add default via {_VOID}",
        ]
    )
    core.sysctl(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
    sites = [_site(namespaces, core, number) for number in (1, 2)]
    made = NatLab(core, *sites)
    for site in sites:
        site.use(Nat.CONE)
    namespaces.join(made.client.host, made.device.router, names=("lan0", "guest"))
    made.device.router.ip("link", "set", "guest", "master", "lan")
    made.client.host.batch([f"addr add {made.client.private}/24 dev lan0", "link set lan0 down"])
    return made


def _site(namespaces: Namespaces, core: Namespace, number: int) -> Site:
    made = Site(namespaces.add(), namespaces.add(), number)
    namespaces.join(core, made.router, names=(f"site{number}", "wan"))
    core.batch(
        [
            f"link set site{number} master br0",
            f"route add 198.51.100.{16 * number}/28 via {made.public}",
            f"route add 2001:db8:{number}::/64 via 2001:db8:ffff::{number + 1}",
        ]
    )
    made.router.batch(["link add lan type bridge", "link set lan up"])
    namespaces.join(made.host, made.router, names=("eth0", "port"))
    made.router.batch(
        [
            "link set port master lan",
            f"addr add {made.public}/24 dev wan",
            f"addr add 2001:db8:ffff::{number + 1}/64 dev wan nodad",
            "addr add 192.168.1.1/24 dev lan",
            f"addr add 198.51.100.{16 * number + 1}/28 dev lan",
            f"addr add 2001:db8:{number}::1/64 dev lan nodad",
            f"addr add fe80::{number + 1}/64 dev wan nodad",
            "addr add fe80::1/64 dev lan nodad",
            f"route add default via {CORE}",
            "route add default via 2001:db8:ffff::1",
        ]
    )
    made.router.sysctl(
        ipv4__ip_forward=1,
        ipv6__conf__all__forwarding=1,
        ipv6__conf__wan__keep_addr_on_down=1,  # for `Site.cut`
    )
    return made


def _rules(nat: Nat, public_net: str) -> str:
    """Return the rules of a router.

    Datagrams for the router itself are dropped, as home routers do. If they were answered, the
    connection tracking of Linux would take their port, and the hole of a host behind it would get
    another one.
    """
    is_open = nat is Nat.OPEN
    random = " fully-random" if nat is Nat.SYMMETRIC else ""
    return f"""
flush ruleset
table inet filter {{
    chain input {{
        type filter hook input priority 0;
        iifname "wan" ct state established,related accept
        iifname "wan" ip protocol icmp accept
        iifname "wan" meta l4proto ipv6-icmp accept
        iifname "wan" drop
    }}
    chain forward {{
        type filter hook forward priority 0;
        ct state established,related accept
        {"" if is_open else 'iifname "wan" drop'}
        {"meta l4proto udp drop" if nat is Nat.BLOCKED else ""}
    }}
}}
table ip nat {{
    chain postrouting {{
        type nat hook postrouting priority 100;
        oifname "wan" ip saddr != {public_net} masquerade{random}
    }}
}}
"""
