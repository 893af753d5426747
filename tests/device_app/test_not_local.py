"""Pairing is refused for clients that are not on the local link (protocol §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from device_app.access import event_budget
from device_app.access.bodies import UserRequest
from tests.kit.waiting import TIMEOUT_SECONDS

if TYPE_CHECKING:
    from tests.kit.device import Device, Kit


async def assert_refused_everywhere(kit: Kit, device: Device, role: str | None) -> None:
    caller = kit.caller(device)
    if role is not None:
        new_user = {"name": "olga", "role": role, "keys": [caller.fingerprint]}
        device.app.access.registry.add_user(None, UserRequest.parse_untrusted(new_user).user(0.0))
        assert (await caller.ask("GET", "/iam/me")).body["path"] == "remote"
    for method, path, body in (
        ("GET", "/pair", None),
        ("POST", "/pair", {"method": "compare", "name": "olga"}),
        ("POST", "/pair", None),
        ("GET", "/pair/1", None),
        ("DELETE", "/pair/1", None),
        ("GET", "/nothing", None),
        ("GET", "/.well-known/core", None),
    ):
        answer = await caller.pair_ask(method, path, body)
        assert (answer.code, answer.reason) == ("4.03", "not-local")
    assert device.app.pairing.ceremonies.pending() is None


@pytest.mark.parametrize("role", [None, "guest", "owner"])
async def test_pairing_from_another_network_is_refused_for_every_role(
    kit: Kit, role: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_budget, "REFUSAL_REPEAT_SECONDS", TIMEOUT_SECONDS)
    device = await kit.device(allow_loopback=False)
    await device.open(role="guest")
    await assert_refused_everywhere(kit, device, role)
    # One event with interface and TTL for all requests, so that a client cannot fill the disk.
    [event] = device.events("not-local")
    assert (event.interface, event.hop_limit) == ("lo", 255)
    assert (event.result, event.address.split(":")[0]) == ("interface", "127.0.0.1")


async def test_the_regular_port_tells_no_one_elsewhere_if_the_window_is_open(kit: Kit) -> None:
    device = await kit.device(allow_loopback=False)
    caller = kit.caller(device)
    while_closed = await caller.ask("GET", "/pair")
    await device.open()
    while_open = await caller.ask("GET", "/pair")
    assert (while_open.code, while_open.reason) == ("4.03", "not-local")
    assert (while_closed.code, while_closed.body) == (while_open.code, while_open.body)
