"""Invites that are created with `handfast-device invite`."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest

from device_app.access.reach import reachable
from device_app.limits import INVITE_ADDRESSES_MAX
from peer.net.interfaces import Interface, InterfaceAddress, InterfaceTable
from peer.pairing.invite import read_untrusted
from tests.kit.daemon import run
from tests.kit.interfaces import on
from tests.kit.invites import DAY, KEY, redeemed

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from tests.kit.device import Kit


# -- the console -----------------------------------------------------------------------------------


async def test_an_invite_is_created_listed_and_withdrawn_with_a_daemon(kit: Kit) -> None:
    await run(kit.home, "init", "--name", "kitchen")
    await run(kit.home, "users", "add", "olga", "--role", "owner", "--key", KEY)
    daemon = await kit.daemon()
    result = await daemon.run("invite", "anna", "--role", "user", "--for", "1h", "--until", "2d")
    assert result.code == 0, result
    (token,) = result.out.splitlines()
    assert "for user anna, role user" in result.err
    assert token not in result.err
    read, _ = read_untrusted(token)
    assert read.addresses == (f"127.0.0.1:{daemon.port(pairing=False)}",)
    assert "anna" in (await daemon.run("invites")).out
    (listed,) = (await daemon.json("invites"))["invites"]
    assert (listed["id"], listed["inviter"]) == (read.id.hex(), "")
    caller = kit.caller(daemon.port)
    assert (await redeemed(caller, token)).body["user"] == "anna"
    user = (await daemon.json("users", "show", "anna"))["user"]
    assert 0 < user["not_after"] - user["created"] <= 2 * DAY
    assert (await daemon.json("invites", "list"))["invites"] == []
    made = (await daemon.json("invite", "bert"))["invite"]
    assert made["token"].startswith("HANDFAST:I:")
    assert (await daemon.run("invites", "withdraw", made["id"][:6].upper())).code == 0
    assert (await redeemed(kit.caller(daemon.port), made["token"])).reason == "invite"
    for args, code in (
        (["invite", "a  b"], 2),
        (["invite", "anna"], 8),
        (["invite", "bert", "--role", "king"], 8),
        (["invite", "bert", "--uses", "99"], 2),
        (["invite", "bert", "--for", "soon"], 2),
        (["invite", "bert", "--until", "someday"], 2),
        (["invite", "bert", "--key", "xyz"], 2),
        (["invites", "withdraw", "nonsense"], 2),
        (["invites", "withdraw", ""], 2),
        (["invites", "withdraw", "ffff"], 8),
    ):
        refused = await daemon.run(*args)
        assert (refused.code, bool(refused.err), refused.out) == (code, True, ""), args
    assert not any("HANDFAST" in line for line in daemon.log_lines)


async def test_an_invite_that_is_created_without_a_daemon_is_redeemed_later(
    kit: Kit, tmp_path: Path
) -> None:
    assert (await run(kit.home, "invite", "anna")).code == 3
    await run(kit.home, "init", "--name", "kitchen")
    (kit.home / "device.d").mkdir()
    (kit.home / "device.d" / "net.toml").write_text(
        '[network]\nport = 40001\npublic = ["home.example", "[2001:db8::1]:9"]\n'
    )
    picture = tmp_path / "invite.png"
    args = ["invite", "anna", "--role", "owner", "--qr", "--png", str(picture)]
    result = await run(kit.home, *args)
    assert result.code == 0, result
    token = result.out.strip()
    read, _ = read_untrusted(token)
    assert read.addresses[:2] == ("home.example:40001", "[2001:db8::1]:9")
    assert len(read.addresses) <= INVITE_ADDRESSES_MAX
    assert "█" in result.err
    assert picture.stat().st_mode & 0o777 == 0o600
    again = await run(kit.home, *args[:1], "bert", *args[4:])
    assert (again.code, "new file" in again.err) == (2, True)
    listed = json.loads((await run(kit.home, "invites", "--json")).out)
    assert [one["name"] for one in listed["invites"]] == ["anna"]
    daemon = await kit.daemon()
    caller = kit.caller(daemon.port)
    assert (await redeemed(caller, token)).body["role"] == "owner"
    assert (await caller.ask("GET", "/iam/users")).code == "2.05"


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("home.example", True),
        ("home.example:5684", True),
        ("[2001:db8::1]", True),
        ("192.0.2.1:1", True),
        ("2001:db8::1", False),
        ("home.example:0", False),
        ("home.example:99999", False),
        ("home example", False),
        ("coaps://home.example", False),
        ("a..b", False),
        ("-a.example", False),
        ("192.0.2.1.", True),
        ("[::zz]", False),
        ("[2001:db8::1", False),
    ],
)
async def test_an_invalid_public_address_is_reported_with_its_line(
    tmp_path: Path,
    text: str,
    fits: bool,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "device.toml").write_text(f'[network]\npublic = ["{text}"]\n')
    result = await run(home, "init", "--name", "kitchen")
    assert ("device.toml:2" in result.err) is not fits, result


def test_reachable_addresses_are_ordered_by_scope() -> None:
    def interface(index: int, *own: str, **kind: Any) -> Interface:
        addresses = tuple(InterfaceAddress(ip_address(one), ip_network(one)) for one in own)
        return Interface(index=index, name=f"if{index}", addresses=addresses, **kind)

    table = InterfaceTable.of(
        [
            interface(1, "127.0.0.1", "::1", is_loopback=True),
            interface(2, "192.168.1.5", "fe80::5", "2606:4700::5"),
            interface(3, "fd00::5", "8.8.4.4"),
            interface(4, "10.0.0.1", is_up=False),
        ]
    )
    everywhere = ("8.8.4.4:7", "[2606:4700::5]:7", "192.168.1.5:7", "[fd00::5]:7")
    assert reachable([("::", 7)], (), table) == everywhere
    assert reachable([("0.0.0.0", 7)], (), table) == ("8.8.4.4:7", "192.168.1.5:7")
    assert reachable([("127.0.0.1", 7)], ("h.example", "h.example:8"), table) == (
        *("h.example:7", "h.example:8", "127.0.0.1:7"),
    )
    assert reachable([("::", 0)], ("h.example", "h.example:8"), table) == ("h.example:8",)
    assert reachable([("::", 7), ("::", 7)], (), table) == everywhere


def test_an_invite_names_the_address_of_the_lan_before_those_of_container_networks() -> None:
    networks = [
        Interface(index=n, name=f"br{n}", kind="bridge", addresses=on(f"172.{n}.0.1/16"))
        for n in range(16, 32)
    ]
    cable = Interface(
        index=99, name="eth0", is_hardware=True, addresses=on("192.168.1.5/24", "fd00::5/64")
    )
    found = reachable([("::", 7)], (), InterfaceTable.of([*networks, cable]))
    assert found[:2] == ("192.168.1.5:7", "[fd00::5]:7")
    assert len(found) == 18
