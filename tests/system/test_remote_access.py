"""Remote access through a port forwarded by a router, in separate network namespaces.

    device 192.0.2.10 ─┐
    near   192.0.2.20 ─┴─ bridge 192.0.2.1 ─ router ─ 198.51.100.1 ── 198.51.100.9 far

The router forwards a UDP port to the device's regular port, as in a home network. In the attacks it
also forwards the pairing port and masquerades, so that every client seems to be on the link.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.process import Program
    from tests.kit.system import Client, Device, Stage

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip", "nft")]

REGULAR, PAIRING = 5684, 5685  # the device's ports, in its own namespace
FORWARDED, ATTACKED = 15684, 15685  # the router's outer ports
LAN: Final = {"router": "192.0.2.1", "device": "192.0.2.10", "near": "192.0.2.20"}
OUTSIDE: Final = "198.51.100.1"
FAR: Final = "198.51.100.9"

SCRIPT: Final = """
import sys
from client_app.sync import Client
from peer.errors import PeerError

try:
    with Client() as client:
        kitchen = client.connect("kitchen")
        print(kitchen.get("/hello").text)
        print(kitchen.whoami().path, kitchen.address)
except PeerError as error:
    sys.exit(type(error).__name__)
"""


class HomeNetwork:
    """Four network namespaces: a LAN, its router, and a host on the other side."""

    def __init__(self) -> None:
        self._mark = f"handfast-{secrets.token_hex(4)}"
        self._made: list[str] = []

    def namespace(self, host: str) -> str:
        return f"{self._mark}-{host}"

    def place(self, host: str) -> tuple[str, ...]:
        """The prefix of a command that runs in the namespace of a host."""
        return ("ip", "netns", "exec", self.namespace(host))

    def build(self) -> None:
        for host in ("router", "device", "near", "far"):
            self._made.append(host)
            ip("netns", "add", self.namespace(host))
            # No duplicate address detection: link-local addresses can be used at once.
            self.write(host, "net/ipv6/conf/default/accept_dad", "0")
            self._ip(host, "link", "set", "lo", "up")
        self._ip("router", "link", "add", "br0", "type", "bridge")
        self._up("router", "br0", LAN["router"])
        for host in ("device", "near"):
            self._wire(host, "eth0", f"to-{host}")
            self._ip("router", "link", "set", f"to-{host}", "master", "br0", "up")
            self._up(host, "eth0", LAN[host])
            self._ip(host, "route", "add", "default", "via", LAN["router"])
        self._wire("far", "eth0", "wan")
        self._up("router", "wan", OUTSIDE)
        self._up("far", "eth0", FAR)
        self.write("router", "net/ipv4/ip_forward", "1")
        self.rules(
            "router",
            "add table ip home",
            "add chain ip home inwards { type nat hook prerouting priority dstnat; }",
            "add chain ip home outwards { type nat hook postrouting priority srcnat; }",
            'add rule ip home outwards oifname "wan" masquerade',
        )
        self.forward(FORWARDED, REGULAR)

    def forward(self, outer: int, inner: int) -> None:
        """Forward a UDP port of the router to a port of the device."""
        rule = f'iifname "wan" udp dport {outer} dnat to {LAN["device"]}:{inner}'
        self.rules("router", f"add rule ip home inwards {rule}")

    def remove_forwarding(self) -> None:
        self.rules("router", "flush chain ip home inwards")

    def masquerade_inbound(self) -> None:
        """Replace the source address of outside clients by the router's, which is on the link."""
        self.rules("router", 'add rule ip home outwards oifname "br0" masquerade')

    def rules(self, host: str, *lines: str) -> None:
        run(*self.place(host), "nft", "-f", "-", given="\n".join(lines))

    def write(self, host: str, setting: str, value: str) -> None:
        run(*self.place(host), "tee", f"/proc/sys/{setting}", given=value)

    def _wire(self, host: str, here: str, at_router: str) -> None:
        peer = ("peer", "name", at_router, "netns", self.namespace("router"))
        self._ip(host, "link", "add", here, "type", "veth", *peer)

    def _up(self, host: str, interface: str, address: str) -> None:
        self._ip(host, "address", "add", f"{address}/24", "dev", interface)
        self._ip(host, "link", "set", interface, "up")

    def _ip(self, host: str, *args: str) -> None:
        ip("-n", self.namespace(host), *args)

    def remove(self) -> None:
        """Delete all namespaces with their interfaces, even if one deletion fails."""
        names = [self.namespace(host) for host in self._made]
        ended = [attempt("ip", "netns", "delete", name) for name in names]
        assert all(one.returncode == 0 for one in ended), ended


def attempt(*argv: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, input=given, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )


def run(*argv: str, given: str = "") -> None:
    done = attempt(*argv, given=given)
    assert done.returncode == 0, f"{argv} {given}: {done.stderr}"


def ip(*args: str) -> None:
    run("ip", *args)


@pytest.fixture
def network() -> Iterator[HomeNetwork]:
    made = HomeNetwork()
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.fixture
def kitchen(network: HomeNetwork, stage: Stage) -> Device:
    """A device on the LAN with default settings: announced, strict, on the default ports."""
    device = stage.device(announced=True)
    device.place = network.place("device")
    device.run_options, device.port = [], REGULAR
    # A veth interface is not local by default, so the settings must name it.
    settings = device.home / "device.d" / "cable.toml"
    settings.parent.mkdir()
    settings.write_text('[network]\nlocal_interfaces = ["eth0"]\n')
    device.pairing_port = PAIRING
    return device


@pytest.fixture
def anna(network: HomeNetwork, stage: Stage) -> Client:
    """A client on the LAN."""
    return move(stage.client("anna"), network, "near")


def move(client: Client, network: HomeNetwork, host: str) -> Client:
    """Move a client to another host; its home folder stays the same."""
    client.place = network.place(host)
    return client


def pair_for_remote_access(device: Device, client: Client) -> None:
    """Pair the client with the device and add the router's address to the client's entry."""
    device.admit(client, "anna")
    client.set_last_seen(device, f"{LAN['device']}:{REGULAR}")
    client.run("address", "kitchen", f"{OUTSIDE}:{FORWARDED}")


def run_script(client: Client, stage: Stage) -> Program:
    """Start a script with the client's home folder, on the client's current host."""
    home = {"HANDFAST_HOME": str(client.home)}
    return stage.start([*client.place, sys.executable, "-c", SCRIPT], env=home)


# -- paired clients -------------------------------------------------------------------------------


def test_a_client_paired_on_the_lan_is_served_from_another_network(
    network: HomeNetwork, stage: Stage, kitchen: Device, anna: Client
) -> None:
    assert kitchen.boot()["local"] == {"mode": "strict", "allow_loopback": False}
    paired = kitchen.pair(anna, "anna", target="kitchen").value  # found by mDNS over the bridge
    assert (paired["user"], paired["role"], paired["port"]) == ("anna", "owner", REGULAR)
    assert anna.json("whoami", "kitchen")["path"] == "local"

    move(anna, network, "far")  # the last known address is unreachable from here
    anna.run("address", "kitchen", f"{OUTSIDE}:{FORWARDED}")
    result = run_script(anna, stage).end(code=0)
    assert result.err == ""
    hello, path = result.out.splitlines()
    assert hello.startswith("Hello anna")
    assert path == f"remote {OUTSIDE}:{FORWARDED}"
    assert anna.json("whoami", "kitchen")["path"] == "remote"

    # The device identifies the client by its key at any address; another key is unpaired.
    observing = anna.start("--json", "observe", "kitchen", "/board")
    observing.until("\n", on="out")
    [session] = [one for one in kitchen.status()["sessions"] if one["user"]]
    assert session["fingerprint"] == anna.fingerprint
    assert session["address"].startswith(f"{FAR}:")
    assert not session["local"]
    eve = move(stage.client("eve"), network, "far")
    eve.know(kitchen, at=f"{OUTSIDE}:{FORWARDED}")
    eve.run("get", "kitchen", "/hello", code=10)

    # Back on the LAN, the same pairing is used.
    move(anna, network, "near")
    assert anna.json("whoami", "kitchen")["path"] == "local"
    assert kitchen.users() == {"anna": [anna.fingerprint]}


def test_an_impostor_at_the_forwarded_port_receives_no_request(
    network: HomeNetwork, stage: Stage, kitchen: Device, anna: Client
) -> None:
    kitchen.boot()
    pair_for_remote_access(kitchen, anna)
    router = network.place("router")
    impostor = stage.device("impostor")
    impostor.place = router
    impostor.boot()
    impostor.ask("users-add", wish={"name": "anna", "role": "owner", "keys": [anna.fingerprint]})
    network.remove_forwarding()
    move(anna, network, "far")

    # With the real device behind the tap, the tap records requests.
    gate = f"{OUTSIDE}:{FORWARDED}"
    tap, _ = stage.wiretap(f"{LAN['device']}:{REGULAR}", at=gate, place=router)
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")
    tap.until("> 23/1", on="out")
    tap.close()

    tap, _ = stage.wiretap(f"127.0.0.1:{impostor.port}", at=gate, place=router)
    refused = anna.run("--json", "get", "kitchen", "/hello", code=5).error
    assert refused["kind"] == "PinMismatch"
    assert kitchen.fingerprint in refused["message"]
    assert impostor.fingerprint in refused["message"]
    output = tap.until("\n> 21/0", on="out")  # the client sends an alert
    assert "23/" not in output
    assert impostor.status()["sessions"] == []
    script = run_script(anna, stage).end(code=1)
    assert (script.out, script.err) == ("", "PinMismatch\n")
    assert "23/" not in tap.output("out")
    # The stored entry of the device has not changed.
    [known] = anna.book.all()
    assert (known.fingerprint.hex, known.last_seen) == (kitchen.fingerprint, gate)


# -- unpaired clients -----------------------------------------------------------------------------


def assert_window_untouched(device: Device) -> None:
    status = device.status()
    assert status["window"]["open"]
    assert (status["window"]["failures"], status["failures"], status["pending"]) == (0, 0, [])
    assert device.users() == {}


def assert_refused_as_not_local(device: Device, client: Client, target: str) -> None:
    refused = client.ask_to_pair(device, target, "mallory").end(code=13).error
    assert refused["kind"] == "NotLocal"
    assert refused["advice"]
    assert not client.aliases


def test_the_pairing_port_is_unreachable_through_the_router(
    network: HomeNetwork, stage: Stage, kitchen: Device
) -> None:
    """Only the regular port is forwarded, and it tells no one there about pairing."""
    kitchen.boot()
    mallory = move(stage.client("mallory"), network, "far")
    mallory.ask_to_pair(kitchen, f"{OUTSIDE}:{PAIRING}", "mallory").end(code=3)
    mallory.ask_to_pair(kitchen, f"{OUTSIDE}:{FORWARDED}", "mallory").end(code=13)
    mallory.know(kitchen, at=f"{OUTSIDE}:{FORWARDED}")
    for verb in ("get", "post"):
        mallory.run(verb, "kitchen", "/pair", code=13)
    assert kitchen.status()["counters"]["pairing"] == {}
    assert_window_untouched(kitchen)
    kitchen.ask("users-add", wish={"name": "bob", "role": "owner", "keys": [mallory.fingerprint]})
    mallory.run("post", "kitchen", "/pair", code=13)


@pytest.mark.parametrize("masqueraded", [False, True], ids=["forwarded", "masqueraded"])
def test_pairing_through_a_forwarded_pairing_port_is_refused(
    network: HomeNetwork, stage: Stage, kitchen: Device, anna: Client, *, masqueraded: bool
) -> None:
    kitchen.boot()
    network.forward(ATTACKED, PAIRING)
    if masqueraded:
        network.masquerade_inbound()
    mallory = move(stage.client("mallory"), network, "far")
    assert_refused_as_not_local(kitchen, mallory, f"{OUTSIDE}:{ATTACKED}")
    assert_window_untouched(kitchen)
    # The event shows the hop limit, which is reduced by one even if the source is masqueraded.
    [event] = kitchen.events("not-local")
    assert event.fingerprint == mallory.fingerprint
    assert (event.interface, event.hop_limit, event.result) == ("eth0", 254, "ttl")
    assert event.address.rpartition(":")[0] == (LAN["router"] if masqueraded else FAR)
    assert kitchen.pair(anna, "anna", target="kitchen").value["role"] == "owner"


def test_a_remote_owner_cannot_pair(network: HomeNetwork, kitchen: Device, anna: Client) -> None:
    """Pairing requires a local client, whatever its role."""
    kitchen.boot()
    pair_for_remote_access(kitchen, anna)
    kitchen.run("open", "--no-wait", "--role", "guest")
    network.forward(ATTACKED, PAIRING)
    move(anna, network, "far")
    assert anna.json("whoami", "kitchen")["role"] == "owner"
    refused = anna.ask_to_pair(kitchen, f"{OUTSIDE}:{ATTACKED}", "anna").end(code=13).error
    assert refused["kind"] == "NotLocal"
    assert anna.json("whoami", "kitchen")["path"] == "remote"


def test_strict_mode_refuses_a_neighbour_with_hop_limit_64(
    network: HomeNetwork, stage: Stage, kitchen: Device, anna: Client
) -> None:
    """Stock clients send a hop limit of 64; compat mode accepts them if they are on the link."""
    network.rules(
        "near",
        "add table ip stock",
        "add chain ip stock out { type filter hook output priority mangle; }",
        f"add rule ip stock out ip daddr {LAN['device']} ip ttl set 64",
    )
    target = f"{LAN['device']}:{PAIRING}"
    kitchen.boot()
    assert_refused_as_not_local(kitchen, anna, target)
    [event] = kitchen.events("not-local")
    assert (event.interface, event.hop_limit, event.result) == ("eth0", 64, "ttl")
    assert event.address.startswith(f"{LAN['near']}:")
    assert_window_untouched(kitchen)
    kitchen.stop()

    assert kitchen.boot("--local", "compat")["local"]["mode"] == "compat"
    # Compat mode drops only this rule: a client that is not on the link is still refused.
    network.forward(ATTACKED, PAIRING)
    mallory = move(stage.client("mallory"), network, "far")
    assert_refused_as_not_local(kitchen, mallory, f"{OUTSIDE}:{ATTACKED}")
    assert [one.result for one in kitchen.events("not-local")] == ["ttl", "prefix"]
    assert_window_untouched(kitchen)
    assert kitchen.pair(anna, "anna", target=target).value["role"] == "owner"
    assert json.loads(anna.run("--json", "whoami", "kitchen").out)["path"] == "local"
