"""Remote access: through a router, to a forwarded port, in separate network namespaces.

    device 192.0.2.10 ─┐
    near   192.0.2.20 ─┴─ bridge 192.0.2.1 ─ router ─ 198.51.100.1 ── 198.51.100.9 far

The router forwards a UDP port to the device's regular port, as people do at home. As an attack it
forwards the pairing port as well, and masquerades, so that every client seems to be on the link.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.process import Program
    from tests.kit.system import Client, Device, Stage

pytestmark = [pytest.mark.slow, pytest.mark.needs_root, pytest.mark.needs_tool("ip", "nft")]

REGULAR, PAIRING = 5684, 5685  # of the device; its namespace has no other
FORWARDED, ATTACKED = 15684, 15685  # of the router's outer side
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


class Streets:
    """Four network namespaces: a LAN, its router, and a host on the other side."""

    def __init__(self) -> None:
        self._mark = f"handfast-{secrets.token_hex(4)}"
        self._made: list[str] = []

    def name(self, where: str) -> str:
        return f"{self._mark}-{where}"

    def place(self, where: str) -> tuple[str, ...]:
        """The prefix of a command that runs there."""
        return ("ip", "netns", "exec", self.name(where))

    def build(self) -> None:
        for where in ("router", "device", "near", "far"):
            self._made.append(where)
            ip("netns", "add", self.name(where))
            # No duplicate address detection: link-local addresses can be used at once.
            self.write(where, "net/ipv6/conf/default/accept_dad", "0")
            self._ip(where, "link", "set", "lo", "up")
        self._ip("router", "link", "add", "br0", "type", "bridge")
        self._up("router", "br0", LAN["router"])
        for where in ("device", "near"):
            self._wire(where, "eth0", f"to-{where}")
            self._ip("router", "link", "set", f"to-{where}", "master", "br0", "up")
            self._up(where, "eth0", LAN[where])
            self._ip(where, "route", "add", "default", "via", LAN["router"])
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
        """A port of the router leads to the device."""
        rule = f'iifname "wan" udp dport {outer} dnat to {LAN["device"]}:{inner}'
        self.rules("router", f"add rule ip home inwards {rule}")

    def forward_nothing(self) -> None:
        self.rules("router", "flush chain ip home inwards")

    def masquerade_inwards(self) -> None:
        """Every client from outside seems to be the router, which is on the link."""
        self.rules("router", 'add rule ip home outwards oifname "br0" masquerade')

    def rules(self, where: str, *lines: str) -> None:
        run(*self.place(where), "nft", "-f", "-", given="\n".join(lines))

    def write(self, where: str, setting: str, value: str) -> None:
        run(*self.place(where), "tee", f"/proc/sys/{setting}", given=value)

    def _wire(self, where: str, here: str, at_router: str) -> None:
        peer = ("peer", "name", at_router, "netns", self.name("router"))
        self._ip(where, "link", "add", here, "type", "veth", *peer)

    def _up(self, where: str, interface: str, address: str) -> None:
        self._ip(where, "address", "add", f"{address}/24", "dev", interface)
        self._ip(where, "link", "set", interface, "up")

    def _ip(self, where: str, *args: str) -> None:
        ip("-n", self.name(where), *args)

    def remove(self) -> None:
        """Delete all of them, whatever became of one; their interfaces go with them."""
        names = [self.name(where) for where in self._made]
        ended = [attempt("ip", "netns", "delete", name) for name in names]
        assert all(one.returncode == 0 for one in ended), ended


def attempt(*argv: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, input=given, capture_output=True, text=True, timeout=20, check=False
    )


def run(*argv: str, given: str = "") -> None:
    done = attempt(*argv, given=given)
    assert done.returncode == 0, f"{argv} {given}: {done.stderr}"


def ip(*args: str) -> None:
    run("ip", *args)


@pytest.fixture
def streets() -> Iterator[Streets]:
    made = Streets()
    try:
        made.build()
        yield made
    finally:
        made.remove()


@pytest.fixture
def kitchen(streets: Streets, stage: Stage) -> Device:
    """A device on the LAN as it comes out of the box: announced, strict, on the usual ports."""
    device = stage.device(announced=True)
    device.place = streets.place("device")
    device.run_options, device.port = [], REGULAR
    # A cable between namespaces leads to another one, so it is a link only if it is named.
    settings = device.home / "device.d" / "cable.toml"
    settings.parent.mkdir()
    settings.write_text('[network]\nlocal_interfaces = ["eth0"]\n')
    device.pairing_port = PAIRING
    return device


@pytest.fixture
def anna(streets: Streets, stage: Stage) -> Client:
    """A user with a laptop, now on the LAN."""
    return at(stage.client("anna"), streets, "near")


def at(client: Client, streets: Streets, where: str) -> Client:
    """The same home folder, used in another place."""
    client.place = streets.place(where)
    return client


def acquainted(device: Device, client: Client) -> None:
    """Both know each other, and the client knows the router's address too."""
    device.admit(client, "anna")
    client.set_last_seen(device, f"{LAN['device']}:{REGULAR}")
    client.run("address", "kitchen", f"{OUTSIDE}:{FORWARDED}")


def run_script(client: Client, stage: Stage) -> Program:
    """A script of the client, in the place where it is."""
    home = {"HANDFAST_HOME": str(client.home)}
    return stage.start([*client.place, sys.executable, "-c", SCRIPT], env=home)


# -- who has paired -------------------------------------------------------------------------------


def test_paired_at_home_and_on_from_afar(
    streets: Streets, stage: Stage, kitchen: Device, anna: Client
) -> None:
    assert kitchen.boot()["local"] == {"mode": "strict", "allow_loopback": False}
    paired = kitchen.pair(anna, "anna", target="kitchen").value  # by mDNS, over the bridge
    assert (paired["user"], paired["role"], paired["port"]) == ("anna", "owner", REGULAR)
    assert anna.json("whoami", "kitchen")["path"] == "local"

    at(anna, streets, "far")  # where it was last seen, perhaps by IPv6, is of no use here
    anna.run("address", "kitchen", f"{OUTSIDE}:{FORWARDED}")
    said = run_script(anna, stage).end(code=0)
    assert said.err == ""
    hello, where = said.out.splitlines()
    assert hello.startswith("Hello anna")
    assert where == f"remote {OUTSIDE}:{FORWARDED}"
    assert anna.json("whoami", "kitchen")["path"] == "remote"

    # It is these two keys that know each other, wherever they are.
    observing = anna.start("--json", "observe", "kitchen", "/board")
    observing.until("\n", on="out")
    [session] = [one for one in kitchen.status()["sessions"] if one["user"]]
    assert session["fingerprint"] == anna.fingerprint
    assert session["address"].startswith(f"{FAR}:")
    assert not session["local"]
    eve = at(stage.client("eve"), streets, "far")
    eve.know(kitchen, at=f"{OUTSIDE}:{FORWARDED}")
    eve.run("get", "kitchen", "/hello", code=10)

    # And back home again.
    at(anna, streets, "near")
    assert anna.json("whoami", "kitchen")["path"] == "local"
    assert kitchen.users() == {"anna": [anna.fingerprint]}


def test_an_impostor_at_the_forwarded_port_hears_nothing(
    streets: Streets, stage: Stage, kitchen: Device, anna: Client
) -> None:
    kitchen.boot()
    acquainted(kitchen, anna)
    router = streets.place("router")
    impostor = stage.device("impostor")
    impostor.place = router
    impostor.boot()
    impostor.ask("users-add", wish={"name": "anna", "role": "owner", "keys": [anna.fingerprint]})
    streets.forward_nothing()
    at(anna, streets, "far")

    # The true one behind the tap, to see that the tap sees.
    gate = f"{OUTSIDE}:{FORWARDED}"
    tap, _ = stage.wiretap(f"{LAN['device']}:{REGULAR}", at=gate, place=router)
    assert anna.run("get", "kitchen", "/hello").out.startswith("Hello anna")
    assert "> 23/1" in tap.said("out")
    tap.close()

    tap, _ = stage.wiretap(f"127.0.0.1:{impostor.port}", at=gate, place=router)
    refused = anna.run("--json", "get", "kitchen", "/hello", code=5).error
    assert refused["kind"] == "PinMismatch"
    assert kitchen.fingerprint in refused["message"]
    assert impostor.fingerprint in refused["message"]
    said = tap.until("\n> 21/0", on="out")  # it is told to go away
    assert "23/" not in said
    assert impostor.status()["sessions"] == []
    script = run_script(anna, stage).end(code=1)
    assert (script.out, script.err) == ("", "PinMismatch\n")
    assert "23/" not in tap.said("out")
    # The client's opinion of the device has not changed.
    [known] = anna.book.all()
    assert (known.fingerprint.hex, known.last_seen) == (kitchen.fingerprint, gate)


# -- who has not ----------------------------------------------------------------------------------


def window_untouched(device: Device) -> None:
    status = device.status()
    assert status["window"]["open"]
    assert (status["window"]["failures"], status["failures"], status["pending"]) == (0, 0, [])
    assert device.users() == {}


def refused_as_not_local(device: Device, client: Client, target: str) -> None:
    refused = client.ask_to_pair(device, target, "mallory").end(code=13).error
    assert refused["kind"] == "NotLocal"
    assert refused["advice"]
    assert not client.aliases


def test_the_pairing_port_is_out_of_reach(streets: Streets, stage: Stage, kitchen: Device) -> None:
    """The regular port alone is forwarded: nothing leads to /pair."""
    kitchen.boot()
    mallory = at(stage.client("mallory"), streets, "far")
    mallory.ask_to_pair(kitchen, f"{OUTSIDE}:{PAIRING}", "mallory").end(code=11)
    mallory.ask_to_pair(kitchen, f"{OUTSIDE}:{FORWARDED}", "mallory").end(code=10)
    mallory.know(kitchen, at=f"{OUTSIDE}:{FORWARDED}")
    for verb in ("get", "post"):
        mallory.run(verb, "kitchen", "/pair", code=10)
    assert kitchen.status()["counters"]["pairing"] == {}
    window_untouched(kitchen)
    kitchen.ask("users-add", wish={"name": "bob", "role": "owner", "keys": [mallory.fingerprint]})
    missing = mallory.run("--json", "post", "kitchen", "/pair", code=8).error
    assert "no such resource" in missing["message"]


@pytest.mark.parametrize("masqueraded", [False, True], ids=["forwarded", "masqueraded"])
def test_a_forwarded_pairing_port_lets_nobody_in(
    streets: Streets, stage: Stage, kitchen: Device, anna: Client, *, masqueraded: bool
) -> None:
    kitchen.boot()
    streets.forward(ATTACKED, PAIRING)
    if masqueraded:
        streets.masquerade_inwards()
    mallory = at(stage.client("mallory"), streets, "far")
    refused_as_not_local(kitchen, mallory, f"{OUTSIDE}:{ATTACKED}")
    window_untouched(kitchen)
    # The trail tells how it came: one hop less, however near the source looks.
    [event] = kitchen.events("not-local")
    assert event.fingerprint == mallory.fingerprint
    assert (event.interface, event.hop_limit, event.result) == ("eth0", 254, "ttl")
    assert event.address.rpartition(":")[0] == (LAN["router"] if masqueraded else FAR)
    assert kitchen.pair(anna, "anna", target="kitchen").value["role"] == "owner"


def test_an_owner_far_away_cannot_pair_either(
    streets: Streets, kitchen: Device, anna: Client
) -> None:
    """Local is local: no role makes up for it."""
    kitchen.boot()
    acquainted(kitchen, anna)
    kitchen.run("open", "--no-wait", "--role", "guest")
    streets.forward(ATTACKED, PAIRING)
    at(anna, streets, "far")
    assert anna.json("whoami", "kitchen")["role"] == "owner"
    refused = anna.ask_to_pair(kitchen, f"{OUTSIDE}:{ATTACKED}", "anna").end(code=13).error
    assert refused["kind"] == "NotLocal"
    assert anna.json("whoami", "kitchen")["path"] == "remote"


def test_the_hop_limit_alone(streets: Streets, stage: Stage, kitchen: Device, anna: Client) -> None:
    """A neighbour whose datagrams say 64, as those of stock clients do."""
    streets.rules(
        "near",
        "add table ip stock",
        "add chain ip stock out { type filter hook output priority mangle; }",
        f"add rule ip stock out ip daddr {LAN['device']} ip ttl set 64",
    )
    target = f"{LAN['device']}:{PAIRING}"
    kitchen.boot()
    refused_as_not_local(kitchen, anna, target)
    [event] = kitchen.events("not-local")
    assert (event.interface, event.hop_limit, event.result) == ("eth0", 64, "ttl")
    assert event.address.startswith(f"{LAN['near']}:")
    window_untouched(kitchen)
    kitchen.stop()

    assert kitchen.boot("--local", "compat")["local"]["mode"] == "compat"
    # Compat drops that rule and no other: who is off the link stays outside.
    streets.forward(ATTACKED, PAIRING)
    mallory = at(stage.client("mallory"), streets, "far")
    refused_as_not_local(kitchen, mallory, f"{OUTSIDE}:{ATTACKED}")
    assert [one.result for one in kitchen.events("not-local")] == ["ttl", "prefix"]
    window_untouched(kitchen)
    assert kitchen.pair(anna, "anna", target=target).value["role"] == "owner"
    assert json.loads(anna.run("--json", "whoami", "kitchen").out)["path"] == "local"
