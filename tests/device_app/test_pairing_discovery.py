"""GET /.well-known/core on the pairing port (RFC 6690, RFC 7252 §7.2.1)."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit

CORE = "/.well-known/core"


@pytest.mark.parametrize("role", [None, "guest", "owner"])
async def test_the_pairing_port_lists_the_pairing_resource_alone(
    kit: "Kit", device: "Device", role: str | None
) -> None:
    await device.open(role="guest")
    caller = kit.caller(device) if role is None else kit.known(device, "olga", role)
    before = await caller.pair_ask("GET", CORE)
    assert (before.code, before.message.opt.content_format) == ("2.05", 40)
    assert before.payload == b'</pair>;ct="60";rt="handfast.pair";obs'
    started = await kit.caller(device).pair_ask("POST", "/pair", {"method": "compare", "name": "x"})
    assert started.code == "2.01"
    assert (await caller.pair_ask("GET", CORE)).payload == before.payload


async def test_the_links_of_the_pairing_port_can_be_filtered(kit: "Kit", device: "Device") -> None:
    await device.open()
    caller = kit.caller(device)
    for query, found in (("rt=handfast.pair", 1), ("ct=60", 1), ("rt=lamp", 0), ("href=/p*", 1)):
        answer = await caller.pair_ask("GET", f"{CORE}?{query}")
        assert (answer.code, answer.payload.count(b"</pair>")) == ("2.05", found)
    assert (await caller.pair_ask("GET", CORE, accept=60)).code == "4.06"
    for method in ("POST", "PUT", "DELETE", "FETCH"):
        assert (await caller.pair_ask(method, CORE)).code == "4.05"
    for path in ("/.well-known", f"{CORE}/x", "/hello", "/iam/users"):
        assert (await caller.pair_ask("GET", path)).code == "4.04"
